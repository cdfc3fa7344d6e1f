// A thread for what may wait for a device, made when it is needed. One that waits for a device nobody serves
// any more cannot be waited for: at the end it is left to itself.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

namespace cellblock::kernel {

class Worker {
 public:
  Worker() : shared_(std::make_shared<Shared>()) {}
  ~Worker() { stop(); }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // `work` must not touch what may be gone after stop() but by way of finish().
  void post(std::function<void()> work);
  // Runs `report` unless stop() has been called; nothing it touches goes away meanwhile.
  // For the end of a work, on the thread.
  std::function<void(std::function<void()>)> finish() const;
  // Nothing more is begun or reported. Idempotent.
  void stop();

 private:
  struct Shared {
    std::mutex mutex;
    std::condition_variable wake;
    std::deque<std::function<void()>> queue;
    bool running = false;
    bool stopping = false;
  };
  static void run(const std::shared_ptr<Shared>& shared);

  const std::shared_ptr<Shared> shared_;
};

}  // namespace cellblock::kernel
