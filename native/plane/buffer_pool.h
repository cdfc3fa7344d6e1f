// Buffers of a reactor: aligned for direct I/O, counted by reference, kept for the next request. Used by the
// reactor's thread only, so the counts are plain.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace cellblock::plane {

class BufferPool;

// A power of two of bytes, at least 4 KiB, aligned to 4 KiB.
struct Buffer {
  std::byte* bytes = nullptr;
  size_t capacity = 0;
  uint32_t references = 0;
  uint8_t size_class = 0;
  BufferPool* pool = nullptr;
  Buffer* next = nullptr;  // in the pool's list
};

// One reference to a buffer.
class BufferRef {
 public:
  BufferRef() = default;
  explicit BufferRef(Buffer* buffer) : buffer_(buffer) {
    if (buffer_) buffer_->references++;
  }
  BufferRef(const BufferRef& other) : BufferRef(other.buffer_) {}
  BufferRef(BufferRef&& other) noexcept : buffer_(std::exchange(other.buffer_, nullptr)) {}
  BufferRef& operator=(BufferRef other) noexcept {
    std::swap(buffer_, other.buffer_);
    return *this;
  }
  ~BufferRef() { reset(); }

  inline void reset();
  Buffer* get() const { return buffer_; }
  std::byte* bytes() const { return buffer_->bytes; }
  size_t capacity() const { return buffer_->capacity; }
  bool sole() const { return buffer_->references == 1; }
  explicit operator bool() const { return buffer_ != nullptr; }

 private:
  Buffer* buffer_ = nullptr;
};

class BufferPool {
 public:
  BufferPool() = default;
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // At least `bytes`; empty where memory is short.
  BufferRef take(size_t bytes);
  // Gives idle buffers back to the system down to `keep_bytes`.
  void trim(size_t keep_bytes);
  size_t idle_bytes() const { return idle_bytes_; }

 private:
  friend class BufferRef;
  static constexpr unsigned kMinShift = 12;
  static constexpr unsigned kClasses = 15;                   // 4 KiB to 64 MiB
  static constexpr size_t kMaxIdleBytes = size_t{32} << 20;  // kept at most

  void give_back(Buffer* buffer);
  static void free(Buffer* buffer);

  std::array<Buffer*, kClasses> idle_{};
  size_t idle_bytes_ = 0;
};

inline void BufferRef::reset() {
  Buffer* buffer = std::exchange(buffer_, nullptr);
  if (buffer && --buffer->references == 0) buffer->pool->give_back(buffer);
}

}  // namespace cellblock::plane
