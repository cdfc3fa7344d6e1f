#include "fuzz/conversation.h"

#include "base/bytes.h"

namespace cellblock::fuzz {
namespace {

constexpr size_t kOptionHead = 16;
constexpr size_t kRequestHead = 28;
constexpr size_t kLongestOption = 256 << 10;  // longer ones are refused
constexpr size_t kLongestName = 4096;
// What is said instead of EXTENDED_HEADERS: the larger requests behind it are not read here.
constexpr nbd::Option kUnknownOption{0x7fffffff};

template <typename T>
T at(std::string_view bytes, size_t place) {
  return load_be<T>(bytes.data() + place);
}

const KnownExport* known(const std::vector<KnownExport>& exports, std::string_view name) {
  for (const KnownExport& one : exports) {
    if (one.name == name) return &one;
  }
  return nullptr;
}

// The name in the data of GO, if that is well formed.
std::optional<std::string_view> name_in_go(std::string_view data) {
  if (data.size() < 6 || data.size() > kLongestOption) return std::nullopt;
  const uint64_t name = at<uint32_t>(data, 0);
  if (name + 6 > data.size()) return std::nullopt;
  const uint64_t infos = at<uint16_t>(data, 4 + static_cast<size_t>(name));
  if (4 + name + 2 + 2 * infos != data.size()) return std::nullopt;
  return data.substr(4, static_cast<size_t>(name));
}

// The export that the option opens, or null.
const KnownExport* opened_by(nbd::Option option, std::string_view data,
                             const std::vector<KnownExport>& exports) {
  if (option == nbd::Option::export_name && data.size() <= kLongestName) return known(exports, data);
  if (option != nbd::Option::go) return nullptr;
  const auto name = name_in_go(data);
  return name ? known(exports, *name) : nullptr;
}

void read_requests(Conversation& all, std::string& stream, size_t place, const KnownExport* of) {
  while (stream.size() - place >= kRequestHead) {
    char* const head = stream.data() + place;
    if (load_be<uint32_t>(head) != nbd::kRequestMagic) return;
    SentRequest one;
    one.flags = load_be<uint16_t>(head + 4);
    one.type = static_cast<nbd::CommandType>(load_be<uint16_t>(head + 6));
    one.offset = load_be<uint64_t>(head + 16);
    one.length = load_be<uint32_t>(head + 24);
    one.payload = place + kRequestHead;
    one.end = one.payload + (one.type == nbd::CommandType::write ? static_cast<size_t>(one.length) : 0);
    one.of = of;
    if (one.type == nbd::CommandType::disc) return;
    all.requests.push_back(one);
    store_be<uint64_t>(head + 8, all.requests.size());
    if (one.end > stream.size()) return;
    place = one.end;
  }
}

}  // namespace

Conversation read_conversation(std::string& stream, const std::vector<KnownExport>& exports) {
  Conversation all;
  if (stream.size() < 4) return all;
  const uint32_t flags = at<uint32_t>(stream, 0);
  if (flags & ~uint32_t{nbd::kClientFixedNewstyle | nbd::kClientNoZeroes}) return all;
  all.no_zeroes = flags & nbd::kClientNoZeroes;
  for (size_t place = 4; stream.size() - place >= kOptionHead;) {
    if (at<uint64_t>(stream, place) != nbd::kOptionMagic) return all;
    SentOption one;
    one.number = static_cast<nbd::Option>(at<uint32_t>(stream, place + 8));
    if (one.number == nbd::Option::extended_headers) {
      one.number = kUnknownOption;
      store_be<uint32_t>(stream.data() + place + 8, static_cast<uint32_t>(kUnknownOption));
    }
    const size_t length = at<uint32_t>(stream, place + 12);
    one.end = place + kOptionHead + length;
    one.no_reply = one.number == nbd::Option::export_name;
    const bool whole = one.end <= stream.size();
    const KnownExport* of =
        whole ? opened_by(one.number, std::string_view(stream).substr(place + kOptionHead, length), exports)
              : nullptr;
    one.enters = of != nullptr;
    all.options.push_back(one);
    if (of) read_requests(all, stream, one.end, of);
    if (!whole || of || one.no_reply || one.number == nbd::Option::abort) return all;
    place = one.end;
  }
  return all;
}

}  // namespace cellblock::fuzz
