// See the header: life of the world, its steps, its clients and what the volumes ask of their keeper.
#include "test/core_world.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace cellblock::test {
namespace {

uint64_t clock_ns = 1'000'000'000;  // of every world: it only ever goes on

uint64_t now_ns() { return clock_ns += 1000; }

}  // namespace

World::World(const WorldOptions& options)
    : level(options.window_bytes / 4096), options_(options), random_(options.seed) {
  disk_ = std::make_unique<io::SimulatedDisk>(
      io::SimulatedOptions{.seed = options.seed,
                           .cached_percent = options.cached_percent,
                           .write_back_percent = options.write_back_percent,
                           .hold = options.held});
}

World::~World() { forget(); }

// ---- life ----

int World::start() {
  starts++;
  budget_.limit_bytes = options_.cache_bytes;
  engine_ = disk_->make_engine();
  if (disk_->open("/store/level", {.create = true}, level_file_) < 0) return crashed() ? kCrashed : EIO;
  extents_ = std::make_unique<store::ExtentsTable>(
      *disk_,
      store::ExtentsTable::Options{"/store", options_.window_bytes, options_.reserve_bytes, options_.direct});
  for (const auto& [id, container] : level.containers) {
    for (uint64_t file : container.files) extents_->know(file, "extents/" + std::to_string(file));
  }
  store::Incarnation incarnation;
  incarnation.store_id.fill(7);
  incarnation.boot_id = "boot " + std::to_string(boot_);
  store::Scan scan;
  const int opened =
      store::Journal::open(*disk_, "/store/journal", options_.journal_cells, incarnation, journal_, scan);
  if (opened < 0) return crashed() ? kCrashed : -opened;
  if (const int error = recover(scan)) return error;
  for (const auto& [id, container] : level.containers) {
    if (container.deleted) continue;
    const uint32_t version = level.lines.at(container.line).current();
    open_[id] = open({container.line, version}, id, container.failed, !scan.clean);
  }
  for (const auto& [id, container] : std::map(level.containers)) {
    if (!container.shrinking_to || container.failed || container.deleted) continue;
    if (const int error = resize(id, *container.shrinking_to)) return error;
  }
  return 0;
}

int World::recover(const store::Scan& scan) {
  for (uint64_t file : level.files_named(scan.entries)) {
    if (extents_->sync(file) < 0) return crashed() ? kCrashed : EIO;
  }
  if (extents_->sync_created() < 0) return crashed() ? kCrashed : EIO;
  const int error = commit([&](Level& now) {
    now.replay(scan.entries, !scan.same_incarnation);
    for (auto& [id, line] : now.lines) line.applied = std::max(line.applied, scan.next_position - 1);
  });
  if (error) return error;
  uint64_t next = scan.next_position;
  for (const auto& [id, line] : level.lines) next = std::max(next, line.applied + 1);
  return journal_->start(next) == 0 ? 0 : crashed() ? kCrashed : EIO;
}

int World::stop() {
  for (const auto& [id, one] : open_) {
    if (level.containers.at(id).failed) continue;
    if (const int error = round(id)) return error;
  }
  if (journal_->finish() < 0) return crashed() ? kCrashed : EIO;
  forget();
  // Whatever was never flushed is in the page cache, as after the orderly end of a process.
  disk_ = std::make_unique<io::SimulatedDisk>(
      disk_->crash(io::CrashKind::process_death, ++crashes_),
      io::SimulatedOptions{.seed = options_.seed + crashes_,
                           .cached_percent = options_.cached_percent,
                           .write_back_percent = options_.write_back_percent,
                           .hold = options_.held});
  return 0;
}

void World::crash(io::CrashKind kind, uint64_t seed) {
  const io::DiskImage left = disk_->crash(kind, seed);
  forget();
  if (kind == io::CrashKind::power_loss) boot_++;
  disk_ = std::make_unique<io::SimulatedDisk>(
      left, io::SimulatedOptions{.seed = seed + ++crashes_,
                                 .cached_percent = options_.cached_percent,
                                 .write_back_percent = options_.write_back_percent,
                                 .hold = options_.held});
}

void World::forget() {
  engine_.reset();  // first: it completes nothing any more
  queue_.waiting.clear();
  questions_.clear();
  chores_.clear();
  owed_.clear();
  rounds_wanted_.clear();
  busy_.clear();
  open_.clear();
  views_.clear();
  journal_.reset();
  extents_.reset();
  level_file_.reset();
  asked_.clear();
}

World::Open World::open(VersionId at, uint64_t handle, bool read_only, bool unclean) {
  const uint64_t container = level.lines.at(at.line).container;
  Open made;
  made.at = at;
  made.layers = level.layers(at);
  volume::VolumeOptions options;
  options.handle = handle;
  options.container = container;
  options.line = at.line;
  options.version = at.version;
  options.size_bytes = level.containers.at(container).size;
  options.read_only = read_only;
  options.empty = level.empty(at);
  options.unclean = unclean;
  for (uint32_t layer = 1; layer <= made.layers.size(); layer++) options.layers.push_back(layer);
  if (unclean || !read_only) options.files = level.containers.at(container).files;
  for (uint64_t file : options.files) extents_->know(file, "extents/" + std::to_string(file));
  volume::Home home;
  home.engine = engine_.get();
  home.poster = &queue_;
  home.journal = journal_.get();
  home.extents = extents_.get();
  home.budget = &budget_;
  home.keeper = this;
  home.now_ns = now_ns;
  made.volume = std::make_unique<volume::Volume>(std::move(options), home);
  return made;
}

World::Open* World::opened(const volume::Volume& volume) {
  for (auto& [id, one] : open_) {
    if (one.volume.get() == &volume) return &one;
  }
  for (auto& [name, one] : views_) {
    if (one.volume.get() == &volume) return &one;
  }
  return nullptr;
}

volume::Volume& World::view(const std::string& name) {
  if (!views_.contains(name)) {
    const Level::Snapshot& snapshot = level.snapshots.at(name);
    round(snapshot.container);  // what the snapshot says is in LevelDB before anybody opens it
    views_[name] = open(snapshot.at, 1'000'000 + views_.size(), true, false);
  }
  return *views_.at(name).volume;
}

// ---- steps ----

bool World::step_of(unsigned kind) {
  switch (kind) {
    case 0:
      return engine_->reap() > 0;
    case 1: {
      if (queue_.waiting.empty()) return false;
      const auto run = std::move(queue_.waiting.front());
      queue_.waiting.pop_front();
      run();
      return true;
    }
    case 2:
      return deliver && disk_->step();
    case 3:
      for (Question& question : questions_) {
        if (!read_faults || question.read) continue;
        const Open& of = *opened(*question.volume);
        // The version is the one of now: a cut may have come since the volume was opened.
        question.answer = answer_fault(level, of.at, of.layers, question.first, question.count);
        question.read = true;
        return true;
      }
      return false;
    case 4: {
      if (!answer_faults || questions_.empty() || !questions_.front().read) return false;
      Question question = std::move(questions_.front());
      questions_.pop_front();
      question.volume->fault_reply(question.first, question.answer.records, 0);
      return true;
    }
  }
  return false;
}

bool World::step() {
  constexpr unsigned kKinds = 5;
  if (crashed())
    return false;  // the dead take no steps; what they had begun may refer to calls that have ended
  engine_->flush();
  const unsigned first = options_.shuffled ? static_cast<unsigned>(random_.below(kKinds)) : 0;
  for (unsigned i = 0; i < kKinds; i++) {
    if (step_of((first + i) % kKinds)) return true;
  }
  return false;
}

void World::pass(uint64_t milliseconds) { clock_ns += milliseconds * 1'000'000; }

int World::run_until(const std::function<bool()>& done) {
  constexpr unsigned kMostSteps = 2'000'000;
  for (unsigned steps = 0; steps < kMostSteps; steps++) {
    if (crashed()) return kCrashed;
    if (done()) return 0;
    if (between && !in_background_) between();
    if (step() || background() || step() || (idle && idle())) continue;
    if (crashed()) return kCrashed;
    if (done()) return 0;
    return kStuck;
  }
  return kStuck;
}

// Nothing moves: what the agent does when it is idle.
bool World::background() {
  if (in_background_) return false;
  in_background_ = true;
  bool any = false;
  if (!chores_.empty()) {
    const auto chore = std::move(chores_.front());
    chores_.pop_front();
    chore();
    any = true;
  }
  for (uint64_t container : std::set(rounds_wanted_)) {
    if (busy_.contains(container) || crashed()) continue;
    rounds_wanted_.erase(container);
    any |= round(container) == 0;
  }
  // A second passes: whoever has waited long enough asks for a round.
  for (auto& [id, one] : open_) {
    if (busy_.contains(id)) continue;
    one.volume->tick(clock_ns += 1'000'000'000);
    one.volume->journal_freed();
  }
  any |= !chores_.empty();
  any |= !crashed() && std::any_of(rounds_wanted_.begin(), rounds_wanted_.end(),
                                   [&](uint64_t id) { return !busy_.contains(id); });
  in_background_ = false;
  return any;
}

// ---- clients ----

std::shared_ptr<Io> World::submit(volume::Volume& volume, volume::Command command, uint64_t offset,
                                  uint64_t length, uint16_t flags, const Bytes* payload) {
  auto io = std::make_shared<Io>();
  asked_.push_back(io);
  std::erase_if(asked_, [](const auto& one) { return one->answered; });
  io->command = command;
  io->offset = offset;
  io->length = length;
  io->flags = flags;
  io->fill_holes = true;
  if (payload)
    io->bytes = *payload;
  else if (command == volume::Command::read)
    io->bytes.assign(length, std::byte{0xee});
  if (command == volume::Command::block_status && io->asked.empty()) io->asked.push_back({});
  io->data = io->bytes.data();
  io->contexts = &io->asked;
  submit(volume, *io);
  return io;
}

void World::submit(volume::Volume& volume, Io& io) {
  io.disk = disk_.get();
  io.done = [](volume::Request& request) {
    Io& io = static_cast<Io&>(request);
    io.answered = !io.disk->crashed();
  };
  if (volume.submit(io) == volume::Submitted::done) io.done(io);
}

std::shared_ptr<Io> World::write(uint64_t container, uint64_t offset, const Bytes& payload, uint16_t flags) {
  return submit(volume(container), volume::Command::write, offset, payload.size(), flags, &payload);
}

std::shared_ptr<Io> World::fill(uint64_t container, uint64_t offset, uint64_t bytes, int value,
                                uint16_t flags) {
  return write(container, offset, Bytes(bytes, static_cast<std::byte>(value)), flags);
}

std::shared_ptr<Io> World::ask(uint64_t container, volume::Command command, uint64_t offset, uint64_t length,
                               uint16_t flags) {
  return submit(volume(container), command, offset, length, flags);
}

int World::wait(const std::shared_ptr<Io>& io) {
  const int error = run_until([&] { return io->answered; });
  return error ? error : io->error;
}

Bytes World::read(volume::Volume& volume, uint64_t offset, uint64_t length) {
  const auto io = submit(volume, volume::Command::read, offset, length);
  last_error = wait(io);
  return last_error ? Bytes{} : std::move(io->bytes);
}

Bytes World::read_snapshot(const std::string& name, uint64_t offset, uint64_t length) {
  commit([](Level&) {});  // its cut's batch first
  return level.snapshots.contains(name) ? read(view(name), offset, length) : Bytes{};
}

// ---- what volumes ask of their keeper ----

void World::fault(volume::Volume& volume, uint64_t first, uint32_t count) {
  faults++;
  questions_.push_back({&volume, first, count, false, {}});
}

void World::round_wanted(volume::Volume& volume, bool) { rounds_wanted_.insert(volume.handle()); }

void World::file_wanted(volume::Volume& volume) {
  chores_.push_back([this, &volume] {
    const uint64_t id = volume.handle();
    const int error = commit([&](Level& now) { now.add_file(id); });
    const uint64_t file = level.containers.at(id).files.back();
    extents_->know(file, "extents/" + std::to_string(file));
    if (!error) volume.add_file(file);
    return error;
  });
}

// D8: what counts goes into LevelDB, then reads go on. Where it cannot, nobody waits.
void World::failed(volume::Volume& volume, int, uint64_t after, std::vector<store::Entry> entries) {
  chores_.push_back([this, &volume, after, entries = std::move(entries)] {
    std::vector<store::Entry> counting;
    for (const store::Entry& entry : entries) {
      if (entry.position <= after) counting.push_back(entry);
    }
    const int error = commit([&](Level& now) {
      now.containers.at(volume.handle()).failed = true;
      now.replay(counting, false);
      Level::Line& line = now.lines.at(volume.line());
      line.applied = std::max(line.applied, volume.last_position());
    });
    if (!error)
      volume.reopen(volume.last_position());
    else
      volume.refuse_reads();
    return error;
  });
}

}  // namespace cellblock::test
