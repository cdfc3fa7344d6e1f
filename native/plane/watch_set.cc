#include "plane/watch_set.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace cellblock::plane {

WatchSet::WatchSet() : epoll_(epoll_create1(EPOLL_CLOEXEC)), error_(epoll_ < 0 ? errno : 0) {}

WatchSet::~WatchSet() {
  if (epoll_ >= 0) close(epoll_);
}

int WatchSet::watch(int fd, uint32_t events, Watcher* watcher) {
  epoll_event event{.events = events, .data = {.ptr = watcher}};
  return epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

void WatchSet::rewatch(int fd, uint32_t events, Watcher* watcher) {
  epoll_event event{.events = events, .data = {.ptr = watcher}};
  epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event);
}

void WatchSet::unwatch(int fd, Watcher* watcher) {
  epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
  for (size_t i = events_at_; i < events_count_; i++) {
    if (events_[i].data.ptr == watcher) events_[i].events = 0;
  }
}

size_t WatchSet::fetch(int timeout_ms, size_t most) {
  const int count =
      epoll_wait(epoll_, events_.data(), static_cast<int>(std::min(most, kMostEvents)), timeout_ms);
  events_at_ = 0;
  events_count_ = static_cast<size_t>(std::max(count, 0));
  return events_count_;
}

bool WatchSet::tell_next() {
  while (events_at_ < events_count_) {
    const epoll_event event = events_[events_at_++];
    if (event.events == 0) continue;
    static_cast<Watcher*>(event.data.ptr)->ready(event.events);
    return true;
  }
  return false;
}

}  // namespace cellblock::plane
