// Encoders of replies. Each writes at `to`, which has room for the bytes it returns (or for its constant).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/bytes.h"
#include "nbd/constants.h"
#include "nbd/request.h"

namespace cellblock::nbd {

constexpr size_t kSimpleReplyBytes = 16;
constexpr size_t kChunkHeaderBytes = 20;
constexpr size_t kOffsetDataBytes = kChunkHeaderBytes + 8;  // what stands before the data
constexpr size_t kOffsetHoleBytes = kChunkHeaderBytes + 12;
constexpr size_t kStatusHeaderBytes = kChunkHeaderBytes + 4;
constexpr size_t kStatusExtentBytes = 8;
constexpr size_t kMaxErrorBytes = kChunkHeaderBytes + 6 + 128 + 8;  // of an error reply of either kind

inline void simple_reply(std::byte* to, WireError error, uint64_t cookie) {
  store_be<uint32_t>(to, kSimpleReplyMagic);
  store_be<uint32_t>(to + 4, static_cast<uint32_t>(error));
  store_be<uint64_t>(to + 8, cookie);
}

inline void chunk_header(std::byte* to, uint16_t flags, ChunkType type, uint64_t cookie,
                         uint32_t payload_bytes) {
  store_be<uint32_t>(to, kChunkMagic);
  store_be<uint16_t>(to + 4, flags);
  store_be<uint16_t>(to + 6, static_cast<uint16_t>(type));
  store_be<uint64_t>(to + 8, cookie);
  store_be<uint32_t>(to + 16, payload_bytes);
}

// `bytes` of data follow it.
inline void offset_data(std::byte* to, uint16_t flags, uint64_t cookie, uint64_t offset, uint32_t bytes) {
  chunk_header(to, flags, ChunkType::offset_data, cookie, bytes + 8);
  store_be<uint64_t>(to + 20, offset);
}

inline void offset_hole(std::byte* to, uint16_t flags, uint64_t cookie, uint64_t offset, uint32_t bytes) {
  chunk_header(to, flags, ChunkType::offset_hole, cookie, 12);
  store_be<uint64_t>(to + 20, offset);
  store_be<uint32_t>(to + 28, bytes);
}

inline void none_chunk(std::byte* to, uint64_t cookie) {
  chunk_header(to, kChunkDone, ChunkType::none, cookie, 0);
}

// A final error chunk with describe(error) as its message. Returns bytes written, at most kMaxErrorBytes.
size_t error_chunk(std::byte* to, uint64_t cookie, WireError error);

// The same, saying where; for errors whose place is known.
size_t error_offset_chunk(std::byte* to, uint64_t cookie, WireError error, uint64_t offset);

// The failure of a request: an error chunk where structured replies are negotiated, else a simple reply.
inline size_t error_reply(std::byte* to, bool structured, uint64_t cookie, WireError error) {
  if (structured) return error_chunk(to, cookie, error);
  simple_reply(to, error, cookie);
  return kSimpleReplyBytes;
}

// Builds one BLOCK_STATUS chunk: joins equal neighbours, keeps to 32-bit lengths, to REQ_ONE, to the rule
// that only the last extent may reach past the request, and to kMaxExtentsInChunk.
class StatusChunk {
 public:
  struct Query {
    uint64_t length = 0;  // bytes asked for
    bool one = false;     // REQ_ONE
  };

  // Room needed for a chunk of at most `extents`.
  static size_t room(size_t extents) { return kStatusHeaderBytes + kStatusExtentBytes * extents; }

  StatusChunk(std::byte* to, Query query) : to_(to), query_(query) {}

  // The next extent in order; false when no further one is of use.
  bool add(uint64_t length, uint32_t flags);

  // Writes the header; returns bytes of the whole chunk, 0 if no extent was added.
  size_t finish(uint32_t context_id, uint64_t cookie, uint16_t chunk_flags);

 private:
  void put();

  std::byte* to_;
  Query query_;
  uint32_t extents_ = 0;  // written
  uint64_t covered_ = 0;  // bytes of all, the open one included
  uint64_t open_ = 0;     // length of the extent that may still grow
  uint32_t open_flags_ = 0;
};

}  // namespace cellblock::nbd
