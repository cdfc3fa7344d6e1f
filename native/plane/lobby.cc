#include "plane/lobby.h"

#include <algorithm>
#include <utility>

namespace cellblock::plane {
namespace {

// Then the loop looks at the others: a turn of the lobby is as long as a turn of a volume.
constexpr uint64_t kTurnNs = 200'000;
constexpr int kEventsInTurn = 64;
constexpr uint64_t kNsPerMs = 1'000'000;

}  // namespace

Lobby::Lobby(Loop& loop, uint64_t burst_ns, uint64_t (*worked_ns)())
    : loop_(loop),
      reopen_([this] { look(false); }),
      burst_ns_(static_cast<int64_t>(burst_ns)),
      credit_ns_(burst_ns_),
      worked_ns_(worked_ns) {
  loop_.watch(set_.fd(), EPOLLIN, this);
  accrued_ns_ = window_ns_ = loop_.clock_ns();
  window_worked_ns_ = worked_ns_();
}

Lobby::~Lobby() { loop_.unwatch(set_.fd(), this); }

void Lobby::ready(uint32_t) { look(true); }

void Lobby::run(std::function<void()> work) {
  accrue();
  if (credit_ns_ <= 0 || !waiting_.empty()) {
    waiting_.push_back(std::move(work));
    return credit_ns_ > 0 ? go_on_soon() : close_for_now();
  }
  const uint64_t begin = loop_.clock_ns();
  work();
  spent(begin);
}

void Lobby::look(bool at_sockets) {
  accrue();
  const uint64_t begin = loop_.clock_ns();
  uint64_t last = begin;
  const auto may_go_on = [&] {
    const bool left = spent(last);
    last = accrued_ns_;
    return left && last - begin < kTurnNs;
  };
  bool goes_on = credit_ns_ > 0;
  while (goes_on && !waiting_.empty()) {
    const std::function<void()> work = std::move(waiting_.front());
    waiting_.pop_front();
    work();
    goes_on = may_go_on();
  }
  if (goes_on && at_sockets) {
    // One by one: the system puts who was fetched behind the others, so those that are not looked at now come
    // first the next time.
    for (int told = 0; goes_on && told < kEventsInTurn && set_.fetch(0, 1) > 0; told++) {
      set_.tell_next();
      goes_on = may_go_on();
    }
  }
  if (credit_ns_ <= 0) return close_for_now();
  if (std::exchange(closed_, false)) loop_.rewatch(set_.fd(), EPOLLIN, this);
  if (!waiting_.empty()) go_on_soon();
}

// What was done since then is paid for. False: there is nothing left.
bool Lobby::spent(uint64_t since_ns) {
  accrue();
  charge(static_cast<int64_t>(accrued_ns_ - since_ns));
  return credit_ns_ > 0;
}

void Lobby::accrue() {
  const uint64_t now = std::max(loop_.clock_ns(), accrued_ns_);
  if (now - window_ns_ >= kWindowNs) {
    const uint64_t worked = worked_ns_();
    const int64_t other =
        static_cast<int64_t>(worked - std::exchange(window_worked_ns_, worked)) - std::exchange(used_ns_, 0);
    share_ = other < static_cast<int64_t>((now - window_ns_) / kOtherWork) ? kIdleShare : kBusyShare;
    window_ns_ = now;
  }
  credit_ns_ = std::min(credit_ns_ + static_cast<int64_t>((now - accrued_ns_) / share_), burst_ns_);
  accrued_ns_ = now;
}

// Behind what the others do in this turn.
void Lobby::go_on_soon() {
  if (std::exchange(goes_on_, true)) return;
  loop_.post([this] {
    goes_on_ = false;
    look(false);
  });
}

void Lobby::close_for_now() {
  if (!std::exchange(closed_, true)) loop_.rewatch(set_.fd(), 0, this);
  if (reopen_.armed()) return;
  const uint64_t debt = static_cast<uint64_t>(std::max<int64_t>(-credit_ns_, 0));
  reopen_.arm(loop_, debt * share_ / kNsPerMs);
}

}  // namespace cellblock::plane
