// A token bucket as the moment at which it will be full again: taking moves that moment on, waiting lets it
// come nearer. So an idle bucket costs nothing, and nothing has to be refilled.
//
// Invariant: over any time t it gives at most rate * t + burst tokens, and a request that is larger than the
// burst (then it is given when the bucket is full, and is owed).
#pragma once

#include <algorithm>
#include <cstdint>

namespace cellblock::plane {

class TokenBucket {
 public:
  // Timers here are exact to a millisecond or two; a smaller burst would be lost between two of them.
  static constexpr uint64_t kLeastBurstNs = 5'000'000;

  // `rate`: tokens a second, 0 for no limit. `burst`: tokens of a full bucket, 0 for a tenth of a second's.
  void set(uint64_t rate, uint64_t burst) {
    rate_ = rate;
    full_at_ns_ = remainder_ = 0;
    burst_ns_ = burst && rate ? scaled(burst, rate) : kNsPerSecond / 10;
    burst_ns_ = std::max(burst_ns_, kLeastBurstNs);
  }
  bool limits() const { return rate_ > 0; }

  // How long until `tokens` can be taken; 0: now.
  uint64_t wait_ns(uint64_t now_ns, uint64_t tokens) const {
    if (!limits() || full_at_ns_ <= now_ns) return 0;
    const uint64_t missing_ns = full_at_ns_ - now_ns;
    const uint64_t may_be_missing_ns = burst_ns_ - std::min(scaled(tokens, rate_), burst_ns_);
    return missing_ns > may_be_missing_ns ? missing_ns - may_be_missing_ns : 0;
  }

  void take(uint64_t now_ns, uint64_t tokens) {
    if (!limits()) return;
    // What the division leaves is kept, so that many small takings are exact.
    const Wide all = Wide{tokens} * kNsPerSecond + remainder_;
    remainder_ = static_cast<uint64_t>(all % rate_);
    full_at_ns_ = std::max(full_at_ns_, now_ns) + static_cast<uint64_t>(all / rate_);
  }

 private:
  using Wide = unsigned __int128;
  static constexpr uint64_t kNsPerSecond = 1'000'000'000;

  static uint64_t scaled(uint64_t tokens, uint64_t rate) {
    return static_cast<uint64_t>(std::min<Wide>(Wide{tokens} * kNsPerSecond / rate, UINT64_MAX / 4));
  }

  uint64_t rate_ = 0;
  uint64_t burst_ns_ = 0;
  uint64_t full_at_ns_ = 0;
  uint64_t remainder_ = 0;  // of a nanosecond, in 1/rate
};

}  // namespace cellblock::plane
