// Bytes of NBD clients and servers, for tests: builds what a client sends, takes apart what a server answers.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "nbd/constants.h"

namespace cellblock::test {

template <typename T>
std::string be(T value) {
  std::string bytes(sizeof value, '\0');
  store_be<T>(bytes.data(), value);
  return bytes;
}

inline std::string client_flags(uint32_t flags = nbd::kClientFixedNewstyle | nbd::kClientNoZeroes) {
  return be<uint32_t>(flags);
}

inline std::string option(nbd::Option number, std::string_view data = {}) {
  return be(nbd::kOptionMagic) + be(static_cast<uint32_t>(number)) + be(static_cast<uint32_t>(data.size())) +
         std::string(data);
}

inline std::string sized(std::string_view text) {
  return be(static_cast<uint32_t>(text.size())) + std::string(text);
}

inline std::string go(std::string_view name, const std::vector<nbd::Info>& infos = {},
                      nbd::Option number = nbd::Option::go) {
  std::string data = sized(name) + be(static_cast<uint16_t>(infos.size()));
  for (nbd::Info info : infos) data += be(static_cast<uint16_t>(info));
  return option(number, data);
}

inline std::string meta(nbd::Option number, std::string_view name, const std::vector<std::string>& queries) {
  std::string data = sized(name) + be(static_cast<uint32_t>(queries.size()));
  for (const std::string& query : queries) data += sized(query);
  return option(number, data);
}

inline std::string request(nbd::CommandType type, uint64_t cookie, uint64_t offset, uint32_t length,
                           uint16_t flags = 0) {
  return be(nbd::kRequestMagic) + be(flags) + be(static_cast<uint16_t>(type)) + be(cookie) + be(offset) +
         be(length);
}

// With extended headers. `flags` are as they are to stand there: a write has kCommandPayloadLen among them.
inline std::string extended_request(nbd::CommandType type, uint64_t cookie, uint64_t offset, uint64_t length,
                                    unsigned flags = 0) {
  return be(nbd::kExtendedRequestMagic) + be(static_cast<uint16_t>(flags)) + be(static_cast<uint16_t>(type)) +
         be(cookie) + be(offset) + be(length);
}

struct OptionAnswer {
  nbd::Option option;
  nbd::OptionReply type;
  std::string data;
};

// Reads fields off the front of what a server sent.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  template <typename T>
  T integer() {
    const std::string_view bytes = take(sizeof(T));
    return bytes.size() == sizeof(T) ? load_be<T>(bytes.data()) : T{0};
  }
  std::string_view take(size_t bytes) {
    if (bytes > rest_.size()) {
      short_ = true;
      rest_ = {};
      return {};
    }
    const std::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return taken;
  }
  bool greeting() {
    return integer<uint64_t>() == nbd::kInitMagic && integer<uint64_t>() == nbd::kOptionMagic &&
           integer<uint16_t>() == 3;
  }
  bool next(OptionAnswer& answer) {
    if (rest_.size() < 20 || load_be<uint64_t>(rest_.data()) != nbd::kOptionReplyMagic) return false;
    rest_.remove_prefix(8);
    answer.option = static_cast<nbd::Option>(integer<uint32_t>());
    answer.type = static_cast<nbd::OptionReply>(integer<uint32_t>());
    answer.data = take(integer<uint32_t>());
    return !short_;
  }
  size_t left() const { return rest_.size(); }
  bool was_short() const { return short_; }

 private:
  std::string_view rest_;
  bool short_ = false;
};

inline std::vector<OptionAnswer> answers(std::string_view bytes, bool greeted = true) {
  Reader reader(bytes);
  std::vector<OptionAnswer> all;
  if (greeted && !reader.greeting()) return all;
  for (OptionAnswer answer; reader.next(answer);) all.push_back(answer);
  return all;
}

// One reply to a request: simple, or one chunk of a structured or extended one.
struct Reply {
  bool chunk = false;
  bool extended = false;
  uint64_t asked = 0;  // extended: the offset of the request
  nbd::ChunkType type = nbd::ChunkType::none;
  bool done = true;
  uint32_t error = 0;  // simple, or of an error chunk
  uint64_t cookie = 0;
  uint64_t offset = 0;  // of content chunks
  uint32_t hole = 0;    // bytes
  std::string data;     // content, or a status chunk's payload, or an error's message
};

// `data_bytes(cookie)`: how many bytes follow a successful simple reply.
template <typename DataBytes>
bool next_reply(Reader& reader, Reply& reply, DataBytes data_bytes) {
  reply = Reply{};
  if (reader.left() == 0) return false;
  const uint32_t magic = reader.integer<uint32_t>();
  if (magic == nbd::kSimpleReplyMagic) {
    reply.error = reader.integer<uint32_t>();
    reply.cookie = reader.integer<uint64_t>();
    if (reply.error == 0) reply.data = reader.take(data_bytes(reply.cookie));
    return !reader.was_short();
  }
  reply.extended = magic == nbd::kExtendedReplyMagic;
  if (magic != nbd::kChunkMagic && !reply.extended) return false;
  reply.chunk = true;
  reply.done = reader.integer<uint16_t>() & nbd::kChunkDone;
  reply.type = static_cast<nbd::ChunkType>(reader.integer<uint16_t>());
  reply.cookie = reader.integer<uint64_t>();
  if (reply.extended) reply.asked = reader.integer<uint64_t>();
  Reader payload(reader.take(reply.extended ? reader.integer<uint64_t>() : reader.integer<uint32_t>()));
  switch (reply.type) {
    case nbd::ChunkType::none:
      break;
    case nbd::ChunkType::offset_data:
      reply.offset = payload.integer<uint64_t>();
      reply.data = payload.take(payload.left());
      break;
    case nbd::ChunkType::offset_hole:
      reply.offset = payload.integer<uint64_t>();
      reply.hole = payload.integer<uint32_t>();
      break;
    case nbd::ChunkType::error:
    case nbd::ChunkType::error_offset:
      reply.error = payload.integer<uint32_t>();
      reply.data = payload.take(payload.integer<uint16_t>());
      if (reply.type == nbd::ChunkType::error_offset) reply.offset = payload.integer<uint64_t>();
      break;
    default:
      reply.data = payload.take(payload.left());
      break;
  }
  return !reader.was_short() && payload.left() == 0 && !payload.was_short();
}

}  // namespace cellblock::test
