#include "fuzz/judge_transmission.h"

#include <cerrno>

#include "fuzz/fail.h"

namespace cellblock::fuzz {
namespace {

using nbd::ChunkType;
using nbd::CommandType;
using test::Reader;

constexpr size_t kSimpleReplyHead = 16;
constexpr size_t kChunkHead = 20;
constexpr size_t kExtendedChunkHead = 32;

class Replies {
 public:
  Replies(const Conversation& said, const Told& told, const Circumstances& how, const Terms& terms,
          Heard& heard)
      : said_(said), told_(told), how_(how), terms_(terms), heard_(heard), answers_(said.requests.size()) {}

  void run() {
    while (heard_.rest.left() > 0) reply();
    nothing_left_out();
  }

 private:
  struct State {
    uint64_t covered = 0;  // bytes of a read
    bool begun = false;
    bool done = false;
    uint32_t error = 0;           // 0: none
    std::set<uint32_t> contexts;  // of a status
  };

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
    if (!heard_.have(sizeof(uint32_t))) return;
    const uint32_t magic = Reader(heard_.rest).integer<uint32_t>();
    if (magic == nbd::kSimpleReplyMagic) return simple();
    expect(magic == (terms_.extended ? nbd::kExtendedReplyMagic : nbd::kChunkMagic),
           "an answer has a wrong magic");
    expect(terms_.structured, "a chunk where structured replies were not negotiated");
    chunk();
  }

  void simple() {
    expect(!terms_.extended, "a simple reply with extended headers");
    if (!heard_.have(kSimpleReplyHead)) return;
    heard_.rest.integer<uint32_t>();
    const uint32_t error = heard_.rest.integer<uint32_t>();
    const uint64_t cookie = heard_.rest.integer<uint64_t>();
    State& state = state_of(cookie);
    const SentRequest& request = *said_.find(cookie);
    const bool is_read = request.type == CommandType::read;
    expect(!is_read || !terms_.structured, "a READ has a simple reply where structured ones were negotiated");
    expect(error != 0 || request.type != CommandType::block_status, "a status has a simple reply");
    if (error == 0 && is_read) {
      if (!heard_.have(request.length)) return;
      content(request, request.offset, heard_.rest.take(request.length));
    }
    if (error != 0) known_error(error);
    state.error = error;
    finish(cookie, state);
  }

  void chunk() {
    if (!heard_.have(terms_.extended ? kExtendedChunkHead : kChunkHead)) return;
    heard_.rest.integer<uint32_t>();
    const uint16_t flags = heard_.rest.integer<uint16_t>();
    const auto type = static_cast<ChunkType>(heard_.rest.integer<uint16_t>());
    const uint64_t cookie = heard_.rest.integer<uint64_t>();
    const uint64_t offset = terms_.extended ? heard_.rest.integer<uint64_t>() : 0;
    const uint64_t bytes =
        terms_.extended ? heard_.rest.integer<uint64_t>() : heard_.rest.integer<uint32_t>();
    State& state = state_of(cookie);
    const SentRequest& request = *said_.find(cookie);
    expect(!terms_.extended || offset == request.offset, "a chunk has another offset than its request");
    if (!heard_.have(bytes)) return;
    const std::string_view payload = heard_.rest.take(bytes);
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
        expect(terms_.extended == (type == ChunkType::block_status_ext),
               "a status of the other size of headers");
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
    const bool filled = !terms_.structured || (request.flags & nbd::kCommandDf);
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
    expect(terms_.contexts.contains(id), "a status of a context that was not selected");
    expect(state.contexts.insert(id).second, "two statuses of one context");
    const size_t extent = terms_.extended ? 16 : 8;
    const uint32_t count =
        terms_.extended ? fields.integer<uint32_t>() : static_cast<uint32_t>(fields.left() / extent);
    expect(count > 0 && fields.left() == count * extent,
           "a status without a whole extent, or with another count");
    const bool one = request.flags & nbd::kCommandReqOne;
    expect(!one || count == 1, "more than the one extent asked for");
    const uint64_t most = request.of->size - request.offset;
    uint64_t covered = 0;
    while (fields.left() > 0) {
      expect(covered < request.length || covered == 0, "an extent behind what was asked for");
      const uint64_t length = terms_.extended ? fields.integer<uint64_t>() : fields.integer<uint32_t>();
      terms_.extended ? fields.integer<uint64_t>() : fields.integer<uint32_t>();
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
    if (terms_.structured && request.type == CommandType::read) {
      expect(state.covered == request.length, "a read was answered in part");
    }
    if (request.type == CommandType::block_status) {
      if (request.filtered) {
        const std::set<uint32_t> asked(request.ids.begin(), request.ids.end());
        expect(asked.size() == request.ids.size(), "a filter that names a context twice was let through");
        expect(state.contexts == asked, "a status lacks a context asked for, or has another one");
      } else {
        expect(state.contexts == terms_.contexts, "a status lacks a context");
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

  const Conversation& said_;
  const Told& told_;
  const Circumstances& how_;
  const Terms& terms_;
  Heard& heard_;
  std::vector<State> answers_;
};

}  // namespace

void judge_transmission(const Conversation& said, const Told& told, const Circumstances& how,
                        const Terms& terms, Heard& heard) {
  Replies(said, told, how, terms, heard).run();
}

}  // namespace cellblock::fuzz
