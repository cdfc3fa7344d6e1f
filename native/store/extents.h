// The table of extents files: every file any map names, opened at first use, shared by all reactors.
// A container writes only into files of its own; the table does not know who owns what.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "io/io.h"
#include "store/slot.h"

namespace cellblock::store {

class ExtentsTable {
 public:
  struct Options {
    std::string directory;  // of the store; paths of files are relative to it
    uint32_t window_bytes = 2 << 20;
    uint64_t reserve_bytes = 0;  // first writes are refused below this much free space
    bool direct = false;
  };

  ExtentsTable(io::Disk& disk, Options options) : disk_(disk), options_(std::move(options)) {}

  uint32_t window_bytes() const { return options_.window_bytes; }
  bool direct() const { return options_.direct; }

  // Makes a file known; no I/O. Idempotent.
  void know(uint64_t number, const std::string& path);

  // The open file, or null with the errno in `error`. Thread-safe. With `create` it is made when missing.
  io::File* open(uint64_t number, bool create, int& error);

  // Number of places in use: the file's length in windows, rounded up; 0 for a file not made yet. Or -errno.
  int64_t places(uint64_t number);

  // Forgets the file, closes it and unlinks it. Nothing may use it any more (a grace period has passed).
  int drop(uint64_t number);

  // Blocking fdatasync of one file (start only); a file that does not exist is fine.
  int sync(uint64_t number);

  // False while the file system has less free space than the reserve. Asks the file system at most every few
  // milliseconds; `now_ns` is a monotonic clock.
  bool may_allocate(uint64_t now_ns);

  // Opens the directory of the files, once: it stays open. sync_created() does so too; called before it, an
  // error of opening (no descriptor left) is not taken for one of writing. 0 or -errno. Thread-safe.
  int open_directory();

  // Makes directory entries of files made since the last call durable; called before anything that names them
  // is committed. Thread-safe; a no-op when nothing was made. The first call counts what an earlier process
  // may have made.
  int sync_created();

 private:
  struct Entry {
    std::string path;
    std::unique_ptr<io::File> file;
    bool created = false;
  };

  int open_directory_locked();
  std::string absolute(const Entry& entry) const { return options_.directory + "/" + entry.path; }

  io::Disk& disk_;
  Options options_;
  std::mutex mutex_;
  std::unordered_map<uint64_t, Entry> entries_;
  std::atomic<bool> created_{true};
  std::mutex directory_mutex_;                // held over the sync of the directory
  std::unique_ptr<io::Directory> directory_;  // under directory_mutex_; once there, it stays
  std::atomic<uint64_t> space_checked_ns_{0};
  std::atomic<bool> space_low_{false};
};

}  // namespace cellblock::store
