// Admission, waiting and the end of requests.
#include "volume/volume.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cerrno>

#include "base/units.h"

namespace cellblock::volume {

void Volume::RequestList::push(Request& request) {
  request.next = nullptr;
  if (tail)
    tail->next = &request;
  else
    head = &request;
  tail = &request;
}

Request* Volume::RequestList::take_all() {
  Request* list = head;
  head = tail = nullptr;
  return list;
}

Volume::Volume(VolumeOptions options, Home home)
    : options_(std::move(options)),
      home_(home),
      window_bytes_(home.extents->window_bytes()),
      window_shift_(static_cast<unsigned>(std::countr_zero(window_bytes_))),
      blocks_(window_bytes_ / kBlockBytes),
      direct_(home.extents->direct()),
      size_(options_.size_bytes),
      read_only_(options_.read_only),
      layers_(options_.layers),
      regions_(*home.budget) {
  assert(!layers_.empty());
  versions_.push_back({layers_.back(), options_.version});
  if (options_.unclean) written_files_ = options_.files;
}

Volume::~Volume() {
  for (const auto& part : all_parts_) std::free(part->bounce);  // of those that were in flight
}

uint32_t Volume::version_of(uint32_t layer) const {
  for (auto at = versions_.rbegin(); at != versions_.rend(); ++at) {
    if (at->first == layer) return at->second;
  }
  assert(false && "a layer of this line");
  return options_.version;
}

void Volume::remove_layer(uint32_t layer) {
  auto found = std::lower_bound(layers_.begin(), layers_.end(), layer);
  if (found != layers_.end() && *found == layer && layer != current_layer()) layers_.erase(found);
}

// Why nothing may be changed, or 0. An overwrite in place needs no journal, but a store that cannot commit
// takes no writes (D8).
int Volume::refusal() const {
  if (failed_ || home_.journal->broken()) return EIO;
  return read_only() ? EPERM : 0;
}

Submitted Volume::submit(Request& request) {
  request.error = 0;
  request.cursor = request.offset;
  request.parts = 1;
  request.cells = 0;
  request.state = nullptr;
  request.segments.clear();
  requests_++;
  if (held() && !request.privileged) {
    keep_held(request);
    return Submitted::pending;
  }
  if (advance(request) == Walk::waiting) return Submitted::pending;
  if (finish_walk(request)) {
    requests_--;
    return Submitted::done;
  }
  return Submitted::pending;
}

Volume::Walk Volume::advance(Request& request) {
  switch (request.command) {
    case Command::read:
      return advance_read(request);
    case Command::write:
      return advance_write(request);
    case Command::trim:
    case Command::write_zeroes:
      return advance_zero(request);
    case Command::block_status:
      return advance_status(request);
    case Command::cache:
      return advance_cache(request);
    case Command::flush:
      return Walk::finished;
  }
  return Walk::finished;
}

// The walk over the windows, or a part of it, has ended; true when nothing is outstanding any more. FLUSH,
// and FUA that found anything but committed blocks, end with a flush of the container.
bool Volume::finish_walk(Request& request) {
  if (--request.parts > 0) return false;
  const bool flush = request.command == Command::flush || (request.cells & kFlushAtEnd);
  request.cells = 0;
  if (!flush || request.error || (frozen() && !failed_)) {
    if (request.segments.size() == 1 && !request.segments[0].hole) request.segments.clear();
    return true;
  }
  request.parts = 1;
  flush_requests_next_.push(request);
  start_flush();
  return false;
}

void Volume::part_finished(Request& request) {
  if (finish_walk(request)) return complete(request);
  if (!(request.cells & kPaused) || request.parts > kFewParts) return;
  request.cells &= ~kPaused;
  home_.poster->post([this, &request] { resume(request); });
}

void Volume::complete(Request& request) {
  if (turn_.owner == &request) end_turn();  // an error ended it
  requests_--;
  request.done(request);
  if (requests_ == 0 || !quiet_waiters_.empty()) check_drained();
}

void Volume::keep_held(Request& request) {
  held_requests_.push(request);
  held_count_++;
}

void Volume::resume(Request& request) {
  const bool begun = request.cursor != request.offset || request.parts != 1 || request.state != nullptr;
  if (held() && !begun && !request.privileged) {
    keep_held(request);
    if (!quiet_waiters_.empty()) check_drained();
    return;
  }
  if (advance(request) == Walk::waiting) return;
  part_finished(request);
}

void Volume::resume_all(Request* list) {
  while (list) {
    Request* next = list->next;
    resume(*list);
    list = next;
  }
}

void Volume::release() {
  held_.store(false);
  held_count_ = 0;
  for (auto& waiter : std::exchange(quiet_waiters_, {})) waiter(ECANCELED);
  resume_all(held_requests_.take_all());
  home_.keeper->released(*this);
}

Volume::Span Volume::span_at(const Request& request, uint64_t end) const {
  const uint32_t offset = static_cast<uint32_t>(request.cursor & (window_bytes_ - 1));
  const uint64_t bytes = std::min<uint64_t>(window_bytes_ - offset, end - request.cursor);
  return {request.cursor >> window_shift_, offset, static_cast<uint32_t>(bytes)};
}

// ---- holds: who has blocks of a window to itself, or shares them ----

bool Volume::conflicts(uint64_t window, const Window& w, uint16_t start, uint16_t end, bool exclusive) const {
  if (!w.busy) return false;
  auto found = holds_.find(window);
  if (found == holds_.end()) return false;
  for (const Part* part = found->second.head; part; part = part->next_hold) {
    if (part->start < end && start < part->end && (exclusive || part->exclusive)) return true;
  }
  return false;
}

bool Volume::older_change_held(uint64_t window, const Window& w) const {
  if (!w.busy) return false;
  auto found = holds_.find(window);
  if (found == holds_.end()) return false;
  for (const Part* part = found->second.head; part; part = part->next_hold) {
    if (part->changes && part->layer != current_layer()) return true;
  }
  return false;
}

void Volume::add_hold(Part& part) {
  Holds& holds = holds_[part.window];
  part.next_hold = holds.head;
  holds.head = &part;
  part.holds = true;
  part.region->pins++;
  window_of(*part.region, part.window).busy = true;
}

void Volume::drop_hold(Part& part) {
  auto found = holds_.find(part.window);
  Part** at = &found->second.head;
  while (*at != &part) at = &(*at)->next_hold;
  *at = part.next_hold;
  part.holds = false;
  part.region->pins--;
  Request* waiters = found->second.waiters.take_all();
  if (!found->second.head) {
    window_of(*part.region, part.window).busy = false;
    holds_.erase(found);
  }
  // From the loop, never from inside somebody's submit.
  if (waiters) home_.poster->post([this, waiters] { resume_all(waiters); });
}

void Volume::wait_for_hold(Request& request, uint64_t window) { holds_[window].waiters.push(request); }

// True when `request` was put behind the turn of another.
bool Volume::behind_turn(Request& request, const Blocks& wanted) {
  if (!turn_.owner || turn_.owner == &request || !turn_.blocks.meets(wanted)) return false;
  turn_.behind.push(request);
  return true;
}

void Volume::take_turn(Request& request, const Blocks& wanted) {
  if (turn_.owner && turn_.owner != &request) return;
  turn_.owner = &request;
  turn_.blocks = wanted;
}

void Volume::end_turn() {
  turn_.owner = nullptr;
  if (Request* behind = turn_.behind.take_all()) home_.poster->post([this, behind] { resume_all(behind); });
}

// ---- parts ----

Part& Volume::new_part(Request* request) {
  Part* part = free_parts_;
  if (part) {
    free_parts_ = part->next_free;
  } else {
    all_parts_.push_back(std::make_unique<Part>());
    part = all_parts_.back().get();
  }
  auto punches = std::move(part->punches);
  punches.clear();
  *part = Part{};
  part->punches = std::move(punches);
  part->volume = this;
  part->request = request;
  part->layer = current_layer();
  part->epoch = epoch_;
  part->io.owner = part;
  parts_by_epoch_[epoch_ & 1]++;
  if (request) request->parts++;
  return *part;
}

void Volume::end_part(Part& part) {
  Request* request = part.request;
  const uint32_t layer = part.layer;
  const uint32_t epoch = part.epoch;
  const bool wrote = part.writes;
  std::free(part.bounce);
  part.bounce = nullptr;
  if (part.holds) drop_hold(part);
  part.next_free = free_parts_;
  free_parts_ = &part;
  if (request) part_finished(*request);
  if (wrote && --parts_by_layer_[layer & 1] == 0 && layer != current_layer() && raised_waiter_) {
    auto waiter = std::move(raised_waiter_);
    raised_waiter_ = nullptr;
    waiter();
  }
  if (--parts_by_epoch_[epoch & 1] == 0 && epoch != epoch_) {
    auto waiters = std::move(grace_waiters_);
    grace_waiters_.clear();
    grace_running_ = false;
    for (auto& waiter : waiters) waiter();
  }
  check_drained();
}

void Volume::submit_part(Part& part) { home_.engine->submit(part.io); }

io::File* Volume::file_of(store::Slot slot, int& error) {
  const uint64_t number = store::slot_file(slot);
  if (number == read_file_number_) return read_file_;
  io::File* file = home_.extents->open(number, false, error);
  if (!file) return nullptr;
  read_file_number_ = number;
  read_file_ = file;
  return file;
}

void Volume::check_drained() {
  if (parts_by_epoch_[0] || parts_by_epoch_[1] || flush_running_) return;
  for (auto& waiter : std::exchange(drain_waiters_, {})) waiter();
  if (quiet_waiters_.empty() || !quiet()) return;
  for (auto& waiter : std::exchange(quiet_waiters_, {})) waiter(0);
}

void Volume::quiesced(std::function<void(int)> done) {
  quiet_waiters_.push_back(std::move(done));
  check_drained();
}

void Volume::drained(std::function<void()> done) {
  drain_waiters_.push_back(std::move(done));
  check_drained();
}

}  // namespace cellblock::volume
