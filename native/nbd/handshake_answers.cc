// What the client is told: the answers to the questions of the handshake, as replies to the option that
// asked.
#include <cerrno>

#include "base/units.h"
#include "nbd/handshake.h"
#include "nbd/option_bytes.h"
#include "nbd/text.h"

namespace cellblock::nbd {

// ENOKEY: it is served in TLS only. That may be said of INFO and GO, and only to a client that can begin TLS;
// to other options such an export does not exist.
OptionReply Handshake::refusal_of(int error) const {
  switch (error) {
    case EACCES:
    case EPERM:
      return OptionReply::err_policy;
    case ENOKEY:
      if (!asks_for_info()) return OptionReply::err_unknown;
      return may_begin_tls() ? OptionReply::err_tls_reqd : OptionReply::err_policy;
    case ESHUTDOWN:
      return OptionReply::err_shutdown;
    default:
      return OptionReply::err_unknown;  // "the requested export is not available"
  }
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

void Handshake::described(const DescribedExport& described) {
  if (!described.exists) {
    if (option_ == Option::export_name) return close();
    const std::string fallback = "there is no export '" + name_ + "'";
    reply_error(refusal_of(described.error), described.refusal.empty() ? fallback : described.refusal);
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
    reply_error(refusal_of(opened.error), opened.refusal.empty() ? fallback : opened.refusal);
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

void Handshake::reply_error(OptionReply type, std::string_view sentence) { reply(type, fitting(sentence)); }

}  // namespace cellblock::nbd
