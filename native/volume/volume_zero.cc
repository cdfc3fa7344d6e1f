// TRIM and WRITE_ZEROES: zeros are recorded (else old data of a base would show through), own places are
// punched while the blocks are held. Many whole windows become one cut-off.
#include <algorithm>
#include <array>
#include <cerrno>

#include "base/units.h"
#include "volume/volume.h"

namespace cellblock::volume {
namespace {

constexpr uint64_t kCutOffWindows = 64;  // from so many whole windows on, a cut-off
alignas(kBlockBytes) const std::array<std::byte, kBlockBytes> kZeros{};

}  // namespace

Volume::Walk Volume::advance_zero(Request& request) {
  const uint64_t end = request.offset + request.length;
  if (end > size() && !request.state) request.error = ENOSPC;  // shrunk while it waited
  const bool keep_space = request.command == Command::write_zeroes && (request.flags & kNoHole);
  while (request.cursor < end && !request.error) {
    if (request.parts > kMostParts) {
      request.cells |= kPaused;
      return Walk::waiting;
    }
    // The volume's last window counts as whole when the request reaches the volume's end.
    const uint64_t first = request.cursor >> window_shift_;
    const uint64_t whole_end =
        end >= size() ? (end + window_bytes_ - 1) >> window_shift_ : end >> window_shift_;
    if (!keep_space && request.cursor % window_bytes_ == 0 && whole_end >= first + kCutOffWindows) {
      if (cut_off(request, first, whole_end) == Step::wait) return Walk::waiting;
      request.cursor = std::min(end, whole_end << window_shift_);
      continue;
    }
    const Span span = span_at(request, end);
    // Blocks covered only in part: TRIM leaves them, WRITE_ZEROES writes zeros into them.
    const uint32_t into = span.offset % kBlockBytes;
    const bool ends_volume = request.cursor + span.bytes >= size();
    const uint32_t tail = ends_volume ? 0 : (span.offset + span.bytes) % kBlockBytes;
    Span piece = span;
    if (into != 0)
      piece.bytes = std::min(span.bytes, kBlockBytes - into);
    else if (span.bytes > tail || tail == 0)
      piece.bytes = span.bytes - tail;
    const bool whole = into == 0 && (piece.bytes != tail || tail == 0);
    Step step = Step::next;
    if (whole) {
      step = keep_space ? allocate_zeros(request, piece) : zero_blocks(request, piece);
    } else if (request.command == Command::write_zeroes) {
      step = write_span(request, piece, kZeros.data());
    }
    if (step == Step::wait) return Walk::waiting;
    request.cursor += piece.bytes;
  }
  return Walk::finished;
}

// What silence is recorded as: with nothing below, a hole says the same and takes no room.
Run Volume::silent_run() const {
  if (layers_.size() == 1) return Run{};
  return Run{0, RunKind::zero, current_layer(), store::kNoSlot};
}

Volume::Step Volume::zero_blocks(Request& request, const Span& span) {
  if ((request.error = refusal())) return Step::next;
  Region* region = resident(span.window, &request);
  if (!region) return Step::wait;
  Window& w = window_of(*region, span.window);
  if (w.damaged) {
    request.error = EIO;
    return Step::next;
  }
  const uint16_t start = static_cast<uint16_t>(span.offset / kBlockBytes);
  const uint16_t end = static_cast<uint16_t>((span.offset + span.bytes + kBlockBytes - 1) / kBlockBytes);
  const Blocks wanted{span.window, span.window + 1, start, end};
  if (behind_turn(request, wanted)) return Step::wait;
  if (conflicts(span.window, w, start, end, true)) {
    take_turn(request, wanted);
    wait_for_hold(request, span.window);
    return Step::wait;
  }
  if (turn_.owner == &request) end_turn();
  // Uncommitted zeros of before count as touched: this reply promises them too when it carries FUA.
  if ((request.flags & kFua) && w.last_position > committed_) request.cells |= kFlushAtEnd;
  bool silent = true;
  for (uint16_t i = w.runs.find(start); i < w.runs.count() && w.runs[i].start < end; i++) {
    const Run& run = w.runs[i];
    silent &= run.kind == RunKind::hole || (run.kind == RunKind::zero && run.layer == current_layer());
  }
  if (silent) return Step::next;
  const Step step = begin_change(request, *region, w, span.window, false);
  if (step == Step::wait || request.error) return step;
  if (request.flags & kFua) request.cells |= kFlushAtEnd;

  Part& part = new_part(&request);
  part.region = region;
  part.window = span.window;
  part.start = start;
  part.end = end;
  part.slot = w.own_slot;
  part.exclusive = part.changes = part.writes = true;
  parts_by_layer_[part.layer & 1]++;
  add_hold(part);
  for (uint16_t i = w.runs.find(start); i < w.runs.count() && w.runs[i].start < end; i++) {
    const Run& run = w.runs[i];
    if (run.kind != RunKind::data || run.layer != current_layer() || run.slot != w.own_slot) continue;
    part.punches.push_back({std::max(start, run.start), std::min(end, w.runs.end(i, blocks()))});
  }
  punch_next(part);
  return Step::next;
}

void Volume::punch_next(Part& part) {
  io::File* file = part.punches.empty() ? nullptr : own_file_of(part.slot);
  if (!file) {
    finish_zero(part);
    return;
  }
  const auto [first, end] = part.punches.back();
  part.punches.pop_back();
  part.io.operation = io::Operation::punch;
  part.io.file = file;
  part.io.offset = byte_of(part.slot, uint64_t{first} * kBlockBytes);
  part.io.length = static_cast<uint64_t>(end - first) * kBlockBytes;
  part.io.done = punch_part_done;
  submit_part(part);
}

// A place that could not be punched keeps its space until the leak sweep finds it; the blocks are zero all
// the same.
void Volume::punch_part_done(io::Request& io) {
  Part& part = *static_cast<Part*>(io.owner);
  part.volume->punch_next(part);
}

void Volume::finish_zero(Part& part) {
  if (failed_) {
    part.request->error = EIO;
    home_.journal->unreserve(1);
    end_part(part);
    return;
  }
  Window& w = window_of(*part.region, part.window);
  Run zero = silent_run();
  if (zero.kind == RunKind::zero) zero.layer = part.layer;
  w.runs.set(part.start, part.end, zero, blocks());
  regions_.measure(*part.region);
  store::Entry entry;
  entry.type = store::EntryType::zero;
  entry.version = version_of(part.layer);
  entry.window = part.window;
  entry.start = part.start;
  entry.count = static_cast<uint16_t>(part.end - part.start);
  note_change(*part.region, w, part.layer, append(entry));
  end_part(part);
}

// WRITE_ZEROES with NO_HOLE: space is allocated, so the blocks become data of mine that reads as zeros.
Volume::Step Volume::allocate_zeros(Request& request, const Span& span) {
  if ((request.error = refusal())) return Step::next;
  Region* region = resident(span.window, &request);
  if (!region) return Step::wait;
  Window& w = window_of(*region, span.window);
  if (w.damaged) {
    request.error = EIO;
    return Step::next;
  }
  const uint16_t start = static_cast<uint16_t>(span.offset / kBlockBytes);
  const uint16_t end = static_cast<uint16_t>((span.offset + span.bytes + kBlockBytes - 1) / kBlockBytes);
  const Blocks wanted{span.window, span.window + 1, start, end};
  if (behind_turn(request, wanted)) return Step::wait;
  if (conflicts(span.window, w, start, end, true)) {
    take_turn(request, wanted);
    wait_for_hold(request, span.window);
    return Step::wait;
  }
  if (turn_.owner == &request) end_turn();
  const Step step = begin_change(request, *region, w, span.window, true);
  if (step == Step::wait || request.error) return step;
  io::File* file = own_file_of(w.own_slot);
  if (!file) {
    request.error = EIO;
    home_.journal->unreserve(1);
    return Step::next;
  }
  if (request.flags & kFua) request.cells |= kFlushAtEnd;
  Part& part = new_part(&request);
  part.region = region;
  part.window = span.window;
  part.start = start;
  part.end = end;
  part.slot = w.own_slot;
  part.exclusive = part.changes = part.writes = true;
  parts_by_layer_[part.layer & 1]++;
  add_hold(part);
  part.io.operation = io::Operation::zero_range;
  part.io.file = file;
  part.io.offset = byte_of(part.slot, uint64_t{start} * kBlockBytes);
  part.io.length = static_cast<uint64_t>(end - start) * kBlockBytes;
  part.io.done = zero_range_done;
  submit_part(part);
  return Step::next;
}

void Volume::zero_range_done(io::Request& io) {
  Part& part = *static_cast<Part*>(io.owner);
  int error = 0;
  if (io.result < 0) error = io.result == -ENOSPC || io.result == -EDQUOT ? ENOSPC : EIO;
  part.volume->finish_write(part, error);
}

// ---- cut-offs ----

// Windows [first, end) ask nothing older from now on. Waits until nobody holds a block in them.
Volume::Step Volume::cut_off(Request& request, uint64_t first, uint64_t end) {
  if ((request.error = refusal())) return Step::next;
  const Blocks wanted{first, end, 0, blocks()};
  if (behind_turn(request, wanted)) return Step::wait;
  for (auto& [window, holds] : holds_) {
    if (window >= first && window < end && holds.head) {
      take_turn(request, wanted);
      holds.waiters.push(request);
      return Step::wait;
    }
  }
  if (turn_.owner == &request) end_turn();
  if (options_.empty && touched_.empty()) return Step::next;  // nothing was ever said
  const Step room = reserve_cell(request);
  if (room == Step::wait || request.error) return room;
  if (request.flags & kFua) request.cells |= kFlushAtEnd;
  store::Entry entry;
  entry.type = store::EntryType::cut_off;
  entry.version = options_.version;
  entry.window = first;
  entry.argument = end;
  apply_cut_off(first, end, append(entry));
  return Step::next;
}

void Volume::apply_cut_off(uint64_t first, uint64_t end, uint64_t position) {
  if (pending_cut_offs_.empty() && dirty_windows_ == 0 && frozen_.empty()) oldest_dirty_ns_ = home_.now_ns();
  PendingCutOff* last = pending_cut_offs_.empty() ? nullptr : &pending_cut_offs_.back();
  if (last && !last->taken && last->version == options_.version && last->end == first) {
    last->end = end;
    last->position = position;
  } else {
    pending_cut_offs_.push_back({first, end, options_.version, current_layer(), position, false});
  }
  mark_stale(first, end);
  regions_.each([&](Region& region) {
    const uint64_t base = region.index * kRegionWindows;
    const uint64_t from = std::max(first, base);
    const uint64_t to = std::min(end, base + kRegionWindows);
    for (uint64_t window = from; window < to; window++) {
      Window& w = window_of(region, window);
      if (w.dirty && w.own_layer != current_layer()) convert(region, w, window);
      if (w.dirty) {
        // What a round has not stored nobody else knows of.
        if (w.own_slot != store::kNoSlot) abandoned_.push_back(w.own_slot);
        w.dirty = w.taken = false;
        dirty_windows_--;
        region.pins--;
      }
      w.runs.assign(silent_run());
      w.own_layer = current_layer();
      w.own_slot = store::kNoSlot;  // its old place goes with the stored record
      w.compare = w.damaged = false;
      w.last_position = position;
    }
    if (from < to) regions_.measure(region);
  });
  if (!abandoned_.empty() && !abandoning_) {
    abandoning_ = true;
    punch_abandoned(new_part(nullptr));
  }
}

// Places a cut-off took away while LevelDB did not name all of what lies in them: nothing is written there
// any more, and who still reads there may see zeros, the new content. One after the other.
void Volume::punch_abandoned(Part& part) {
  while (!abandoned_.empty()) {
    const store::Slot slot = abandoned_.back();
    abandoned_.pop_back();
    io::File* file = own_file_of(slot);
    if (!file) continue;
    part.io.operation = io::Operation::punch;
    part.io.file = file;
    part.io.offset = byte_of(slot, 0);
    part.io.length = window_bytes_;
    part.io.done = [](io::Request& io) {
      Part& punched = *static_cast<Part*>(io.owner);
      punched.volume->punch_abandoned(punched);
    };
    submit_part(part);
    return;
  }
  abandoning_ = false;
  end_part(part);
}

}  // namespace cellblock::volume
