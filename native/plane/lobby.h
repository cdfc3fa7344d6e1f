// Where clients wait until they are let in: listening sockets and handshakes of one reactor. While
// connections in transmission are at work, what is done here may take a small part of the reactor's time, so
// that a flood of newcomers, or of options, costs those inside little; a reactor with little else to do gives
// half of it. Who is not looked at meanwhile waits in its socket, all in turn.
//
// Invariants: a debt is paid off by the time that passes, so nobody waits for ever; what adds up to no more
// than the burst is looked at without waiting.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>

#include "plane/loop.h"
#include "plane/watch_set.h"

namespace cellblock::plane {

class Lobby final : public Watcher {
 public:
  static constexpr uint64_t kBusyShare = 16;        // one part in so many, while the loop hardly ever waits
  static constexpr uint64_t kIdleShare = 2;         // while it waits for most of the time
  static constexpr uint64_t kWindowNs = 8'000'000;  // how busy the loop is, is looked at over so long
  // What a question to the directory costs where it is answered, which is not this thread.
  static constexpr int64_t kQuestionNs = 50'000;

  Lobby(Loop& loop, uint64_t burst_ns);
  ~Lobby();

  // 0 or an errno value.
  int error() const { return set_.error(); }

  int watch(int fd, uint32_t events, Watcher* watcher) { return set_.watch(fd, events, watcher); }
  void rewatch(int fd, uint32_t events, Watcher* watcher) { set_.rewatch(fd, events, watcher); }
  void unwatch(int fd, Watcher* watcher) { set_.unwatch(fd, watcher); }

  // Work that no socket tells of: now, or when its time has come, behind what waits already.
  void run(std::function<void()> work);
  void charge(int64_t ns) { credit_ns_ -= ns; }

  // The lobby was left alone until now, for what it may use.
  bool is_closed() const { return closed_; }

 private:
  void ready(uint32_t events) override;
  void look(bool at_sockets);
  void accrue();
  bool spent(uint64_t since_ns);
  void go_on_soon();
  void close_for_now();

  Loop& loop_;
  WatchSet set_;
  Timer reopen_;
  std::deque<std::function<void()>> waiting_;
  const int64_t burst_ns_;
  int64_t credit_ns_;
  uint64_t accrued_ns_ = 0;
  uint64_t window_ns_ = 0;         // when the window began
  uint64_t window_waited_ns_ = 0;  // what the loop had waited by then
  uint64_t share_ = kBusyShare;
  bool closed_ = false;
  bool goes_on_ = false;
};

}  // namespace cellblock::plane
