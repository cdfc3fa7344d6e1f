// Descriptors and who is told of them: an epoll set.
//
// Invariant: a watcher that was unwatched is not called again, not even for events already fetched.
#pragma once

#include <sys/epoll.h>

#include <array>
#include <cstdint>

namespace cellblock::plane {

class Watcher {
 public:
  virtual void ready(uint32_t events) = 0;  // EPOLL* bits

 protected:
  ~Watcher() = default;
};

class WatchSet {
 public:
  WatchSet();
  ~WatchSet();
  WatchSet(const WatchSet&) = delete;
  WatchSet& operator=(const WatchSet&) = delete;

  // 0 or an errno value: the set could be made.
  int error() const { return error_; }
  // Readable while one of the watched is ready: a set may be watched in another one.
  int fd() const { return epoll_; }

  int watch(int fd, uint32_t events, Watcher* watcher);  // 0 or -errno
  void rewatch(int fd, uint32_t events, Watcher* watcher);
  void unwatch(int fd, Watcher* watcher);

  // Waits for at most timeout_ms (-1: until something happens) for at most so many events, which are told by
  // tell_next() then. The number of them.
  size_t fetch(int timeout_ms, size_t most = kMostEvents);
  bool tell_next();  // false: all have been told

  // Who is ready and waits for its turn is told again in every turn: few events at a time would hide others.
  static constexpr size_t kMostEvents = 256;

 private:
  int epoll_;
  int error_;
  std::array<epoll_event, kMostEvents> events_;
  size_t events_at_ = 0;
  size_t events_count_ = 0;
};

}  // namespace cellblock::plane
