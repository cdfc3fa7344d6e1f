// See the header.
#include "io/simulated_core.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace cellblock::io {
namespace {

// A process killed inside a write leaves what was copied into whole pages of the file before.
uint64_t killed_part(Random& random, uint64_t offset, uint64_t length) {
  const uint64_t into = offset % kPageBytes;
  const uint64_t pages = (into + length + kPageBytes - 1) / kPageBytes;
  const uint64_t kept = random.below(pages + 1) * kPageBytes;
  return std::min(length, kept > into ? kept - into : 0);
}

bool is_change(Action action) {
  return action != Action::read && action != Action::open && action != Action::map;
}

}  // namespace

bool SimulatedCore::counts(const Call& call) { return is_change(call.action) || call.creates; }

uint64_t SimulatedCore::room() const {
  const uint64_t used = image.allocated();
  return used >= options.capacity_bytes ? 0 : (options.capacity_bytes - used) / kPageBytes;
}

Order SimulatedCore::ask(const Call& call) {
  Event event{0, call.action, call.path, call.offset, call.length, call.queued};
  std::function<Order(const Event&)> asked;
  {
    std::lock_guard hold(lock);
    if (dead) return Order::proceed;
    if (counts(call)) event.change = changes + 1;
    asked = hook;
  }
  return asked ? asked(event) : Order::proceed;
}

int64_t SimulatedCore::run(const Call& call) { return run_as(call, ask(call)); }

int64_t SimulatedCore::run_as(const Call& call, Order order) {
  std::lock_guard hold(lock);
  if (dead) return -EIO;
  if (counts(call)) changes++;
  if (order == Order::crash || (counts(call) && changes == crash_at)) {
    trip(&call);
    return -EIO;
  }
  const FaultPlan::Verdict verdict = faults.next(call.action, call.path, call.length);
  int64_t result;
  if (call.action == Action::write || call.action == Action::write_dsync) {
    result = apply_write(call, verdict.length, verdict.error);
  } else if (call.action == Action::sync || call.action == Action::journal_sync) {
    result = apply_sync(call, verdict.error);
  } else {
    result = verdict.error ? -verdict.error : apply(call, verdict.length);
  }
  if (counts(call) && call.file && random.chance(options.write_back_percent)) {
    call.file->image_->write_back_some(random);
  }
  return result;
}

int64_t SimulatedCore::apply_write(const Call& call, uint64_t length, int error) {
  // A stable write that fails has reached the page cache; a plain one has done nothing.
  if (error && call.action == Action::write) return -error;
  FileImage& file = *call.file->image_;
  const uint64_t written = file.write(call.data, call.offset, length, room());
  if (written == 0 && length > 0) return -ENOSPC;
  if (call.action == Action::write) return static_cast<int64_t>(written);
  if (error) {
    file.fail_writeback(random, error, call.offset, written);
  } else {
    file.sync(call.offset, written);
  }
  const int told = file.sync_error(call.file->heard_);
  return told ? -told : static_cast<int64_t>(written);
}

int64_t SimulatedCore::apply_sync(const Call& call, int error) {
  FileImage& file = *call.file->image_;
  if (error) {
    file.fail_writeback(random, error);
  } else {
    file.sync();
  }
  return -file.sync_error(call.file->heard_);
}

int64_t SimulatedCore::apply(const Call& call, uint64_t length) {
  switch (call.action) {
    case Action::read:
      return static_cast<int64_t>(call.file->image_->read(call.data, call.offset, length));
    case Action::write:
    case Action::write_dsync:
      return apply_write(call, length, 0);
    case Action::sync:
    case Action::journal_sync:
      return apply_sync(call, 0);
    case Action::punch:
      call.file->image_->punch(call.offset, call.length);
      return 0;
    case Action::zero_range:
      return call.file->image_->zero(call.offset, call.length, room()) ? 0 : -ENOSPC;
    case Action::open:
      if (call.creates) image.names[call.path] = std::make_shared<FileImage>();
      return 0;
    case Action::unlink:
      return image.names.erase(call.path) ? 0 : -ENOENT;
    case Action::map:
      return call.file->image_->size() < call.length ? -EINVAL : 0;
    case Action::sync_directory:
      image.sync_directory(call.path);
      return 0;
  }
  return -EINVAL;
}

// What the crash makes of a call that was under way.
void SimulatedCore::apply_killed(const Call& call) {
  if (!counts(call) || random.chance(50)) return;
  const bool writes = call.action == Action::write || call.action == Action::write_dsync;
  if (writes) {
    call.file->image_->write(call.data, call.offset, killed_part(random, call.offset, call.length), room());
  } else if (call.action == Action::sync || call.action == Action::journal_sync) {
    call.file->image_->write_back_some(random);
  } else {
    apply(call, call.length);
  }
}

void SimulatedCore::trip(const Call* current) {
  for (const auto& [name, file] : image.names) file->detach();
  for (const auto& [name, file] : image.durable_names) file->detach();
  if (current) apply_killed(*current);
  for (const Pending& one : pending) {
    if (!one.executed) apply_killed(call_of(*one.request));
  }
  pending.clear();
  dead = true;
}

SimulatedCore::Call SimulatedCore::call_of(const Request& r) const {
  auto* file = static_cast<SimulatedFile*>(r.file);
  return {action_of(r.operation), file, file->path_, r.offset, r.length, r.data, false, true};
}

std::vector<SimulatedCore::Pending>::iterator SimulatedCore::find(const Request& request) {
  return std::find_if(pending.begin(), pending.end(),
                      [&](const Pending& p) { return p.request == &request; });
}

void SimulatedCore::enqueue(SimulatedEngine& engine, IntrusiveList<Request>& batch) {
  while (Request* request = batch.pop()) {
    bool held;
    {
      std::lock_guard hold(lock);
      if (dead) continue;  // forgotten: it will never be completed
      pending.push_back({request, &engine});
      held = options.hold;
    }
    if (!held && execute(*request, Delivery::automatic)) deliver(*request);
  }
}

bool SimulatedCore::execute(Request& request, Delivery delivery) {
  Call call;
  bool asked;
  {
    std::lock_guard hold(lock);
    const auto found = find(request);
    if (found == pending.end()) return false;
    if (found->executed) return true;
    call = call_of(request);
    asked = std::exchange(found->asked, true);
  }
  const Order order = asked ? Order::proceed : ask(call);
  if (order == Order::hold && delivery == Delivery::automatic) return false;
  {
    std::lock_guard hold(lock);
    const auto found = find(request);
    if (found == pending.end()) return false;  // the hook delivered it, or crashed
    if (found->executed) return true;
    found->executed = true;  // by us: a crash on the way must not apply it once more
  }
  const bool refused =
      call.file->options_.read_only && call.action != Action::read && !(kAnySync & only(call.action));
  const int64_t result = refused ? -EBADF : run_as(call, order);
  std::lock_guard hold(lock);
  if (dead) return false;
  request.result = result;
  return true;
}

bool SimulatedCore::deliver(Request& request) {
  if (!execute(request, Delivery::demanded)) return false;
  std::lock_guard hold(lock);
  const auto found = find(request);
  if (found == pending.end()) return false;
  SimulatedEngine& engine = *found->engine;
  pending.erase(found);
  engine.finished_.push(request);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t put = write(engine.event_, &one, sizeof one);
  return true;
}

// An engine that ends waits for what it handed over, as the real ones do; nothing is completed.
void SimulatedCore::abandon(SimulatedEngine& engine) {
  std::vector<Request*> mine;
  {
    std::lock_guard hold(lock);
    for (const Pending& one : pending) {
      if (one.engine == &engine) mine.push_back(one.request);
    }
  }
  for (Request* request : mine) execute(*request, Delivery::demanded);
  std::lock_guard hold(lock);
  std::erase_if(pending, [&](const Pending& one) { return one.engine == &engine; });
}

SimulatedEngine::~SimulatedEngine() {
  core_->abandon(*this);
  close(event_);
}

void SimulatedEngine::flush() { core_->enqueue(*this, batch_); }

size_t SimulatedEngine::reap() {
  IntrusiveList<Request> finished;
  {
    std::lock_guard hold(core_->lock);
    uint64_t count;
    [[maybe_unused]] const ssize_t got = read(event_, &count, sizeof count);
    if (core_->dead) return 0;
    finished.append(finished_);
  }
  size_t reaped = 0;
  while (Request* request = finished.pop()) {
    in_flight_--;
    reaped++;
    request->done(*request);
  }
  return reaped;
}

ssize_t SimulatedFile::try_read(void* to, size_t bytes, uint64_t offset) {
  {
    std::lock_guard hold(core_->lock);
    if (options_.direct || !core_->random.chance(core_->options.cached_percent)) return -EAGAIN;
  }
  return core_->run({Action::read, this, path_, offset, bytes, to});
}

ssize_t SimulatedFile::try_write(const void* from, size_t bytes, uint64_t offset) {
  if (options_.direct) return -EAGAIN;
  if (options_.read_only) return -EBADF;
  return core_->run({Action::write, this, path_, offset, bytes, const_cast<void*>(from)});
}

int SimulatedFile::punch(uint64_t offset, uint64_t bytes) {
  if (options_.read_only) return -EBADF;
  return static_cast<int>(core_->run({Action::punch, this, path_, offset, bytes}));
}

int SimulatedDirectory::sync() {
  return static_cast<int>(core_->run({Action::sync_directory, nullptr, path_}));
}

int64_t SimulatedFile::size() const {
  std::lock_guard hold(core_->lock);
  return core_->dead ? -EIO : static_cast<int64_t>(image_->size());
}

}  // namespace cellblock::io
