#include "nbd/handshake.h"

#include <algorithm>
#include <cerrno>

#include "base/bytes.h"
#include "base/units.h"

namespace cellblock::nbd {
namespace {

constexpr size_t kOptionHeaderBytes = 16;

template <typename T>
void append_be(std::string& to, T value) {
  char bytes[sizeof(T)];
  store_be<T>(bytes, value);
  to.append(bytes, sizeof bytes);
}

// Reads the fields of an option's data in order; once something is missing everything after it is, too.
class Fields {
 public:
  explicit Fields(std::string_view data) : rest_(data) {}

  template <typename T>
  T integer() {
    const std::string_view bytes = string(sizeof(T));
    return bytes.size() == sizeof(T) ? load_be<T>(bytes.data()) : T{0};
  }

  std::string_view string(size_t bytes) {
    if (bytes > rest_.size()) {
      ok_ = false;
      rest_ = {};
      return {};
    }
    const std::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return taken;
  }

  size_t left() const { return rest_.size(); }
  bool complete() const { return ok_ && rest_.empty(); }
  bool ok() const { return ok_; }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

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

bool is_proper_string(std::string_view s) {
  if (s.size() > kMaxNameBytes) return false;
  while (!s.empty()) {
    const size_t bytes = utf8_sequence(s);
    if (bytes == 0) return false;
    s.remove_prefix(bytes);
  }
  return true;
}

OptionReply reply_of(int error) {
  switch (error) {
    case EACCES:
    case EPERM:
      return OptionReply::err_policy;
    case ENOKEY:
      return OptionReply::err_tls_reqd;
    case ESHUTDOWN:
      return OptionReply::err_shutdown;
    default:
      return OptionReply::err_unknown;  // "the requested export is not available"
  }
}

bool is_info_or_go(Option option) { return option == Option::info || option == Option::go; }

}  // namespace

Handshake::Handshake(HandshakeOptions options) : options_(std::move(options)) {
  append_be<uint64_t>(output_, kInitMagic);
  append_be<uint64_t>(output_, kOptionMagic);
  append_be<uint16_t>(output_, kFixedNewstyle | kNoZeroes);
  begin(Part::client_flags, sizeof(uint32_t));
}

std::vector<std::string> Handshake::changed_since() const {
  std::vector<std::string> snapshots;
  if (!contexts_count()) return snapshots;
  for (const MetaContext& context : contexts_) {
    if (context.kind == MetaKind::changed) snapshots.push_back(context.snapshot);
  }
  return snapshots;
}

// The selected contexts are valid only for the export they were selected for.
bool Handshake::contexts_count() const { return !contexts_.empty() && contexts_name_ == name_; }

size_t Handshake::feed(const std::byte* bytes, size_t count) {
  const char* at = reinterpret_cast<const char*>(bytes);
  size_t taken = 0;
  while (step_ == Step::need_bytes && taken < count) {
    if (part_ == Part::skip) {
      const size_t n = static_cast<size_t>(std::min<uint64_t>(to_skip_, count - taken));
      taken += n;
      to_skip_ -= n;
      if (to_skip_ == 0) part_done();
      continue;
    }
    const size_t n = std::min(wanted_ - buffer_.size(), count - taken);
    buffer_.append(at + taken, n);
    taken += n;
    if (buffer_.size() == wanted_) part_done();
  }
  return taken;
}

void Handshake::begin(Part part, size_t bytes) {
  part_ = part;
  wanted_ = bytes;
  buffer_.clear();
}

void Handshake::part_done() {
  switch (part_) {
    case Part::client_flags:
      return client_flags();
    case Part::option_header:
      return option_header();
    case Part::option_data:
      return option_data();
    case Part::skip:
      break;
  }
  if (skip_reply_ == OptionReply::ack) {
    reply(OptionReply::ack);
  } else {
    reply_error(skip_reply_, skip_sentence_);
  }
  if (option_ == Option::abort) return close();
  resume();
}

void Handshake::resume() {
  step_ = Step::need_bytes;
  begin(Part::option_header, kOptionHeaderBytes);
}

void Handshake::client_flags() {
  const uint32_t flags = load_be<uint32_t>(buffer_.data());
  if (flags & ~uint32_t{kClientFixedNewstyle | kClientNoZeroes}) return close();
  no_zeroes_ = flags & kClientNoZeroes;
  resume();
}

void Handshake::option_header() {
  if (load_be<uint64_t>(buffer_.data()) != kOptionMagic) return close();
  option_ = static_cast<Option>(load_be<uint32_t>(buffer_.data() + 8));
  const uint32_t bytes = load_be<uint32_t>(buffer_.data() + 12);
  if (option_ == Option::abort) return skip_then_reply(OptionReply::ack, {}, bytes);
  if (refused(bytes)) return;
  switch (option_) {
    case Option::export_name:
      // It knows no error reply, and is forbidden once extended headers are negotiated.
      if (bytes > kMaxNameBytes || negotiated_.extended) return close();
      return expect_data(bytes, kMaxNameBytes);
    case Option::list:
    case Option::structured_reply:
    case Option::extended_headers:
      return without_data(bytes);
    case Option::info:
    case Option::go:
      return expect_data(bytes, kMaxOptionBytes);
    case Option::set_meta_context:
      // Replaces the former set, also when it fails.
      contexts_.clear();
      contexts_name_.clear();
      return expect_data(bytes, kMaxOptionBytes);
    case Option::list_meta_context:
      return expect_data(bytes, kMaxOptionBytes);
    case Option::starttls:
      if (in_tls_)
        return skip_then_reply(OptionReply::err_invalid, "this connection is in TLS already", bytes);
      if (options_.tls == TlsPolicy::none)
        return skip_then_reply(OptionReply::err_unsup, "this server does not offer TLS", bytes);
      return without_data(bytes);
    case Option::peek_export:
    case Option::abort:
      break;
  }
  skip_then_reply(OptionReply::err_unsup, "the option is not known here", bytes);
}

// What no option but ABORT gets past, answered. EXPORT_NAME knows no error reply.
bool Handshake::refused(uint32_t bytes) {
  const bool needs_tls = options_.tls == TlsPolicy::required && !in_tls_ && option_ != Option::starttls;
  if (!shutting_down_ && options_.refusal.empty() && !needs_tls) return false;
  if (option_ == Option::export_name) {
    close();
  } else if (shutting_down_) {
    skip_then_reply(OptionReply::err_shutdown, "the server is shutting down", bytes);
  } else if (!options_.refusal.empty()) {
    skip_then_reply(OptionReply::err_policy, options_.refusal, bytes);
  } else {
    skip_then_reply(OptionReply::err_tls_reqd, "this server speaks TLS only: begin with STARTTLS", bytes);
  }
  return true;
}

void Handshake::skip_then_reply(OptionReply type, std::string_view sentence, uint32_t bytes) {
  begin(Part::skip, 0);
  to_skip_ = bytes;
  skip_reply_ = type;
  skip_sentence_ = sentence;
  if (bytes == 0) part_done();
}

void Handshake::expect_data(uint32_t bytes, size_t limit) {
  if (bytes > limit) return skip_then_reply(OptionReply::err_too_big, "the option's data is too long", bytes);
  begin(Part::option_data, bytes);
  if (bytes == 0) part_done();
}

void Handshake::without_data(uint32_t bytes) {
  if (bytes > 0) return skip_then_reply(OptionReply::err_invalid, "the option takes no data", bytes);
  empty_option();
}

void Handshake::empty_option() {
  if (option_ == Option::list) return ask(Step::list);
  if (option_ == Option::starttls) {
    reply(OptionReply::ack);
    return ask(Step::start_tls);
  }
  if (option_ == Option::structured_reply) {
    negotiate_structured();
  } else {
    negotiate_extended();
  }
  resume();
}

void Handshake::negotiate_structured() {
  if (negotiated_.extended) {
    return reply_error(OptionReply::err_ext_header_reqd,
                       "extended headers are negotiated and cannot be taken back");
  }
  if (negotiated_.structured) {
    return reply_error(OptionReply::err_invalid, "structured replies are already negotiated");
  }
  negotiated_.structured = true;
  reply(OptionReply::ack);
}

void Handshake::negotiate_extended() {
  if (negotiated_.extended) {
    return reply_error(OptionReply::err_invalid, "extended headers are already negotiated");
  }
  negotiated_.structured = negotiated_.extended = true;
  reply(OptionReply::ack);
}

void Handshake::option_data() {
  if (option_ == Option::export_name) {
    if (!is_proper_string(buffer_)) return close();
    return describe(buffer_);
  }
  if (is_info_or_go(option_)) return parse_info_or_go();
  parse_meta_context();
}

void Handshake::parse_info_or_go() {
  Fields fields(buffer_);
  const std::string_view name = fields.string(fields.integer<uint32_t>());
  const uint16_t count = fields.integer<uint16_t>();
  infos_ = 0;
  for (uint16_t i = 0; i < count && fields.ok(); i++) {
    const uint16_t info = fields.integer<uint16_t>();
    if (info < 32) infos_ |= 1u << info;
  }
  if (!fields.complete()) {
    reply_error(OptionReply::err_invalid, "the lengths in the option do not fit its data");
    return resume();
  }
  if (!is_proper_string(name)) {
    reply_error(OptionReply::err_invalid, "an export name is UTF-8 of at most 4096 bytes without NUL");
    return resume();
  }
  describe(name);
}

void Handshake::describe(std::string_view name) {
  const bool chosen = name.empty() && !options_.only.empty();
  name_ = chosen ? std::string_view(options_.only) : name;
  if (options_.only.empty() || name_ == options_.only) return ask(Step::describe);
  DescribedExport none;
  none.refusal = "only the export '" + options_.only + "' is served here";
  described(none);
}

void Handshake::parse_meta_context() {
  Fields fields(buffer_);
  const std::string_view name = fields.string(fields.integer<uint32_t>());
  const uint32_t count = fields.integer<uint32_t>();
  queries_.clear();
  for (uint32_t i = 0; i < count && fields.ok(); i++) {
    queries_.emplace_back(fields.string(fields.integer<uint32_t>()));
  }
  if (!fields.complete()) {
    reply_error(OptionReply::err_invalid, "the lengths in the option do not fit its data");
    return resume();
  }
  if (option_ == Option::set_meta_context && !negotiated_.structured) {
    reply_error(OptionReply::err_invalid, "structured replies have to be negotiated first");
    return resume();
  }
  if (!is_proper_string(name)) {
    reply_error(OptionReply::err_invalid, "an export name is UTF-8 of at most 4096 bytes without NUL");
    return resume();
  }
  describe(name);
}

void Handshake::listed(const std::vector<ListedExport>& exports) {
  for (const ListedExport& one : exports) {
    if (!options_.only.empty() && one.name != options_.only) continue;
    std::string data;
    append_be<uint32_t>(data, static_cast<uint32_t>(one.name.size()));
    data += one.name;
    data += one.description;
    reply(OptionReply::server, data);
  }
  reply(OptionReply::ack);
  resume();
}

void Handshake::tls_started() {
  in_tls_ = true;
  negotiated_ = {};
  described_ = {};
  contexts_.clear();
  contexts_name_.clear();
  queries_.clear();
  name_.clear();
  infos_ = 0;
  resume();
}

void Handshake::described(const DescribedExport& described) {
  if (!described.exists) {
    if (option_ == Option::export_name) return close();
    const std::string fallback = "there is no export '" + name_ + "'";
    // That TLS is needed may be said of INFO and GO only; to other options such an export does not exist.
    const bool hidden = described.error == ENOKEY && !is_info_or_go(option_);
    reply_error(hidden ? OptionReply::err_unknown : reply_of(described.error),
                described.refusal.empty() ? fallback : described.refusal);
    return resume();
  }
  if (option_ == Option::list_meta_context || option_ == Option::set_meta_context) {
    return described_for_meta(described);
  }
  described_ = described;
  if (option_ != Option::info) return ask(Step::open);
  send_infos(described, described.size, flags_for(described.read_only));
  reply(OptionReply::ack);
  resume();
}

void Handshake::described_for_meta(const DescribedExport& described) {
  const std::vector<std::string_view> queries(queries_.begin(), queries_.end());
  const bool set = option_ == Option::set_meta_context;
  const std::vector<MetaContext> found =
      set ? select_contexts(queries, described.snapshots) : list_contexts(queries, described.snapshots);
  for (const MetaContext& context : found) {
    std::string data;
    append_be<uint32_t>(data, context.id);
    data += context_name(context);
    reply(OptionReply::meta_context, data);
  }
  if (set) {
    contexts_ = found;
    contexts_name_ = name_;
  }
  reply(OptionReply::ack);
  resume();
}

void Handshake::opened(const OpenedExport& opened) {
  if (opened.error != 0) {
    if (option_ == Option::export_name) return close();
    const std::string fallback = "the export '" + name_ + "' cannot be opened";
    reply_error(reply_of(opened.error), opened.refusal.empty() ? fallback : opened.refusal);
    return resume();
  }
  const uint16_t flags = flags_for(opened.read_only);
  if (option_ == Option::export_name) {
    finish_export_name(opened.size, flags);
  } else {
    send_infos(described_, opened.size, flags);
    reply(OptionReply::ack);
  }
  enter_transmission(flags);
}

void Handshake::send_infos(const DescribedExport& described, uint64_t size, uint16_t flags) {
  const auto asked = [&](Info info) { return (infos_ >> static_cast<unsigned>(info)) & 1; };
  const auto begin_info = [](Info info) {
    std::string data;
    append_be<uint16_t>(data, static_cast<uint16_t>(info));
    return data;
  };
  std::string data = begin_info(Info::export_);
  append_be<uint64_t>(data, size);
  append_be<uint16_t>(data, flags);
  reply(OptionReply::info, data);
  if (asked(Info::name)) {
    reply(OptionReply::info, begin_info(Info::name) + (described.name.empty() ? name_ : described.name));
  }
  if (asked(Info::description))
    reply(OptionReply::info, begin_info(Info::description) + described.description);
  if (asked(Info::block_size)) {
    data = begin_info(Info::block_size);
    append_be<uint32_t>(data, kMinimumBlockBytes);
    append_be<uint32_t>(data, kPreferredBlockBytes);
    append_be<uint32_t>(data, kMaxRequestBytes);
    reply(OptionReply::info, data);
  }
}

void Handshake::finish_export_name(uint64_t size, uint16_t flags) {
  append_be<uint64_t>(output_, size);
  append_be<uint16_t>(output_, flags);
  if (!no_zeroes_) output_.append(kExportNameZeroes, '\0');
}

uint16_t Handshake::flags_for(bool read_only) const {
  unsigned flags = kHasFlags | kSendFlush | kSendFua | kCanMultiConn | kSendCache;
  flags |= read_only ? kReadOnly : kSendTrim | kSendWriteZeroes | kSendFastZero;
  if (described_.rotational) flags |= kRotational;
  if (negotiated_.structured) flags |= kSendDf;
  // The same for INFO and GO, so that what INFO said holds.
  if (negotiated_.extended && contexts_count()) flags |= kBlockStatusPayload;
  return static_cast<uint16_t>(flags);
}

void Handshake::enter_transmission(uint16_t flags) {
  negotiated_.name = name_;
  negotiated_.transmission_flags = flags;
  if (negotiated_.structured && contexts_count()) negotiated_.contexts = contexts_;
  step_ = Step::transmission;
}

void Handshake::reply(OptionReply type, std::string_view data) {
  append_be<uint64_t>(output_, kOptionReplyMagic);
  append_be<uint32_t>(output_, static_cast<uint32_t>(option_));
  append_be<uint32_t>(output_, static_cast<uint32_t>(type));
  append_be<uint32_t>(output_, static_cast<uint32_t>(data.size()));
  output_ += data;
}

void Handshake::reply_error(OptionReply type, std::string_view sentence) {
  size_t bytes = std::min(sentence.size(), kMaxNameBytes);
  // Not within a character: it is UTF-8 on the wire.
  while (bytes < sentence.size() && (static_cast<unsigned char>(sentence[bytes]) & 0xc0) == 0x80) bytes--;
  reply(type, sentence.substr(0, bytes));
}

}  // namespace cellblock::nbd
