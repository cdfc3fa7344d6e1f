// Making windows resident. A fault reads 64 windows at once; what is known here already (an empty volume, a
// pending cut-off) is not asked for.
#include <algorithm>
#include <cerrno>

#include "volume/volume.h"

namespace cellblock::volume {

// The resident region of `window`, or null: `request` waits then (or carries an error when its fault failed).
Region* Volume::resident(uint64_t window, Request* request) {
  const uint64_t index = window / kRegionWindows;
  if (reopening_) {
    if (!request) return nullptr;
    // Answered from the loop: never from inside somebody's submit.
    if (reads_refused_ && reopen_waiters_.empty()) home_.poster->post([this] { refuse_reopen_waiters(); });
    reopen_waiters_.push(*request);
    return nullptr;
  }
  Region* region = regions_.find(index);
  if (region) {
    region->referenced = true;
    return region;
  }
  if (faults_.find(index) == faults_.end()) {
    if (empty_locally(index, region)) return region;
    ask(index);
  }
  if (request) faults_[index].waiters.push(*request);
  return nullptr;
}

void Volume::ask(uint64_t region_index) {
  Fault& fault = faults_[region_index];
  fault.stale = false;
  fault.epoch = epoch_;
  parts_by_epoch_[epoch_ & 1]++;
  home_.keeper->fault(*this, region_index * kRegionWindows, kRegionWindows);
}

// True when no stored record can matter: nothing was ever stored, or a cut-off not yet in LevelDB covers the
// region.
bool Volume::empty_locally(uint64_t index, Region*& region) {
  const uint64_t first = index * kRegionWindows;
  const bool covered = std::any_of(
      pending_cut_offs_.begin(), pending_cut_offs_.end(),
      [&](const PendingCutOff& cut) { return cut.first <= first && cut.end >= first + kRegionWindows; });
  const bool never_stored = options_.empty && !touched_.contains(index);
  if (!never_stored && !covered) return false;
  region = &regions_.insert(index);
  apply_pending_cut_offs(*region);
  region->pins++;  // it is wanted now
  maybe_evict();
  region->pins--;
  return true;
}

void Volume::apply_pending_cut_offs(Region& region) {
  const uint64_t base = region.index * kRegionWindows;
  for (const PendingCutOff& cut : pending_cut_offs_) {
    const uint64_t from = std::max(cut.first, base);
    const uint64_t to = std::min(cut.end, base + kRegionWindows);
    for (uint64_t window = from; window < to; window++) {
      Window& w = window_of(region, window);
      const Run silent = silent_run();
      w.runs.assign(silent.kind == RunKind::hole ? silent : Run{0, RunKind::zero, cut.layer, store::kNoSlot});
      w.own_slot = store::kNoSlot;
      w.last_position = cut.position;  // what it says may not be committed yet
      w.compare = false;
      w.damaged = false;
    }
  }
}

// What a fault under way has read of these windows may be older than what is known here.
void Volume::mark_stale(uint64_t first, uint64_t end) {
  for (auto& [index, fault] : faults_) {
    if (index * kRegionWindows < end && (index + 1) * kRegionWindows > first) fault.stale = true;
  }
}

void Volume::fault_reply(uint64_t first, std::span<const FaultRecord> records, int error) {
  const uint64_t index = first / kRegionWindows;
  auto found = faults_.find(index);
  if (found == faults_.end()) return;
  const uint32_t epoch = found->second.epoch;
  if (found->second.stale && !reopening_) {
    // What was read may be older than what is known here now: ask again.
    ask(index);
  } else {
    Fault fault = std::move(found->second);
    faults_.erase(found);
    if (!error && !reopening_) install(regions_.insert(index), records);
    Request* waiters = fault.waiters.take_all();
    if (error) {
      for (Request* request = waiters; request; request = request->next) request->error = error;
    }
    resume_all(waiters);
    for (auto& callback : fault.callbacks) callback();
    maybe_evict();
  }
  if (--parts_by_epoch_[epoch & 1] == 0 && epoch != epoch_) {
    auto graced = std::move(grace_waiters_);
    grace_waiters_.clear();
    grace_running_ = false;
    for (auto& waiter : graced) waiter();
  }
  check_drained();
}

// Records come grouped by window, newest first.
void Volume::install(Region& region, std::span<const FaultRecord> records) {
  for (size_t i = 0; i < records.size();) {
    size_t next = i + 1;
    while (next < records.size() && records[next].window == records[i].window) next++;
    if (records[i].window / kRegionWindows == region.index) {
      Window& w = window_of(region, records[i].window);
      w.damaged = !install_window(w, records.subspan(i, next - i));
    }
    i = next;
  }
  apply_pending_cut_offs(region);
  regions_.measure(region);
}

bool Volume::install_window(Window& w, std::span<const FaultRecord> records) {
  struct Said {
    RunKind kind;
    uint32_t layer;
    store::Slot slot;
  };
  thread_local std::vector<Said> said;
  said.assign(blocks_, Said{RunKind::hole, 0, store::kNoSlot});
  uint32_t silent = blocks_;
  for (const FaultRecord& stored : records) {
    if (silent == 0) break;
    if (stored.cut_off) {
      if (layers_.size() == 1) break;  // nothing below: a hole is as good
      for (Said& block : said) {
        if (block.layer == 0) block = {RunKind::zero, stored.layer, store::kNoSlot};
      }
      break;
    }
    thread_local store::WindowRecord record;
    if (!store::decode_window_record(stored.bytes, blocks_, record)) return false;
    if (stored.layer == current_layer()) {
      w.own_slot = record.own_slot;
      w.own_layer = stored.layer;
    }
    for (const store::RecordRun& run : record.runs) {
      const RunKind kind = run.slot == store::kNoSlot ? RunKind::zero : RunKind::data;
      if (stored.layer == current_layer() && kind == RunKind::data && run.slot != w.own_slot)
        w.compare = true;
      for (uint32_t block = run.start; block < uint32_t{run.start} + run.count; block++) {
        if (said[block].layer != 0) continue;
        said[block] = {kind, stored.layer, run.slot};
        silent--;
      }
    }
  }
  thread_local std::vector<Run> runs;
  runs.clear();
  for (uint32_t block = 0; block < blocks_; block++) {
    const Run run{static_cast<uint16_t>(block), said[block].kind, said[block].layer, said[block].slot};
    if (runs.empty() || !runs.back().continues(run)) runs.push_back(run);
  }
  w.runs.assign(runs.data(), static_cast<uint16_t>(runs.size()));
  return true;
}

void Volume::maybe_evict() {
  CacheBudget& budget = *home_.budget;
  if (!budget.over()) return;
  budget.squeezes.fetch_add(1, std::memory_order_relaxed);
  regions_.evict(budget.limit_bytes, regions_.all_steps());
  if (budget.used_bytes.load() / 4 < dirty_windows_ * sizeof(Region) / kRegionWindows) want_round(true);
}

// Only a fault makes a volume look for room of its own; one that has no faults any more gives here.
void Volume::give_room() {
  constexpr size_t kStepsATick = 1024;  // regions looked at: well below a millisecond
  CacheBudget& budget = *home_.budget;
  const uint64_t squeezes = budget.squeezes.load(std::memory_order_relaxed);
  if (squeezes == squeezes_seen_ && !budget.over()) return;
  squeezes_seen_ = squeezes;
  if (regions_.bytes() <= budget.share_bytes()) return;
  regions_.evict(budget.limit_bytes - budget.slack_bytes(), std::min(kStepsATick, regions_.size()));
}

void Volume::grace(std::function<void()> done) {
  // Calls that come while one runs share the next period.
  if (grace_running_) {
    grace_waiters_.push_back([this, done = std::move(done)]() mutable { grace(std::move(done)); });
    return;
  }
  const uint32_t ending = epoch_++;
  if (parts_by_epoch_[ending & 1] == 0) {
    done();
    return;
  }
  grace_running_ = true;
  grace_waiters_.push_back(std::move(done));
}

}  // namespace cellblock::volume
