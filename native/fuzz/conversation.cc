#include "fuzz/conversation.h"

#include <optional>

#include "base/bytes.h"
#include "base/units.h"

namespace cellblock::fuzz {
namespace {

using nbd::Option;

constexpr size_t kOptionHead = 16;
constexpr size_t kRequestHead = 28;
constexpr size_t kExtendedRequestHead = 32;
constexpr size_t kLongestOption = 256 << 10;  // longer ones are refused
constexpr size_t kLongestName = 4096;

template <typename T>
T at(std::string_view bytes, size_t place) {
  return load_be<T>(bytes.data() + place);
}

// The name in the data of INFO and GO, if that is well formed.
std::optional<std::string_view> name_in_go(std::string_view data) {
  if (data.size() < 6 || data.size() > kLongestOption) return std::nullopt;
  const uint64_t name = at<uint32_t>(data, 0);
  if (name + 6 > data.size()) return std::nullopt;
  const uint64_t infos = at<uint16_t>(data, 4 + static_cast<size_t>(name));
  if (4 + name + 2 + 2 * infos != data.size()) return std::nullopt;
  return data.substr(4, static_cast<size_t>(name));
}

// The name at the front of the data of LIST_META_CONTEXT and SET_META_CONTEXT.
std::optional<std::string_view> name_in_meta(std::string_view data) {
  if (data.size() < 8) return std::nullopt;
  const uint64_t name = at<uint32_t>(data, 0);
  if (name > data.size() - 8) return std::nullopt;
  return data.substr(4, static_cast<size_t>(name));
}

std::optional<std::string_view> name_in(Option option, std::string_view data) {
  switch (option) {
    case Option::export_name:
      return data.size() <= kLongestName ? std::optional(data) : std::nullopt;
    case Option::info:
    case Option::go:
      return name_in_go(data);
    case Option::list_meta_context:
    case Option::set_meta_context:
      return name_in_meta(data);
    default:
      return std::nullopt;
  }
}

class Reading {
 public:
  Reading(std::string& stream, const std::vector<KnownExport>& exports, nbd::TlsPolicy policy)
      : stream_(stream), policy_(policy) {
    all_.exports = &exports;
  }

  Conversation read() {
    if (stream_.size() < 4) return all_;
    const uint32_t flags = at<uint32_t>(stream_, 0);
    if (flags & ~uint32_t{nbd::kClientFixedNewstyle | nbd::kClientNoZeroes}) return all_;
    all_.no_zeroes = flags & nbd::kClientNoZeroes;
    may_begin_tls_ = policy_ != nbd::TlsPolicy::none && (flags & nbd::kClientFixedNewstyle);
    size_t place = 4;
    while (stream_.size() - place >= kOptionHead && option(place)) {
    }
    return all_;
  }

 private:
  // False where no further option follows.
  bool option(size_t& place) {
    if (at<uint64_t>(stream_, place) != nbd::kOptionMagic) return false;
    SentOption one;
    one.number = static_cast<Option>(at<uint32_t>(stream_, place + 8));
    const size_t length = at<uint32_t>(stream_, place + 12);
    one.end = place + kOptionHead + length;
    one.no_reply = one.number == Option::export_name;
    one.in_tls = all_.tls_at > 0;
    one.forbidden = policy_ == nbd::TlsPolicy::required && !one.in_tls && one.number != Option::starttls &&
                    one.number != Option::abort;
    const bool whole = one.end <= stream_.size();
    if (whole && !one.forbidden) accept(one, std::string_view(stream_).substr(place + kOptionHead, length));
    all_.options.push_back(one);
    place = one.end;
    if (one.enters) requests(place, one.of);
    return whole && !one.enters && !one.no_reply && one.number != Option::abort;
  }

  void accept(SentOption& one, std::string_view data) {
    if (one.number == Option::extended_headers && data.empty()) all_.extended = true;
    if (one.number == Option::starttls && data.empty() && !one.in_tls && may_begin_tls_) {
      // What was said before it does not count any more.
      all_.tls_at = one.end;
      all_.extended = false;
    }
    const auto name = name_in(one.number, data);
    if (name) one.of = known(*name, one.in_tls);
    const bool opens = one.number == Option::go || (one.number == Option::export_name && !all_.extended);
    one.enters = opens && one.of;
  }

  const KnownExport* known(std::string_view name, bool in_tls) const {
    for (const KnownExport& one : *all_.exports) {
      if (one.name == name && (in_tls || !one.tls_only)) return &one;
    }
    return nullptr;
  }

  void requests(size_t place, const KnownExport* of) {
    const size_t head_bytes = all_.extended ? kExtendedRequestHead : kRequestHead;
    while (stream_.size() - place >= head_bytes) {
      char* const head = stream_.data() + place;
      if (load_be<uint32_t>(head) != (all_.extended ? nbd::kExtendedRequestMagic : nbd::kRequestMagic))
        return;
      SentRequest one;
      one.flags = load_be<uint16_t>(head + 4);
      one.type = static_cast<nbd::CommandType>(load_be<uint16_t>(head + 6));
      one.offset = load_be<uint64_t>(head + 16);
      one.length = all_.extended ? load_be<uint64_t>(head + 24) : load_be<uint32_t>(head + 24);
      one.payload = one.end = place + head_bytes;
      one.of = of;
      if (one.type == nbd::CommandType::disc) return;
      const bool goes_on = all_.extended ? extended_payload(one) : compact_payload(one);
      all_.requests.push_back(one);
      store_be<uint64_t>(head + 8, all_.requests.size());
      if (!goes_on || one.end > stream_.size()) return;
      place = one.end;
    }
  }

  bool compact_payload(SentRequest& one) {
    if (one.type == nbd::CommandType::write) one.end += one.length;
    return true;
  }

  // False where the server cannot know, or never gets to, the place of the next request: a payload beyond the
  // maximum, a WRITE whose flag does not say whether its data follows.
  bool extended_payload(SentRequest& one) {
    if (!(one.flags & nbd::kCommandPayloadLen)) return one.type != nbd::CommandType::write || one.length == 0;
    if (one.length > kMaxRequestBytes) return false;
    one.end += one.length;
    one.filtered = one.type == nbd::CommandType::block_status;
    if (one.filtered && one.end <= stream_.size()) read_filter(one);
    return true;
  }

  void read_filter(SentRequest& one) {
    if (one.length < 8 || one.length % 4 != 0) return;
    one.length = at<uint64_t>(stream_, one.payload);
    for (size_t place = one.payload + 8; place < one.end; place += 4)
      one.ids.push_back(at<uint32_t>(stream_, place));
  }

  std::string& stream_;
  const nbd::TlsPolicy policy_;
  bool may_begin_tls_ = false;  // a client without fixed newstyle may not
  Conversation all_;
};

}  // namespace

Conversation read_conversation(std::string& stream, const std::vector<KnownExport>& exports,
                               nbd::TlsPolicy policy) {
  return Reading(stream, exports, policy).read();
}

}  // namespace cellblock::fuzz
