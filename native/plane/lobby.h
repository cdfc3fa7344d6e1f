// Where clients wait until they are let in: listening sockets and handshakes of one reactor. While the
// process is at work on anything else, what is done here may take a small part of the reactor's time, so that
// a flood of newcomers, or of options, costs those inside little; a process with little else to do gives half
// of it. The whole process counts, not the reactor alone: one with nothing else to do may still take the
// processor from others, or from their clients. Who is not looked at meanwhile waits in its socket, all in
// turn.
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
  static constexpr uint64_t kBusyShare = 32;        // one part in so many, while there is other work
  static constexpr uint64_t kIdleShare = 2;         // while there is not
  static constexpr uint64_t kWindowNs = 8'000'000;  // how much there is, is looked at over so long
  static constexpr uint64_t kOtherWork = 8;         // a processor for one part in so many is other work
  // What a question to the directory costs where it is answered, which is not this thread: 150 us on a
  // machine that is quiet, twice as much on one that is not, and JavaScript's own threads besides.
  static constexpr int64_t kQuestionNs = 250'000;

  // `worked_ns`: processor time of the process so far, of all its threads.
  Lobby(Loop& loop, uint64_t burst_ns, uint64_t (*worked_ns)());
  ~Lobby();

  // 0 or an errno value.
  int error() const { return set_.error(); }

  int watch(int fd, uint32_t events, Watcher* watcher) { return set_.watch(fd, events, watcher); }
  void rewatch(int fd, uint32_t events, Watcher* watcher) { set_.rewatch(fd, events, watcher); }
  void unwatch(int fd, Watcher* watcher) { set_.unwatch(fd, watcher); }

  // Work that no socket tells of: now, or when its time has come, behind what waits already.
  void run(std::function<void()> work);
  // Others that do nothing of use ask before they do it, and are charged for it behind it.
  bool may_spend() {
    accrue();
    return credit_ns_ > 0;
  }
  void charge(int64_t ns) {
    credit_ns_ -= ns;
    used_ns_ += ns;
  }

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
  int64_t used_ns_ = 0;  // of what the process worked, by what was done here since the window began
  uint64_t (*const worked_ns_)();
  uint64_t accrued_ns_ = 0;
  uint64_t window_ns_ = 0;         // when the window began
  uint64_t window_worked_ns_ = 0;  // what the process had worked by then
  uint64_t share_ = kBusyShare;
  bool closed_ = false;
  bool goes_on_ = false;
};

}  // namespace cellblock::plane
