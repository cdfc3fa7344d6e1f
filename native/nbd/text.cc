#include "nbd/text.h"

#include "nbd/constants.h"

namespace cellblock::nbd {
namespace {

// Bytes of the UTF-8 sequence at the front (shortest form, no surrogates, no NUL), 0 if there is none.
size_t utf8_sequence(std::string_view s) {
  const auto at = [&](size_t i) { return i < s.size() ? static_cast<unsigned char>(s[i]) : 0u; };
  const auto tail = [&](size_t i) { return (at(i) & 0xc0) == 0x80; };
  const unsigned a = at(0);
  if (a >= 0x01 && a < 0x80) return 1;
  if (a >= 0xc2 && a < 0xe0) return tail(1) ? 2 : 0;
  if (a >= 0xe0 && a < 0xf0) {
    if ((a == 0xe0 && at(1) < 0xa0) || (a == 0xed && at(1) >= 0xa0)) return 0;
    return tail(1) && tail(2) ? 3 : 0;
  }
  if (a >= 0xf0 && a < 0xf5) {
    if ((a == 0xf0 && at(1) < 0x90) || (a == 0xf4 && at(1) >= 0x90)) return 0;
    return tail(1) && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

bool is_proper_string(std::string_view s) {
  if (s.size() > kMaxNameBytes) return false;
  while (!s.empty()) {
    const size_t bytes = utf8_sequence(s);
    if (bytes == 0) return false;
    s.remove_prefix(bytes);
  }
  return true;
}

std::string_view fitting(std::string_view text) {
  if (text.size() <= kMaxNameBytes) return text;
  size_t bytes = kMaxNameBytes;
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xc0) == 0x80) bytes--;
  return text.substr(0, bytes);
}

}  // namespace cellblock::nbd
