#include "fuzz/judge.h"

#include "fuzz/fail.h"
#include "fuzz/judge_transmission.h"
#include "test/wire_bytes.h"

namespace cellblock::fuzz {
namespace {

using nbd::Option;
using nbd::OptionReply;
using test::Reader;

constexpr size_t kGreetingBytes = 18;
constexpr size_t kOptionReplyHead = 20;
constexpr size_t kExportNameZeroes = 124;
constexpr size_t kLongestString = 4096;

class Judgement {
 public:
  Judgement(const Conversation& said, const Told& told, std::string_view got, const Circumstances& how)
      : said_(said), told_(told), how_(how), heard_{Reader(got), how.cut} {}

  void run() {
    if (heard_.rest.left() == 0 && how_.stopped) return;
    if (!heard_.have(kGreetingBytes)) return;
    expect(heard_.rest.greeting(), "the greeting is not as it has to be");
    if (options()) judge_transmission(said_, told_, how_, terms_, heard_);
    nothing_too_much();
    expect(heard_.rest.left() == 0, "bytes follow where nothing was asked");
  }

 private:
  // True when the server went into transmission.
  bool options() {
    for (const SentOption& option : said_.options) {
      if (heard_.rest.left() == 0) {
        // Where the connection went on it has to have been answered; a closed one ends there.
        expect(option.end > how_.sent || may_be_dropped(option), "an option has no answer");
        return false;
      }
      expect(option.end <= how_.sent, "an option is answered before it was sent");
      if (option.no_reply) return export_name(option);
      const bool accepted = answer_of(option);
      expect(!accepted || !option.forbidden, "an option was accepted in clear where TLS is required");
      if (option.number == Option::abort) return false;
      if (option.number == Option::go && accepted) {
        expect(option.enters, "an export was opened that does not exist, or by an option that is malformed");
        return true;
      }
      if (how_.cut && heard_.rest.left() == 0) return false;
      if (option.end == said_.tls_at && !accepted) {
        // The client says no more, and what somebody else says in clear is as good as anything.
        expect(how_.stopped || how_.refused, "STARTTLS was refused");
        heard_.rest.take(heard_.rest.left());
        return false;
      }
      expect(!option.enters || how_.stopped || how_.refused, "an export that is there was refused");
      if (!option.enters) continue;
      // The rest was written as requests and read as options: nothing can be said of the answers.
      heard_.rest.take(heard_.rest.left());
      return false;
    }
    return false;
  }

  bool may_be_dropped(const SentOption& option) const {
    return how_.stopped || how_.refused || how_.cut || (option.no_reply && !option.enters);
  }

  bool export_name(const SentOption& option) {
    expect(option.enters, "EXPORT_NAME of what it cannot open has an answer");
    if (!heard_.have(10 + (said_.no_zeroes ? 0 : kExportNameZeroes))) return false;
    of_export(option, heard_.rest);
    if (!said_.no_zeroes) {
      const std::string_view zeroes = heard_.rest.take(kExportNameZeroes);
      expect(zeroes.find_first_not_of('\0') == zeroes.npos, "the zeroes are none");
    }
    return true;
  }

  // Size and transmission flags.
  void of_export(const SentOption& option, Reader& fields) {
    expect(option.of != nullptr, "an export is described that does not exist for this client");
    expect(fields.integer<uint64_t>() == option.of->size, "the size of the export is another one");
    const uint16_t flags = fields.integer<uint16_t>();
    const auto has = [flags](nbd::TransmissionFlag flag) { return (flags & flag) != 0; };
    expect(has(nbd::kHasFlags), "the transmission flags lack HAS_FLAGS");
    expect(has(nbd::kReadOnly) == option.of->read_only, "the flag READ_ONLY is wrong");
    expect(has(nbd::kSendDf) == terms_.structured, "the flag SEND_DF is wrong");
    const bool filters = terms_.extended && !terms_.contexts.empty() && contexts_of_ == option.of;
    expect(has(nbd::kBlockStatusPayload) == filters, "the flag BLOCK_STATUS_PAYLOAD is wrong");
  }

  // All replies to one option; whether it was acknowledged.
  bool answer_of(const SentOption& option) {
    if (option.number == Option::set_meta_context) {
      terms_.contexts.clear();
      contexts_of_ = option.of;
    }
    for (;;) {
      if (!heard_.have(kOptionReplyHead)) return false;
      expect(heard_.rest.integer<uint64_t>() == nbd::kOptionReplyMagic, "an option reply has a wrong magic");
      expect(heard_.rest.integer<uint32_t>() == static_cast<uint32_t>(option.number),
             "a reply names another option than is to be answered");
      const auto type = static_cast<OptionReply>(heard_.rest.integer<uint32_t>());
      const size_t bytes = heard_.rest.integer<uint32_t>();
      if (!heard_.have(bytes)) return false;
      const std::string_view data = heard_.rest.take(bytes);
      if (type == OptionReply::ack) {
        expect(data.empty(), "an ACK has data");
        acknowledged(option);
        return true;
      }
      if (static_cast<uint32_t>(type) & 0x80000000) {
        expect(data.size() <= kLongestString, "an error's sentence is too long");
        return false;
      }
      intermediate(option, type, data);
    }
  }

  void acknowledged(const SentOption& option) {
    switch (option.number) {
      case Option::structured_reply:
        expect(!terms_.extended, "structured replies were taken back to after extended headers");
        terms_.structured = true;
        return;
      case Option::extended_headers:
        expect(!terms_.extended, "extended headers were negotiated twice");
        terms_.structured = terms_.extended = true;
        return;
      case Option::starttls:
        expect(option.end == said_.tls_at, "STARTTLS was accepted where it may not be");
        terms_.structured = terms_.extended = false;
        terms_.contexts.clear();
        return;
      default:
        return;
    }
  }

  void intermediate(const SentOption& option, OptionReply type, std::string_view data) {
    Reader fields(data);
    switch (type) {
      case OptionReply::server: {
        expect(option.number == Option::list, "SERVER answers something else than LIST");
        listed(option, fields.take(fields.integer<uint32_t>()));
        break;
      }
      case OptionReply::info:
        expect(option.number == Option::info || option.number == Option::go, "INFO answers something else");
        if (static_cast<nbd::Info>(fields.integer<uint16_t>()) == nbd::Info::export_)
          of_export(option, fields);
        break;
      case OptionReply::meta_context: {
        const bool set = option.number == Option::set_meta_context;
        expect(set || option.number == Option::list_meta_context, "META_CONTEXT answers something else");
        const uint32_t id = fields.integer<uint32_t>();
        expect(option.of != nullptr, "an export has contexts that does not exist for this client");
        if (set) expect(terms_.contexts.insert(id).second, "two contexts have one id");
        break;
      }
      default:
        fail("a reply to an option has a type that does not exist");
    }
    expect(!fields.was_short(), "a reply to an option is too short");
  }

  void listed(const SentOption& option, std::string_view name) {
    for (const KnownExport& one : *said_.exports) {
      if (one.name == name)
        return expect(option.in_tls || !one.tls_only, "what is for TLS only is listed in clear");
    }
    fail("an export is listed that does not exist");
  }

  void nothing_too_much() {
    for (size_t i = 0; i < told_.submitted.size(); i++) {
      expect(!told_.submitted[i] || said_.requests[i].end <= how_.sent,
             "the device got a request that was not sent whole, or of which that is not certain");
    }
  }

  const Conversation& said_;
  const Told& told_;
  const Circumstances& how_;
  Heard heard_;
  Terms terms_;
  const KnownExport* contexts_of_ = nullptr;  // whose they are
};

}  // namespace

void judge(const Conversation& said, const Told& told, std::string_view got, const Circumstances& how) {
  Judgement(said, told, got, how).run();
}

}  // namespace cellblock::fuzz
