// The resident part of a volume's map: regions of 64 windows, faulted and evicted as one.
// Invariant: a region with a dirty, held or stashed window is never evicted.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "volume/window.h"

namespace cellblock::volume {

constexpr uint32_t kRegionWindows = 64;

struct Region {
  explicit Region(uint64_t index) : index(index) {}
  uint64_t index;          // first window / kRegionWindows
  uint32_t pins = 0;       // dirty windows, stashed records and holds
  bool referenced = true;  // CLOCK
  size_t bytes = 0;        // accounted in the budget
  std::array<Window, kRegionWindows> windows;
};

// Bytes of resident windows in the store, all reactors together. A volume that goes over the limit evicts its
// own regions at once, so the limit holds; that it had to is counted, and then every volume gives some of
// what it does not use at its next ticks, so that the room goes to who uses it.
struct CacheBudget {
  uint64_t limit_bytes = 64 << 20;
  std::atomic<uint64_t> used_bytes{0};
  std::atomic<uint64_t> squeezes{0};  // times somebody had to evict
  std::atomic<uint64_t> volumes{0};
  std::atomic<uint64_t> evicted_windows{0};  // ever, to make room
  bool over() const { return used_bytes.load(std::memory_order_relaxed) > limit_bytes; }
  // What ticks leave free while there is demand.
  uint64_t slack_bytes() const { return limit_bytes / 8; }
  // Who has no more than this gives nothing to others.
  uint64_t share_bytes() const { return limit_bytes / volumes.load(std::memory_order_relaxed); }
};

class RegionTable {
 public:
  explicit RegionTable(CacheBudget& budget) : budget_(budget) {
    budget_.volumes.fetch_add(1, std::memory_order_relaxed);
  }
  ~RegionTable();

  Region* find(uint64_t index) {
    if (last_ && last_->index == index) return last_;
    auto found = regions_.find(index);
    if (found == regions_.end()) return nullptr;
    last_ = found->second.get();
    return last_;
  }
  Region& insert(uint64_t index);
  // Accounts for what the runs of the region take now.
  void measure(Region& region);
  // Drops clean regions, the ones not used lately first, while the store has more than `target_bytes`. Looks
  // at as many as `steps`; one that was used lately is dropped when it is met again unused.
  void evict(uint64_t target_bytes, size_t steps);
  // Two rounds of the clock: the first takes the marks, the second the regions.
  size_t all_steps() const { return 2 * clock_.size(); }
  // Drops every clean region; with `force` the pinned ones too (a failed container starts over).
  void clear(bool force);

  size_t size() const { return regions_.size(); }
  uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }
  template <typename Visit>
  void each(Visit visit) {
    for (auto& [index, region] : regions_) visit(*region);
  }

 private:
  void erase(uint64_t index);

  CacheBudget& budget_;
  std::unordered_map<uint64_t, std::unique_ptr<Region>> regions_;
  std::vector<uint64_t> clock_;
  size_t hand_ = 0;
  std::atomic<uint64_t> bytes_{0};  // written by one thread, read by metrics
  Region* last_ = nullptr;
};

}  // namespace cellblock::volume
