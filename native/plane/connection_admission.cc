// Whether a request may be taken now: the bytes in flight, the limits of its volume, room in its log.
#include <utility>

#include "plane/connection.h"

namespace cellblock::plane {
namespace {

constexpr size_t kMaxInFlight = 4096;

// What of a request counts in turns and against limits: bytes that are moved.
uint64_t moved_bytes(const nbd::RequestHeader& header) {
  return header.type == nbd::CommandType::read || header.type == nbd::CommandType::write ? header.length : 0;
}

// Nobody is to wait longer for what is written to be safe.
bool is_limited(const nbd::RequestHeader& header) { return header.type != nbd::CommandType::flush; }

}  // namespace

bool Connection::admits(uint64_t bytes) {
  const uint64_t held = pending_bytes_ + out_.bytes();
  if (in_flight_ >= kMaxInFlight ||
      (held > 0 && held + bytes > reactor_.wire_.options.bytes_per_connection)) {
    stall_ = Stall::own_limit;
    return false;
  }
  return reactor_.wire_.budget.admits(held, bytes) || wait_for_budget();
}

bool Connection::wait_for_budget() {
  stall_ = Stall::budget;
  reactor_.wire_.payloads.somebody_waits();
  reactor_.retry_when_budget_allows();
  return false;
}

// Once it is taken it may always grow: payloads that wait for one another would wait for ever.
bool Connection::reserve_payload(uint64_t length) {
  if (length <= ByteBudget::kAlways) return true;
  if (!reactor_.wire_.payloads.reserve(length)) return wait_for_budget();
  reserved_ = length;
  received_ = 0;
  watch_payload();
  return true;
}

void Connection::release_payload() {
  if (reserved_ == 0) return;
  reactor_.wire_.payloads.release(std::exchange(reserved_, 0));
  payload_timer_.disarm();
}

void Connection::watch_payload() {
  payload_at_ = received_;
  waits_then_ = reactor_.wire_.payloads.waits();
  payload_timer_.arm(reactor_.loop_, reactor_.wire_.options.payload_idle_ms);
}

// A client may take its time, but not that of others.
void Connection::payload_is_late() {
  const bool others_wait = reactor_.wire_.payloads.waits() != waits_then_;
  if (!receiving_ || received_ != payload_at_ || !others_wait) return watch_payload();
  reactor_.log(LogLevel::warn, "a payload stopped in the middle while others waited for memory: closed",
               peer_);
  abort();
}

bool Connection::admitted_by_volume(const nbd::RequestHeader& header) {
  if (served_.log && !served_.log->has_room()) [[unlikely]] {
    stall_ = Stall::log;
    return false;
  }
  if (!served_.throttle) [[likely]]
    return true;
  if (!is_limited(header) || served_.throttle->admits(*this, moved_bytes(header))) return true;
  stall_ = Stall::limits;
  return false;
}

void Connection::was_taken(const nbd::RequestHeader& header) {
  turn_cost_ += Turns::kRequestCost + static_cast<int64_t>(moved_bytes(header));
  if (served_.throttle && is_limited(header)) [[unlikely]]
    served_.throttle->take(moved_bytes(header));
}

}  // namespace cellblock::plane
