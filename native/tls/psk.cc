#include "tls/psk.h"

#include <openssl/crypto.h>

#include <utility>

namespace cellblock::tls {
namespace {

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool from_hex(std::string_view text, std::vector<uint8_t>& bytes) {
  if (text.empty() || text.size() % 2 != 0) return false;
  bytes.reserve(text.size() / 2);
  for (size_t i = 0; i < text.size(); i += 2) {
    const int high = digit_of(text[i]);
    const int low = digit_of(text[i + 1]);
    if (high < 0 || low < 0) return false;
    bytes.push_back(static_cast<uint8_t>(high << 4 | low));
  }
  return true;
}

bool from_hex_name(std::string_view text, std::string& name) {
  std::vector<uint8_t> bytes;
  if (!from_hex(text, bytes)) return false;
  name.assign(bytes.begin(), bytes.end());
  return true;
}

}  // namespace

PskTable::~PskTable() {
  for (auto& [name, key] : keys_) OPENSSL_cleanse(key.data(), key.size());
}

const std::vector<uint8_t>* PskTable::find(std::string_view name) const {
  const auto found = keys_.find(name);
  return found == keys_.end() ? nullptr : &found->second;
}

bool PskTable::parse(std::string_view text, std::string& sentence) {
  for (size_t number = 1; !text.empty(); number++) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (const char* wrong = add(line)) {
      sentence = "line " + std::to_string(number) + " of the pre-shared keys " + wrong;
      return false;
    }
  }
  if (!keys_.empty()) return true;
  sentence = "there is no pre-shared key in the file";
  return false;
}

// Null, or what is wrong with the line.
const char* PskTable::add(std::string_view line) {
  const size_t colon = line.rfind(':');
  std::string name(line.substr(0, colon));
  if (line.empty()) return nullptr;
  if (line.front() == '#' &&
      (colon == std::string_view::npos || !from_hex_name(line.substr(1, colon - 1), name)))
    return nullptr;
  if (colon == std::string_view::npos || name.empty()) return "is not NAME:HEXKEY";
  if (name.size() > kMaxNameBytes) return "has a name of more than 128 bytes";
  // OpenSSL hands names over as C strings.
  if (name.find('\0') != std::string::npos) return "has a name with a zero byte";
  std::vector<uint8_t> key;
  if (!from_hex(line.substr(colon + 1), key)) return "has a key that is not hexadecimal";
  if (key.size() < kMinKeyBytes) return "has a key of less than 16 bytes";
  if (key.size() > kMaxKeyBytes) return "has a key of more than 256 bytes";
  return keys_.emplace(std::move(name), std::move(key)).second ? nullptr : "names a key a second time";
}

}  // namespace cellblock::tls
