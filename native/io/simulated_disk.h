// A disk in memory for tests: deterministic from a seed, with a page cache that a power loss forgets.
//
//   SimulatedDisk disk({.seed = seed});
//   disk.crash_at(7);                 // the seventh change, and nothing after it
//   ... run the code under test until disk.crashed() ...
//   SimulatedDisk next(disk.crash(CrashKind::power_loss, seed), {.seed = seed});
//
// A *change* is whatever could leave a trace: write, write_dsync, sync, journal_sync, punch, zero_range,
// sync_directory, unlink, and an open that creates. Changes are numbered from 1 as they are executed. The
// change at which the crash comes, and every request then in flight, is applied or not, as the seed says; a
// write possibly only its first pages. After it every call gives -EIO, no request is completed, and stores
// into mapped memory do not count.
//
// Guarded by one mutex; with engines on one thread the run is the same every time. Stores to mapped memory
// reach the page cache when the disk next looks: at any call on that file, and at a crash.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "io/fault_plan.h"
#include "io/io.h"
#include "io/simulated_image.h"

namespace cellblock::io {

struct Event {
  uint64_t change = 0;  // the number it gets if it is a change and happens next; else 0
  Action action = Action::read;
  std::string path;
  uint64_t offset = 0;
  uint64_t length = 0;
  bool queued = false;  // came through an engine, so it can be held
};

enum class Order : uint8_t {
  proceed,
  hold,   // an engine's request stays pending until deliver() or step(); for others the same as proceed
  crash,  // here, as crash_at does
};

struct SimulatedOptions {
  uint64_t seed = 1;
  uint64_t capacity_bytes = uint64_t{1} << 50;
  unsigned cached_percent = 100;  // how often try_read finds everything cached; else -EAGAIN
  unsigned write_back_percent =
      10;             // how often a change lets the kernel write back some of its file on its own
  bool hold = false;  // engines' requests wait for deliver() or step()
};

class SimulatedCore;

class SimulatedDisk final : public Disk {
 public:
  using Options = SimulatedOptions;

  explicit SimulatedDisk(const Options& options);
  // Goes on from what a crash left; the image itself stays as it is.
  SimulatedDisk(const DiskImage& image, const Options& options);
  ~SimulatedDisk() override;

  int open(const std::string& path, const OpenOptions& options, std::unique_ptr<File>& file) override;
  int unlink(const std::string& path) override;
  int sync_directory(const std::string& path) override;
  int open_directory(const std::string& path, std::unique_ptr<Directory>& directory) override;
  int map(File& file, size_t length, Mapping& mapping) override;
  int sync(File& file) override;
  int64_t free_bytes(const std::string& path) override;
  std::unique_ptr<Engine> make_engine() override;

  // What goes wrong.
  FaultPlan& faults();
  // Asked before every operation is executed, without the disk's lock: it may call anything here.
  void before(std::function<Order(const Event&)> hook);
  void set_capacity(uint64_t bytes);
  // The kernel fails to write `path` back on its own; its open files hear of it at their next sync.
  void fail_writeback(const std::string& path, int error);

  // Scheduling: requests handed over by flush() and held, oldest first.
  void set_hold(bool hold);
  std::vector<Event> pending() const;
  bool execute(size_t index);  // applies it; it stays pending. False: no such request, or the crash came
  bool deliver(size_t index);  // executes it if need be, and lets its engine reap it
  bool step();                 // delivers one, chosen by the seed. False: nothing is pending

  // Crashing.
  void crash_at(uint64_t change);  // 0: never
  bool crashed() const;
  uint64_t changes() const;  // executed so far
  // Crashes now unless that has happened, and gives what is left; every call makes another image, by its
  // seed.
  DiskImage crash(CrashKind kind, uint64_t seed);

  // Looking.
  uint64_t allocated_bytes() const;
  uint64_t unsynced_sectors(const std::string& path) const;
  std::vector<std::string> paths() const;

 private:
  Request* pending_at(size_t index) const;

  std::shared_ptr<SimulatedCore> core_;
};

}  // namespace cellblock::io
