// Rounds, snapshots, adoption and resize: what the agent asks of a volume's map.
#include <algorithm>
#include <cassert>
#include <cerrno>

#include "base/units.h"
#include "volume/volume.h"

namespace cellblock::volume {
namespace {

// How long a new extents file may be on its way before it is asked for again.
constexpr uint64_t kFileLateNs = 5'000'000'000;

}  // namespace

// ---- rounds ----

bool Volume::encode(const Window& w, std::vector<std::byte>& out) const {
  store::WindowRecord record;
  record.own_slot = w.own_slot;
  for (uint16_t i = 0; i < w.runs.count(); i++) {
    const Run& run = w.runs[i];
    if (run.layer != w.own_layer || run.kind == RunKind::hole) continue;
    const uint16_t count = static_cast<uint16_t>(w.runs.end(i, blocks()) - run.start);
    record.runs.push_back({run.start, count, run.kind == RunKind::data ? run.slot : store::kNoSlot});
  }
  store::encode_window_record(record, out);
  return !out.empty();
}

void Volume::want_round(bool urgent) {
  if (round_running_ || failed_ || (round_asked_ && (round_urgent_ || !urgent))) return;
  round_asked_ = true;
  round_urgent_ = urgent;
  home_.keeper->round_wanted(*this, urgent);
}

void Volume::tick(uint64_t now_ns) {
  // Whoever was asked may have failed, and could not say so: nobody waits for a file for ever.
  if (file_wanted_ && !failed_ && now_ns - file_asked_ns_ >= kFileLateNs) {
    file_late_ = true;
    want_file(now_ns);
    retry_space_waiters();
  }
  give_room();
  const bool dirty = dirty_windows_ > 0 || !frozen_.empty() || !pending_cut_offs_.empty();
  if (!dirty && oldest_unapplied_.load() == UINT64_MAX) return;
  // The oldest entry of anybody keeps the ring from being trimmed, so who is quiet is asked too.
  if (home_.journal->used() > home_.journal->cells() / 4) want_round(true);
  if (now_ns - oldest_dirty_ns_ >= options_.round_after_ns) want_round(false);
}

void Volume::set_rounds_failing(bool failing) {
  rounds_failing_ = failing;
  if (failing) resume_all(journal_waiters_.take_all());
}

// Records are taken as bytes before the flush begins, so nothing in them is newer than what the flush
// commits.
void Volume::take_round(std::function<void(Round)> done) {
  round_asked_ = false;
  auto round = std::make_shared<Round>();
  if (failed_) {
    round->error = EIO;
    home_.poster->post([round, done = std::move(done)] { done(std::move(*round)); });
    return;
  }
  round_running_ = true;
  round->position = last_position_;
  for (Frozen& frozen : frozen_) {
    frozen.taken = true;
    round->records.push_back({frozen.version, frozen.window, frozen.compare, frozen.bytes});
  }
  regions_.each([&](Region& region) {
    if (region.pins == 0) return;
    for (uint32_t i = 0; i < kRegionWindows; i++) {
      Window& w = region.windows[i];
      if (!w.dirty) continue;
      w.taken = true;
      RoundRecord record{version_of(w.own_layer), region.index * kRegionWindows + i, w.compare, {}};
      encode(w, record.bytes);
      round->records.push_back(std::move(record));
    }
  });
  std::stable_sort(round->records.begin(), round->records.end(),
                   [](const RoundRecord& a, const RoundRecord& b) { return a.version < b.version; });
  for (PendingCutOff& cut : pending_cut_offs_) {
    cut.taken = true;
    round->cut_offs.push_back({cut.version, cut.first, cut.end});
  }
  flush([round, done = std::move(done)](int error) {
    round->error = error;
    done(std::move(*round));
  });
}

void Volume::round_done(uint64_t position) {
  round_running_ = false;
  round_position_ = std::max(round_position_, position);
  regions_.each([&](Region& region) {
    if (region.pins == 0) return;
    for (Window& w : region.windows) {
      if (!w.dirty || !w.taken) continue;
      w.dirty = w.taken = false;
      region.pins--;
      dirty_windows_--;
    }
  });
  std::erase_if(frozen_, [](Frozen& frozen) {
    if (frozen.taken) frozen.region->pins--;
    return frozen.taken;
  });
  // A fault may have read LevelDB before the batch, and is not told by a pending cut-off any more.
  for (const PendingCutOff& cut : pending_cut_offs_) {
    if (cut.taken) mark_stale(cut.first, cut.end);
  }
  std::erase_if(pending_cut_offs_, [](const PendingCutOff& cut) { return cut.taken; });
  oldest_unapplied_.store(last_position_ > position ? position + 1 : UINT64_MAX);
  oldest_dirty_ns_ = home_.now_ns();
  if (rounds_failing_) set_rounds_failing(false);
  // Writes of the version before may still be under way.
  if (frozen_.empty() && dirty_windows_ == 0 && versions_.size() > 2)
    versions_.erase(versions_.begin(), versions_.end() - 2);
  maybe_evict();
}

void Volume::round_failed() {
  round_running_ = false;
  round_asked_ = false;
  for (Frozen& frozen : frozen_) frozen.taken = false;
  for (PendingCutOff& cut : pending_cut_offs_) cut.taken = false;
  regions_.each([](Region& region) {
    for (Window& w : region.windows) w.taken = false;
  });
}

// ---- snapshots ----

void Volume::raise() {
  layers_.push_back(current_layer() + 1);
  options_.version++;
  versions_.push_back({current_layer(), options_.version});
}

void Volume::settle_raised(std::function<void(int, uint64_t)> done) {
  auto settled = [this, done = std::move(done)]() mutable {
    const uint64_t position = last_position_;
    flush([done = std::move(done), position](int error) { done(error, position); });
  };
  if (parts_by_layer_[(current_layer() - 1) & 1] == 0)
    settled();
  else
    raised_waiter_ = std::move(settled);
}

void Volume::cut_committed(uint64_t position, uint64_t up_to) {
  committed_ = std::max(committed_, up_to);
  last_position_ = std::max(last_position_, position);
}

// ---- sync ----

int Volume::rebase(const Rebase& to) {
  if (failed_ && !to.discard) return EIO;
  const bool busy = parts_by_epoch_[0] || parts_by_epoch_[1] || flush_running_ || round_running_ || !quiet();
  const bool dirty = dirty_windows_ > 0 || !frozen_.empty() || !pending_cut_offs_.empty() ||
                     oldest_unapplied_.load() != UINT64_MAX;
  if (!held() || busy || (dirty && !to.discard)) return EBUSY;
  frozen_.clear();
  pending_cut_offs_.clear();
  dirty_windows_ = 0;
  oldest_unapplied_.store(UINT64_MAX);
  regions_.clear(true);
  options_.line = to.line;
  options_.version = to.version;
  options_.empty = to.empty;
  options_.size_bytes = to.size_bytes;
  size_.store(to.size_bytes);
  touched_.clear();
  layers_ = to.layers;
  rebased_layer_ = layers_.front();
  versions_.assign(1, {layers_.back(), to.version});
  return 0;
}

// ---- deletion of a snapshot below the current version ----

struct Adoption {
  bool below;
  std::vector<AdoptedRecord> records;
  size_t next = 0;
  std::function<void(int)> done;
};

void Volume::adopt(bool below, std::vector<AdoptedRecord> records, std::function<void(int)> done) {
  adopt_step(std::make_shared<Adoption>(Adoption{below, std::move(records), 0, std::move(done)}));
}

void Volume::adopt_step(std::shared_ptr<Adoption> adoption) {
  while (adoption->next < adoption->records.size()) {
    if (failed_) {
      adoption->done(EIO);
      return;
    }
    const AdoptedRecord& taken = adoption->records[adoption->next];
    const uint64_t window = taken.window;
    Region* region = resident(window, nullptr);
    if (!region) {
      auto fault = faults_.find(window / kRegionWindows);
      if (fault == faults_.end()) {
        adoption->done(EIO);
        return;
      }
      fault->second.callbacks.push_back([this, adoption, window] {
        // A fault that failed leaves the region away; the deletion is tried again by whoever ordered it.
        if (regions_.find(window / kRegionWindows))
          adopt_step(adoption);
        else
          adoption->done(EIO);
      });
      return;
    }
    Window& w = window_of(*region, window);
    store::WindowRecord record;
    if (w.damaged || !store::decode_window_record(taken.bytes, blocks_, record)) {
      adoption->done(EIO);
      return;
    }
    if (older_change_held(window, w)) {
      adoption->done(EAGAIN);
      return;
    }
    if (w.own_layer != current_layer()) convert(*region, w, window);
    if (adopt_record(w, record, adoption->below)) {
      w.compare = true;
      regions_.measure(*region);
      note_change(*region, w, current_layer(), w.last_position);
    }
    adoption->next++;
  }
  adoption->done(0);
}

// Where the current version is silent the deleted one is what shows, whatever layer the view found it in:
// parts of it may have come from versions merged into it earlier. So what the record says is taken, not what
// the runs are labelled with. A label above the deleted one's is that of a version merged into this one: its
// cut-offs speak for this one.
bool Volume::adopt_record(Window& w, const store::WindowRecord& record, bool below) {
  const uint32_t deleted = layers_.size() > 1 ? layers_[layers_.size() - 2] : 0;
  std::vector<std::pair<uint16_t, uint16_t>> silent;
  for (uint16_t i = 0; i < w.runs.count(); i++) {
    if (w.runs[i].layer <= deleted) silent.push_back({w.runs[i].start, w.runs.end(i, blocks())});
  }
  bool changed = false;
  for (const auto& [from, to] : silent) {
    for (const store::RecordRun& run : record.runs) {
      const uint16_t start = std::max(from, run.start);
      const uint16_t end = std::min<uint16_t>(to, static_cast<uint16_t>(run.start + run.count));
      if (start >= end) continue;
      Run mine{start, run.slot == store::kNoSlot ? RunKind::zero : RunKind::data, current_layer(), run.slot};
      if (mine.kind == RunKind::zero && !below) mine = Run{};
      w.runs.set(start, end, mine, blocks());
      changed = true;
    }
  }
  return changed;
}

// ---- size ----

struct Shrink {
  Request request;
  Volume* volume = nullptr;
  uint64_t size_bytes = 0;
  std::function<void(int)> done;
};

void Volume::resize(uint64_t size_bytes, std::function<void(int)> done) {
  const uint64_t old = size();
  if (size_bytes >= old) {
    size_.store(size_bytes);
    options_.size_bytes = size_bytes;
    done(0);
    return;
  }
  // The tail of the last window is cleared, then a cut-off hides what lies behind it.
  shrink_ = std::make_shared<Shrink>();
  shrink_->volume = this;
  shrink_->size_bytes = size_bytes;
  shrink_->done = std::move(done);
  size_.store(size_bytes);
  const uint64_t window_end = std::min(old, (size_bytes + window_bytes_ - 1) / window_bytes_ * window_bytes_);
  Request& request = shrink_->request;
  request.command = Command::write_zeroes;
  request.offset = size_bytes;
  request.length = window_end - size_bytes;
  request.owner = shrink_.get();
  request.done = [](Request& cleared) {
    auto* self = static_cast<Shrink*>(cleared.owner);
    Volume& volume = *self->volume;
    if (cleared.error) {
      volume.shrunk(cleared.error);
      return;
    }
    const uint64_t first = (self->size_bytes + volume.window_bytes_ - 1) >> volume.window_shift_;
    volume.shrink_tail(first, [&volume](int error) { volume.shrunk(error); });
  };
  requests_++;
  request.cursor = request.offset;
  request.parts = 1;
  request.state = shrink_.get();  // ours: it lies behind the new end on purpose, and is not held
  resume(request);
}

// One that failed leaves the old size, so that it can be asked for again.
void Volume::shrunk(int error) {
  const auto shrink = std::move(shrink_);
  if (error)
    size_.store(options_.size_bytes);
  else
    options_.size_bytes = shrink->size_bytes;
  shrink->done(error);
}

// The open-ended cut-off of a shrink, once no request admitted under the old size is at work; then a flush.
void Volume::shrink_tail(uint64_t first, std::function<void(int)> done) {
  hold();
  drained([this, first, done = std::move(done)]() mutable {
    if (failed_ || !home_.journal->reserve_kept(1)) {
      release();
      done(failed_ ? EIO : ENOSPC);
      return;
    }
    store::Entry entry;
    entry.type = store::EntryType::cut_off;
    entry.version = options_.version;
    entry.window = first;
    entry.argument = store::kOpenEnd;
    apply_cut_off(first, store::kOpenEnd, append(entry));
    release();
    flush(std::move(done));
  });
}

}  // namespace cellblock::volume
