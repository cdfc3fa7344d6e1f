// What a simulated disk holds: for every file the page cache and the platter, for every directory entry the
// same two. Plain data: an image can be copied, and every copy lost to power in another way.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "io/sparse_bytes.h"

namespace cellblock::io {

class FileImage {
 public:
  // The page cache. Writing needs room for new pages: returns bytes written, short when `room` pages do not
  // do.
  uint64_t write(const void* from, uint64_t offset, uint64_t bytes, uint64_t room);
  bool zero(uint64_t offset, uint64_t bytes, uint64_t room);  // false: no room, nothing done
  void punch(uint64_t offset, uint64_t bytes);
  uint64_t read(void* to, uint64_t offset, uint64_t bytes);  // short at the end
  uint64_t size() const { return current_.size(); }
  uint64_t allocated() const { return current_.allocated(); }
  // Sectors written or punched that are not on the platter, mapped stores included.
  uint64_t unsynced_sectors();

  // Brings what is unsynced in the range to the platter; the whole file by default.
  void sync(uint64_t offset = 0, uint64_t bytes = UINT64_MAX);
  // As Linux does when write-back fails: what was unsynced in the range counts as clean, stays in the page
  // cache, and only parts of it, chosen at random, are on the platter. Every open file hears of it once, from
  // sync_error().
  void fail_writeback(Random& random, int error, uint64_t offset = 0, uint64_t bytes = UINT64_MAX);
  // The kernel writes something back on its own.
  void write_back_some(Random& random);
  // The page cache is gone. Each unsynced sector is on the platter or not, and so is the new size.
  void lose_power(Random& random);

  // Errors of write-back by number, as errseq_t: a file opened at `mark` has still to hear of later ones.
  uint64_t error_mark() const { return error_heard_ ? errors_ : errors_ - 1; }
  // The error a file that heard all up to `mark` must report now, or 0; moves the mark.
  int sync_error(uint64_t& mark);

  // Memory that is the first `length` bytes of the file from now on. Null where length reaches behind the
  // end.
  std::byte* map(size_t length);
  // Stores made to the memory so far are in the page cache; later ones are not.
  void detach();

 private:
  struct Memory {
    explicit Memory(size_t length);
    ~Memory();
    std::byte* bytes;
    size_t length;
  };

  void absorb();                                  // stores of the program -> page cache
  void reflect(uint64_t offset, uint64_t bytes);  // page cache -> memory
  void mark_dirty(uint64_t offset, uint64_t bytes);
  void keep(uint64_t page, uint8_t sectors);  // these are on the platter now
  std::vector<std::pair<uint64_t, uint8_t>> dirty_in(uint64_t offset, uint64_t bytes) const;

  SparseBytes current_;
  SparseBytes durable_;
  std::map<uint64_t, uint8_t> dirty_;  // page -> its sectors that are in current_ only
  bool size_dirty_ = false;
  uint64_t errors_ = 0;
  int last_error_ = 0;
  bool error_heard_ = true;
  std::shared_ptr<Memory> memory_;
  std::vector<std::shared_ptr<Memory>> detached_;  // programs may still store there
};

enum class CrashKind : uint8_t { process_death, power_loss };

class DiskImage {
 public:
  using Names = std::map<std::string, std::shared_ptr<FileImage>>;

  Names names;          // as the running system sees them
  Names durable_names;  // as they are on the platter

  uint64_t allocated() const;
  void sync_directory(const std::string& path);
  // Files of their own, unmapped, with the same content. Stores to mapped memory up to now are in it.
  DiskImage copy() const;
  // Each directory entry made or removed since its directory was synced is there or not; then the files.
  void lose_power(Random& random);
};

}  // namespace cellblock::io
