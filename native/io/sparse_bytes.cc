// See the header.
#include "io/sparse_bytes.h"

#include <algorithm>
#include <cstring>

namespace cellblock::io {
namespace {

// Calls body(page, offset in the page, bytes, bytes before it) for every part of a range.
template <typename Body>
void each_page(uint64_t offset, uint64_t bytes, Body body) {
  uint64_t done = 0;
  while (done < bytes) {
    const uint64_t within = (offset + done) % kPageBytes;
    const uint64_t part = std::min(bytes - done, kPageBytes - within);
    body((offset + done) / kPageBytes, within, part, done);
    done += part;
  }
}

}  // namespace

SparseBytes::Page& SparseBytes::own(uint64_t page) {
  std::shared_ptr<Page>& at = pages_[page];
  if (!at) {
    at = std::make_shared<Page>();
  } else if (at.use_count() > 1) {
    at = std::make_shared<Page>(*at);
  }
  return *at;
}

void SparseBytes::cut_off_behind_size() {
  if (data_end() > size_) punch(size_, data_end() - size_);
}

void SparseBytes::read(void* to, uint64_t offset, uint64_t bytes) const {
  each_page(offset, bytes, [&](uint64_t page, uint64_t within, uint64_t part, uint64_t done) {
    std::byte* target = static_cast<std::byte*>(to) + done;
    const auto found = pages_.find(page);
    if (found == pages_.end()) {
      std::memset(target, 0, part);
    } else {
      std::memcpy(target, found->second->data() + within, part);
    }
  });
}

void SparseBytes::write(const void* from, uint64_t offset, uint64_t bytes) {
  each_page(offset, bytes, [&](uint64_t page, uint64_t within, uint64_t part, uint64_t done) {
    std::memcpy(own(page).data() + within, static_cast<const std::byte*>(from) + done, part);
  });
}

void SparseBytes::write_zeros(uint64_t offset, uint64_t bytes) {
  each_page(offset, bytes, [&](uint64_t page, uint64_t within, uint64_t part, uint64_t) {
    std::memset(own(page).data() + within, 0, part);
  });
}

void SparseBytes::punch(uint64_t offset, uint64_t bytes) {
  const uint64_t end = offset + bytes;
  for (auto at = pages_.lower_bound(offset / kPageBytes); at != pages_.end();) {
    const uint64_t start = at->first * kPageBytes;
    if (start >= end) break;
    const uint64_t from = std::max(start, offset);
    const uint64_t to = std::min(start + kPageBytes, end);
    if (to - from == kPageBytes) {
      at = pages_.erase(at);
    } else {
      write_zeros(from, to - from);
      ++at;
    }
  }
}

void SparseBytes::copy_sector(const SparseBytes& from, uint64_t sector) {
  const uint64_t page = sector / kSectorsPerPage;
  if (!from.has_page(page) && !has_page(page)) return;
  std::byte bytes[kSectorBytes];
  from.read(bytes, sector * kSectorBytes, kSectorBytes);
  write(bytes, sector * kSectorBytes, kSectorBytes);
}

}  // namespace cellblock::io
