#include "plane/buffer_pool.h"

#include <bit>
#include <cstdlib>
#include <new>

namespace cellblock::plane {

BufferPool::~BufferPool() { trim(0); }

BufferRef BufferPool::take(size_t bytes) {
  const unsigned shift = bytes <= (size_t{1} << kMinShift) ? kMinShift : std::bit_width(bytes - 1);
  const unsigned size_class = shift - kMinShift;
  if (size_class >= kClasses) return {};
  if (Buffer* buffer = idle_[size_class]) {
    idle_[size_class] = buffer->next;
    idle_bytes_ -= buffer->capacity;
    return BufferRef(buffer);
  }
  const size_t capacity = size_t{1} << shift;
  auto* data = static_cast<std::byte*>(std::aligned_alloc(size_t{1} << kMinShift, capacity));
  if (!data) return {};
  auto* buffer =
      new (std::nothrow) Buffer{data, capacity, 0, static_cast<uint8_t>(size_class), this, nullptr};
  if (!buffer) std::free(data);
  return BufferRef(buffer);
}

void BufferPool::give_back(Buffer* buffer) {
  if (idle_bytes_ + buffer->capacity > kMaxIdleBytes) return free(buffer);
  buffer->next = idle_[buffer->size_class];
  idle_[buffer->size_class] = buffer;
  idle_bytes_ += buffer->capacity;
}

void BufferPool::trim(size_t keep_bytes) {
  for (unsigned i = kClasses; i-- > 0;) {
    while (idle_[i] && idle_bytes_ > keep_bytes) {
      Buffer* buffer = idle_[i];
      idle_[i] = buffer->next;
      idle_bytes_ -= buffer->capacity;
      free(buffer);
    }
  }
}

void BufferPool::free(Buffer* buffer) {
  std::free(buffer->bytes);
  delete buffer;
}

}  // namespace cellblock::plane
