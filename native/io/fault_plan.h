// Which operations of a disk are to go wrong, and how: shared by the simulated disk and by the fault disk
// that is stacked over a real one. Thread-safe; the same plan and the same order of operations give the same
// failures.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "base/random.h"
#include "io/io.h"

namespace cellblock::io {

// What a disk is asked to do. The first seven are Operation's, in its order; try_read, try_write, File::punch
// and Disk::sync count as read, write, punch and sync.
enum class Action : uint8_t {
  read,
  write,
  write_dsync,
  sync,
  punch,
  zero_range,
  journal_sync,
  open,
  unlink,
  map,
  sync_directory,
};

const char* name_of(Action action);

inline Action action_of(Operation operation) { return static_cast<Action>(operation); }
static_assert(static_cast<int>(Action::journal_sync) == static_cast<int>(Operation::journal_sync));

constexpr uint32_t only(Action action) { return uint32_t{1} << static_cast<unsigned>(action); }
constexpr uint32_t operator|(Action a, Action b) { return only(a) | only(b); }
constexpr uint32_t operator|(uint32_t set, Action b) { return set | only(b); }
constexpr uint32_t kAnyAction = ~uint32_t{0};
constexpr uint32_t kAnyWrite = Action::write | Action::write_dsync;
constexpr uint32_t kAnySync = Action::sync | Action::journal_sync | Action::sync_directory;

struct Fault {
  uint32_t actions = kAnyAction;  // only(...) or a | b
  std::string path = {};          // part of the file's path; empty: every file
  uint64_t skip = 0;              // matching operations that go well first
  uint64_t times = 1;             // how many then go wrong
  int error = 0;                  // positive errno; 0: a read or write moves only a part of its bytes
};

class FaultPlan {
 public:
  explicit FaultPlan(uint64_t seed = 1) : random_(seed) {}

  void add(const Fault& fault);
  void clear();
  // Faults that have not happened as often as asked.
  size_t left() const;

  // What happens to an operation on `length` bytes: `error` 0 and `length` unchanged means nothing.
  struct Verdict {
    int error = 0;  // positive errno
    uint64_t length = 0;
  };
  Verdict next(Action action, const std::string& path, uint64_t length);

 private:
  mutable std::mutex lock_;
  std::vector<Fault> faults_;  // under lock_
  Random random_;              // under lock_
};

}  // namespace cellblock::io
