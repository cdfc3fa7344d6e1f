#include "nbd/handshake.h"

#include <algorithm>

#include "nbd/option_bytes.h"
#include "nbd/text.h"

namespace cellblock::nbd {
namespace {

constexpr size_t kOptionHeaderBytes = 16;

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
  fixed_newstyle_ = flags & kClientFixedNewstyle;
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
      if (!may_begin_tls())
        return skip_then_reply(OptionReply::err_policy, "TLS needs the client flag FIXED_NEWSTYLE", bytes);
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
  } else if (may_begin_tls()) {
    skip_then_reply(OptionReply::err_tls_reqd, "this server speaks TLS only: begin with STARTTLS", bytes);
  } else {
    skip_then_reply(OptionReply::err_policy,
                    "this server speaks TLS only, which needs the client flag FIXED_NEWSTYLE", bytes);
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
  if (asks_for_info()) return parse_info_or_go();
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

}  // namespace cellblock::nbd
