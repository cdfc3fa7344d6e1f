#include "plane/throttle.h"

#include <algorithm>

#include "plane/connection.h"
#include "plane/reactor.h"
#include "plane/turns.h"

namespace cellblock::plane {
namespace {

constexpr uint64_t kNsPerMs = 1'000'000;

}  // namespace

Throttle::Throttle(Reactor& reactor, DeviceCounters& counters)
    : reactor_(reactor), counters_(counters), timer_([this] { call_next(); }) {}

void Throttle::set(const Limits& limits) {
  limits_ = limits;
  requests_.set(limits.iops, limits.iops_burst);
  bytes_.set(limits.bandwidth, limits.bandwidth_burst);
  timer_.disarm();
  call_next();
}

uint64_t Throttle::wait_ns(uint64_t bytes) const {
  const uint64_t now_ns = reactor_.loop().now_ns();
  return std::max(requests_.wait_ns(now_ns, 1), bytes_.wait_ns(now_ns, bytes));
}

bool Throttle::admits(Connection& connection, uint64_t bytes) {
  const bool called = called_ == &connection;
  const bool others_first =
      called ? !line_.empty() && connection.credit_left() <= 0 : called_ || !line_.empty();
  if (others_first || wait_ns(bytes) > 0) {
    line_up(connection, bytes, called && !others_first);
    return false;
  }
  if (const uint64_t since = std::exchange(connection.in_line_since_ns, 0)) {
    counters_.throttled.add(1);
    counters_.throttled_microseconds.add((reactor_.loop().now_ns() - since) / 1000);
  }
  return true;
}

void Throttle::take(uint64_t bytes) {
  const uint64_t now_ns = reactor_.loop().now_ns();
  requests_.take(now_ns, 1);
  bytes_.take(now_ns, bytes);
}

void Throttle::line_up(Connection& connection, uint64_t bytes, bool first) {
  connection.in_line_bytes = bytes;
  if (connection.in_line_since_ns == 0) connection.in_line_since_ns = reactor_.loop().now_ns();
  if (std::find(line_.begin(), line_.end(), &connection) == line_.end()) {
    first ? line_.push_front(&connection) : line_.push_back(&connection);
  }
  if (!called_) call_next();
}

void Throttle::turn_ended(Connection& connection) {
  if (called_ != &connection) return;
  called_ = nullptr;
  // It kept its place for what was left of its quantum; what it sent since may have used that up.
  if (line_.size() > 1 && line_.front() == &connection && connection.credit <= 0) {
    line_.pop_front();
    line_.push_back(&connection);
  }
  call_next();
}

void Throttle::forget(Connection& connection) {
  std::erase(line_, &connection);
  turn_ended(connection);
}

void Throttle::call_next() {
  if (called_ || line_.empty() || timer_.armed()) return;
  Connection* const next = Turns::next(line_);
  const uint64_t wait = wait_ns(next->in_line_bytes);
  if (wait > 0) {
    line_.push_front(next);
    // Rounded down: a timer rounds up.
    timer_.arm(reactor_.loop(), wait / kNsPerMs);
    return;
  }
  called_ = next;
  reactor_.run_soon(next);
}

}  // namespace cellblock::plane
