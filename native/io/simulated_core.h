// What a simulated disk, its files and its engines share: the state, and the one way through which everything
// happens.
//
// Every operation goes through SimulatedCore::run: hook, crash point, faults, effect, in that order. A queued
// request is in exactly one of an engine's batch, the core's pending list, an engine's finished list. The
// core outlives the disk in the hands of its files and engines.
#pragma once

#include <sys/eventfd.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/intrusive_list.h"
#include "io/simulated_disk.h"

namespace cellblock::io {

class SimulatedCore;

class SimulatedFile final : public File {
 public:
  SimulatedFile(std::shared_ptr<SimulatedCore> core, std::string path, std::shared_ptr<FileImage> image,
                const OpenOptions& options)
      : core_(std::move(core)),
        path_(std::move(path)),
        image_(std::move(image)),
        options_(options),
        heard_(image_->error_mark()) {}

  ssize_t try_read(void* to, size_t bytes, uint64_t offset) override;
  ssize_t try_write(const void* from, size_t bytes, uint64_t offset) override;
  int punch(uint64_t offset, uint64_t bytes) override;
  int64_t size() const override;
  int descriptor() const override { return -1; }

 private:
  friend class SimulatedDisk;
  friend class SimulatedCore;
  std::shared_ptr<SimulatedCore> core_;
  const std::string path_;
  const std::shared_ptr<FileImage> image_;
  const OpenOptions options_;
  uint64_t heard_;  // errors of write-back, as FileImage counts them
};

// Of any name: directories are not kept track of.
class SimulatedDirectory final : public Directory {
 public:
  SimulatedDirectory(std::shared_ptr<SimulatedCore> core, std::string path)
      : core_(std::move(core)), path_(std::move(path)) {}
  int sync() override;

 private:
  std::shared_ptr<SimulatedCore> core_;
  const std::string path_;
};

class SimulatedEngine final : public Engine {
 public:
  explicit SimulatedEngine(std::shared_ptr<SimulatedCore> core) : core_(std::move(core)) {}
  ~SimulatedEngine() override;
  void submit(Request& request) override {
    batch_.push(request);
    in_flight_++;
  }
  void flush() override;
  size_t reap() override;
  int event_descriptor() const override { return event_; }
  size_t in_flight() const override { return in_flight_; }
  const char* name() const override { return "simulated"; }

 private:
  friend class SimulatedCore;
  std::shared_ptr<SimulatedCore> core_;
  const int event_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  IntrusiveList<Request> batch_;
  IntrusiveList<Request> finished_;  // under the core's lock
  size_t in_flight_ = 0;
};

class SimulatedCore {
 public:
  struct Pending {
    Request* request;
    SimulatedEngine* engine;
    bool asked = false;  // the hook
    bool executed = false;
  };

  // A system call of the program, or a queued request when it is executed.
  struct Call {
    Action action = Action::read;
    SimulatedFile* file = nullptr;
    std::string path;
    uint64_t offset = 0;
    uint64_t length = 0;
    void* data = nullptr;
    bool creates = false;
    bool queued = false;
  };

  SimulatedCore(const SimulatedOptions& given, DiskImage from)
      : options(given), random(given.seed), faults(given.seed), image(std::move(from)) {}

  int64_t run(const Call& call);
  // The crash: now, during `current` if there is one.
  void trip(const Call* current);

  void enqueue(SimulatedEngine& engine, IntrusiveList<Request>& batch);
  // Applies a pending request. False: it is held by the hook, not pending, or the crash came.
  enum class Delivery { automatic, demanded };  // by flush, or by the test: then the hook cannot hold it
  bool execute(Request& request, Delivery delivery);
  bool deliver(Request& request);
  void abandon(SimulatedEngine& engine);
  std::vector<Pending>::iterator find(const Request& request);

  Call call_of(const Request& request) const;
  uint64_t room() const;
  static bool counts(const Call& call);  // is it a change?

  mutable std::mutex lock;
  SimulatedOptions options;
  Random random;
  FaultPlan faults;
  DiskImage image;
  std::function<Order(const Event&)> hook;
  std::vector<Pending> pending;
  uint64_t changes = 0;
  uint64_t crash_at = 0;
  bool dead = false;

 private:
  Order ask(const Call& call);
  int64_t run_as(const Call& call, Order order);
  int64_t apply(const Call& call, uint64_t length);
  int64_t apply_write(const Call& call, uint64_t length, int error);
  int64_t apply_sync(const Call& call, int error);
  void apply_killed(const Call& call);
};

}  // namespace cellblock::io
