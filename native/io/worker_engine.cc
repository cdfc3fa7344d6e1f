// The engine where io_uring is forbidden: a few threads take requests from one queue and signal an eventfd.
//
// submit() only collects; flush() hands the whole batch over under one lock. Finished requests are collected
// the same way, and the eventfd is written only when the list of finished ones was empty, so a busy engine
// costs few wake-ups. Invariant: a request is in exactly one of batch_, waiting_, a worker's hands,
// finished_.
#include <sys/eventfd.h>
#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "base/intrusive_list.h"
#include "io/engines.h"

namespace cellblock::io {
namespace {

class WorkerEngine final : public Engine {
 public:
  WorkerEngine(int event, unsigned threads) : event_(event) {
    for (unsigned i = 0; i < threads; i++) workers_.emplace_back([this] { work(); });
  }

  // What the workers have in hand ends first, so no buffer is touched afterwards; what waits is dropped.
  ~WorkerEngine() override {
    {
      std::lock_guard hold(lock_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    close(event_);
  }

  void submit(Request& request) override {
    batch_.push(request);
    batched_++;
    in_flight_++;
  }

  void flush() override {
    if (batched_ == 0) return;
    const size_t handed = batched_;
    {
      std::lock_guard hold(lock_);
      waiting_.append(batch_);
    }
    batched_ = 0;
    if (handed >= workers_.size()) {
      wake_.notify_all();
    } else {
      for (size_t i = 0; i < handed; i++) wake_.notify_one();
    }
  }

  size_t reap() override {
    IntrusiveList<Request> finished;
    {
      std::lock_guard hold(lock_);
      if (finished_.empty()) return 0;
      finished.append(finished_);
      // Under the lock: a signal that comes after it belongs to requests that are not in our hands.
      uint64_t count;
      [[maybe_unused]] const ssize_t got = read(event_, &count, sizeof count);
    }
    size_t reaped = 0;
    while (Request* request = finished.pop()) {
      in_flight_--;
      reaped++;
      request->done(*request);
    }
    return reaped;
  }

  int event_descriptor() const override { return event_; }
  size_t in_flight() const override { return in_flight_; }
  const char* name() const override { return "workers"; }

 private:
  void work() {
    std::unique_lock hold(lock_);
    for (;;) {
      wake_.wait(hold, [this] { return stopping_ || !waiting_.empty(); });
      if (stopping_) return;
      Request* request = waiting_.pop();
      hold.unlock();
      request->result = perform(*request);
      hold.lock();
      finish(*request);
    }
  }

  void finish(Request& request) {
    const bool first = finished_.empty();
    finished_.push(request);
    if (!first) return;
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t put = write(event_, &one, sizeof one);
  }

  const int event_;
  // The reaping thread's own.
  IntrusiveList<Request> batch_;
  size_t batched_ = 0;
  size_t in_flight_ = 0;

  std::mutex lock_;
  std::condition_variable wake_;
  IntrusiveList<Request> waiting_;   // under lock_
  IntrusiveList<Request> finished_;  // under lock_
  bool stopping_ = false;            // under lock_
  std::vector<std::thread> workers_;
};

}  // namespace

std::unique_ptr<Engine> make_worker_engine(unsigned threads) {
  const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (event < 0) return nullptr;
  return std::make_unique<WorkerEngine>(event, threads);
}

}  // namespace cellblock::io
