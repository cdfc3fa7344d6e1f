// Life of the plane, devices and what the agent asks of them.
#include "plane/plane.h"

#include <sys/resource.h>
#include <time.h>

#include <bit>
#include <cerrno>

#include "base/units.h"

namespace cellblock::plane {
namespace {

constexpr uint64_t kTickMs = 250;
constexpr uint64_t kCrowdedTickMs = 10;  // while writes are let in a few at a time
constexpr uint64_t kMinJournalCells = 1024;

uint64_t monotonic_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// A host with many volumes needs a descriptor for each file and each connection.
void raise_descriptor_limit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

const char* level_name(LogLevel level) {
  switch (level) {
    case LogLevel::info:
      return "info";
    case LogLevel::warn:
      return "warn";
    case LogLevel::error:
      return "error";
  }
  return "error";
}

}  // namespace

Plane::Plane(PlaneOptions options, std::unique_ptr<io::Disk> disk, RecordSink& sink)
    : options_(std::move(options)),
      disk_(std::move(disk)),
      sink_(sink),
      extents_(*disk_, {options_.directory, options_.window_bytes, options_.reserve_bytes, options_.direct}) {
  budget_.limit_bytes = options_.cache_bytes;
}

Plane::~Plane() { close(false); }

int Plane::open(store::Scan& scan, std::string& what) {
  raise_descriptor_limit();
  store::Incarnation incarnation;
  incarnation.store_id = options_.store_id;
  incarnation.boot_id = options_.boot_id;
  const uint64_t cells =
      options_.journal_bytes == 0
          ? 0
          : std::bit_floor(std::max(options_.journal_bytes / store::kCellBytes, kMinJournalCells));
  what = "journal";
  const int result =
      store::Journal::open(*disk_, options_.directory + "/journal", cells, incarnation, journal_, scan);
  if (result < 0) return result;
  what = "reactors";
  wire_ = std::make_unique<Wire>(options_.wire, *this,
                                 [this](LogLevel level, const std::string& message, auto fields) {
                                   sink_.push(Logged{level_name(level), message, std::move(fields)});
                                 });
  for (unsigned i = 0; i < options_.reactors; i++) {
    Seat seat;
    auto engine = disk_->make_engine();
    if (!engine) return -ENOSYS;
    seat.reactor = std::make_unique<Reactor>(i, *wire_, std::move(engine));
    if (seat.reactor->loop().error()) return -seat.reactor->loop().error();
    if (seat.reactor->lobby().error()) return -seat.reactor->lobby().error();
    seat.poster = std::make_unique<Poster>(seat.reactor->loop());
    wire_->reactors.push_back(seat.reactor.get());
    seats_.push_back(std::move(seat));
  }
  for (Seat& seat : seats_) {
    seat.tick = std::make_unique<Timer>([this, &seat] { arm_tick(seat); });
    seat.reactor->loop().post([this, &seat] { arm_tick(seat); });
    seat.reactor->start();
  }
  what.clear();
  return 0;
}

void Plane::arm_tick(Seat& seat) {
  const uint64_t now = monotonic_ns();
  for (volume::Volume* volume : seat.volumes) {
    volume->tick(now);
    volume->journal_freed();
  }
  seat.tick->arm(seat.reactor->loop(), journal_->crowded() ? kCrowdedTickMs : kTickMs);
}

int Plane::start_journal(uint64_t position) { return journal_->start(position); }

int Plane::sync_files(const std::vector<FileName>& files) {
  for (const FileName& file : files) {
    extents_.know(file.number, file.path);
    const int result = extents_.sync(file.number);
    if (result < 0) return result;
  }
  return extents_.sync_created();
}

// ---- devices ----

volume::Volume* Plane::find(uint64_t handle) {
  std::lock_guard lock(volumes_mutex_);
  auto found = volumes_.find(handle);
  return found == volumes_.end() ? nullptr : found->second.get();
}

// A handle found when the command was given is still open when it runs: close_device deletes on the home
// thread, after everything posted before it.
bool Plane::at_home(uint64_t handle, std::function<void(volume::Volume&)> run) {
  volume::Volume* volume = find(handle);
  if (!volume) return false;
  seats_[volume->home()].reactor->loop().post([this, handle, run = std::move(run)] {
    if (volume::Volume* open = find(handle)) run(*open);
  });
  return true;
}

void Plane::open_device(volume::VolumeOptions options, const std::vector<FileName>& files) {
  for (const FileName& file : files) {
    extents_.know(file.number, file.path);
    options.files.push_back(file.number);
  }
  options.round_after_ns = options_.round_after_ms * 1'000'000;
  const uint64_t handle = options.handle;
  Seat& seat = seats_[next_seat_++ % seats_.size()];
  volume::Home home;
  home.index = seat.reactor->index();
  home.engine = seat.reactor->engine();
  home.poster = seat.poster.get();
  home.journal = journal_.get();
  home.extents = &extents_;
  home.budget = &budget_;
  home.keeper = this;
  home.now_ns = monotonic_ns;
  auto made = std::make_unique<volume::Volume>(std::move(options), home);
  volume::Volume* volume = made.get();
  {
    std::lock_guard lock(volumes_mutex_);
    volumes_[handle] = std::move(made);
  }
  seat.reactor->loop().post([&seat, volume] { seat.volumes.push_back(volume); });
}

void Plane::close_device(uint64_t ticket, uint64_t handle) {
  const bool open = at_home(handle, [this, ticket, handle](volume::Volume& volume) {
    // What LevelDB lacks may not be forgotten.
    if (volume.oldest_unapplied() != UINT64_MAX || volume.dirty_windows() > 0) {
      answer(ticket, EBUSY);
      return;
    }
    volume.drained([this, ticket, handle, home = volume.home(), device = &volume] {
      const auto closed = [this, ticket, handle, home] {
        std::unique_ptr<volume::Volume> closing;
        {
          std::lock_guard lock(volumes_mutex_);
          auto found = volumes_.find(handle);
          if (found != volumes_.end()) {
            closing = std::move(found->second);
            volumes_.erase(found);
          }
        }
        if (closing) {
          std::erase(seats_[home].volumes, closing.get());
          seats_[home].reactor->forget(closing.get());
        }
        answer(ticket, 0);
      };
      Reactor& reactor = *seats_[home].reactor;
      reactor.loop().post([&reactor, device, closed] {
        reactor.end_log(device, [&reactor, closed] { reactor.loop().post(closed); });
      });
    });
  });
  if (!open) answer(ticket, ENOENT);
}

void Plane::add_file(uint64_t handle, const FileName& file) {
  extents_.know(file.number, file.path);
  at_home(handle, [number = file.number](volume::Volume& volume) { volume.add_file(number); });
}

void Plane::drop_file(uint64_t ticket, uint64_t number) {
  housekeeper_.post([this, ticket, number] { answer(ticket, -extents_.drop(number)); });
}

void Plane::punch(uint64_t ticket, std::vector<PunchRange> ranges) {
  housekeeper_.post([this, ticket, ranges = std::move(ranges)] {
    int first_error = 0;
    for (const PunchRange& range : ranges) {
      int error = 0;
      io::File* file = extents_.open(range.file, false, error);
      // A file that is gone holds nothing.
      if (!file) {
        if (error != ENOENT && !first_error) first_error = error;
        continue;
      }
      const int result = file->punch(range.offset, range.bytes);
      if (result < 0 && !first_error) first_error = -result;
      punch_count_.fetch_add(1, std::memory_order_relaxed);
    }
    answer(ticket, first_error);
  });
}

void Plane::fault(volume::Volume& volume, uint64_t first, uint32_t count) {
  const uint64_t ticket = next_ticket_.fetch_add(1);
  {
    std::lock_guard lock(asked_mutex_);
    faults_[ticket] = {volume.handle(), first};
  }
  fault_count_.fetch_add(1, std::memory_order_relaxed);
  faulted_windows_.fetch_add(count, std::memory_order_relaxed);
  sink_.push(FaultAsked{ticket, volume.handle(), first, count});
}

void Plane::fault_reply(uint64_t ticket, FaultAnswer answer, int error) {
  std::pair<uint64_t, uint64_t> asked;
  {
    std::lock_guard lock(asked_mutex_);
    auto found = faults_.find(ticket);
    if (found == faults_.end()) return;
    asked = found->second;
    faults_.erase(found);
  }
  at_home(asked.first, [first = asked.second, answer = std::move(answer), error](volume::Volume& volume) {
    std::vector<volume::FaultRecord> records;
    records.reserve(answer.items.size());
    for (const FaultAnswer::Item& item : answer.items) {
      records.push_back(
          {item.window, item.layer, item.cut_off, std::span(answer.bytes).subspan(item.offset, item.length)});
    }
    volume.fault_reply(first, records, error);
  });
}

void Plane::round_wanted(volume::Volume& volume, bool urgent) {
  sink_.push(RoundWanted{volume.handle(), urgent});
}

void Plane::file_wanted(volume::Volume& volume) { sink_.push(FileWanted{volume.handle()}); }

void Plane::released(volume::Volume& volume) { seats_[volume.home()].reactor->device_released(&volume); }

void Plane::failed(volume::Volume& volume, int error, uint64_t after, std::vector<store::Entry> entries) {
  sink_.push(DeviceFailed{volume.handle(), error, after, volume.last_position(), std::move(entries)});
}

void Plane::take_round(uint64_t ticket, uint64_t handle) {
  const bool open = at_home(handle, [this, ticket](volume::Volume& volume) {
    volume.take_round([this, ticket](volume::Round round) {
      if (journal_->broken()) sink_.push(StoreFailed{EIO});
      sink_.push(RoundTaken{ticket, std::move(round)});
    });
  });
  if (!open) {
    volume::Round none;
    none.error = ENOENT;
    sink_.push(RoundTaken{ticket, std::move(none)});
  }
}

void Plane::round_done(uint64_t handle, uint64_t position) {
  at_home(handle, [this, position](volume::Volume& volume) {
    volume.round_done(position);
    trim_journal();
  });
}

void Plane::round_failed(uint64_t handle) {
  at_home(handle, [](volume::Volume& volume) {
    volume.round_failed();
    volume.set_rounds_failing(true);
  });
}

void Plane::reopen(uint64_t handle, uint64_t position) {
  at_home(handle, [this, position](volume::Volume& volume) {
    volume.reopen(position);
    trim_journal();
  });
}

void Plane::refuse_reads(uint64_t handle) {
  at_home(handle, [](volume::Volume& volume) { volume.refuse_reads(); });
}

// The tail is the oldest entry any volume still needs. `next` is read first: an entry appended since has a
// higher position, and whoever appends says so before it takes the position.
void Plane::trim_journal() {
  uint64_t tail = journal_->next();
  const bool tight = journal_->used() > journal_->cells() / 2;
  {
    std::lock_guard lock(volumes_mutex_);
    for (auto& [handle, volume] : volumes_) tail = std::min(tail, volume->oldest_unapplied());
  }
  journal_->set_tail(tail);
  if (!tight) return;
  for (Seat& seat : seats_) {
    seat.reactor->loop().post([&seat] {
      const std::vector<volume::Volume*> volumes = seat.volumes;
      for (volume::Volume* volume : volumes) volume->journal_freed();
    });
  }
}

void Plane::adopt(uint64_t ticket, uint64_t handle, bool below, std::vector<volume::AdoptedRecord> records) {
  const bool open =
      at_home(handle, [this, ticket, below, records = std::move(records)](volume::Volume& volume) {
        volume.adopt(below, records, [this, ticket](int error) { sink_.push(Adopted{ticket, error}); });
      });
  if (!open) sink_.push(Adopted{ticket, ENOENT});
}

void Plane::remove_layer(uint64_t handle, uint32_t layer) {
  at_home(handle, [layer](volume::Volume& volume) { volume.remove_layer(layer); });
}

void Plane::resize(uint64_t ticket, uint64_t handle, uint64_t size_bytes) {
  const bool open = at_home(handle, [this, ticket, size_bytes](volume::Volume& volume) {
    volume.resize(size_bytes, [this, ticket](int error) { answer(ticket, error); });
  });
  if (!open) answer(ticket, ENOENT);
}

void Plane::set_read_only(uint64_t handle, bool read_only) {
  if (volume::Volume* volume = find(handle)) volume->set_read_only(read_only);
}

void Plane::hold(uint64_t ticket, uint64_t handle) {
  const bool open = at_home(handle, [this, ticket](volume::Volume& volume) {
    volume.hold();
    volume.quiesced([this, ticket](int error) { answer(ticket, error); });
  });
  if (!open) answer(ticket, ENOENT);
}

void Plane::release(uint64_t handle) {
  at_home(handle, [](volume::Volume& volume) { volume.release(); });
}

void Plane::flush(uint64_t ticket, uint64_t handle) {
  const bool open = at_home(handle, [this, ticket](volume::Volume& volume) {
    volume.flush([this, ticket](int error) { answer(ticket, error); });
  });
  if (!open) answer(ticket, ENOENT);
}

void Plane::rebase(uint64_t ticket, uint64_t handle, volume::Rebase to) {
  const bool open = at_home(handle, [this, ticket, to = std::move(to)](volume::Volume& volume) {
    answer(ticket, volume.rebase(to));
  });
  if (!open) answer(ticket, ENOENT);
}

namespace {

// A request of the agent: lives until it is answered.
struct OwnRequest {
  volume::Request request;
  std::vector<std::byte> data;
  std::function<void(volume::Request&)> done;
};

void own_request_done(volume::Request& request) {
  std::unique_ptr<OwnRequest> own(static_cast<OwnRequest*>(request.owner));
  own->done(request);
}

int refusal(const volume::Volume& volume, const volume::Request& request) {
  if (request.length > kMaxRequestBytes && request.data) return EINVAL;
  if (request.length > volume.size() || request.offset > volume.size() - request.length) return EINVAL;
  return request.command != volume::Command::read && volume.read_only() ? EPERM : 0;
}

}  // namespace

void Plane::own_request(uint64_t handle, volume::Command command, uint64_t offset, uint64_t length,
                        std::vector<std::byte> data, OwnDone done) {
  auto own = std::make_shared<std::unique_ptr<OwnRequest>>(std::make_unique<OwnRequest>());
  OwnRequest& made = **own;
  made.data = std::move(data);
  made.done = std::move(done);
  made.request.command = command;
  made.request.offset = offset;
  made.request.length = length;
  made.request.data = made.data.empty() ? nullptr : made.data.data();
  made.request.fill_holes = made.request.privileged = true;
  made.request.owner = &made;
  made.request.done = own_request_done;
  const bool open = at_home(handle, [own](volume::Volume& volume) {
    OwnRequest& taken = *own->release();
    taken.request.error = refusal(volume, taken.request);
    if (taken.request.error || volume.submit(taken.request) == volume::Submitted::done)
      own_request_done(taken.request);
  });
  if (open) return;
  made.request.error = ENOENT;
  own_request_done(own->release()->request);
}

void Plane::read(uint64_t ticket, uint64_t handle, uint64_t offset, uint64_t bytes) {
  std::vector<std::byte> room(std::min<uint64_t>(bytes, kMaxRequestBytes));
  own_request(handle, volume::Command::read, offset, bytes, std::move(room),
              [this, ticket](volume::Request& request) {
                auto& own = *static_cast<OwnRequest*>(request.owner);
                if (request.error) own.data.clear();
                sink_.push(BytesRead{ticket, request.error, std::move(own.data)});
              });
}

void Plane::write(uint64_t ticket, uint64_t handle, uint64_t offset, std::vector<std::byte> data) {
  const uint64_t length = data.size();
  own_request(handle, volume::Command::write, offset, length, std::move(data),
              [this, ticket](volume::Request& request) { answer(ticket, request.error); });
}

void Plane::zero(uint64_t ticket, uint64_t handle, uint64_t offset, uint64_t bytes) {
  own_request(handle, volume::Command::write_zeroes, offset, bytes, {},
              [this, ticket](volume::Request& request) { answer(ticket, request.error); });
}

void Plane::evict(uint64_t handle) {
  at_home(handle, [](volume::Volume& volume) { volume.evict_clean(); });
}

void Plane::disconnect(uint64_t ticket, uint64_t handle) {
  const bool open = at_home(handle, [this, ticket](volume::Volume& volume) {
    seats_[volume.home()].reactor->disconnect(&volume, [this, ticket] { answer(ticket, 0); });
  });
  if (!open) answer(ticket, ENOENT);
}

void Plane::limit(uint64_t handle, const Limits& limits) {
  at_home(handle,
          [this, limits](volume::Volume& volume) { seats_[volume.home()].reactor->limit(volume, limits); });
}

void Plane::set_transaction_log(uint64_t ticket, uint64_t handle, const std::string& path, bool with_data) {
  if (path.empty()) {
    const bool open = at_home(handle, [this, ticket](volume::Volume& volume) {
      seats_[volume.home()].reactor->end_log(&volume, [this, ticket] { answer(ticket, 0); });
    });
    if (!open) answer(ticket, ENOENT);
    return;
  }
  // Opening may wait for a disk.
  housekeeper_.post([this, ticket, handle, path, with_data] {
    // A closure has to be copyable.
    auto file = std::make_shared<std::unique_ptr<io::File>>();
    const int result = disk_->open(path, {.create = true}, *file);
    const int64_t position = result < 0 ? result : (*file)->size();
    if (position < 0) return answer(ticket, static_cast<int>(-position));
    const bool open =
        at_home(handle, [this, ticket, handle, file, position, with_data](volume::Volume& volume) {
          seats_[volume.home()].reactor->start_log(volume, std::move(*file), static_cast<uint64_t>(position),
                                                   with_data, [this, handle](int error) {
                                                     sink_.push(TransactionLogLost{handle, error});
                                                   });
          answer(ticket, 0);
        });
    if (!open) answer(ticket, ENOENT);
  });
}

void Plane::grace(uint64_t ticket) {
  auto remaining = std::make_shared<std::atomic<size_t>>(seats_.size());
  const auto one_less = [this, ticket, remaining] {
    if (remaining->fetch_sub(1) == 1) answer(ticket, 0);
  };
  for (Seat& seat : seats_) {
    seat.reactor->loop().post([&seat, remaining, one_less] {
      const std::vector<volume::Volume*> volumes = seat.volumes;
      remaining->fetch_add(volumes.size());
      for (volume::Volume* volume : volumes) volume->grace(one_less);
      one_less();
    });
  }
}

// ---- numbers and the end ----

PlaneCounters Plane::counters() {
  PlaneCounters counters;
  if (seats_.empty()) return counters;
  counters.engine = seats_[0].reactor->engine()->name();
  counters.connections = wire_->connections.load();
  counters.refused = wire_->refused.load();
  counters.tls_begun = wire_->tls_begun.load();
  counters.tls_failed = wire_->tls_failed.load();
  counters.refused_per_client = wire_->refused_per_client.load();
  counters.handshakes_timed_out = wire_->timed_out.load();
  counters.journal_cells = journal_->cells();
  counters.journal_used = journal_->used();
  counters.journal_syncs = journal_->syncs();
  counters.resident_bytes = budget_.used_bytes.load();
  counters.in_flight_bytes = wire_->budget.used();
  counters.faults = fault_count_.load();
  counters.faulted_windows = faulted_windows_.load();
  counters.evicted_windows = budget_.evicted_windows.load();
  counters.punches = punch_count_.load();
  std::unordered_map<volume::Device*, DeviceSnapshot> snapshots;
  for (Seat& seat : seats_) {
    for (DeviceSnapshot& snapshot : seat.reactor->counters()) snapshots[snapshot.device] = snapshot;
  }
  std::lock_guard lock(volumes_mutex_);
  for (auto& [handle, volume] : volumes_) {
    counters.volumes.push_back(
        {handle, volume->resident_bytes(), volume->dirty_windows(), snapshots[volume.get()]});
  }
  return counters;
}

void Plane::pulse(uint64_t ticket) {
  auto remaining = std::make_shared<std::atomic<size_t>>(seats_.size());
  for (Seat& seat : seats_) {
    seat.reactor->loop().post([this, remaining, ticket] {
      if (remaining->fetch_sub(1) == 1) answer(ticket, 0);
    });
  }
}

void Plane::close(bool clean) {
  if (closed_) return;
  closed_ = true;
  housekeeper_.stop();
  for (Seat& seat : seats_) seat.reactor->join();
  if (clean && journal_) journal_->finish();
  for (Seat& seat : seats_) {
    seat.tick.reset();
    seat.listeners.clear();
  }
  seats_.clear();
  volumes_.clear();
}

}  // namespace cellblock::plane
