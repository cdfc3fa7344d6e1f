#include "fuzz/judge.h"

#include <cerrno>
#include <set>

#include "fuzz/fail.h"
#include "test/wire_bytes.h"

namespace cellblock::fuzz {
namespace {

using nbd::ChunkType;
using nbd::CommandType;
using nbd::Option;
using nbd::OptionReply;
using test::Reader;

constexpr size_t kGreetingBytes = 18;
constexpr size_t kOptionReplyHead = 20;
constexpr size_t kSimpleReplyHead = 16;
constexpr size_t kChunkHead = 20;
constexpr size_t kExtendedChunkHead = 32;
constexpr size_t kExportNameZeroes = 124;
constexpr size_t kLongestString = 4096;

class Judgement {
 public:
  Judgement(const Conversation& said, const Told& told, std::string_view got, const Circumstances& how)
      : said_(said), told_(told), rest_(got), how_(how), answers_(said.requests.size()) {}

  void run() {
    if (rest_.left() == 0 && how_.stopped) return;
    if (!have(kGreetingBytes)) return;
    expect(rest_.greeting(), "the greeting is not as it has to be");
    if (options()) {
      while (rest_.left() > 0) reply();
      nothing_left_out();
    }
    nothing_too_much();
    expect(rest_.left() == 0, "bytes follow where nothing was asked");
  }

 private:
  struct State {
    uint64_t covered = 0;  // bytes of a read
    bool begun = false;
    bool done = false;
    uint32_t error = 0;           // 0: none
    std::set<uint32_t> contexts;  // of a status
  };

  // Whether so many bytes are there. Where an answer may be cut off, the rest of one is dropped.
  bool have(size_t bytes) {
    if (rest_.left() >= bytes) return true;
    expect(how_.cut, "an answer is cut off");
    rest_.take(rest_.left());
    return false;
  }

  // ---- the handshake ----

  // True when the server went into transmission.
  bool options() {
    for (const SentOption& option : said_.options) {
      if (rest_.left() == 0) {
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
      if (how_.cut && rest_.left() == 0) return false;
      expect(!option.enters || how_.stopped || how_.refused, "an export that is there was refused");
      if (!option.enters) continue;
      // The rest was written as requests and read as options: nothing can be said of the answers.
      rest_.take(rest_.left());
      return false;
    }
    return false;
  }

  bool may_be_dropped(const SentOption& option) const {
    return how_.stopped || how_.refused || how_.cut || (option.no_reply && !option.enters);
  }

  bool export_name(const SentOption& option) {
    expect(option.enters, "EXPORT_NAME of what it cannot open has an answer");
    if (!have(10 + (said_.no_zeroes ? 0 : kExportNameZeroes))) return false;
    of_export(option, rest_);
    if (!said_.no_zeroes) {
      const std::string_view zeroes = rest_.take(kExportNameZeroes);
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
    expect(has(nbd::kSendDf) == structured_, "the flag SEND_DF is wrong");
    const bool filters = extended_ && !contexts_.empty() && contexts_of_ == option.of;
    expect(has(nbd::kBlockStatusPayload) == filters, "the flag BLOCK_STATUS_PAYLOAD is wrong");
  }

  // All replies to one option; whether it was acknowledged.
  bool answer_of(const SentOption& option) {
    if (option.number == Option::set_meta_context) {
      contexts_.clear();
      contexts_of_ = option.of;
    }
    for (;;) {
      if (!have(kOptionReplyHead)) return false;
      expect(rest_.integer<uint64_t>() == nbd::kOptionReplyMagic, "an option reply has a wrong magic");
      expect(rest_.integer<uint32_t>() == static_cast<uint32_t>(option.number),
             "a reply names another option than is to be answered");
      const auto type = static_cast<OptionReply>(rest_.integer<uint32_t>());
      const size_t bytes = rest_.integer<uint32_t>();
      if (!have(bytes)) return false;
      const std::string_view data = rest_.take(bytes);
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
        expect(!extended_, "structured replies were taken back to after extended headers");
        structured_ = true;
        return;
      case Option::extended_headers:
        expect(!extended_, "extended headers were negotiated twice");
        structured_ = extended_ = true;
        return;
      case Option::starttls:
        expect(option.end == said_.tls_at, "STARTTLS was accepted where it may not be");
        structured_ = extended_ = false;
        contexts_.clear();
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
        if (set) expect(contexts_.insert(id).second, "two contexts have one id");
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

  // ---- transmission ----

  State& state_of(uint64_t cookie) {
    const SentRequest* request = said_.find(cookie);
    expect(request != nullptr, "an answer has a cookie that was not sent");
    expect(request->end <= how_.sent, "an answer comes before its request was sent whole");
    State& state = answers_[cookie - 1];
    expect(!state.done, "a request is answered twice");
    state.begun = true;
    return state;
  }

  void reply() {
    if (!have(sizeof(uint32_t))) return;
    const uint32_t magic = Reader(rest_).integer<uint32_t>();
    if (magic == nbd::kSimpleReplyMagic) return simple();
    expect(magic == (extended_ ? nbd::kExtendedReplyMagic : nbd::kChunkMagic), "an answer has a wrong magic");
    expect(structured_, "a chunk where structured replies were not negotiated");
    chunk();
  }

  void simple() {
    expect(!extended_, "a simple reply with extended headers");
    if (!have(kSimpleReplyHead)) return;
    rest_.integer<uint32_t>();
    const uint32_t error = rest_.integer<uint32_t>();
    const uint64_t cookie = rest_.integer<uint64_t>();
    State& state = state_of(cookie);
    const SentRequest& request = *said_.find(cookie);
    const bool is_read = request.type == CommandType::read;
    expect(!is_read || !structured_, "a READ has a simple reply where structured ones were negotiated");
    expect(error != 0 || request.type != CommandType::block_status, "a status has a simple reply");
    if (error == 0 && is_read) {
      if (!have(request.length)) return;
      content(request, request.offset, rest_.take(request.length));
    }
    if (error != 0) known_error(error);
    state.error = error;
    finish(cookie, state);
  }

  void chunk() {
    if (!have(extended_ ? kExtendedChunkHead : kChunkHead)) return;
    rest_.integer<uint32_t>();
    const uint16_t flags = rest_.integer<uint16_t>();
    const auto type = static_cast<ChunkType>(rest_.integer<uint16_t>());
    const uint64_t cookie = rest_.integer<uint64_t>();
    const uint64_t offset = extended_ ? rest_.integer<uint64_t>() : 0;
    const uint64_t bytes = extended_ ? rest_.integer<uint64_t>() : rest_.integer<uint32_t>();
    State& state = state_of(cookie);
    const SentRequest& request = *said_.find(cookie);
    expect(!extended_ || offset == request.offset, "a chunk has another offset than its request");
    if (!have(bytes)) return;
    const std::string_view payload = rest_.take(bytes);
    expect((flags & ~nbd::kChunkDone) == 0, "a chunk has unknown flags");
    chunk_of(request, state, type, flags, payload);
    if (flags & nbd::kChunkDone) finish(cookie, state);
  }

  void chunk_of(const SentRequest& request, State& state, ChunkType type, uint16_t flags,
                std::string_view payload) {
    Reader fields(payload);
    switch (type) {
      case ChunkType::none:
        expect(payload.empty() && flags, "NONE has a payload, or is not the last");
        break;
      case ChunkType::offset_data: {
        const uint64_t offset = fields.integer<uint64_t>();
        place(request, state, offset, fields.left());
        content(request, offset, fields.take(fields.left()));
        break;
      }
      case ChunkType::offset_hole: {
        const uint64_t offset = fields.integer<uint64_t>();
        const uint32_t length = fields.integer<uint32_t>();
        place(request, state, offset, length);
        expect(!(request.flags & nbd::kCommandDf), "a hole in a read that is not to be fragmented");
        for (uint64_t at = offset; at < offset + length; at = (at | 4095) + 1) {
          expect(told_.holes && is_hole(at), "a hole where the device has none");
        }
        break;
      }
      case ChunkType::block_status:
      case ChunkType::block_status_ext:
        expect(extended_ == (type == ChunkType::block_status_ext), "a status of the other size of headers");
        status(request, state, fields);
        break;
      case ChunkType::error:
      case ChunkType::error_offset: {
        state.error = fields.integer<uint32_t>();
        known_error(state.error);
        fields.take(fields.integer<uint16_t>());
        if (type == ChunkType::error_offset) fields.integer<uint64_t>();
        break;
      }
      default:
        fail("a chunk has a type that does not exist");
    }
    expect(fields.left() == 0 && !fields.was_short(), "a chunk's length does not fit its type");
  }

  void place(const SentRequest& request, State& state, uint64_t offset, uint64_t length) {
    expect(request.type == CommandType::read, "content in the answer to something else than READ");
    expect(length > 0, "an empty chunk");
    expect(offset == request.offset + state.covered, "content in another place than the next");
    state.covered += length;
    expect(state.covered <= request.length, "more content than was asked for");
    expect(!(request.flags & nbd::kCommandDf) || state.covered == request.length,
           "a read that is not to be fragmented is");
  }

  void content(const SentRequest& request, uint64_t offset, std::string_view bytes) {
    const bool filled = !structured_ || (request.flags & nbd::kCommandDf);
    if (!told_.holes) {
      expect(is_content(offset, bytes), "a read gives other bytes than the device");
      return;
    }
    while (!bytes.empty()) {
      const std::string_view part = bytes.substr(0, 4096 - offset % 4096);
      if (is_hole(offset)) {
        expect(filled && part.find_first_not_of('\0') == part.npos, "a hole was not filled with zeroes");
      } else {
        expect(is_content(offset, part), "a read gives other bytes than the device");
      }
      offset += part.size();
      bytes.remove_prefix(part.size());
    }
  }

  void status(const SentRequest& request, State& state, Reader& fields) {
    expect(request.type == CommandType::block_status, "a status of something else");
    const uint32_t id = fields.integer<uint32_t>();
    expect(contexts_.contains(id), "a status of a context that was not selected");
    expect(state.contexts.insert(id).second, "two statuses of one context");
    const size_t extent = extended_ ? 16 : 8;
    const uint32_t count =
        extended_ ? fields.integer<uint32_t>() : static_cast<uint32_t>(fields.left() / extent);
    expect(count > 0 && fields.left() == count * extent,
           "a status without a whole extent, or with another count");
    const bool one = request.flags & nbd::kCommandReqOne;
    expect(!one || count == 1, "more than the one extent asked for");
    const uint64_t most = request.of->size - request.offset;
    uint64_t covered = 0;
    while (fields.left() > 0) {
      expect(covered < request.length || covered == 0, "an extent behind what was asked for");
      const uint64_t length = extended_ ? fields.integer<uint64_t>() : fields.integer<uint32_t>();
      extended_ ? fields.integer<uint64_t>() : fields.integer<uint32_t>();
      expect(length > 0, "an empty extent");
      expect(length <= most - covered, "an extent reaches past the end of the export");
      covered += length;
    }
    expect(!one || covered <= request.length, "the one extent is longer than asked for");
  }

  void known_error(uint32_t error) {
    static const std::set<uint32_t> all{1, 5, 12, 22, 28, 75, 95, 108};
    expect(all.contains(error), "an error that may not stand in a reply");
  }

  // As the protocol document names what can stand in a reply; everything else is EIO.
  static uint32_t error_for(int of_device) {
    switch (of_device) {
      case EPERM:
      case EROFS:
        return 1;
      case ENOMEM:
        return 12;
      case EINVAL:
        return 22;
      case ENOSPC:
      case EDQUOT:
      case EFBIG:
        return 28;
      case EOVERFLOW:
        return 75;
      case EOPNOTSUPP:
        return 95;
      case ESHUTDOWN:
        return 108;
      default:
        return 5;
    }
  }

  void finish(uint64_t cookie, State& state) {
    state.done = true;
    const SentRequest& request = *said_.find(cookie);
    const Outcome outcome = told_.outcomes[cookie - 1];
    if (state.error != 0) {
      expect(outcome != Outcome::failed || state.error == error_for(told_.errors[cookie - 1]),
             "another error than the device's is answered");
      expect(outcome != Outcome::succeeded || request.type == CommandType::block_status,
             "what the device did was answered with an error");
      return;
    }
    expect(outcome == Outcome::succeeded || (outcome == Outcome::none && request.length == 0),
           "success was answered where the device had none");
    if (structured_ && request.type == CommandType::read) {
      expect(state.covered == request.length, "a read was answered in part");
    }
    if (request.type == CommandType::block_status) {
      if (request.filtered) {
        const std::set<uint32_t> asked(request.ids.begin(), request.ids.end());
        expect(asked.size() == request.ids.size(), "a filter that names a context twice was let through");
        expect(state.contexts == asked, "a status lacks a context asked for, or has another one");
      } else {
        expect(state.contexts == contexts_, "a status lacks a context");
      }
    }
  }

  void nothing_left_out() {
    if (how_.cut) return;
    for (size_t i = 0; i < answers_.size(); i++) {
      expect(!answers_[i].begun || answers_[i].done, "an answer has no end");
      // When the server goes, only what the device had is answered for certain.
      if (said_.requests[i].end > how_.sent || (how_.stopped && !told_.submitted[i])) continue;
      expect(answers_[i].done, "a request has no answer");
    }
  }

  void nothing_too_much() {
    for (size_t i = 0; i < answers_.size(); i++) {
      expect(!told_.submitted[i] || said_.requests[i].end <= how_.sent,
             "the device got a request that was not sent whole, or of which that is not certain");
    }
  }

  const Conversation& said_;
  const Told& told_;
  Reader rest_;
  const Circumstances& how_;
  std::vector<State> answers_;
  bool structured_ = false;
  bool extended_ = false;
  std::set<uint32_t> contexts_;
  const KnownExport* contexts_of_ = nullptr;
};

}  // namespace

void judge(const Conversation& said, const Told& told, std::string_view got, const Circumstances& how) {
  Judgement(said, told, got, how).run();
}

}  // namespace cellblock::fuzz
