#include "nbd/reply.h"

#include <algorithm>

namespace cellblock::nbd {
namespace {

// The longest extent a 32-bit length can say, kept aligned for clients that work in large blocks.
constexpr uint64_t kMaxCompactExtentBytes = 0xffff0000;

size_t put_error(std::byte* to, ReplyForm form, const RequestHeader& request, WireError error, ChunkType type,
                 size_t extra) {
  const char* message = describe(error);
  const size_t length = std::min(std::strlen(message), kMaxErrorBytes - kExtendedChunkHeaderBytes - 6 - 8);
  const uint32_t bytes = static_cast<uint32_t>(6 + length + extra);
  std::byte* const payload = chunk_header(to, form, request, kChunkDone, type, bytes);
  store_be<uint32_t>(payload, static_cast<uint32_t>(error));
  store_be<uint16_t>(payload + 4, static_cast<uint16_t>(length));
  std::memcpy(payload + 6, message, length);
  return chunk_header_bytes(form) + bytes;
}

}  // namespace

size_t error_chunk(std::byte* to, ReplyForm form, const RequestHeader& request, WireError error) {
  return put_error(to, form, request, error, ChunkType::error, 0);
}

size_t error_offset_chunk(std::byte* to, ReplyForm form, const RequestHeader& request, WireError error,
                          uint64_t offset) {
  const size_t bytes = put_error(to, form, request, error, ChunkType::error_offset, 8);
  store_be<uint64_t>(to + bytes - 8, offset);
  return bytes;
}

uint64_t StatusChunk::longest() const {
  return form_ == ReplyForm::extended ? UINT64_MAX : kMaxCompactExtentBytes;
}

bool StatusChunk::add(uint64_t length, uint32_t flags) {
  if (open_ > 0 && open_flags_ != flags) {
    if (query_.one || covered_ >= query_.length || extents_ + 1 == kMaxExtentsInChunk) return false;
    put();
  }
  open_flags_ = flags;
  open_ += length;
  covered_ += length;
  while (open_ > longest() && !query_.one && extents_ + 1 < kMaxExtentsInChunk &&
         covered_ - open_ + longest() < query_.length) {
    const uint64_t rest = open_ - longest();
    open_ = longest();
    put();
    open_ = rest;
  }
  // A longer answer than asked for is allowed, and of use only while the extent goes on.
  return !(query_.one && covered_ >= query_.length) && open_ <= longest();
}

void StatusChunk::put() {
  std::byte* at = to_ + room(form_, extents_++);
  if (form_ == ReplyForm::extended) {
    store_be<uint64_t>(at, open_);
    store_be<uint64_t>(at + 8, open_flags_);
  } else {
    store_be<uint32_t>(at, static_cast<uint32_t>(open_));
    store_be<uint32_t>(at + 4, open_flags_);
  }
  open_ = 0;
}

size_t StatusChunk::finish(const RequestHeader& request, uint32_t context_id, uint16_t chunk_flags) {
  if (open_ > 0) {
    open_ = std::min(open_, longest());
    if (query_.one) open_ = std::min(open_, query_.length);
    put();
  }
  if (extents_ == 0) return 0;
  const bool extended = form_ == ReplyForm::extended;
  const size_t bytes = room(form_, extents_);
  std::byte* const payload = chunk_header(to_, form_, request, chunk_flags,
                                          extended ? ChunkType::block_status_ext : ChunkType::block_status,
                                          static_cast<uint32_t>(bytes - chunk_header_bytes(form_)));
  store_be<uint32_t>(payload, context_id);
  if (extended) store_be<uint32_t>(payload + 4, extents_);
  return bytes;
}

}  // namespace cellblock::nbd
