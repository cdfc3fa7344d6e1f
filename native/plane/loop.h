// One epoll loop: descriptors, coarse timers, closures posted from any thread, and the reactor's disk engine.
// Everything but post() belongs to the thread that runs it. A test drives it on its own thread with
// run_once(), and its time with use_clock().
//
// Invariant: a watcher that was unwatched is not called again, not even for events already fetched.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "io/io.h"
#include "plane/watch_set.h"

namespace cellblock::plane {

// Called at the end of every turn, before the engine is flushed and after it. True: there is work for another
// turn, do not sleep.
class TurnHook {
 public:
  virtual bool end_of_turn() = 0;
  virtual bool after_flush() = 0;  // the engine has everything submitted in this turn

 protected:
  ~TurnHook() = default;
};

class Loop;

// Fires once, on the loop's thread, unless disarmed. Gone with its object.
class Timer {
 public:
  explicit Timer(std::function<void()> fire) : fire_(std::move(fire)) {}
  ~Timer() { disarm(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  void arm(Loop& loop, uint64_t after_ms);  // again: moves it
  void disarm();
  bool armed() const { return loop_ != nullptr; }

 private:
  friend class Loop;
  std::function<void()> fire_;
  Loop* loop_ = nullptr;
  std::multimap<uint64_t, Timer*>::iterator place_;
};

class Loop {
 public:
  // `engine` may be null and is not owned.
  explicit Loop(io::Engine* engine);
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // 0 or an errno value: epoll and eventfd could be made.
  int error() const { return error_; }

  // 0 or -errno
  int watch(int fd, uint32_t events, Watcher* watcher) { return sockets_.watch(fd, events, watcher); }
  void rewatch(int fd, uint32_t events, Watcher* watcher) { sockets_.rewatch(fd, events, watcher); }
  void unwatch(int fd, Watcher* watcher) { sockets_.unwatch(fd, watcher); }

  // Runs the closure on the loop's thread in a later turn. Thread-safe. Closures not run when the loop ends
  // are destroyed with it.
  void post(std::function<void()> closure);

  void add_hook(TurnHook* hook) { hooks_.push_back(hook); }

  // One turn; waits for at most timeout_ms (-1: until something happens). Returns events and closures run.
  size_t run_once(int timeout_ms);
  void run();   // until stop()
  void stop();  // thread-safe

  // Time of this turn, CLOCK_MONOTONIC. refresh() reads the clock again.
  uint64_t now_ns() const { return now_ns_; }
  uint64_t refresh();
  uint64_t clock_ns() const { return clock_(); }
  // Nanoseconds that never go back, in place of CLOCK_MONOTONIC; before any timer is armed.
  void use_clock(uint64_t (*clock)());

 private:
  friend class Timer;
  int wait_ms(int timeout_ms) const;
  size_t run_posted();
  void run_timers();

  // The loop's own two descriptors.
  struct Wake final : Watcher {
    void ready(uint32_t events) override;
    int fd = -1;
  };
  struct Completions final : Watcher {
    void ready(uint32_t events) override;
    io::Engine* engine = nullptr;
  };

  io::Engine* engine_;
  WatchSet sockets_;
  Wake wake_;
  Completions completions_;
  int error_ = 0;
  uint64_t (*clock_)();
  uint64_t now_ns_ = 0;
  bool more_work_ = false;
  std::vector<TurnHook*> hooks_;
  std::multimap<uint64_t, Timer*> timers_;  // by deadline in ms

  std::mutex posted_lock_;
  std::vector<std::function<void()>> posted_;
  std::atomic<bool> has_posted_{false};
  std::atomic<bool> stopping_{false};
};

}  // namespace cellblock::plane
