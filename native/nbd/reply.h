// Encoders of replies. Each writes at `to`, which has room for the bytes it returns (or for what the function
// of its name with _bytes says).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/bytes.h"
#include "nbd/constants.h"
#include "nbd/request.h"

namespace cellblock::nbd {

// The form of all replies of a connection, as negotiated.
enum class ReplyForm : uint8_t { simple, structured, extended };

constexpr size_t kSimpleReplyBytes = 16;
constexpr size_t kChunkHeaderBytes = 20;
constexpr size_t kExtendedChunkHeaderBytes = 32;
constexpr size_t kMaxErrorBytes = kExtendedChunkHeaderBytes + 6 + 128 + 8;  // of an error reply of any form

// The functions of chunks are for structured and extended replies.
constexpr size_t chunk_header_bytes(ReplyForm form) {
  return form == ReplyForm::extended ? kExtendedChunkHeaderBytes : kChunkHeaderBytes;
}
// What stands before the data.
constexpr size_t offset_data_bytes(ReplyForm form) { return chunk_header_bytes(form) + 8; }
constexpr size_t offset_hole_bytes(ReplyForm form) { return chunk_header_bytes(form) + 12; }
constexpr size_t kMaxOffsetDataBytes = offset_data_bytes(ReplyForm::extended);

// Before the data of a read, in any form.
constexpr size_t read_head_bytes(ReplyForm form) {
  return form == ReplyForm::simple ? kSimpleReplyBytes : offset_data_bytes(form);
}

inline void simple_reply(std::byte* to, WireError error, uint64_t cookie) {
  store_be<uint32_t>(to, kSimpleReplyMagic);
  store_be<uint32_t>(to + 4, static_cast<uint32_t>(error));
  store_be<uint64_t>(to + 8, cookie);
}

// The header of a chunk of the reply to `request`; returns where the payload goes.
inline std::byte* chunk_header(std::byte* to, ReplyForm form, const RequestHeader& request, uint16_t flags,
                               ChunkType type, uint32_t payload_bytes) {
  const bool extended = form == ReplyForm::extended;
  store_be<uint32_t>(to, extended ? kExtendedReplyMagic : kChunkMagic);
  store_be<uint16_t>(to + 4, flags);
  store_be<uint16_t>(to + 6, static_cast<uint16_t>(type));
  store_be<uint64_t>(to + 8, request.cookie);
  if (!extended) {
    store_be<uint32_t>(to + 16, payload_bytes);
    return to + kChunkHeaderBytes;
  }
  store_be<uint64_t>(to + 16, request.offset);
  store_be<uint64_t>(to + 24, payload_bytes);
  return to + kExtendedChunkHeaderBytes;
}

// `bytes` of data follow it.
inline void offset_data(std::byte* to, ReplyForm form, const RequestHeader& request, uint16_t flags,
                        uint64_t offset, uint32_t bytes) {
  store_be<uint64_t>(chunk_header(to, form, request, flags, ChunkType::offset_data, bytes + 8), offset);
}

inline void offset_hole(std::byte* to, ReplyForm form, const RequestHeader& request, uint16_t flags,
                        uint64_t offset, uint32_t bytes) {
  std::byte* const payload = chunk_header(to, form, request, flags, ChunkType::offset_hole, 12);
  store_be<uint64_t>(payload, offset);
  store_be<uint32_t>(payload + 8, bytes);
}

inline void none_chunk(std::byte* to, ReplyForm form, const RequestHeader& request) {
  chunk_header(to, form, request, kChunkDone, ChunkType::none, 0);
}

// A final error chunk with describe(error) as its message. Returns bytes written, at most kMaxErrorBytes.
size_t error_chunk(std::byte* to, ReplyForm form, const RequestHeader& request, WireError error);

// The same, saying where; for errors whose place is known.
size_t error_offset_chunk(std::byte* to, ReplyForm form, const RequestHeader& request, WireError error,
                          uint64_t offset);

// The failure of a request: an error chunk, or a simple reply where nothing else is negotiated.
inline size_t error_reply(std::byte* to, ReplyForm form, const RequestHeader& request, WireError error) {
  if (form != ReplyForm::simple) return error_chunk(to, form, request, error);
  simple_reply(to, error, request.cookie);
  return kSimpleReplyBytes;
}

// The success of a request that gives nothing back. A simple reply is allowed and shortest with structured
// replies, and forbidden with extended headers. Returns bytes written, at most kExtendedChunkHeaderBytes.
inline size_t success_reply(std::byte* to, ReplyForm form, const RequestHeader& request) {
  if (form == ReplyForm::extended) {
    none_chunk(to, form, request);
    return kExtendedChunkHeaderBytes;
  }
  simple_reply(to, WireError::none, request.cookie);
  return kSimpleReplyBytes;
}

// Builds one BLOCK_STATUS chunk: joins equal neighbours, keeps to lengths of 32 bits (64 with extended
// headers), to REQ_ONE, to the rule that only the last extent may reach past the request, and to
// kMaxExtentsInChunk.
class StatusChunk {
 public:
  struct Query {
    uint64_t length = 0;  // bytes asked for
    bool one = false;     // REQ_ONE
  };

  // Room needed for a chunk of at most `extents`.
  static constexpr size_t room(ReplyForm form, size_t extents) {
    const bool extended = form == ReplyForm::extended;
    return chunk_header_bytes(form) + (extended ? 8 + 16 * extents : 4 + 8 * extents);
  }

  StatusChunk(std::byte* to, ReplyForm form, Query query) : to_(to), form_(form), query_(query) {}

  // The next extent in order; false when no further one is of use.
  bool add(uint64_t length, uint32_t flags);

  // Writes the header; returns bytes of the whole chunk, 0 if no extent was added.
  size_t finish(const RequestHeader& request, uint32_t context_id, uint16_t chunk_flags);

 private:
  uint64_t longest() const;
  void put();

  std::byte* to_;
  ReplyForm form_;
  Query query_;
  uint32_t extents_ = 0;  // written
  uint64_t covered_ = 0;  // bytes of all, the open one included
  uint64_t open_ = 0;     // length of the extent that may still grow
  uint32_t open_flags_ = 0;
};

}  // namespace cellblock::nbd
