#include "plane/out_queue.h"

#include <algorithm>
#include <cstring>

namespace cellblock::plane {

std::byte* OutQueue::reserve(size_t bytes) {
  if (!block_ || used_ + bytes > block_.capacity()) {
    block_ = pool_.take(kBlockBytes);
    used_ = 0;
    if (!block_) return nullptr;
  }
  return block_.bytes() + used_;
}

void OutQueue::commit(size_t bytes) {
  append(block_.bytes() + used_, bytes, block_);
  used_ += bytes;
}

BufferRef OutQueue::detach(size_t bytes) {
  used_ += bytes;
  return block_;
}

void OutQueue::append(const std::byte* at, size_t bytes, const BufferRef& in) {
  bytes_ += bytes;
  if (first_ < pieces_.size()) {
    Piece& last = pieces_.back();
    if (last.at + last.bytes == at && last.in.get() == in.get()) {
      last.bytes += bytes;
      return;
    }
  }
  pieces_.push_back({at, bytes, in});
}

bool OutQueue::append_copy(const std::byte* from, size_t bytes) {
  while (bytes > 0) {
    const size_t part = std::min(bytes, kMaxReserve);
    std::byte* to = reserve(part);
    if (!to) return false;
    std::memcpy(to, from, part);
    commit(part);
    from += part;
    bytes -= part;
  }
  return true;
}

int OutQueue::vectors(iovec* to, int most, uint64_t most_bytes) const {
  int count = 0;
  for (size_t i = first_; i < pieces_.size() && count < most && most_bytes > 0; i++) {
    const size_t bytes = static_cast<size_t>(std::min<uint64_t>(pieces_[i].bytes, most_bytes));
    to[count++] = {const_cast<std::byte*>(pieces_[i].at), bytes};
    most_bytes -= bytes;
  }
  return count;
}

void OutQueue::sent(size_t bytes) {
  bytes_ -= bytes;
  while (bytes > 0) {
    Piece& piece = pieces_[first_];
    const size_t part = std::min(bytes, piece.bytes);
    piece.at += part;
    piece.bytes -= part;
    bytes -= part;
    if (piece.bytes == 0) {
      piece.in.reset();
      first_++;
    }
  }
  forget_sent_pieces();
}

void OutQueue::forget_sent_pieces() {
  if (first_ == pieces_.size()) {
    pieces_.clear();
    first_ = 0;
    // An idle connection holds no block; detached parts keep their own references.
    block_.reset();
    used_ = 0;
  } else if (first_ >= 64 && first_ * 2 >= pieces_.size()) {
    pieces_.erase(pieces_.begin(), pieces_.begin() + static_cast<ptrdiff_t>(first_));
    first_ = 0;
  }
}

void OutQueue::clear() {
  pieces_.clear();
  first_ = 0;
  bytes_ = 0;
  block_.reset();
  used_ = 0;
}

}  // namespace cellblock::plane
