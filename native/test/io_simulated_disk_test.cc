// The simulated disk: that it keeps, loses and fails what a real one could, and the same way for the same
// seed.
#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "io/simulated_disk.h"
#include "test/tap.h"

using namespace cellblock::io;

namespace {

constexpr char kPath[] = "/store/data";
using Bytes = std::vector<unsigned char>;

std::unique_ptr<File> open_file(Disk& disk, const std::string& path = kPath) {
  std::unique_ptr<File> file;
  disk.open(path, {.create = true}, file);
  return file;
}

// A file that is certainly there after a crash, full of `value`.
std::unique_ptr<File> durable_file(Disk& disk, size_t bytes, int value, const std::string& path = kPath) {
  auto file = open_file(disk, path);
  const Bytes content(bytes, static_cast<unsigned char>(value));
  if (bytes) file->try_write(content.data(), bytes, 0);
  disk.sync(*file);
  disk.sync_directory("/store");
  return file;
}

Bytes content_of(Disk& disk, const std::string& path = kPath) {
  std::unique_ptr<File> file;
  if (disk.open(path, {.read_only = true}, file) != 0) return {};
  Bytes content(static_cast<size_t>(file->size()));
  file->try_read(content.data(), content.size(), 0);
  return content;
}

Bytes after_crash(SimulatedDisk& disk, CrashKind kind, uint64_t seed, const std::string& path = kPath) {
  SimulatedDisk next(disk.crash(kind, seed), {.seed = seed});
  return content_of(next, path);
}

ssize_t fill(File& file, int value, size_t bytes, uint64_t offset) {
  const Bytes content(bytes, static_cast<unsigned char>(value));
  return file.try_write(content.data(), bytes, offset);
}

// One value per sector, or -1 where a sector is a mixture.
std::vector<int> sector_values(const Bytes& content) {
  std::vector<int> values;
  for (size_t at = 0; at < content.size(); at += 512) {
    int value = content[at];
    for (size_t i = at; i < std::min(at + 512, content.size()); i++) {
      if (content[i] != content[at]) value = -1;
    }
    values.push_back(value);
  }
  return values;
}

struct Counted : Request {
  Counted(File& on, Operation wanted, uint64_t at, uint64_t bytes, int value = 0)
      : buffer(bytes, static_cast<unsigned char>(value)) {
    operation = wanted;
    file = &on;
    offset = at;
    length = bytes;
    data = buffer.data();
    done = [](Request& request) { static_cast<Counted&>(request).completions++; };
  }
  Bytes buffer;
  int completions = 0;
};

TAP_TEST("reads, writes, punches and sizes are those of a file") {
  SimulatedDisk disk({});
  auto file = open_file(disk);
  TAP_EQ(fill(*file, 7, 10000, 100), 10000, "write");
  TAP_EQ(file->size(), 10100, "size");
  TAP_EQ(disk.allocated_bytes(), 3 * 4096, "three pages");
  TAP_EQ(file->punch(4096, 4096), 0, "punch");
  TAP_EQ(disk.allocated_bytes(), 2 * 4096, "one page less");
  const Bytes content = content_of(disk);
  TAP_EQ(content.size(), 10100, "read");
  TAP_EQ(content[99], 0, "before");
  TAP_EQ(content[100], 7, "written");
  TAP_EQ(content[4096], 0, "punched");
  TAP_EQ(content[8192], 7, "behind");
  char byte;
  TAP_EQ(file->try_read(&byte, 1, 10100), 0, "end of file");
  std::unique_ptr<File> none;
  TAP_EQ(disk.open("/store/none", {}, none), -ENOENT, "no such file");
  TAP_EQ(disk.open(kPath, {.create = true, .exclusive = true}, none), -EEXIST, "exists");
  TAP_EQ(disk.unlink("/store/none"), -ENOENT, "nothing to unlink");
}

TAP_TEST("synced data survives every power loss") {
  SimulatedDisk disk({.seed = cellblock::test::seed()});
  auto file = durable_file(disk, 65536, 1);
  fill(*file, 2, 8192, 4096);
  TAP_EQ(disk.sync(*file), 0, "sync");
  for (uint64_t seed = 0; seed < 50; seed++) {
    const Bytes left = after_crash(disk, CrashKind::power_loss, seed);
    TAP_EQ(left.size(), 65536, "size");
    TAP_OK(left.size() == 65536 && left[4095] == 1 && left[4096] == 2 && left[12287] == 2 && left[12288] == 1,
           "content");
  }
}

TAP_TEST("unsynced sectors survive a power loss or not, each for itself, never mixed") {
  SimulatedDisk disk({.seed = 3, .write_back_percent = 0});
  auto file = durable_file(disk, 65536, 1);
  fill(*file, 2, 32768, 0);
  bool all_old = false, all_new = false, torn = false;
  for (uint64_t seed = 0; seed < 100; seed++) {
    const auto values = sector_values(after_crash(disk, CrashKind::power_loss, seed));
    const std::set<int> first(values.begin(), values.begin() + 64);
    TAP_OK(!first.contains(-1), "a sector is old or new");
    TAP_EQ(std::set<int>(values.begin() + 64, values.end()).size(), 1, "what was not written is untouched");
    all_old |= first == std::set<int>{1};
    all_new |= first == std::set<int>{2};
    torn |= first.size() == 2;
  }
  TAP_OK(all_old && all_new && torn, "all of it, none of it and parts of it do happen");
}

TAP_TEST("an overwritten unsynced state may be the one that survives") {
  bool middle = false;
  for (uint64_t seed = 0; seed < 60 && !middle; seed++) {
    SimulatedDisk disk({.seed = seed, .write_back_percent = 50});
    auto file = durable_file(disk, 4096, 1);
    fill(*file, 2, 4096, 0);
    fill(*file, 3, 4096, 0);
    for (const int value : sector_values(after_crash(disk, CrashKind::power_loss, seed)))
      middle |= value == 2;
  }
  TAP_OK(middle, "the kernel writes back when it likes");
}

TAP_TEST("the death of the process loses nothing that was written, and sync afterwards makes it stable") {
  SimulatedDisk disk({});
  auto file = durable_file(disk, 4096, 1);
  fill(*file, 2, 4096, 0);
  SimulatedDisk next(disk.crash(CrashKind::process_death, 1), {});
  TAP_OK(content_of(next) == Bytes(4096, 2), "page cache kept");
  TAP_EQ(file->try_write("x", 1, 0), -EIO, "the dead disk does nothing more");
  TAP_OK(next.unsynced_sectors(kPath) > 0, "still unsynced");
  auto again = open_file(next);
  TAP_EQ(next.sync(*again), 0, "sync by the next process");
  for (uint64_t seed = 0; seed < 20; seed++) {
    TAP_OK(after_crash(next, CrashKind::power_loss, seed) == Bytes(4096, 2), "stable");
  }
}

TAP_TEST("a file whose directory was not synced may be missing, an unlinked one may be back") {
  SimulatedDisk disk({});
  auto old = durable_file(disk, 512, 1, "/store/old");
  auto made = open_file(disk, "/store/new");
  fill(*made, 2, 512, 0);
  disk.sync(*made);
  TAP_EQ(disk.unlink("/store/old"), 0, "unlink");
  std::set<std::vector<std::string>> outcomes;
  for (uint64_t seed = 0; seed < 100; seed++) {
    outcomes.insert(SimulatedDisk(disk.crash(CrashKind::power_loss, seed), {}).paths());
  }
  TAP_EQ(outcomes.size(), 4, "either, both or none");
}

TAP_TEST("a synced directory is what it was") {
  SimulatedDisk disk({});
  auto file = durable_file(disk, 512, 1);
  disk.unlink(kPath);
  disk.sync_directory("/store/");
  for (uint64_t seed = 0; seed < 20; seed++) {
    TAP_EQ(SimulatedDisk(disk.crash(CrashKind::power_loss, seed), {}).paths().size(), 0, "gone for good");
  }
}

TAP_TEST("an unsynced size grows only as far as data that survived") {
  SimulatedDisk disk({.seed = 1, .write_back_percent = 0});
  auto file = durable_file(disk, 4096, 1);
  fill(*file, 2, 16384, 4096);
  std::set<size_t> sizes;
  for (uint64_t seed = 0; seed < 200; seed++) {
    const Bytes left = after_crash(disk, CrashKind::power_loss, seed);
    TAP_OK(left.size() >= 4096 && left.size() <= 20480, "between the two");
    const auto values = sector_values(left);
    bool grown_with_data = left.size() == 4096;
    for (size_t s = 8; s < values.size(); s++) grown_with_data |= values[s] == 2;
    // The page that the last byte is in has something that survived, unless the size was cut inside the
    // growth.
    TAP_OK(grown_with_data || left.size() < 20480, "full growth comes with data");
    sizes.insert(left.size());
  }
  TAP_OK(sizes.size() > 3, "several sizes happen");
  TAP_OK(sizes.contains(4096) && sizes.contains(20480), "the old one and the new one are among them");
}

TAP_TEST("what lay behind the size that survived does not come back when the file grows") {
  SimulatedDisk disk({.seed = 1, .write_back_percent = 0});
  auto file = durable_file(disk, 4096, 1);
  fill(*file, 2, 16384, 4096);
  int cut = 0;
  for (uint64_t seed = 0; seed < 50; seed++) {
    SimulatedDisk next(disk.crash(CrashKind::power_loss, seed), {});
    auto again = open_file(next);
    const auto size = static_cast<size_t>(again->size());
    if (size > 16384) continue;
    cut++;
    fill(*again, 3, 1, 20479);
    const Bytes content = content_of(next);
    TAP_EQ(content[size], 0, "first byte behind it");
    TAP_EQ(content[20478], 0, "last byte of the growth");
  }
  TAP_OK(cut > 0, "some sizes are cut");
}

TAP_TEST("a failed sync is reported once per open file and its data is lost") {
  SimulatedDisk disk({.seed = 5, .write_back_percent = 0});
  auto file = durable_file(disk, 1 << 20, 1);
  auto other = open_file(disk);
  disk.faults().add({.actions = only(Action::sync), .error = EIO});
  fill(*file, 2, 1 << 20, 0);
  TAP_EQ(disk.sync(*file), -EIO, "reported");
  TAP_EQ(disk.unsynced_sectors(kPath), 0, "pages are clean");
  TAP_EQ(disk.sync(*file), 0, "not twice");
  TAP_EQ(disk.sync(*other), -EIO, "the other open file hears of it too");
  TAP_EQ(disk.sync(*other), 0, "once");
  auto later = open_file(disk);
  TAP_EQ(disk.sync(*later), 0, "one opened afterwards does not");
  TAP_OK(content_of(disk) == Bytes(1 << 20, 2), "the page cache has the new content");
  for (uint64_t seed = 0; seed < 10; seed++) {
    const auto values = sector_values(after_crash(disk, CrashKind::power_loss, seed));
    const std::set<int> found(values.begin(), values.end());
    TAP_OK(found == (std::set<int>{1, 2}), "on the platter most of it is old, syncs that succeeded or not");
  }
}

TAP_TEST("an error of write-back nobody heard of is told to who opens the file next") {
  SimulatedDisk disk({});
  auto file = durable_file(disk, 4096, 1);
  file.reset();
  disk.fail_writeback(kPath, ENOSPC);
  auto next = open_file(disk);
  TAP_EQ(disk.sync(*next), -ENOSPC, "told");
  TAP_EQ(disk.sync(*next), 0, "once");
}

TAP_TEST("a failed stable write is in the page cache and not on the platter") {
  SimulatedDisk disk({.seed = 9, .write_back_percent = 0});
  auto file = durable_file(disk, 1 << 20, 1);
  auto engine = disk.make_engine();
  disk.faults().add({.actions = only(Action::write_dsync), .error = EIO});
  Counted bad(*file, Operation::write_dsync, 0, 1 << 20, 2);
  engine->submit(bad);
  engine->flush();
  TAP_EQ(engine->reap(), 1, "completed");
  TAP_EQ(bad.result, -EIO, "failed");
  TAP_EQ(disk.sync(*file), 0, "this file has heard of it");
  TAP_OK(content_of(disk) == Bytes(1 << 20, 2), "page cache");
  const auto values = sector_values(after_crash(disk, CrashKind::power_loss, 1));
  TAP_OK(std::set<int>(values.begin(), values.end()).contains(1), "lost");
}

TAP_TEST("a stable write makes its own range stable and nothing else") {
  SimulatedDisk disk({.seed = 9, .write_back_percent = 0});
  auto file = durable_file(disk, 65536, 1);
  auto engine = disk.make_engine();
  fill(*file, 2, 4096, 32768);
  Counted good(*file, Operation::write_dsync, 0, 4096, 3);
  engine->submit(good);
  engine->flush();
  engine->reap();
  TAP_EQ(good.result, 4096, "written");
  TAP_EQ(disk.unsynced_sectors(kPath), 8, "the other write is still unsynced");
  for (uint64_t seed = 0; seed < 20; seed++) {
    TAP_EQ(after_crash(disk, CrashKind::power_loss, seed)[0], 3, "stable");
  }
}

TAP_TEST("a full disk refuses what needs space, takes overwrites, and works again") {
  SimulatedDisk disk({.seed = 1, .capacity_bytes = 16384});
  auto file = open_file(disk);
  TAP_EQ(disk.free_bytes("/store"), 16384, "free");
  TAP_EQ(fill(*file, 1, 12288, 0), 12288, "write");
  TAP_EQ(fill(*file, 2, 8192, 12288), 4096, "short at the end of the space");
  TAP_EQ(fill(*file, 2, 4096, 16384), -ENOSPC, "full");
  TAP_EQ(fill(*file, 3, 4096, 0), 4096, "overwrite");
  TAP_EQ(file->punch(4096, 4096), 0, "punch");
  TAP_EQ(disk.free_bytes("/store"), 4096, "freed");
  TAP_EQ(fill(*file, 4, 4096, 16384), 4096, "works again");
  disk.set_capacity(disk.allocated_bytes() + 8192);
  auto engine = disk.make_engine();
  Counted too_much(*file, Operation::zero_range, 32768, 12288);
  Counted enough(*file, Operation::zero_range, 32768, 8192);
  engine->submit(too_much);
  engine->submit(enough);
  engine->flush();
  engine->reap();
  TAP_EQ(too_much.result, -ENOSPC, "no room for all of it");
  TAP_EQ(enough.result, 0, "room");
}

TAP_TEST("reads and writes can be short, and any call can fail") {
  SimulatedDisk disk({});
  auto file = durable_file(disk, 65536, 1);
  disk.faults().add({.actions = Action::read | Action::write, .path = "data", .times = 2});
  Bytes bytes(4096);
  const ssize_t got = file->try_read(bytes.data(), bytes.size(), 0);
  TAP_OK(got > 0 && got < 4096, "short read");
  const ssize_t put = fill(*file, 2, 4096, 0);
  TAP_OK(put > 0 && put < 4096, "short write");
  TAP_EQ(fill(*file, 2, 4096, 0), 4096, "then whole ones");
  disk.faults().add({.actions = Action::open | Action::map | Action::punch, .times = 3, .error = EMFILE});
  std::unique_ptr<File> none;
  Mapping mapping;
  TAP_EQ(disk.open("/store/other", {.create = true}, none), -EMFILE, "open");
  TAP_EQ(disk.map(*file, 4096, mapping), -EMFILE, "map");
  TAP_EQ(file->punch(0, 4096), -EMFILE, "punch");
  TAP_EQ(disk.paths().size(), 1, "nothing was created");
}

TAP_TEST("not everything is cached when a test says so") {
  SimulatedDisk disk({.seed = 2, .cached_percent = 50});
  auto file = durable_file(disk, 4096, 1);
  int refused = 0;
  char byte;
  for (int i = 0; i < 200; i++) refused += file->try_read(&byte, 1, 0) == -EAGAIN;
  TAP_OK(refused > 0 && refused < 200, "some");
}

TAP_TEST("mapped memory is the file; a process's death keeps it, power loss keeps what was synced") {
  SimulatedDisk disk({.seed = 4, .write_back_percent = 0});
  auto file = durable_file(disk, 8192, 0);
  Mapping mapping;
  TAP_EQ(disk.map(*file, 16384, mapping), -EINVAL, "not behind the end");
  TAP_EQ(disk.map(*file, 8192, mapping), 0, "map");
  std::memset(mapping.bytes, 5, 512);
  TAP_EQ(content_of(disk)[0], 5, "stores are read");
  TAP_EQ(fill(*file, 6, 512, 512), 512, "write");
  TAP_EQ(static_cast<int>(mapping.bytes[512]), 6, "and seen in memory");
  auto engine = disk.make_engine();
  Counted sync(*file, Operation::journal_sync, 0, 0);
  disk.set_hold(true);
  engine->submit(sync);
  engine->flush();
  std::memset(mapping.bytes + 1024, 7, 512);  // before the sync is executed: it is in
  TAP_OK(disk.deliver(0), "deliver");
  std::memset(mapping.bytes + 1536, 8, 512);  // after
  bool kept = false, lost = false;
  for (uint64_t seed = 0; seed < 50; seed++) {
    const auto values = sector_values(after_crash(disk, CrashKind::power_loss, seed));
    TAP_OK(values[0] == 5 && values[1] == 6 && values[2] == 7, "synced sectors");
    kept |= values[3] == 8;
    lost |= values[3] == 0;
  }
  TAP_OK(kept && lost, "an unsynced one either way");
  TAP_EQ(after_crash(disk, CrashKind::process_death, 1)[1536], 8, "a death keeps all");
  std::memset(mapping.bytes, 9, 8192);
  TAP_EQ(after_crash(disk, CrashKind::process_death, 1)[0], 5, "stores after the crash do not count");
}

TAP_TEST("a failed sync of mapped memory loses the stores") {
  SimulatedDisk disk({.seed = 4, .write_back_percent = 0});
  auto file = durable_file(disk, 65536, 0);
  Mapping mapping;
  disk.map(*file, 65536, mapping);
  std::memset(mapping.bytes, 5, 65536);
  disk.faults().add({.actions = only(Action::sync), .error = EIO});
  TAP_EQ(disk.sync(*file), -EIO, "failed");
  TAP_EQ(disk.sync(*file), 0, "looks well");
  const auto values = sector_values(after_crash(disk, CrashKind::power_loss, 3));
  TAP_OK(std::set<int>(values.begin(), values.end()).contains(0), "is not");
}

TAP_TEST("held requests are executed and delivered in the order a test wants") {
  SimulatedDisk disk({.seed = 1, .hold = true});
  auto file = durable_file(disk, 4096, 0);
  auto engine = disk.make_engine();
  Counted first(*file, Operation::write, 0, 4096, 1), second(*file, Operation::write, 0, 4096, 2);
  engine->submit(first);
  engine->submit(second);
  TAP_EQ(disk.pending().size(), 0, "not before flush");
  engine->flush();
  TAP_EQ(disk.pending().size(), 2, "pending");
  TAP_EQ(engine->reap(), 0, "nothing to reap");
  TAP_OK(disk.deliver(1), "the second first");
  TAP_EQ(engine->reap(), 1, "one");
  TAP_EQ(second.completions, 1, "the second");
  TAP_EQ(content_of(disk)[0], 2, "is in the file");
  TAP_OK(disk.execute(0), "the first is done");
  TAP_EQ(content_of(disk)[0], 1, "it is in the file");
  TAP_EQ(engine->reap(), 0, "but nobody knows");
  TAP_OK(disk.step(), "step");
  TAP_EQ(engine->reap(), 1, "now");
  TAP_EQ(first.result, 4096, "result");
  TAP_OK(!disk.step(), "nothing is left");
  TAP_EQ(engine->in_flight(), 0, "nothing in flight");
}

TAP_TEST("a hook sees every operation once, can hold it and can crash there") {
  SimulatedDisk disk({});
  auto file = durable_file(disk, 4096, 0);
  auto engine = disk.make_engine();
  std::vector<std::string> seen;
  disk.before([&](const Event& event) {
    seen.push_back(name_of(event.action));
    if (event.action == Action::sync && event.queued) return Order::hold;
    return event.action == Action::punch ? Order::crash : Order::proceed;
  });
  Counted write(*file, Operation::write, 0, 512, 1), sync(*file, Operation::sync, 0, 0);
  engine->submit(sync);
  engine->submit(write);
  engine->flush();
  TAP_EQ(engine->reap(), 1, "the write alone");
  TAP_OK(disk.deliver(0), "then the sync");
  TAP_EQ(engine->reap(), 1, "the sync");
  TAP_OK(seen == (std::vector<std::string>{"sync", "write"}), "each once");
  TAP_OK(!disk.crashed(), "alive");
  TAP_EQ(file->punch(0, 512), -EIO, "crash");
  TAP_OK(disk.crashed(), "dead");
}

// Writes 1, 2, 3... into one sector each, with a sync after each; gives how many syncs were answered.
int write_and_sync(SimulatedDisk& disk, int rounds) {
  auto file = open_file(disk);
  if (!file) return 0;
  for (int i = 0; i < rounds; i++) {
    if (fill(*file, i + 1, 512, uint64_t{512} * i) != 512 || disk.sync(*file) != 0) return i;
  }
  return rounds;
}

TAP_TEST("a crash at every change leaves at least what was answered and at most one more") {
  constexpr int kRounds = 8;
  SimulatedDisk whole({.seed = 1});
  durable_file(whole, 0, 0);
  const uint64_t before = whole.changes();
  write_and_sync(whole, kRounds);
  const uint64_t changes = whole.changes() - before;
  TAP_EQ(changes, 2 * kRounds, "a write and a sync a round");
  for (uint64_t k = 1; k <= changes; k++) {
    for (uint64_t seed = 0; seed < 20; seed++) {
      SimulatedDisk disk({.seed = seed});
      durable_file(disk, 0, 0);
      disk.crash_at(disk.changes() + k);
      const int answered = write_and_sync(disk, kRounds);
      TAP_OK(disk.crashed(), "crashed");
      TAP_EQ(disk.changes(), before + k, "nothing was done after it");
      const auto lost = sector_values(after_crash(disk, CrashKind::power_loss, seed));
      TAP_OK(static_cast<int>(lost.size()) >= answered, "the size of what was answered");
      TAP_OK(static_cast<int>(lost.size()) <= answered + 1, "at most the write under way");
      for (int i = 0; i < answered; i++) TAP_EQ(lost[i], i + 1, "what was answered");
      const auto kept = sector_values(after_crash(disk, CrashKind::process_death, seed));
      TAP_OK(static_cast<int>(kept.size()) >= answered, "a death keeps it too");
    }
  }
}

TAP_TEST("requests in flight at a crash are applied or not and never completed") {
  std::set<std::set<int>> outcomes;
  for (uint64_t seed = 0; seed < 100; seed++) {
    SimulatedDisk disk({.seed = seed, .hold = true});
    auto file = durable_file(disk, 8192, 0);
    auto engine = disk.make_engine();
    Counted one(*file, Operation::write, 0, 4096, 1), two(*file, Operation::write, 4096, 4096, 2);
    engine->submit(one);
    engine->submit(two);
    engine->flush();
    const Bytes left = after_crash(disk, CrashKind::process_death, seed);
    outcomes.insert({left[0], left[4096] + 10});
    TAP_OK(!disk.deliver(0) && !disk.step(), "nothing is delivered any more");
    engine->flush();
    TAP_EQ(engine->reap(), 0, "nothing is reaped");
    TAP_EQ(one.completions + two.completions, 0, "nothing is completed");
  }
  TAP_EQ(outcomes.size(), 4, "either, both or none");
}

// A long random run; its trace and what is left of it say whether two runs were the same.
std::string random_run(uint64_t seed) {
  SimulatedDisk disk({.seed = seed, .hold = true});
  std::string trace;
  disk.before([&](const Event& event) {
    trace += name_of(event.action) + std::to_string(event.offset) + " ";
    return Order::proceed;
  });
  auto file = durable_file(disk, 65536, 0);
  auto engine = disk.make_engine();
  cellblock::test::Random random(seed);
  std::vector<std::unique_ptr<Counted>> all;
  for (int i = 0; i < 300; i++) {
    const auto operation = static_cast<Operation>(random.below(7));
    all.push_back(std::make_unique<Counted>(*file, operation, 512 * random.below(200), 4096, i));
    engine->submit(*all.back());
    engine->flush();
    if (random.chance(70)) disk.step();
    engine->reap();
  }
  const Bytes left = after_crash(disk, CrashKind::power_loss, seed);
  return trace + std::string(left.begin(), left.end());
}

TAP_TEST("the same seed gives the same run, another seed another") {
  const uint64_t seed = cellblock::test::seed();
  TAP_OK(random_run(seed) == random_run(seed), "the same");
  TAP_OK(random_run(seed) != random_run(seed + 1), "another");
}

TAP_TEST("an image can be started from many times and is not changed by it") {
  SimulatedDisk disk({});
  durable_file(disk, 8192, 1);
  const DiskImage image = disk.crash(CrashKind::process_death, 1);
  for (int i = 0; i < 3; i++) {
    SimulatedDisk next(image, {});
    TAP_OK(content_of(next) == Bytes(8192, 1), "as it was");
    auto file = open_file(next);
    fill(*file, 9, 8192, 0);
    file->punch(0, 4096);
    next.unlink(kPath);
  }
}

}  // namespace

int main() { return cellblock::test::run(); }
