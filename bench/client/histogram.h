// Latencies in buckets that grow with their value: exact below 128 ns, then never more than 1/64 off.
#pragma once

#include <stdint.h>

#include <algorithm>
#include <bit>
#include <vector>

namespace cellblock::bench {

class Histogram {
 public:
  Histogram() : counts_(kBuckets) {}

  void add(uint64_t ns) {
    counts_[bucket(ns)] += 1;
    total_ += 1;
    sum_ns_ += ns;
    max_ns_ = std::max(max_ns_, ns);
  }

  // The value at or below which `share` of all lie: the upper end of its bucket.
  uint64_t at(double share) const {
    uint64_t wanted = static_cast<uint64_t>(share * static_cast<double>(total_));
    uint64_t seen = 0;
    for (size_t i = 0; i < kBuckets; ++i) {
      seen += counts_[i];
      if (seen > wanted) return std::min(upper(i), max_ns_);
    }
    return max_ns_;
  }

  uint64_t max() const { return max_ns_; }
  double mean() const { return total_ == 0 ? 0 : static_cast<double>(sum_ns_) / static_cast<double>(total_); }

  template <typename Visit>
  void each(Visit visit) const {
    for (size_t i = 0; i < kBuckets; ++i) {
      if (counts_[i] != 0) visit(upper(i), counts_[i]);
    }
  }

 private:
  static constexpr unsigned kSubBits = 6;
  static constexpr size_t kBuckets = (64 - kSubBits + 1) << kSubBits;

  static size_t bucket(uint64_t ns) {
    if (ns < (2u << kSubBits)) return ns;
    unsigned shift = static_cast<unsigned>(std::bit_width(ns)) - 1 - kSubBits;
    return (static_cast<size_t>(shift) << kSubBits) + (ns >> shift);
  }

  static uint64_t upper(size_t i) {
    if (i < (2u << kSubBits)) return i;
    unsigned shift = static_cast<unsigned>(i >> kSubBits) - 1;
    uint64_t top = (i & ((1u << kSubBits) - 1)) + (1u << kSubBits);
    return ((top + 1) << shift) - 1;
  }

  std::vector<uint64_t> counts_;
  uint64_t total_ = 0, sum_ns_ = 0, max_ns_ = 0;
};

}  // namespace cellblock::bench
