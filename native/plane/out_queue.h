// What a connection still has to send, in order: small replies lie one behind the other in blocks, the data
// of large reads is referenced where it is. A read's data can be made in place, right behind its reply
// header.
//
// Use: reserve() room, fill it, then either commit() it (all or its front), or detach() it, when the data
// comes later: the room stays the caller's, who queues it by append() when it is full.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "plane/buffer_pool.h"

namespace cellblock::plane {

class OutQueue {
 public:
  static constexpr size_t kBlockBytes = 256 << 10;
  static constexpr size_t kMaxReserve = 128 << 10;

  explicit OutQueue(BufferPool& pool) : pool_(pool) {}

  // Room for `bytes` (at most kMaxReserve) in one piece; null where memory is short. One reservation at a
  // time.
  std::byte* reserve(size_t bytes);
  void commit(size_t bytes);       // the front of the reservation is next to be sent
  BufferRef detach(size_t bytes);  // the front of the reservation is the caller's; this keeps it
  void append(const std::byte* at, size_t bytes, const BufferRef& in);

  // Copies; false where memory is short.
  bool append_copy(const std::byte* from, size_t bytes);

  bool empty() const { return bytes_ == 0; }
  uint64_t bytes() const { return bytes_; }  // not sent yet

  // The front of the queue as vectors, of about most_bytes; returns how many.
  int vectors(iovec* to, int most, uint64_t most_bytes) const;
  void sent(size_t bytes);
  void clear();

 private:
  struct Piece {
    const std::byte* at;
    size_t bytes;
    BufferRef in;
  };

  void forget_sent_pieces();

  BufferPool& pool_;
  BufferRef block_;  // where reserve() takes from
  size_t used_ = 0;  // of block_
  std::vector<Piece> pieces_;
  size_t first_ = 0;  // piece next to be sent
  uint64_t bytes_ = 0;
};

}  // namespace cellblock::plane
