// A sparse file's content in memory: pages of 4 KiB that exist or read as zeros, and a size. Copies share
// pages until one of them writes, so an image of a whole disk can be copied for every crash a test wants to
// see.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

namespace cellblock::io {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kSectorBytes = 512;  // what a power loss keeps or loses as a whole
constexpr uint64_t kSectorsPerPage = kPageBytes / kSectorBytes;

class SparseBytes {
 public:
  uint64_t size() const { return size_; }
  void resize(uint64_t size) { size_ = size; }
  // What was written behind the size is gone.
  void cut_off_behind_size();
  uint64_t allocated() const { return pages_.size() * kPageBytes; }
  // End of the last page that exists, 0 when there is none.
  uint64_t data_end() const { return pages_.empty() ? 0 : (pages_.rbegin()->first + 1) * kPageBytes; }
  bool has_page(uint64_t page) const { return pages_.contains(page); }

  // Bytes behind the size read as zeros; the caller looks at size().
  void read(void* to, uint64_t offset, uint64_t bytes) const;
  // Neither of the two changes the size.
  void write(const void* from, uint64_t offset, uint64_t bytes);
  void write_zeros(uint64_t offset, uint64_t bytes);
  // Zeros; whole pages stop existing.
  void punch(uint64_t offset, uint64_t bytes);

  // Makes one sector what it is in `from`, existing or not.
  void copy_sector(const SparseBytes& from, uint64_t sector);

 private:
  using Page = std::array<std::byte, kPageBytes>;
  Page& own(uint64_t page);

  std::map<uint64_t, std::shared_ptr<Page>> pages_;
  uint64_t size_ = 0;
};

}  // namespace cellblock::io
