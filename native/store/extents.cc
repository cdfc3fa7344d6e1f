#include "store/extents.h"

#include <cerrno>

namespace cellblock::store {
namespace {

constexpr uint64_t kSpaceCheckIntervalNs = 20'000'000;

}  // namespace

void ExtentsTable::know(uint64_t number, const std::string& path) {
  std::lock_guard lock(mutex_);
  Entry& entry = entries_[number];
  if (entry.path.empty()) entry.path = path;
}

io::File* ExtentsTable::open(uint64_t number, bool create, int& error) {
  std::lock_guard lock(mutex_);
  auto found = entries_.find(number);
  if (found == entries_.end()) {
    error = ENOENT;
    return nullptr;
  }
  Entry& entry = found->second;
  if (entry.file) return entry.file.get();
  io::OpenOptions options;
  options.direct = options_.direct;
  int result = disk_.open(absolute(entry), options, entry.file);
  if (result == -ENOENT && create) {
    options.create = true;
    result = disk_.open(absolute(entry), options, entry.file);
    if (result == 0) {
      entry.created = true;
      created_.store(true, std::memory_order_release);
    }
  }
  if (result < 0) {
    entry.file.reset();
    error = -result;
    return nullptr;
  }
  return entry.file.get();
}

int64_t ExtentsTable::places(uint64_t number) {
  int error = 0;
  io::File* file = open(number, false, error);
  if (!file) return error == ENOENT ? 0 : -error;
  const int64_t size = file->size();
  if (size < 0) return size;
  return (size + options_.window_bytes - 1) / options_.window_bytes;
}

int ExtentsTable::drop(uint64_t number) {
  Entry dropped;
  {
    std::lock_guard lock(mutex_);
    auto found = entries_.find(number);
    if (found == entries_.end()) return 0;
    dropped = std::move(found->second);
    entries_.erase(found);
  }
  // Not under the lock, which every reactor takes: freeing the space of a huge file takes seconds.
  dropped.file.reset();
  const int result = disk_.unlink(absolute(dropped));
  return result == -ENOENT ? 0 : result;
}

int ExtentsTable::sync(uint64_t number) {
  int error = 0;
  io::File* file = open(number, false, error);
  if (!file) return error == ENOENT ? 0 : -error;
  return disk_.sync(*file);
}

bool ExtentsTable::may_allocate(uint64_t now_ns) {
  uint64_t checked = space_checked_ns_.load(std::memory_order_relaxed);
  if (now_ns - checked > kSpaceCheckIntervalNs &&
      space_checked_ns_.compare_exchange_strong(checked, now_ns, std::memory_order_relaxed)) {
    const int64_t free = disk_.free_bytes(options_.directory);
    space_low_.store(free >= 0 && static_cast<uint64_t>(free) < options_.reserve_bytes,
                     std::memory_order_relaxed);
  }
  return !space_low_.load(std::memory_order_relaxed);
}

int ExtentsTable::open_directory() {
  std::lock_guard lock(directory_mutex_);
  return open_directory_locked();
}

int ExtentsTable::open_directory_locked() {
  return directory_ ? 0 : disk_.open_directory(options_.directory + "/extents", directory_);
}

int ExtentsTable::sync_created() {
  // Nobody passes while another thread's sync of the directory, which covers his file too, is under way.
  std::lock_guard lock(directory_mutex_);
  if (const int opened = open_directory_locked(); opened < 0) return opened;
  if (!created_.exchange(false, std::memory_order_acq_rel)) return 0;
  const int result = directory_->sync();
  if (result < 0) created_.store(true, std::memory_order_release);
  return result;
}

}  // namespace cellblock::store
