#include "volume/region.h"

namespace cellblock::volume {

RegionTable::~RegionTable() {
  budget_.used_bytes.fetch_sub(bytes_, std::memory_order_relaxed);
  budget_.volumes.fetch_sub(1, std::memory_order_relaxed);
}

Region& RegionTable::insert(uint64_t index) {
  auto made = std::make_unique<Region>(index);
  Region& region = *made;
  regions_[index] = std::move(made);
  clock_.push_back(index);
  measure(region);
  return region;
}

void RegionTable::measure(Region& region) {
  size_t bytes = sizeof(Region) + 64;  // and the table's own
  for (const Window& window : region.windows) bytes += window.runs.heap_bytes();
  budget_.used_bytes.fetch_add(bytes - region.bytes, std::memory_order_relaxed);
  bytes_ += bytes - region.bytes;
  region.bytes = bytes;
}

void RegionTable::erase(uint64_t index) {
  auto found = regions_.find(index);
  Region& region = *found->second;
  budget_.used_bytes.fetch_sub(region.bytes, std::memory_order_relaxed);
  bytes_ -= region.bytes;
  if (last_ == &region) last_ = nullptr;
  regions_.erase(found);
}

void RegionTable::evict(uint64_t target_bytes, size_t steps) {
  for (; steps > 0 && !clock_.empty(); steps--) {
    if (budget_.used_bytes.load(std::memory_order_relaxed) <= target_bytes) return;
    if (hand_ >= clock_.size()) hand_ = 0;
    const uint64_t index = clock_[hand_];
    Region& region = *regions_.find(index)->second;
    if (region.pins > 0 || region.referenced) {
      region.referenced = false;
      hand_++;
      continue;
    }
    erase(index);
    clock_[hand_] = clock_.back();
    clock_.pop_back();
    budget_.evicted_windows.fetch_add(kRegionWindows, std::memory_order_relaxed);
  }
}

void RegionTable::clear(bool force) {
  std::vector<uint64_t> kept;
  for (uint64_t index : clock_) {
    if (!force && regions_.find(index)->second->pins > 0)
      kept.push_back(index);
    else
      erase(index);
  }
  clock_ = std::move(kept);
  hand_ = 0;
}

}  // namespace cellblock::volume
