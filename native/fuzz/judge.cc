#include "fuzz/judge.h"

#include <map>
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

constexpr size_t kExportNameZeroes = 124;
constexpr size_t kLongestString = 4096;

class Judgement {
 public:
  Judgement(const Conversation& said, const Told& told, std::string_view got, const Circumstances& how)
      : said_(said), told_(told), rest_(got), how_(how), answers_(said.requests.size()) {}

  void run() {
    if (rest_.left() == 0 && how_.stopped) return;
    expect(rest_.greeting(), "the greeting is not as it has to be");
    if (options()) {
      while (rest_.left() > 0) reply();
      nothing_left_out();
    }
    expect(rest_.left() == 0, "bytes follow where nothing was asked");
  }

 private:
  struct State {
    uint64_t covered = 0;  // bytes of a read
    bool begun = false;
    bool done = false;
    bool failed = false;
    std::set<uint32_t> contexts;  // of a status
  };

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
      if (option.number == Option::abort) return false;
      if (option.number == Option::go && accepted) {
        expect(option.enters, "an export was opened that does not exist, or by an option that is malformed");
        return true;
      }
      expect(!option.enters || how_.stopped || how_.refused, "an export that is there was refused");
      if (!option.enters) continue;
      // The rest was written as requests and read as options: nothing can be said of the answers.
      rest_.take(rest_.left());
      return false;
    }
    return false;
  }

  bool may_be_dropped(const SentOption& option) const {
    return how_.stopped || how_.refused || (option.no_reply && !option.enters);
  }

  bool export_name(const SentOption& option) {
    expect(option.enters, "EXPORT_NAME of what does not exist has an answer");
    rest_.integer<uint64_t>();
    expect(rest_.integer<uint16_t>() & nbd::kHasFlags, "the transmission flags lack HAS_FLAGS");
    if (!said_.no_zeroes) {
      const std::string_view zeroes = rest_.take(kExportNameZeroes);
      expect(zeroes.find_first_not_of('\0') == zeroes.npos, "the zeroes are none");
    }
    whole();
    return true;
  }

  // All replies to one option; whether it was acknowledged.
  bool answer_of(const SentOption& option) {
    if (option.number == Option::set_meta_context) contexts_.clear();
    for (;;) {
      expect(rest_.integer<uint64_t>() == nbd::kOptionReplyMagic, "an option reply has a wrong magic");
      expect(rest_.integer<uint32_t>() == static_cast<uint32_t>(option.number),
             "a reply names another option than is to be answered");
      const auto type = static_cast<OptionReply>(rest_.integer<uint32_t>());
      const std::string_view data = rest_.take(rest_.integer<uint32_t>());
      whole();
      if (type == OptionReply::ack) {
        expect(data.empty(), "an ACK has data");
        if (option.number == Option::structured_reply) structured_ = true;
        return true;
      }
      if (static_cast<uint32_t>(type) & 0x80000000) {
        expect(data.size() <= kLongestString, "an error's sentence is too long");
        return false;
      }
      intermediate(option, type, data);
    }
  }

  void intermediate(const SentOption& option, OptionReply type, std::string_view data) {
    Reader fields(data);
    switch (type) {
      case OptionReply::server: {
        expect(option.number == Option::list, "SERVER answers something else than LIST");
        fields.take(fields.integer<uint32_t>());
        break;
      }
      case OptionReply::info:
        expect(option.number == Option::info || option.number == Option::go, "INFO answers something else");
        fields.integer<uint16_t>();
        break;
      case OptionReply::meta_context: {
        const bool set = option.number == Option::set_meta_context;
        expect(set || option.number == Option::list_meta_context, "META_CONTEXT answers something else");
        const uint32_t id = fields.integer<uint32_t>();
        if (set) expect(contexts_.insert(id).second, "two contexts have one id");
        break;
      }
      default:
        fail("a reply to an option has a type that does not exist");
    }
    expect(!fields.was_short(), "a reply to an option is too short");
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
    const uint32_t magic = rest_.integer<uint32_t>();
    if (magic == nbd::kSimpleReplyMagic) return simple();
    expect(magic == nbd::kChunkMagic, "an answer has a wrong magic");
    expect(structured_, "a chunk where structured replies were not negotiated");
    chunk();
  }

  void simple() {
    const uint32_t error = rest_.integer<uint32_t>();
    const uint64_t cookie = rest_.integer<uint64_t>();
    State& state = state_of(cookie);
    const SentRequest& request = *said_.find(cookie);
    const bool is_read = request.type == CommandType::read;
    expect(!is_read || !structured_, "a READ has a simple reply where structured ones were negotiated");
    expect(error != 0 || request.type != CommandType::block_status, "a status has a simple reply");
    if (error == 0 && is_read) content(request, request.offset, rest_.take(request.length));
    whole();
    if (error != 0) known_error(error);
    finish(cookie, state, error != 0);
  }

  void chunk() {
    const uint16_t flags = rest_.integer<uint16_t>();
    const auto type = static_cast<ChunkType>(rest_.integer<uint16_t>());
    const uint64_t cookie = rest_.integer<uint64_t>();
    const std::string_view payload = rest_.take(rest_.integer<uint32_t>());
    whole();
    State& state = state_of(cookie);
    const SentRequest& request = *said_.find(cookie);
    expect((flags & ~nbd::kChunkDone) == 0, "a chunk has unknown flags");
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
        status(request, state, fields);
        break;
      case ChunkType::error:
      case ChunkType::error_offset: {
        known_error(fields.integer<uint32_t>());
        fields.take(fields.integer<uint16_t>());
        if (type == ChunkType::error_offset) fields.integer<uint64_t>();
        state.failed = true;
        break;
      }
      default:
        fail("a chunk has a type that does not exist");
    }
    expect(fields.left() == 0 && !fields.was_short(), "a chunk's length does not fit its type");
    if (flags & nbd::kChunkDone) finish(cookie, state, state.failed);
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
    expect(fields.left() > 0 && fields.left() % 8 == 0, "a status without a whole extent");
    const bool one = request.flags & nbd::kCommandReqOne;
    expect(!one || fields.left() == 8, "more than the one extent asked for");
    uint64_t covered = 0;
    while (fields.left() > 0) {
      expect(covered < request.length || covered == 0, "an extent behind what was asked for");
      const uint32_t length = fields.integer<uint32_t>();
      fields.integer<uint32_t>();
      expect(length > 0, "an empty extent");
      covered += length;
    }
    expect(!one || covered <= request.length, "the one extent is longer than asked for");
    expect(covered <= request.of->size - request.offset, "an extent reaches past the end of the export");
  }

  void known_error(uint32_t error) {
    static const std::set<uint32_t> all{1, 5, 12, 22, 28, 75, 95, 108};
    expect(all.contains(error), "an error that may not stand in a reply");
  }

  void finish(uint64_t cookie, State& state, bool failed) {
    state.done = true;
    const SentRequest& request = *said_.find(cookie);
    const Outcome outcome = told_.outcomes[cookie - 1];
    if (failed) {
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
      expect(state.contexts == contexts_, "a status lacks a context");
    }
  }

  void nothing_left_out() {
    for (size_t i = 0; i < answers_.size(); i++) {
      expect(!answers_[i].begun || answers_[i].done, "an answer has no end");
      // When the server goes, only what the device had is answered for certain.
      if (said_.requests[i].end > how_.sent || (how_.stopped && !told_.submitted[i])) continue;
      expect(answers_[i].done, "a request has no answer");
    }
  }

  void whole() { expect(!rest_.was_short(), "an answer is cut off"); }

  const Conversation& said_;
  const Told& told_;
  Reader rest_;
  const Circumstances& how_;
  std::vector<State> answers_;
  bool structured_ = false;
  std::set<uint32_t> contexts_;
};

}  // namespace

void judge(const Conversation& said, const Told& told, std::string_view got, const Circumstances& how) {
  Judgement(said, told, got, how).run();
}

}  // namespace cellblock::fuzz
