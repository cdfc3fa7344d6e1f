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
  wake_.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_.fd < 0) error_ = errno;
  if (sockets_.error() != 0) error_ = sockets_.error();
  if (error_ != 0) return;
  error_ = -watch(wake_.fd, EPOLLIN, &wake_);
  completions_.engine = engine;
  if (engine_ && error_ == 0) error_ = -watch(engine_->event_descriptor(), EPOLLIN, &completions_);
  refresh();
}

Loop::~Loop() {
  for (auto& [deadline, timer] : timers_) timer->loop_ = nullptr;
  if (wake_.fd >= 0) close(wake_.fd);
}

void Loop::post(std::function<void()> closure) {
  {
    std::lock_guard<std::mutex> hold(posted_lock_);
    posted_.push_back(std::move(closure));
  }
  if (has_posted_.exchange(true)) return;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written =
      write(wake_.fd, &one, sizeof one);  // fails only when it is awake anyway
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
  const int wait = wait_ms(timeout_ms);
  size_t done = sockets_.fetch(wait);
  refresh();
  while (sockets_.tell_next()) {
  }
  if (has_posted_) done += run_posted();
  if (!timers_.empty()) run_timers();
  more_work_ = false;
  for (TurnHook* hook : hooks_) more_work_ |= hook->end_of_turn();
  if (engine_) engine_->flush();
  for (TurnHook* hook : hooks_) more_work_ |= hook->after_flush();
  return done;
}

void Loop::Wake::ready(uint32_t) {
  uint64_t count;
  [[maybe_unused]] const ssize_t bytes = read(fd, &count, sizeof count);
}

void Loop::Completions::ready(uint32_t) { engine->reap(); }

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
