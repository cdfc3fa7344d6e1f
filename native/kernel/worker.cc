#include "kernel/worker.h"

#include <pthread.h>
#include <signal.h>

#include <thread>
#include <utility>

namespace cellblock::kernel {

void Worker::post(std::function<void()> work) {
  std::lock_guard lock(shared_->mutex);
  if (shared_->stopping) return;
  shared_->queue.push_back(std::move(work));
  shared_->wake.notify_one();
  if (std::exchange(shared_->running, true)) return;
  std::thread([shared = shared_] { run(shared); }).detach();
}

std::function<void(std::function<void()>)> Worker::finish() const {
  return [shared = shared_](const std::function<void()>& report) {
    std::lock_guard lock(shared->mutex);
    if (!shared->stopping) report();
  };
}

void Worker::stop() {
  std::lock_guard lock(shared_->mutex);
  shared_->stopping = true;
  shared_->queue.clear();
  shared_->wake.notify_one();
}

void Worker::run(const std::shared_ptr<Shared>& shared) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  pthread_setname_np(pthread_self(), "nbd-device");
  for (;;) {
    std::function<void()> work;
    {
      std::unique_lock lock(shared->mutex);
      shared->wake.wait(lock, [&] { return shared->stopping || !shared->queue.empty(); });
      if (shared->stopping) return;
      work = std::move(shared->queue.front());
      shared->queue.pop_front();
    }
    work();
  }
}

}  // namespace cellblock::kernel
