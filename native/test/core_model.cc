// See the header.
#include "test/core_model.h"

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstring>

namespace cellblock::test {

using volume::Command;

// ---- content ----

void Content::resize(uint64_t size) {
  blocks_.resize((size + 4095) / 4096);
  if (size < size_ && size % 4096 && blocks_.back()) {
    auto block = std::make_shared<Block>(*blocks_.back());
    std::fill(block->begin() + static_cast<long>(size % 4096), block->end(), std::byte{0});
    blocks_.back() = block;
  }
  size_ = size;
}

void Content::write(uint64_t offset, const std::byte* from, uint64_t bytes) {
  while (bytes > 0) {
    const uint64_t in = offset % 4096, part = std::min(bytes, 4096 - in);
    auto& block = blocks_[offset / 4096];
    auto made = block ? std::make_shared<Block>(*block) : std::make_shared<Block>();
    if (from)
      std::memcpy(made->data() + in, from, part);
    else
      std::memset(static_cast<void*>(made->data() + in), 0, part);
    block = made;
    offset += part;
    bytes -= part;
    if (from) from += part;
  }
}

void Content::read(uint64_t offset, std::byte* to, uint64_t bytes) const {
  while (bytes > 0) {
    const uint64_t in = offset % 4096, part = std::min(bytes, 4096 - in);
    const auto& block = blocks_[offset / 4096];
    if (block)
      std::memcpy(to, block->data() + in, part);
    else
      std::memset(static_cast<void*>(to), 0, part);
    offset += part;
    bytes -= part;
    to += part;
  }
}

bool Content::is(uint64_t offset, const std::byte* wanted, uint64_t bytes) const {
  static const Block zeros{};
  while (bytes > 0) {
    const uint64_t in = offset % 4096, part = std::min(bytes, 4096 - in);
    const Block& block = blocks_[offset / 4096] ? *blocks_[offset / 4096] : zeros;
    if (std::memcmp(block.data() + in, wanted, part) != 0) return false;
    offset += part;
    bytes -= part;
    wanted += part;
  }
  return true;
}

namespace {

// The last sector of a volume may be short: zeros behind it.
Sector sector_at(const Content& content, uint64_t sector) {
  Sector bytes{};
  const uint64_t offset = sector * kSector;
  if (offset < content.size()) content.read(offset, bytes.data(), std::min(kSector, content.size() - offset));
  return bytes;
}

void put_sector(Content& content, uint64_t sector, const Sector& bytes) {
  const uint64_t offset = sector * kSector;
  if (offset < content.size())
    content.write(offset, bytes.data(), std::min(kSector, content.size() - offset));
}

uint64_t sectors_of(uint64_t bytes) { return (bytes + kSector - 1) / kSector; }
uint64_t first_sector(const Change& change) { return change.offset / kSector; }
uint64_t end_sector(const Change& change) { return sectors_of(change.offset + change.length); }

// What the change makes of a volume.
void apply(const Change& change, Content& content) {
  const uint64_t end = std::min(change.offset + change.length, content.size());
  if (change.write) {
    content.write(change.offset, change.io->bytes.data(), change.length);
    return;
  }
  const bool trim = change.io->command == Command::trim;
  for (uint64_t at = change.offset; at < end;) {
    const uint64_t block = at / 4096, block_end = std::min((block + 1) * 4096, content.size());
    const uint64_t stop = std::min(end, block_end);
    if (at % 4096 == 0 && stop == block_end && change.hole)
      content.set_hole(block);
    else if (!trim)
      content.write(at, nullptr, stop - at);
    at = stop;
  }
}

class History {
 public:
  explicit History(const HistoryOptions& options)
      : options_(options), random_(options.seed), world_(options.world) {
    world_.between = [this] { between(); };
    world_.raised = [this](uint64_t container) { raised(container); };
  }

  bool run() {
    if (!up(world_.start())) return false;
    for (unsigned crash = 0; crash <= options_.crashes && good(); crash++) {
      if (random_.chance(60))
        world_.disk().crash_at(world_.disk().changes() + 1 + random_.below(options_.operations * 4));
      for (unsigned i = 0; i < options_.operations && good() && !world_.crashed(); i++) operate();
      if (good()) end_of_life();
    }
    if (good()) compare_all();
    return good();
  }

 private:
  bool good() const { return state().failures == 0; }
  void say(const char* what, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0) {
    if (options_.verbose) std::printf("# %s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", what, a, b, c);
  }
  std::string where() const { return " (history seed " + std::to_string(options_.seed) + ")"; }

  // Answers of the agent that are not an error: 0, or the crash came.
  bool up(int result) {
    TAP_OK(result == 0 || result == kCrashed,
           "an agent's call ended with " + std::to_string(result) + where());
    return result == 0;
  }

  uint64_t any_volume() {
    auto at = volumes_.begin();
    std::advance(at, static_cast<long>(random_.below(volumes_.size())));
    return at->first;
  }
  template <typename Map>
  std::string any_name(const Map& map) {
    auto at = map.begin();
    std::advance(at, static_cast<long>(random_.below(map.size())));
    return at->first;
  }

  // ---- clients ----

  bool free_of_changes(uint64_t container, uint64_t offset, uint64_t length) const {
    const uint64_t first = offset / kSector, end = sectors_of(offset + length);
    for (const Change& one : under_way_) {
      if (one.container == container && first_sector(one) < end && first < end_sector(one)) return false;
    }
    return true;
  }
  bool free_of_reads(uint64_t container, uint64_t offset, uint64_t length) const {
    return reading_.container != container || offset / kSector >= sectors_of(reading_.end) ||
           reading_.offset / kSector >= sectors_of(offset + length);
  }

  std::pair<uint64_t, uint64_t> any_range(uint64_t size) {
    static constexpr uint64_t kLengths[] = {1, 511, 512, 4096, 5000, 8192, 65536, 100'000, 300'000};
    uint64_t length = 1 + random_.below(kLengths[random_.below(std::size(kLengths))]);
    uint64_t offset = random_.below(size);
    if (random_.chance(50)) offset = random_.below(std::min<uint64_t>(size, 40 * 4096));  // a busy place
    if (random_.chance(40)) offset = offset / 4096 * 4096;
    if (random_.chance(40)) length = (length + 4095) / 4096 * 4096;
    return {offset, std::min(length, size - offset)};
  }

  void change() {
    if (under_way_.size() >= options_.most_under_way || volumes_.empty()) return;
    Change change;
    change.container = any_volume();
    if (!world_.is_open(change.container) || change.container == quiet_) return;
    VolumeModel& model = volumes_.at(change.container);
    const uint64_t size = model.now.size();
    std::tie(change.offset, change.length) = any_range(size);
    const unsigned kind = static_cast<unsigned>(random_.below(100));
    change.write = kind < 60;
    Command command = change.write ? Command::write : kind < 80 ? Command::trim : Command::write_zeroes;
    if (!change.write && random_.chance(15)) {  // enough for a cut-off, sometimes
      change.offset = random_.chance(50) ? 0 : random_.below(size / 2);
      change.length = size - change.offset;
    }
    if (!free_of_changes(change.container, change.offset, change.length)) return;
    if (!free_of_reads(change.container, change.offset, change.length)) return;
    uint16_t flags = random_.chance(15) ? volume::kFua : 0;
    if (command == Command::write_zeroes && random_.chance(40)) flags |= volume::kNoHole;
    if (command == Command::write_zeroes && random_.chance(20)) flags |= volume::kFastZero;
    const uint64_t offset = change.offset, length = change.length;
    if (command ==
        Command::trim) {  // blocks covered only in part stay as they are, and FUA promises nothing about them
      const uint64_t end = offset + length == size ? size : (offset + length) / 4096 * 4096;
      change.offset = (offset + 4095) / 4096 * 4096;
      change.length = end > change.offset ? end - change.offset : 0;
    }
    change.hole = !(flags & volume::kNoHole);
    change.before = model.now;
    touch(model, change);
    say(change.write               ? "write"
        : command == Command::trim ? "trim"
                                   : "zero",
        change.container, offset, length);
    if (change.write) {
      Bytes payload(length);
      for (std::byte& byte : payload) byte = static_cast<std::byte>(random_.next());
      change.io = world_.write(change.container, offset, payload, flags);
    } else {
      change.io = world_.ask(change.container, command, offset, length, flags);
    }
    under_way_.push_back(std::move(change));
  }

  void touch(VolumeModel& model, const Change& change) {
    number_++;
    const uint64_t end =
        std::min<uint64_t>((change.offset + change.length + 4095) / 4096, model.touched.size());
    for (uint64_t block = change.offset / 4096; block < end; block++) model.touched[block] = number_;
  }

  // Answers that have come.
  void harvest() {
    for (size_t i = 0; i < under_way_.size();) {
      if (!under_way_[i].io->answered) {
        i++;
        continue;
      }
      const Change change = std::move(under_way_[i]);
      under_way_.erase(under_way_.begin() + static_cast<long>(i));
      TAP_EQ(change.io->error, 0, "the answer to a change" + where());
      VolumeModel& model = volumes_.at(change.container);
      apply(change, model.now);
      number_++;
      const bool stable = change.io->flags & volume::kFua;
      for (uint64_t sector = first_sector(change); sector < end_sector(change); sector++) {
        const Sector content = sector_at(model.now, sector);
        if (stable) {
          put_sector(model.flushed, sector, content);
          model.later.erase(sector);
        } else {
          model.later[sector].push_back({number_, content});
        }
      }
    }
    for (size_t i = 0; i < flushes_.size();) {
      const auto& [io, container, number] = flushes_[i];
      if (!io->answered) {
        i++;
        continue;
      }
      TAP_EQ(io->error, 0, "the answer to a flush" + where());
      flushed(volumes_.at(container), number);
      flushes_.erase(flushes_.begin() + static_cast<long>(i));
    }
  }

  // What was answered up to `number` survives a loss of power.
  void flushed(VolumeModel& model, uint64_t number) {
    for (auto at = model.later.begin(); at != model.later.end();) {
      auto& contents = at->second;
      size_t covered = 0;
      while (covered < contents.size() && contents[covered].first <= number) covered++;
      if (covered > 0) put_sector(model.flushed, at->first, contents[covered - 1].second);
      contents.erase(contents.begin(), contents.begin() + static_cast<long>(covered));
      at = contents.empty() ? model.later.erase(at) : std::next(at);
    }
  }

  void flush() {
    const uint64_t container = any_volume();
    harvest();
    say("flush", container);
    flushes_.push_back({world_.ask(container, Command::flush), container, number_});
  }

  void between() {
    harvest();
    if (random_.chance(4)) change();
    if (random_.chance(1)) flush();
  }

  void finish_changes() {
    const auto before = std::move(world_.between);
    world_.between = nullptr;
    up(world_.run_until([&] {
      harvest();
      return under_way_.empty() && flushes_.empty();
    }));
    world_.between = before;
  }

  // ---- operations ----

  void operate() {
    harvest();
    const unsigned kind = static_cast<unsigned>(random_.below(100));
    if (volumes_.empty() || (volumes_.size() < options_.most_volumes && kind < 4))
      create();
    else if (kind < 40)
      change();
    else if (kind < 50)
      flush();
    else if (kind < 62)
      read();
    else if (kind < 67)
      status();
    else if (kind < 72)
      round();
    else if (kind < 76)
      world_.evict(any_volume());
    else if (kind < 83)
      snapshot();
    else if (kind < 86)
      look_at_snapshot();
    else if (kind < 88)
      clone();
    else if (kind < 92)
      remove_snapshot();
    else if (kind < 95)
      reclaim();
    else if (kind < 97)
      up(world_.punch_pending());
    else
      resize();
    for (unsigned i = static_cast<unsigned>(random_.below(6)); i > 0; i--) world_.step();
  }

  void add_model(uint64_t container, const Content& content) {
    VolumeModel& model = volumes_[container];
    model.now = model.flushed = content;
    model.touched.assign((content.size() + 4095) / 4096, 0);
  }

  void create() {
    const uint64_t id = world_.create(options_.volume_bytes);
    say("create", id);
    if (id)
      add_model(id, Content(options_.volume_bytes));
    else
      up(world_.crashed() ? kCrashed : EIO);
  }

  void read() {
    const uint64_t container = any_volume();
    const auto [offset, length] = any_range(volumes_.at(container).now.size());
    if (!free_of_changes(container, offset, length)) return;
    reading_ = {container, offset, offset + length};
    const Bytes got = world_.read(container, offset, length);
    reading_ = {};
    if (got.empty()) {
      up(world_.crashed() ? kCrashed : EIO);
      return;
    }
    Bytes wanted(length);
    volumes_.at(container).now.read(offset, wanted.data(), length);
    const size_t differs =
        static_cast<size_t>(std::mismatch(got.begin(), got.end(), wanted.begin()).first - got.begin());
    TAP_OK(differs == length, "read of volume " + std::to_string(container) + " differs at " +
                                  std::to_string(offset + differs) + where());
  }

  void round() {
    const uint64_t container = any_volume();
    say("round", container);
    up(world_.round(container));
  }

  // A version ends now: what its snapshot may contain.
  void raised(uint64_t container) {
    harvest();
    SnapshotModel model;
    model.container = container;
    model.content = volumes_.at(container).now;
    model.number = number_;
    for (const Change& change : under_way_) {
      if (change.container != container) continue;
      touch(volumes_.at(container), change);
      Content after = change.before;
      apply(change, after);
      for (uint64_t sector = first_sector(change); sector < end_sector(change); sector++) {
        model.either[sector].push_back(sector_at(after, sector));
      }
    }
    coming_[coming_names_.at(container)] = std::move(model);
  }

  void snapshot() {
    std::vector<std::pair<uint64_t, std::string>> members;
    coming_.clear();
    coming_names_.clear();
    for (const auto& [id, model] : volumes_) {
      if (!members.empty() && random_.chance(60)) continue;
      if (members.empty() && random_.chance(40) && volumes_.size() > 1 && id != volumes_.rbegin()->first)
        continue;
      const std::string name = "s" + std::to_string(++names_);
      members.push_back({id, name});
      coming_names_[id] = name;
    }
    say("snapshot of", members[0].first, members.size(), names_);
    const int result = world_.snapshot(members);
    if (result == ENOSPC &&
        options_.world.journal_cells < 1024) {  // many cuts fill a tiny ring: refused, and merged away
      say("no room for a cut");
      coming_.clear();
      for (const auto& [id, model] : volumes_) up(world_.round(id));
      return;
    }
    if (up(result)) keep_coming();
  }

  void keep_coming() {
    for (auto& [name, model] : coming_) snapshots_[name] = std::move(model);
    coming_.clear();
  }

  void look_at_snapshot() {
    if (snapshots_.empty()) return;
    see(any_name(snapshots_));
  }

  // Reads a snapshot whole; the first reading settles what it is.
  bool see(const std::string& name) {
    SnapshotModel& model = snapshots_.at(name);
    const Bytes got = world_.read_snapshot(name, 0, model.content.size());
    if (got.empty()) return up(world_.crashed() ? kCrashed : EIO);
    for (uint64_t sector = 0; sector < sectors_of(got.size()); sector++) {
      const uint64_t part = std::min(kSector, got.size() - sector * kSector);
      if (model.content.is(sector * kSector, got.data() + sector * kSector, part)) continue;
      Sector found{};
      std::memcpy(found.data(), got.data() + sector * kSector, part);
      const auto either = model.either.find(sector);
      const bool allowed =
          !model.seen && either != model.either.end() &&
          std::find(either->second.begin(), either->second.end(), found) != either->second.end();
      if (!TAP_OK(allowed, "snapshot " + name + (model.seen ? " changed" : " is wrong") + " at " +
                               std::to_string(sector * kSector) + where()))
        return false;
      put_sector(model.content, sector, found);
    }
    model.seen = true;
    return true;
  }

  void clone() {
    if (snapshots_.empty() || volumes_.size() >= options_.most_volumes + 1) return;
    const std::string name = any_name(snapshots_);
    if (!see(name)) return;
    const uint64_t id = world_.clone(name);
    say("clone", id);
    if (!id) {
      up(world_.crashed() ? kCrashed : EIO);
      return;
    }
    add_model(id, snapshots_.at(name).content);
    for (uint64_t block = 0; block < volumes_.at(id).touched.size(); block++)
      volumes_.at(id).unsure.insert(block);
  }

  void remove_snapshot() {
    if (snapshots_.empty()) return;
    const std::string name = any_name(snapshots_);
    say("remove s", std::stoul(name.substr(1)));
    snapshots_.erase(name);
    removed_.insert(name);
    up(world_.remove_snapshot(name));
  }

  void reclaim() {
    say("reclaim");
    up(world_.reclaim());
  }

  void resize() {
    const uint64_t container = any_volume();
    VolumeModel& model = volumes_.at(container);
    const uint64_t size = 4096 + random_.below(options_.volume_bytes + 200'000);
    finish_changes();
    if (world_.crashed()) return;
    say("resize", container, size);
    quiet_ = container;
    resizing_ = {container, size};
    if (up(world_.resize(container, size))) {
      resized(model, size);
      resizing_ = {};
    }
    quiet_ = 0;
  }

  void resized(VolumeModel& model, uint64_t size) {
    const uint64_t old = model.now.size();
    if (size < old) {
      model.later.erase(model.later.lower_bound(sectors_of(size)), model.later.end());
      const auto last = model.later.find(size / kSector);
      if (last != model.later.end()) {
        for (auto& [number, content] : last->second)
          std::fill(content.begin() + static_cast<long>(size % kSector), content.end(), std::byte{0});
      }
    }
    model.now.resize(size);
    model.flushed.resize(size);
    number_++;
    model.touched.resize((size + 4095) / 4096, number_);
    if (size < old && size % 4096) model.touched.back() = number_;
    // Behind the old end the last block is a hole or zeros.
    model.unsure.insert(std::min(size, old) / 4096);
  }

  // ---- status ----

  void status() {
    const uint64_t container = any_volume();
    finish_changes();
    if (world_.crashed()) return;
    quiet_ = container;
    compare_status(container);
    quiet_ = 0;
  }

  void compare_status(uint64_t container) {
    VolumeModel& model = volumes_.at(container);
    const Level::Container& stored = world_.level.containers.at(container);
    std::vector<std::string> names;
    auto io = std::make_shared<Io>();
    io->command = Command::block_status;
    io->length = model.now.size();
    io->asked.push_back({});
    for (const auto& [name, snapshot] : snapshots_) {
      const VersionId at = world_.level.snapshots.at(name).at;
      if (snapshot.container != container || at.line != stored.line || !snapshot.seen) continue;
      volume::StatusContext context;
      context.kind = volume::ContextKind::changed;
      context.since_layer = world_.layer_of(container, at);
      io->asked.push_back(context);
      names.push_back(name);
    }
    io->contexts = &io->asked;
    world_.submit(world_.volume(container), *io);
    if (!up(world_.wait(io))) return;
    compare_allocation(model, container, io->extents[0]);
    for (size_t i = 0; i < names.size(); i++)
      compare_changed(model, snapshots_.at(names[i]), names[i], io->extents[i + 1]);
  }

  void compare_allocation(VolumeModel& model, uint64_t container,
                          const std::vector<volume::StatusExtent>& extents) {
    uint64_t at = 0;
    for (const auto& extent : extents) {
      for (uint64_t end = at + extent.length; at < end; at += std::min<uint64_t>(4096, end - at)) {
        const uint64_t block = at / 4096;
        const bool hole = extent.flags != 0;
        if (hole == model.now.is_hole(block)) continue;
        const std::string what = (hole ? "hole" : "data") + std::string(" reported at ") + std::to_string(at);
        if (!TAP_OK(model.unsure.contains(block), what + " of volume " + std::to_string(container) + where()))
          return;
        std::array<std::byte, 4096> zeros{}, now{};
        model.now.read(at, now.data(), std::min<uint64_t>(4096, model.now.size() - at));
        if (!TAP_OK(now == zeros, what + where())) return;
        if (hole)
          model.now.set_hole(block);
        else
          model.now.write(block * 4096, nullptr, std::min<uint64_t>(4096, model.now.size() - block * 4096));
      }
    }
    TAP_EQ(at, model.now.size(), "the extents cover the volume" + where());
    model.unsure.clear();
  }

  void compare_changed(const VolumeModel& model, const SnapshotModel& since, const std::string& name,
                       const std::vector<volume::StatusExtent>& extents) {
    uint64_t at = 0;
    for (const auto& extent : extents) {
      for (uint64_t end = at + extent.length; at < end;) {
        const uint64_t bytes = std::min<uint64_t>(4096, end - at);
        std::array<std::byte, 4096> then{};
        if (at < since.content.size())
          since.content.read(at, then.data(), std::min(bytes, since.content.size() - at));
        const bool differs = !model.now.is(at, then.data(), bytes);
        const bool touched = model.touched[at / 4096] > since.number;
        at += bytes;
        if ((!differs || extent.flags == 1) && (extent.flags == 0 || touched)) continue;
        const std::string place = " since " + name + " before " + std::to_string(at) + where();
        TAP_OK(!differs || extent.flags == 1, "a block that differs is reported" + place);
        TAP_OK(extent.flags == 0 || touched, "a block nobody touched is not reported" + place);
        return;
      }
    }
  }

  // ---- ends and starts ----

  void end_of_life() {
    const unsigned how = static_cast<unsigned>(random_.below(100));
    if (!world_.crashed() && how < 25) {
      finish_changes();
      const auto clients = std::move(world_.between);  // are disconnected before an orderly stop
      world_.between = nullptr;
      const bool stopped = good() && !world_.crashed() && up(world_.stop());
      world_.between = clients;
      if (stopped) {
        say("clean stop");
        for (auto& [id, model] : volumes_) flushed(model, number_);
        if (random_.chance(30)) world_.crash(io::CrashKind::power_loss, random_.next());
        return restart(random_.chance(50) ? io::CrashKind::power_loss : io::CrashKind::process_death, false);
      }
    }
    harvest();
    const auto kind = how < 60 ? io::CrashKind::power_loss : io::CrashKind::process_death;
    say(kind == io::CrashKind::power_loss ? "power loss" : "process death");
    world_.crash(kind, random_.next());
    restart(kind, true);
  }

  void restart(io::CrashKind kind, bool crashed) {
    const bool loss_first = kind == io::CrashKind::power_loss && crashed;
    bool loss = loss_first;
    for (;;) {
      if (random_.chance(25)) world_.disk().crash_at(world_.disk().changes() + 1 + random_.below(25));
      const auto clients = std::move(world_.between);  // no export opens before the start is done
      world_.between = nullptr;
      const int result = world_.start();
      world_.between = clients;
      if (result == 0 && !world_.crashed()) break;
      if (!up(result))
        if (!good()) return;
      const bool again = random_.chance(50);
      say(again ? "power loss while starting" : "process death while starting");
      loss |= again;
      world_.crash(again ? io::CrashKind::power_loss : io::CrashKind::process_death, random_.next());
    }
    world_.disk().crash_at(0);
    settle_what_was_asked();
    for (auto& [id, model] : volumes_) {
      if (good()) compare_after(id, model, loss);
    }
    under_way_.clear();
    flushes_.clear();
    if (good()) compare_all();
  }

  // Snapshots, removals and sizes of which the answer never came.
  void settle_what_was_asked() {
    size_t there = 0;
    for (const auto& [name, model] : coming_) there += world_.level.snapshots.contains(name);
    TAP_OK(there == 0 || there == coming_.size(), "all members of a cut or none" + where());
    if (there && there == coming_names_.size()) keep_coming();
    coming_.clear();
    for (const auto& [name, model] : snapshots_)
      TAP_OK(world_.level.snapshots.contains(name), "snapshot " + name + " is there" + where());
    for (const auto& [name, snapshot] : world_.level.snapshots) {
      if (!snapshots_.contains(name))
        TAP_OK(removed_.contains(name), "snapshot " + name + " is none too many" + where());
    }
    if (resizing_.first) {
      const uint64_t size = world_.level.containers.at(resizing_.first).size;
      VolumeModel& model = volumes_.at(resizing_.first);
      TAP_OK(size == resizing_.second || size == model.now.size(), "the old size or the new" + where());
      resized(model, size);
    }
    resizing_ = {};
    quiet_ = 0;
  }

  void compare_after(uint64_t container, VolumeModel& model, bool loss) {
    const auto between = std::move(world_.between);
    world_.between = nullptr;
    const Bytes got = world_.read(container, 0, model.now.size());
    world_.between = between;
    if (!TAP_OK(got.size() == model.now.size(), "volume " + std::to_string(container) +
                                                    " is read whole, error " +
                                                    std::to_string(world_.last_error) + where()))
      return;
    std::map<uint64_t, std::vector<Sector>> asked;
    for (const Change& change : under_way_) {
      if (change.container != container) continue;
      Content after = change.before;
      apply(change, after);
      for (uint64_t sector = first_sector(change); sector < end_sector(change); sector++)
        asked[sector].push_back(sector_at(after, sector));
    }
    for (uint64_t sector = 0; sector < sectors_of(got.size()); sector++) {
      const bool settled = !model.later.contains(sector) && !asked.contains(sector);
      const uint64_t part = std::min(kSector, got.size() - sector * kSector);
      if (settled && model.now.is(sector * kSector, got.data() + sector * kSector, part)) continue;
      Sector found{};
      std::memcpy(found.data(), got.data() + sector * kSector,
                  std::min(kSector, got.size() - sector * kSector));
      const auto later = model.later.find(sector);
      const auto under_way = asked.find(sector);
      if (settled) {
        TAP_OK(false, "volume " + std::to_string(container) + " lost or gained at " +
                          std::to_string(sector * kSector) + where());
        return;
      }
      bool allowed = found == sector_at(loss ? model.flushed : model.now, sector);
      if (loss && later != model.later.end()) {
        for (const auto& [number, content] : later->second) allowed |= found == content;
      }
      bool is_asked = false;
      if (under_way != asked.end()) {
        for (const Sector& content : under_way->second) is_asked |= found == content;
      }
      const std::string what = loss ? " is neither flushed nor later" : " is not what was answered";
      if (!TAP_OK(allowed || is_asked, "volume " + std::to_string(container) + what + " at " +
                                           std::to_string(sector * kSector) + where()))
        return;
      model.unsure.insert(sector * kSector / 4096);
      if (found == sector_at(model.now, sector)) continue;
      put_sector(model.now, sector, found);
      if (!loss) model.later[sector].push_back({++number_, found});
    }
    if (!loss) return;
    model.flushed = model.now;
    model.later.clear();
  }

  void compare_all() {
    const auto between = std::move(world_.between);
    world_.between = nullptr;
    for (auto& [id, model] : volumes_) {
      if (good() && !world_.crashed()) compare_status(id);
    }
    for (const auto& [name, model] : std::map(snapshots_)) {
      if (good() && !world_.crashed()) see(name);
    }
    world_.between = between;
  }

  struct Flush {
    std::shared_ptr<Io> io;
    uint64_t container;
    uint64_t number;
  };
  struct Reading {
    uint64_t container = 0, offset = 0, end = 0;
  };

  const HistoryOptions& options_;
  cellblock::Random random_;
  World world_;
  std::map<uint64_t, VolumeModel> volumes_;
  std::map<std::string, SnapshotModel> snapshots_;
  std::map<std::string, SnapshotModel> coming_;
  std::map<uint64_t, std::string> coming_names_;
  std::set<std::string> removed_;
  std::vector<Change> under_way_;
  std::vector<Flush> flushes_;
  Reading reading_;
  std::pair<uint64_t, uint64_t> resizing_{};
  uint64_t quiet_ = 0;
  uint64_t names_ = 0;
  uint64_t number_ = 0;
};

}  // namespace

bool run_history(const HistoryOptions& options) { return History(options).run(); }

}  // namespace cellblock::test
