// Writes. In place where the block is mine in the window's own slot; else the whole block goes to the own
// slot and is owned from then on.
#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>

#include "base/units.h"
#include "volume/volume.h"

namespace cellblock::volume {
namespace {

constexpr uint32_t kInlineWriteBytes = 512 << 10;
// An inline write that took this long met write-back throttling: for a while writes go to the engine.
constexpr uint64_t kSlowWriteNs = 2'000'000;
constexpr uint64_t kSlowForNs = 100'000'000;
constexpr uint32_t kSampleEvery = 16;

std::byte* make_bounce(uint32_t blocks) {
  return static_cast<std::byte*>(std::aligned_alloc(kBlockBytes, size_t{blocks} * kBlockBytes));
}

}  // namespace

Volume::Walk Volume::advance_write(Request& request) {
  const uint64_t end = request.offset + request.length;
  if (end > size() && !request.state) request.error = ENOSPC;  // shrunk while it waited
  while (request.cursor < end && !request.error) {
    const Span span = span_at(request, end);
    if (write_span(request, span, request.data + (request.cursor - request.offset)) == Step::wait)
      return Walk::waiting;
    request.cursor += span.bytes;
  }
  return Walk::finished;
}

bool Volume::owned(const Window& w, uint16_t start, uint16_t end) const {
  if (w.own_slot == store::kNoSlot || w.own_layer != current_layer()) return false;
  const uint16_t i = w.runs.find(start);
  const Run& run = w.runs[i];
  if (run.kind != RunKind::data || run.layer != current_layer() || run.slot != w.own_slot) return false;
  return w.runs.end(i, blocks()) >= end;
}

Volume::Step Volume::write_span(Request& request, const Span& span, const std::byte* data) {
  if ((request.error = refusal())) return Step::next;
  Region* region = resident(span.window, &request);
  if (!region) return Step::wait;
  Window& w = window_of(*region, span.window);
  if (w.damaged) {
    request.error = EIO;
    return Step::next;
  }
  const uint32_t stop = span.offset + span.bytes;
  const uint16_t first = static_cast<uint16_t>(span.offset / kBlockBytes);
  const uint16_t last = static_cast<uint16_t>((stop + kBlockBytes - 1) / kBlockBytes);
  const bool partial = span.offset % kBlockBytes != 0 || stop % kBlockBytes != 0;
  const bool change = !owned(w, first, last);
  const bool compose = partial && (change || direct_);
  const bool alone = change || compose;
  const Blocks wanted{span.window, span.window + 1, first, last};
  if (behind_turn(request, wanted)) return Step::wait;
  if (conflicts(span.window, w, first, last, alone)) {
    if (alone) take_turn(request, wanted);
    wait_for_hold(request, span.window);
    return Step::wait;
  }
  if (turn_.owner == &request) end_turn();
  if (change) {
    const Step step = begin_change(request, *region, w, span.window, true);
    if (step == Step::wait || request.error) return step;
  }
  const bool fua = (request.flags & kFua) != 0;
  const bool stable_write = fua && !change && w.last_position <= committed_;
  if (fua && !stable_write) request.cells |= kFlushAtEnd;

  io::File* file = own_file_of(w.own_slot);
  if (!file) {
    request.error = EIO;
    if (change) home_.journal->unreserve(1);
    return Step::next;
  }
  const store::Slot slot = w.own_slot;
  std::byte* composed = nullptr;
  bool ready = true;
  const bool misplaced = direct_ && reinterpret_cast<uintptr_t>(data) % kBlockBytes != 0;
  if (compose || misplaced) {
    composed = make_bounce(static_cast<uint32_t>(last - first));
    if (!composed) {
      request.error = ENOMEM;
      if (change) home_.journal->unreserve(1);
      return Step::next;
    }
    if (compose)
      ready = compose_inline(w, span, data, composed);
    else
      std::memcpy(composed, data, span.bytes);
  }
  const std::byte* from = composed ? composed : data;
  const uint32_t bytes = compose ? uint32_t{last} * kBlockBytes - uint32_t{first} * kBlockBytes : span.bytes;
  const uint64_t offset = byte_of(slot, compose ? uint64_t{first} * kBlockBytes : span.offset);
  ssize_t written = 0;
  if (ready && !stable_write && inline_write(*file, from, bytes, offset, written)) {
    std::free(composed);
    if (written < 0) {
      request.error = written == -ENOSPC || written == -EDQUOT ? ENOSPC : EIO;
      if (change) home_.journal->unreserve(1);
    } else {
      mark_written(store::slot_file(slot));
      if (change) record_own(*region, w, span.window, first, last, current_layer(), slot);
    }
    return Step::next;
  }
  Part& part = new_part(&request);
  part.region = region;
  part.window = span.window;
  part.start = first;
  part.end = last;
  part.slot = slot;
  part.exclusive = alone;
  part.changes = change;
  part.writes = true;
  parts_by_layer_[part.layer & 1]++;
  add_hold(part);
  part.io.operation = stable_write ? io::Operation::write_dsync : io::Operation::write;
  part.io.file = file;
  part.io.offset = offset + static_cast<uint64_t>(written);
  part.io.length = bytes - static_cast<uint32_t>(written);
  part.bounce = composed;
  part.io.data = const_cast<std::byte*>(from) + written;
  part.io.done = write_part_done;
  if (!ready) {
    part.offset = span.offset - uint32_t{first} * kBlockBytes;
    part.bytes = span.bytes;
    compose_async(part, data);
    return Step::next;
  }
  submit_part(part);
  return Step::next;
}

// True when the write has ended, well (`result` = bytes) or badly (-errno); false when the engine is to go on
// behind `result`.
bool Volume::inline_write(io::File& file, const std::byte* data, uint32_t bytes, uint64_t offset,
                          ssize_t& result) {
  result = 0;
  if (direct_ || bytes > kInlineWriteBytes) return false;
  uint64_t before = 0;
  const bool sample = slow_until_ns_ != 0 || ++write_samples_ % kSampleEvery == 0;
  if (sample) {
    before = home_.now_ns();
    if (before < slow_until_ns_) return false;
    slow_until_ns_ = 0;
  }
  result = file.try_write(data, bytes, offset);
  if (sample) {
    const uint64_t after = home_.now_ns();
    if (after - before > kSlowWriteNs) slow_until_ns_ = after + kSlowForNs;
  }
  if (result == -EAGAIN) result = 0;
  return result < 0 || static_cast<uint32_t>(result) == bytes;
}

// ---- blocks that a write covers only in part ----

// Fills the blocks of `buffer` that the payload does not cover whole, then the payload; false when the disk
// has to be asked.
bool Volume::compose_inline(Window& w, const Span& span, const std::byte* data, std::byte* buffer) {
  const uint32_t stop = span.offset + span.bytes;
  const uint16_t first = static_cast<uint16_t>(span.offset / kBlockBytes);
  const uint16_t last = static_cast<uint16_t>((stop - 1) / kBlockBytes);
  if (direct_) return false;
  if (span.offset % kBlockBytes && read_block_inline(w, first, buffer) < 0) return false;
  const bool tail = stop % kBlockBytes != 0 && (last != first || span.offset % kBlockBytes == 0);
  if (tail && read_block_inline(w, last, buffer + size_t{kBlockBytes} * (last - first)) < 0) return false;
  std::memcpy(buffer + span.offset % kBlockBytes, data, span.bytes);
  return true;
}

ssize_t Volume::read_block_inline(const Window& w, uint16_t block, std::byte* to) {
  const Run& run = w.runs[w.runs.find(block)];
  if (run.kind != RunKind::data) {
    std::memset(to, 0, kBlockBytes);
    return kBlockBytes;
  }
  int error = 0;
  io::File* file = file_of(run.slot, error);
  if (!file) return -1;
  const ssize_t got = file->try_read(to, kBlockBytes, byte_of(run.slot, uint64_t{block} * kBlockBytes));
  return got == kBlockBytes ? got : -1;
}

// As compose_inline, by the engine: stage 0 reads the first block, stage 1 the last, then the payload is laid
// over and written.
void Volume::compose_async(Part& part, const std::byte* data) {
  part.payload = data;
  part.stage = 0;
  compose_step(part);
}

void Volume::compose_step(Part& part) {
  const uint32_t stop = part.offset + part.bytes;
  const uint16_t last = static_cast<uint16_t>(part.end - 1);
  const uint64_t offset = byte_of(part.slot, uint64_t{part.start} * kBlockBytes);
  const uint32_t bytes = static_cast<uint32_t>(part.end - part.start) * kBlockBytes;
  while (part.stage < 2) {
    const uint16_t block = part.stage == 0 ? part.start : last;
    const bool needed = part.stage == 0 ? part.offset != 0
                                        : stop % kBlockBytes != 0 && (last != part.start || part.offset == 0);
    part.stage++;
    if (!needed) continue;
    std::byte* to = part.bounce + size_t{kBlockBytes} * (block - part.start);
    const Window& w = window_of(*part.region, part.window);
    const Run& run = w.runs[w.runs.find(block)];
    if (run.kind != RunKind::data) {
      std::memset(to, 0, kBlockBytes);
      continue;
    }
    int error = 0;
    part.io.operation = io::Operation::read;
    part.io.file = file_of(run.slot, error);
    part.io.offset = byte_of(run.slot, uint64_t{block} * kBlockBytes);
    part.io.length = kBlockBytes;
    part.io.data = to;
    part.io.done = compose_read_done;
    if (!part.io.file) {
      finish_write(part, EIO);
      return;
    }
    submit_part(part);
    return;
  }
  std::memcpy(part.bounce + part.offset, part.payload, part.bytes);
  const bool stable = (part.request->flags & kFua) && !part.changes && !(part.request->cells & kFlushAtEnd);
  part.io.operation = stable ? io::Operation::write_dsync : io::Operation::write;
  part.io.file = own_file_of(part.slot);
  part.io.offset = offset;
  part.io.length = bytes;
  part.io.data = part.bounce;
  part.io.done = write_part_done;
  submit_part(part);
}

void Volume::compose_read_done(io::Request& io) {
  Part& part = *static_cast<Part*>(io.owner);
  if (io.result > 0 && static_cast<uint64_t>(io.result) < io.length) {
    io.offset += static_cast<uint64_t>(io.result);
    io.length -= static_cast<uint64_t>(io.result);
    io.data = static_cast<std::byte*>(io.data) + io.result;
    part.volume->submit_part(part);
    return;
  }
  if (io.result <= 0)
    part.volume->finish_write(part, EIO);
  else
    part.volume->compose_step(part);
}

void Volume::write_part_done(io::Request& io) {
  Part& part = *static_cast<Part*>(io.owner);
  if (io.result > 0 && static_cast<uint64_t>(io.result) < io.length) {
    io.offset += static_cast<uint64_t>(io.result);
    io.length -= static_cast<uint64_t>(io.result);
    io.data = static_cast<std::byte*>(io.data) + io.result;
    part.volume->submit_part(part);
    return;
  }
  int error = 0;
  if (io.result < 0)
    error = io.result == -ENOSPC || io.result == -EDQUOT ? ENOSPC : EIO;
  else if (io.result == 0)
    error = EIO;
  // A full disk refuses the plain write as well. If it does not, what the stable one told of, once, was the
  // write-back of something answered earlier.
  if (error == ENOSPC && io.operation == io::Operation::write_dsync) {
    part.doubtful = true;
    io.operation = io::Operation::write;
    part.volume->submit_part(part);
    return;
  }
  // A write that was to be stable and is not is a write-back error: the whole container can no longer be
  // trusted (D8).
  if ((error && io.operation == io::Operation::write_dsync) || (!error && part.doubtful)) {
    error = EIO;
    part.volume->fail(error, [&part] { part.volume->finish_write(part, EIO); });
    return;
  }
  part.volume->finish_write(part, error);
}

void Volume::finish_write(Part& part, int error) {
  if (!error && failed_) error = EIO;
  if (error) part.request->error = error;
  // Marked when it has ended: a flush that began meanwhile does not cover it.
  else if (part.io.operation != io::Operation::write_dsync)
    mark_written(store::slot_file(part.slot));
  if (part.changes) {
    if (error) {
      home_.journal->unreserve(1);
    } else {
      record_own(*part.region, window_of(*part.region, part.window), part.window, part.start, part.end,
                 part.layer, part.slot);
    }
  }
  end_part(part);
}

// ---- changes of ownership ----

// Readies a window for a change under the current version: journal room, the older version's record put
// aside, a place.
Volume::Step Volume::begin_change(Request& request, Region& region, Window& w, uint64_t window,
                                  bool allocate) {
  if (w.own_layer != current_layer() && older_change_held(window, w)) {
    wait_for_hold(request, window);
    return Step::wait;
  }
  if (allocate && !home_.extents->may_allocate(home_.now_ns())) {
    request.error = ENOSPC;
    return Step::next;
  }
  const Step room = reserve_cell(request);
  if (room == Step::wait || request.error) return room;
  if (w.own_layer != current_layer()) convert(region, w, window);
  Step step = Step::next;
  if (allocate && w.own_slot == store::kNoSlot && !allocate_slot(request, w, step))
    home_.journal->unreserve(1);
  return step;
}

// Room in the journal for one entry. A shrink's own request takes from the kept quarter: no round of this
// container passes before the shrink has ended.
Volume::Step Volume::reserve_cell(Request& request) {
  store::Journal& journal = *home_.journal;
  if (request.state) {
    if (!journal.reserve_kept(1)) request.error = ENOSPC;
    return Step::next;
  }
  const bool in_time = !journal.crowded() || rounds_failing_ || journal.pace(home_.now_ns());
  if (in_time && journal.reserve(1)) return Step::next;
  want_round(true);
  if (rounds_failing_) {
    request.error = ENOSPC;
    return Step::next;
  }
  journal_waiters_.push(request);
  return Step::wait;
}

// The first change of a window under a new version: what the ended version said is put aside for the next
// round.
void Volume::convert(Region& region, Window& w, uint64_t window) {
  if (w.dirty) {
    Frozen frozen{version_of(w.own_layer), window, w.compare, w.taken, &region, {}};
    encode(w, frozen.bytes);
    frozen_.push_back(std::move(frozen));  // keeps the window's pin
    w.dirty = w.taken = false;
    dirty_windows_--;
  }
  w.own_layer = current_layer();
  w.own_slot = store::kNoSlot;
  w.compare = false;
}

bool Volume::allocate_slot(Request& request, Window& w, Step& step) {
  const uint64_t places = std::min(store::kMaxFileBytes / window_bytes_, store::kMaxPlaces);
  const uint64_t number = options_.files.back();
  if (next_place_ < 0) {
    next_place_ = home_.extents->places(number);
    if (next_place_ < 0) {
      next_place_ = -1;
      request.error = EIO;
      return false;
    }
  }
  if (static_cast<uint64_t>(next_place_) + places / 16 >= places && !file_wanted_) {
    file_wanted_ = true;
    want_file(home_.now_ns());
  }
  if (static_cast<uint64_t>(next_place_) >= places) {
    if (file_late_) {
      request.error = ENOSPC;
      return false;
    }
    space_waiters_.push(request);
    step = Step::wait;
    return false;
  }
  if (own_file_number_ != number || !own_file_) {
    int error = 0;
    own_file_ = home_.extents->open(number, true, error);
    if (!own_file_) {
      request.error = error == ENOSPC || error == EDQUOT ? ENOSPC : EIO;
      return false;
    }
    own_file_number_ = number;
  }
  w.own_slot = store::make_slot(number, static_cast<uint64_t>(next_place_++));
  return true;
}

io::File* Volume::own_file_of(store::Slot slot) {
  if (store::slot_file(slot) == own_file_number_) return own_file_;
  int error = 0;
  return file_of(slot, error);
}

void Volume::record_own(Region& region, Window& w, uint64_t window, uint16_t start, uint16_t end,
                        uint32_t layer, store::Slot slot) {
  const size_t before = w.runs.heap_bytes();
  w.runs.set(start, end, Run{start, RunKind::data, layer, slot}, blocks());
  if (w.runs.heap_bytes() != before) regions_.measure(region);
  store::Entry entry;
  entry.type = store::EntryType::own;
  entry.version = version_of(layer);
  entry.window = window;
  entry.start = start;
  entry.count = static_cast<uint16_t>(end - start);
  entry.argument = slot;
  note_change(region, w, layer, append(entry));
}

void Volume::about_to_append() {
  // Set before the position is taken: the trimmer must never see a position used and no owner of it.
  if (oldest_unapplied_.load() == UINT64_MAX) oldest_unapplied_.store(home_.journal->next());
}

uint64_t Volume::append(store::Entry entry) {
  entry.line = options_.line;
  about_to_append();
  last_position_ = home_.journal->append(entry);
  return last_position_;
}

void Volume::note_change(Region& region, Window& w, uint32_t layer, uint64_t position) {
  w.last_position = position;
  w.own_layer = layer;
  w.taken = false;
  if (w.dirty) return;
  w.dirty = true;
  region.pins++;
  if (options_.empty) touched_.insert(region.index);
  if (dirty_windows_++ == 0 && frozen_.empty()) oldest_dirty_ns_ = home_.now_ns();
  if (dirty_windows_ >= kDirtyWindowsLimit) want_round(false);
  if (home_.journal->used() > home_.journal->cells() / 4) want_round(true);
}

void Volume::want_file(uint64_t now_ns) {
  file_asked_ns_ = now_ns;
  home_.keeper->file_wanted(*this);
}

void Volume::journal_freed() { resume_all(journal_waiters_.take_all()); }

void Volume::retry_space_waiters() { resume_all(space_waiters_.take_all()); }

}  // namespace cellblock::volume
