#include "plane/loop.h"

#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

namespace cellblock::plane {
namespace {

constexpr uint64_t kNsPerMs = 1'000'000;

uint64_t monotonic_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

void Timer::arm(Loop& loop, uint64_t after_ms) {
  disarm();
  loop_ = &loop;
  // Rounded up: a timer never fires early.
  place_ = loop.timers_.emplace(loop.clock_() / kNsPerMs + after_ms + 1, this);
}

void Timer::disarm() {
  if (!loop_) return;
  loop_->timers_.erase(place_);
  loop_ = nullptr;
}

Loop::Loop(io::Engine* engine) : engine_(engine), clock_(monotonic_ns) {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (epoll_ < 0 || wake_ < 0) {
    error_ = errno;
    return;
  }
  // The loop's own two descriptors carry no watcher: null is the wake-up, the loop itself the engine.
  epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &event) < 0) error_ = errno;
  event.data.ptr = this;
  if (engine_ && epoll_ctl(epoll_, EPOLL_CTL_ADD, engine_->event_descriptor(), &event) < 0) error_ = errno;
  refresh();
}

Loop::~Loop() {
  for (auto& [deadline, timer] : timers_) timer->loop_ = nullptr;
  if (wake_ >= 0) close(wake_);
  if (epoll_ >= 0) close(epoll_);
}

int Loop::watch(int fd, uint32_t events, Watcher* watcher) {
  epoll_event event{.events = events, .data = {.ptr = watcher}};
  return epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

void Loop::rewatch(int fd, uint32_t events, Watcher* watcher) {
  epoll_event event{.events = events, .data = {.ptr = watcher}};
  epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event);
}

void Loop::unwatch(int fd, Watcher* watcher) {
  epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
  for (int i = events_at_; i < events_count_; i++) {
    if (events_[i].data.ptr == watcher) events_[i].events = 0;
  }
}

void Loop::post(std::function<void()> closure) {
  {
    std::lock_guard<std::mutex> hold(posted_lock_);
    posted_.push_back(std::move(closure));
  }
  if (has_posted_.exchange(true)) return;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written =
      write(wake_, &one, sizeof one);  // fails only when it is awake anyway
}

void Loop::stop() {
  stopping_ = true;
  post([] {});
}

void Loop::run() {
  while (!stopping_) run_once(-1);
}

uint64_t Loop::refresh() { return now_ns_ = clock_(); }

void Loop::use_clock(uint64_t (*clock)()) {
  clock_ = clock;
  refresh();
}

int Loop::wait_ms(int timeout_ms) const {
  if (more_work_) return 0;
  if (timers_.empty()) return timeout_ms;
  const uint64_t now_ms = clock_() / kNsPerMs;
  const uint64_t first = timers_.begin()->first;
  const uint64_t left = first > now_ms ? std::min<uint64_t>(first - now_ms, INT_MAX) : 0;
  return timeout_ms < 0 ? static_cast<int>(left) : std::min(timeout_ms, static_cast<int>(left));
}

size_t Loop::run_once(int timeout_ms) {
  const int count = epoll_wait(epoll_, events_.data(), kMaxEvents, wait_ms(timeout_ms));
  refresh();
  dispatch(std::max(count, 0));
  size_t done = static_cast<size_t>(std::max(count, 0));
  if (has_posted_) done += run_posted();
  if (!timers_.empty()) run_timers();
  more_work_ = false;
  for (TurnHook* hook : hooks_) more_work_ |= hook->end_of_turn();
  if (engine_) engine_->flush();
  for (TurnHook* hook : hooks_) more_work_ |= hook->after_flush();
  return done;
}

void Loop::dispatch(int count) {
  events_count_ = count;
  for (events_at_ = 0; events_at_ < count;) {
    const epoll_event event = events_[events_at_++];
    if (event.events == 0) continue;
    if (event.data.ptr == nullptr) {
      drain_wake();
    } else if (event.data.ptr == this) {
      engine_->reap();
    } else {
      static_cast<Watcher*>(event.data.ptr)->ready(event.events);
    }
  }
  events_count_ = events_at_ = 0;
}

void Loop::drain_wake() {
  uint64_t count;
  [[maybe_unused]] const ssize_t bytes = read(wake_, &count, sizeof count);
}

size_t Loop::run_posted() {
  std::vector<std::function<void()>> now;
  has_posted_ = false;  // before taking: what is posted from here on wakes the loop again
  {
    std::lock_guard<std::mutex> hold(posted_lock_);
    now.swap(posted_);
  }
  for (auto& closure : now) closure();
  return now.size();
}

void Loop::run_timers() {
  const uint64_t now_ms = now_ns_ / kNsPerMs;
  while (!timers_.empty() && timers_.begin()->first <= now_ms) {
    Timer* timer = timers_.begin()->second;
    timer->disarm();
    timer->fire_();  // may destroy the timer
  }
}

}  // namespace cellblock::plane
