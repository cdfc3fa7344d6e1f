#include "nbd/reply.h"

#include <algorithm>

namespace cellblock::nbd {
namespace {

// The longest extent a 32-bit length can say, kept aligned for clients that work in large blocks.
constexpr uint64_t kMaxExtentBytes = 0xffff0000;

size_t put_error(std::byte* to, uint64_t cookie, WireError error, ChunkType type, size_t extra) {
  const char* message = describe(error);
  const size_t length = std::min<size_t>(std::strlen(message), kMaxErrorBytes - kChunkHeaderBytes - 6 - 8);
  chunk_header(to, kChunkDone, type, cookie, static_cast<uint32_t>(6 + length + extra));
  store_be<uint32_t>(to + 20, static_cast<uint32_t>(error));
  store_be<uint16_t>(to + 24, static_cast<uint16_t>(length));
  std::memcpy(to + 26, message, length);
  return 26 + length + extra;
}

}  // namespace

size_t error_chunk(std::byte* to, uint64_t cookie, WireError error) {
  return put_error(to, cookie, error, ChunkType::error, 0);
}

size_t error_offset_chunk(std::byte* to, uint64_t cookie, WireError error, uint64_t offset) {
  const size_t bytes = put_error(to, cookie, error, ChunkType::error_offset, 8);
  store_be<uint64_t>(to + bytes - 8, offset);
  return bytes;
}

bool StatusChunk::add(uint64_t length, uint32_t flags) {
  if (open_ > 0 && open_flags_ != flags) {
    if (query_.one || covered_ >= query_.length || extents_ + 1 == kMaxExtentsInChunk) return false;
    put();
  }
  open_flags_ = flags;
  open_ += length;
  covered_ += length;
  while (open_ > kMaxExtentBytes && !query_.one && extents_ + 1 < kMaxExtentsInChunk &&
         covered_ - open_ + kMaxExtentBytes < query_.length) {
    const uint64_t rest = open_ - kMaxExtentBytes;
    open_ = kMaxExtentBytes;
    put();
    open_ = rest;
  }
  // A longer answer than asked for is allowed, and of use only while the extent goes on.
  return !(query_.one && covered_ >= query_.length) && open_ <= kMaxExtentBytes;
}

void StatusChunk::put() {
  std::byte* at = to_ + room(extents_++);
  store_be<uint32_t>(at, static_cast<uint32_t>(open_));
  store_be<uint32_t>(at + 4, open_flags_);
  open_ = 0;
}

size_t StatusChunk::finish(uint32_t context_id, uint64_t cookie, uint16_t chunk_flags) {
  if (open_ > 0) {
    open_ = std::min(open_, kMaxExtentBytes);
    if (query_.one) open_ = std::min(open_, query_.length);
    put();
  }
  if (extents_ == 0) return 0;
  chunk_header(to_, chunk_flags, ChunkType::block_status, cookie,
               static_cast<uint32_t>(room(extents_) - kChunkHeaderBytes));
  store_be<uint32_t>(to_ + kChunkHeaderBytes, context_id);
  return room(extents_);
}

}  // namespace cellblock::nbd
