// Scenarios of HAZARDS, parts A, B and E, that touch the native core and are not tests of one of its parts
// already (see journal_ring_test, volume_race_test and volume_fault_test): each the way the hazard tells it.
#include <cerrno>

#include "test/core_scene.h"

using namespace cellblock;
using namespace cellblock::test;
using io::Action;
using io::CrashKind;
using volume::Command;

namespace {

constexpr uint64_t kSeeds = 12;

// Direct I/O with requests held at the disk, or buffered with nothing written back before its time.
WorldOptions at_disk(uint64_t seed = 1) {
  WorldOptions options;
  options.seed = seed;
  options.direct = options.held = true;
  return options;
}
WorldOptions lazy(uint64_t seed = 1) {
  WorldOptions options;
  options.seed = seed;
  options.write_back_percent = 0;
  return options;
}

// Keeps the cut from being written: its journal sync stays at the disk. Answers what was asked in between.
template <typename During>
void before_the_cut(Scene& w, const std::string& name, During during) {
  bool raised = false, begun = false;
  w.raised = [&](uint64_t) { raised = true; };
  w.deliver = false;
  w.idle = [&] {
    if (raised && !std::exchange(begun, true)) during();
    return false;
  };
  w.snapshot({{w.v, name}});
  w.raised = nullptr;
  w.idle = nullptr;
  w.deliver = true;
}

TAP_TEST(
    "A1 kill -9: every byte that was answered is there, flushed or not, overwrites, trims and cut-offs too") {
  for (uint64_t seed = 1; seed <= kSeeds; seed++) {
    Scene w(lazy(seed));
    w.put(w.v, 0, 4 * kWindow, 1);
    w.put(w.v, kWindow + 100, 5000, 2);
    w.trim(w.v, 2 * kWindow, kWindow);
    w.trim(w.v, 20 * kWindow, 80 * kWindow);
    w.put(w.v, 30 * kWindow, kBlock, 3);
    w.put(w.v, 30 * kWindow, 10, 4);
    w.die(seed);
    w.die(seed);
    const bool right = w.is(w.v, 0, kWindow + 100, 1) && w.is(w.v, kWindow + 100, 5000, 2) &&
                       w.is(w.v, 2 * kWindow, kWindow, 0) && w.is(w.v, 3 * kWindow, kWindow, 1) &&
                       w.is(w.v, 30 * kWindow, 10, 4) && w.is(w.v, 30 * kWindow + 10, kBlock - 10, 3);
    if (!TAP_OK(right, "all of it, seed " + std::to_string(seed))) return;
  }
}

TAP_TEST("A4 a merge takes the deleted snapshot's zeros: older data does not come back") {
  for (const bool open : {true, false}) {
    Scene w;
    w.put(w.v, 0, 4 * kBlock, 1);
    w.snapshot({{w.v, "g"}});
    w.trim(w.v, 0, 2 * kBlock);
    w.snapshot({{w.v, "s"}});
    w.put(w.v, 3 * kBlock, kBlock, 2);
    if (!open) w.snapshot({{w.v, "d"}});  // the dependent is frozen
    TAP_EQ(w.remove_snapshot("s"), 0, "deleted");
    TAP_EQ(w.reclaim(), 0, "merged");
    TAP_EQ(w.punch_pending(), 0, "punched");
    const auto right = [&] {
      return w.is(w.v, 0, 2 * kBlock, 0) && w.is(w.v, 2 * kBlock, kBlock, 1) &&
             w.is(w.v, 3 * kBlock, kBlock, 2);
    };
    TAP_OK(right(), "in memory");
    w.round(w.v);
    w.evict(w.v);
    TAP_OK(right(), "from LevelDB");
    TAP_OK(w.snapshot_is("g", 0, 4 * kBlock, 1), "the older snapshot");
    TAP_EQ(w.remove_snapshot("g"), 0, "the last one too");
    TAP_EQ(w.reclaim(), 0, "merged");
    TAP_EQ(w.punch_pending(), 0, "punched");
    w.lose_power();
    TAP_OK(right(), "and at the end");
  }
}

TAP_TEST("A4 a cut-off of the dependent counts as zero for every block of the deleted snapshot") {
  Scene w;
  for (uint64_t window : {0, 30, 99}) w.put(w.v, window * kWindow, kBlock, 1);
  w.snapshot({{w.v, "s"}});
  w.trim(w.v, 0, kVolume);
  w.put(w.v, 30 * kWindow + kBlock, kBlock, 2);
  w.remove_snapshot("s");
  TAP_EQ(w.reclaim(), 0, "merged");
  TAP_EQ(w.punch_pending(), 0, "punched");
  w.evict(w.v);
  for (uint64_t window : {0, 30, 99}) TAP_OK(w.is(w.v, window * kWindow, kBlock, 0), "zero");
  TAP_OK(w.is(w.v, 30 * kWindow + kBlock, kBlock, 2), "what was written since");
}

TAP_TEST("A4 the cut-off of a snapshot merged earlier still hides what a snapshot below it says") {
  Scene w;
  w.put(w.v, 0, kVolume, 1);
  w.snapshot({{w.v, "r"}});
  w.trim(w.v, 0, kVolume);
  w.snapshot({{w.v, "s"}});
  TAP_OK(w.is(w.v, 30 * kWindow, kBlock, 0), "resident, zero by the cut-off of s");
  for (const char* name : {"s", "r"}) {
    w.remove_snapshot(name);
    TAP_EQ(w.reclaim(), 0, "merged");
    TAP_OK(w.is(w.v, 30 * kWindow, kBlock, 0), "zero after the merge");
  }
  w.round(w.v);
  w.evict(w.v);
  TAP_OK(w.is(w.v, 30 * kWindow, kBlock, 0), "from LevelDB");
}

TAP_TEST(
    "A8a a flush of the new version is answered before the cut is written: its data survives, in the version "
    "before") {
  for (const CrashKind kind : {CrashKind::power_loss, CrashKind::process_death}) {
    for (uint64_t seed = 1; seed <= kSeeds; seed++) {
      Scene w(at_disk(seed));
      w.put(w.v, 0, 2 * kBlock, 1);
      w.flush(w.v);
      before_the_cut(w, "s", [&] {
        const auto write = w.fill(w.v, 0, kBlock, 2);
        w.finish(Action::write);
        TAP_OK(write->answered, "written under the new version");
        const auto flush = w.ask(w.v, Command::flush);
        while (!flush->answered && (w.finish(Action::sync) || w.finish(Action::journal_sync))) {
        }
        TAP_OK(flush->answered && flush->error == 0, "flushed");
      });
      w.crash(kind, seed);
      TAP_EQ(w.start(), 0, "start");
      TAP_OK(w.is(w.v, 0, kBlock, 2) && w.is(w.v, kBlock, kBlock, 1),
             "the flushed data, seed " + std::to_string(seed));
      if (w.level.snapshots.contains("s"))
        TAP_OK(w.snapshot_is("s", 0, 2 * kBlock, 1), "a cut that did reach the disk");
      // And the next snapshot is a sound one (J1c).
      TAP_EQ(w.snapshot({{w.v, "t"}}), 0, "snapshot");
      w.put(w.v, 0, 2 * kBlock, 3);
      w.lose_power(seed);
      if (!TAP_OK(w.snapshot_is("t", 0, kBlock, 2) && w.snapshot_is("t", kBlock, kBlock, 1),
                  "frozen, seed " + std::to_string(seed)))
        return;
    }
  }
}

TAP_TEST("A8b a snapshot that was answered is stable: power lost at once, it reads what it was") {
  for (uint64_t seed = 1; seed <= kSeeds; seed++) {
    Scene w(lazy(seed));
    w.put(w.v, 0, 2 * kBlock, 1);
    w.flush(w.v);
    w.put(w.v, 0, kBlock, 2);            // in place, no entry
    w.put(w.v, 5 * kWindow, kBlock, 3);  // a first write
    TAP_EQ(w.snapshot({{w.v, "s"}}), 0, "answered");
    w.put(w.v, 0, kBlock, 9);
    w.put(w.v, 5 * kWindow, kBlock, 9);
    w.lose_power(seed);
    const bool right = w.snapshot_is("s", 0, kBlock, 2) && w.snapshot_is("s", kBlock, kBlock, 1) &&
                       w.snapshot_is("s", 5 * kWindow, kBlock, 3);
    if (!TAP_OK(right, "seed " + std::to_string(seed))) return;
  }
}

TAP_TEST(
    "A8d the pause does not last as long as what is under way: other writes are answered while an old one "
    "hangs") {
  Scene w(at_disk());
  w.put(w.v, 0, 8 * kBlock, 1);
  w.deliver = false;
  const auto old = w.fill(w.v, 0, kBlock, 2);
  bool raised = false, went_on = false;
  w.raised = [&](uint64_t) { raised = true; };
  w.idle = [&] {
    if (!raised || went_on) return false;
    const auto other = w.fill(w.v, 20 * kWindow, kBlock, 3);
    w.finish(Action::write, 1);
    went_on = other->answered && !old->answered;
    return w.deliver = true;
  };
  TAP_EQ(w.snapshot({{w.v, "s"}}), 0, "snapshot");
  TAP_OK(went_on, "a write of the new version was answered before the old one");
  TAP_OK(w.snapshot_is("s", 0, kBlock, 2) && w.snapshot_is("s", 20 * kWindow, kBlock, 0),
         "each in its version");
}

TAP_TEST("A10 FUA on committed blocks is one stable write and no flush, on anything else a flush") {
  for (uint64_t seed = 1; seed <= kSeeds; seed++) {
    WorldOptions options = lazy(seed);
    options.held = true;
    Scene w(options);
    w.put(w.v, 0, 2 * kBlock, 1);
    w.flush(w.v);
    w.put(w.v, kBlock, kBlock, 2);  // unflushed, and may stay so
    w.deliver = false;
    const auto stable = w.fill(w.v, 0, kBlock, 3, volume::kFua);
    TAP_EQ(w.waiting(Action::write_dsync), 1, "a stable write");
    TAP_EQ(w.waiting(Action::sync), 0, "no flush");
    w.finish_all();
    TAP_OK(stable->answered && w.journal().used() < 4, "and no entry");
    const auto first = w.fill(w.v, 9 * kWindow, kBlock, 4, volume::kFua);
    TAP_EQ(w.waiting(Action::sync), 1, "a first write flushes");
    w.finish_all();
    TAP_OK(first->answered, "answered");
    w.put(w.v, 10 * kWindow, kBlock, 5);
    const auto uncommitted = w.fill(w.v, 10 * kWindow, kBlock, 6, volume::kFua);
    TAP_EQ(w.waiting(Action::sync), 1, "so does an overwrite of a block that nothing durable names");
    w.finish_all();
    TAP_OK(uncommitted->answered, "answered");
    w.deliver = true;
    w.lose_power(seed);
    const bool right =
        w.is(w.v, 0, kBlock, 3) && w.is(w.v, 9 * kWindow, kBlock, 4) && w.is(w.v, 10 * kWindow, kBlock, 6);
    if (!TAP_OK(right, "all three are stable, seed " + std::to_string(seed))) return;
  }
}

TAP_TEST(
    "A10 FUA on TRIM and WRITE_ZEROES: zeros survive, also those that were there before and not yet "
    "committed") {
  for (uint64_t seed = 1; seed <= kSeeds; seed++) {
    Scene w(lazy(seed));
    w.put(w.v, 0, 8 * kBlock, 1);
    w.flush(w.v);
    w.trim(w.v, 0, kBlock);
    TAP_EQ(w.trim(w.v, 0, kBlock, volume::kFua), 0, "a trim of what is trimmed");
    TAP_EQ(w.wait(w.ask(w.v, Command::write_zeroes, 2 * kBlock, kBlock, volume::kFua)), 0, "zeros");
    TAP_EQ(w.wait(w.ask(w.v, Command::write_zeroes, 4 * kBlock, kBlock, volume::kFua | volume::kNoHole)), 0,
           "allocated zeros");
    TAP_EQ(w.wait(w.ask(w.v, Command::write_zeroes, 6 * kBlock + 100, 200, volume::kFua)), 0,
           "a part of a block");
    w.lose_power(seed);
    bool right = w.is(w.v, 6 * kBlock + 100, 200, 0) && w.is(w.v, 6 * kBlock, 100, 1);
    for (uint64_t block : {0, 2, 4})
      right &= w.is(w.v, block * kBlock, kBlock, 0) && w.is(w.v, (block + 1) * kBlock, kBlock, 1);
    if (!TAP_OK(right, "seed " + std::to_string(seed))) return;
  }
}

TAP_TEST(
    "A12 shrink, then grow: neither own nor a base's old data shows, in the last block, the last window or "
    "behind") {
  Scene w;
  w.put(w.v, 0, kVolume, 1);
  w.snapshot({{w.v, "s"}});
  const uint64_t clone = w.clone("s");
  for (const uint64_t volume : {w.v, clone}) {
    const uint64_t end = 40 * kWindow + kBlock + 700;
    TAP_EQ(w.resize(volume, end), 0, "shrink");
    TAP_EQ(w.resize(volume, kVolume), 0, "grow");
    const auto right = [&] { return w.is(volume, 0, end, 1) && w.is(volume, end, kVolume - end, 0); };
    TAP_OK(right(), "in memory");
    w.round(volume);
    w.evict(volume);
    TAP_OK(right(), "from LevelDB");
  }
  TAP_OK(w.snapshot_is("s", 0, kVolume, 1), "the snapshot keeps all");
  w.lose_power();
  TAP_OK(w.is(clone, 40 * kWindow + kBlock + 700, kWindow, 0), "after a loss of power");
}

TAP_TEST(
    "A12 J2 TRIM of everything in ascending chunks hides base and own data, and what is written later "
    "shows") {
  Scene w;
  w.put(w.v, 0, kVolume, 1);
  w.snapshot({{w.v, "s"}});
  const uint64_t clone = w.clone("s");
  w.put(clone, 5 * kWindow, kBlock, 2);
  for (uint64_t at = 0; at < kVolume; at += 66 * kWindow)
    TAP_EQ(w.trim(clone, at, std::min(66 * kWindow, kVolume - at)), 0, "a chunk");
  TAP_OK(w.is(clone, 0, kVolume, 0), "zero");
  w.put(clone, 7 * kWindow, kBlock, 3);
  TAP_EQ(w.flush(clone), 0, "flush");
  TAP_EQ(w.snapshot({{clone, "t"}}), 0, "a snapshot passes the cut-off on");
  const auto right = [&] {
    return w.is(clone, 0, 7 * kWindow, 0) && w.is(clone, 7 * kWindow, kBlock, 3) &&
           w.is(clone, 7 * kWindow + kBlock, 90 * kWindow, 0);
  };
  TAP_OK(right(), "after the snapshot");
  w.round(clone);
  w.evict(clone);
  TAP_OK(right(), "from LevelDB");
  w.lose_power();
  TAP_OK(right(), "after a loss of power");
  TAP_OK(w.snapshot_is("t", 7 * kWindow, kBlock, 3) && w.snapshot_is("t", 0, 7 * kWindow, 0),
         "and in the snapshot");
  TAP_OK(w.snapshot_is("s", 0, kVolume, 1), "whose base is as it was");
}

TAP_TEST(
    "J2 version 1 wrote, version 2 trims all: version 1's data does not come back; version 3 writes and is "
    "seen") {
  Scene w;
  w.put(w.v, 0, kBlock, 1);
  w.snapshot({{w.v, "one"}});
  w.trim(w.v, 0, kVolume);
  w.snapshot({{w.v, "two"}});
  w.put(w.v, kBlock, kBlock, 3);
  w.round(w.v);
  w.evict(w.v);
  TAP_OK(w.is(w.v, 0, kBlock, 0) && w.is(w.v, kBlock, kBlock, 3), "the volume");
  TAP_OK(w.snapshot_is("one", 0, kBlock, 1) && w.snapshot_is("two", 0, 2 * kBlock, 0), "the snapshots");
}

// ---- E ----

TAP_TEST(
    "A10 FUA on zeros under a cut-off that is not committed is a flush, also where the window was not "
    "resident") {
  for (const Command command : {Command::trim, Command::write_zeroes}) {
    for (uint64_t seed = 1; seed <= 4; seed++) {
      Scene w(lazy(seed));
      w.put(w.v, 5 * kWindow, kBlock, 1);
      TAP_EQ(w.round(w.v), 0, "stored");
      w.evict(w.v);
      TAP_EQ(w.trim(w.v, 0, 80 * kWindow), 0, "a cut-off, not flushed");
      TAP_EQ(w.wait(w.ask(w.v, command, 5 * kWindow, kBlock, volume::kFua)), 0, "with FUA");
      w.lose_power(seed);
      if (!TAP_OK(w.is(w.v, 5 * kWindow, kBlock, 0), "zero, seed " + std::to_string(seed))) return;
    }
  }
}

TAP_TEST(
    "A5c a round with a cut-off that failed although its batch is there: no late punch of the own slot") {
  for (const bool base : {false, true}) {
    Scene w(lazy());
    if (base) {
      w.put(w.v, 5 * kWindow, kBlock, 9);
      w.snapshot({{w.v, "s"}});
      w.round(w.v);
    }
    w.put(w.v, 6 * kWindow, kBlock, 1);
    w.trim(w.v, 0, 80 * kWindow);
    w.put(w.v, 5 * kWindow, kBlock, 2);  // a new own slot
    w.disk().faults().add({.actions = only(Action::sync), .path = "level", .times = 1, .error = EIO});
    TAP_OK(w.round(w.v) != 0, "the batch is there, but failed");
    w.trim(w.v, 5 * kWindow, kBlock);
    TAP_EQ(w.round(w.v), 0, "comes again");
    // Between the round and the punch:
    bool wrote = false;
    w.at = [&](const std::string& what) {
      if (what == "grace over" && !std::exchange(wrote, true))
        w.put(w.v, 5 * kWindow, kBlock, 3), w.flush(w.v);
    };
    TAP_EQ(w.punch_pending(), 0, "punched");
    TAP_OK(wrote, "wrote");
    TAP_OK(w.is(w.v, 5 * kWindow, kBlock, 3), "what was written and flushed");
  }
}

TAP_TEST("a cut-off gives back the places of data that no round had stored") {
  for (const bool stored : {true, false}) {
    Scene w(lazy());
    w.put(w.v, 90 * kWindow, kBlock, 1);
    w.round(w.v);
    const uint64_t before = w.disk().allocated_bytes();
    w.put(w.v, 0, 80 * kWindow, 2);
    if (stored) w.round(w.v);
    w.trim(w.v, 0, 80 * kWindow);
    w.round(w.v);
    w.punch_pending();
    const uint64_t after = w.disk().allocated_bytes();
    TAP_OK(after - before < 10 * kWindow, "given back");
  }
}

TAP_TEST("J1a an entry that did not count at one crash does not come alive at the next") {
  for (uint64_t seed = 1; seed <= 3 * kSeeds; seed++) {
    Scene w(lazy(seed));
    w.put(w.v, 0, kBlock, 1);
    w.snapshot({{w.v, "s"}});
    w.put(w.v, 0, kBlock, 2);  // an entry, never committed
    w.lose_power(seed);
    const Bytes after = w.read(w.v, 0, kBlock);
    TAP_OK(Scene::either(after, kBlock, 1, 2), "old or new");
    w.put(w.v, 5 * kWindow, kBlock, 3);
    TAP_EQ(w.flush(w.v), 0, "a commit record behind it");
    if (seed % 2)
      w.lose_power(seed + 100);
    else
      w.die(seed + 100);
    if (!TAP_OK(w.read(w.v, 0, kBlock) == after && w.is(w.v, 5 * kWindow, kBlock, 3),
                "as it was, seed " + std::to_string(seed)))
      return;
  }
}

TAP_TEST("J1c a version number that folded is taken again: what folded stays in the frozen version") {
  for (uint64_t seed = 1; seed <= kSeeds; seed++) {
    Scene w(at_disk(seed));
    w.put(w.v, 0, 3 * kBlock, 1);
    w.flush(w.v);
    before_the_cut(w, "s", [&] {
      w.fill(w.v, 0, kBlock, 2);
      w.finish(Action::write);
    });
    w.die(seed);  // the cut is not there, or is: entries of the new version count either way
    TAP_OK(w.is(w.v, 0, kBlock, 2), "counts");
    TAP_EQ(w.snapshot({{w.v, "t"}}), 0, "the same number ends now");
    w.put(w.v, 0, kBlock, 3);
    w.die(seed);
    TAP_OK(w.snapshot_is("t", 0, kBlock, 2) && w.snapshot_is("t", kBlock, 2 * kBlock, 1),
           "the snapshot did not change");
    if (!TAP_OK(w.is(w.v, 0, kBlock, 3), "the volume, seed " + std::to_string(seed))) return;
  }
}

TAP_TEST(
    "J3a zero, commit, write, round, overwrite, flush: replay does not put the zero over what LevelDB has") {
  for (uint64_t seed = 1; seed <= kSeeds; seed++) {
    Scene w(lazy(seed));
    w.put(w.v, 0, kBlock, 1);
    w.trim(w.v, 0, kBlock);
    w.flush(w.v);
    w.put(w.v, 0, kBlock, 2);
    TAP_EQ(w.round(w.v), 0, "round");
    w.put(w.v, 0, kBlock, 3);
    TAP_EQ(w.flush(w.v), 0, "one fdatasync");
    w.lose_power(seed);
    if (!TAP_OK(w.is(w.v, 0, kBlock, 3), "flushed, seed " + std::to_string(seed))) return;
  }
}

TAP_TEST("J3b an entry from before a shrink is not replayed behind it") {
  Scene w;
  w.put(w.v, 50 * kWindow, kBlock, 1);
  TAP_EQ(w.resize(w.v, 10 * kWindow), 0, "shrink");
  w.die();
  TAP_EQ(w.resize(w.v, kVolume), 0, "grow");
  TAP_OK(w.is(w.v, 50 * kWindow, kBlock, 0), "zero");
  w.lose_power();
  TAP_OK(w.is(w.v, 50 * kWindow, kBlock, 0), "zero");
}

TAP_TEST(
    "J3c J3d a snapshot deleted and merged is not resurrected by its cut or its entries, still in the ring") {
  Scene w;
  w.put(w.v, 0, 2 * kBlock, 1);
  TAP_EQ(w.snapshot({{w.v, "s"}}), 0, "snapshot");
  w.put(w.v, 0, kBlock, 2);
  TAP_EQ(w.remove_snapshot("s"), 0, "deleted");
  TAP_EQ(w.reclaim(), 0, "merged");
  TAP_EQ(w.punch_pending(), 0, "punched");
  w.put(w.v, kBlock, kBlock, 3);
  w.die();
  TAP_OK(!w.level.snapshots.contains("s"), "gone");
  TAP_OK(w.is(w.v, 0, kBlock, 2) && w.is(w.v, kBlock, kBlock, 3), "the volume");
  TAP_EQ(w.level.lines.at(w.level.containers.at(w.v).line).live.size(), 1, "one version");
}

TAP_TEST(
    "J4 overwrite of a committed block, kill -9, flush, loss of power: the flush spoke for what the dead "
    "process wrote") {
  for (uint64_t seed = 1; seed <= kSeeds; seed++) {
    Scene w(lazy(seed));
    w.put(w.v, 0, kBlock, 1);
    w.flush(w.v);
    TAP_EQ(w.round(w.v), 0, "round");
    w.put(w.v, 0, kBlock, 2);
    w.die(seed);
    TAP_EQ(w.flush(w.v), 0, "flush");
    w.lose_power(seed);
    if (!TAP_OK(w.is(w.v, 0, kBlock, 2), "there, seed " + std::to_string(seed))) return;
  }
}

TAP_TEST(
    "J7 blocks adopted from another container lie in its file and are never written, trimmed or synced "
    "there") {
  Scene w;
  w.put(w.v, 0, 4 * kBlock, 1);
  w.snapshot({{w.v, "s"}});
  const uint64_t clone = w.clone("s");
  w.put(clone, 10 * kWindow, kBlock, 1);
  const std::string foreign = w.path_of(w.level.containers.at(w.v).files.back());
  TAP_EQ(w.remove_volume(w.v), 0, "the source is deleted");
  TAP_EQ(w.reclaim(), 0, "its snapshot is merged into the clone");
  TAP_EQ(w.punch_pending(), 0, "punched");
  TAP_OK(w.level.snapshots.empty() && w.level.lines.size() == 1, "one line is left");
  bool touched = false;
  w.disk().before([&](const io::Event& event) {
    touched |= event.path == foreign && event.action != Action::read && event.action != Action::open;
    return io::Order::proceed;
  });
  TAP_EQ(w.put(clone, 0, kBlock, 2), 0, "overwrite");
  TAP_EQ(w.put(clone, kBlock + 100, 100, 3), 0, "partial");
  TAP_EQ(w.trim(clone, 2 * kBlock, kBlock), 0, "trim");
  TAP_EQ(w.flush(clone), 0, "flush");
  TAP_EQ(w.round(clone), 0, "round");
  TAP_OK(!touched, "not touched");
  w.disk().before({});
  TAP_EQ(w.level.punches.size(), 3, "the old places are pending punches");
  TAP_EQ(w.punch_pending(), 0, "and go");
  const auto right = [&] {
    return w.is(clone, 0, kBlock, 2) && w.is(clone, kBlock + 100, 100, 3) && w.is(clone, kBlock, 100, 1) &&
           w.is(clone, 2 * kBlock, kBlock, 0) && w.is(clone, 3 * kBlock, kBlock, 1);
  };
  TAP_OK(right(), "content");
  w.lose_power();
  TAP_OK(right(), "after a loss of power");
}

TAP_TEST("J8 trim, then a write to the same place, kill -9: replay punches nothing") {
  for (uint64_t seed = 1; seed <= kSeeds; seed++) {
    Scene w(lazy(seed));
    w.put(w.v, 0, 2 * kBlock, 1);
    w.flush(w.v);
    w.trim(w.v, 0, 2 * kBlock);
    w.put(w.v, 0, kBlock, 2);
    w.die(seed);
    TAP_OK(w.is(w.v, 0, kBlock, 2) && w.is(w.v, kBlock, kBlock, 0), "after kill -9");
    w.flush(w.v);
    w.lose_power(seed);
    if (!TAP_OK(w.is(w.v, 0, kBlock, 2) && w.is(w.v, kBlock, kBlock, 0),
                "after a loss of power, seed " + std::to_string(seed)))
      return;
  }
}

TAP_TEST("J8 a first write writes the whole block: what its place held is never seen") {
  Scene w(lazy());
  w.put(w.v, 0, kBlock, 1);
  w.disk().faults().add({.actions = io::only(Action::punch), .path = "/extents", .error = EIO});
  TAP_EQ(w.trim(w.v, 0, kBlock), 0, "a trim whose punch fails");
  TAP_OK(w.is(w.v, 0, kBlock, 0), "reads zero");
  w.put(w.v, 100, 100, 2);
  TAP_OK(w.is(w.v, 0, 100, 0) && w.is(w.v, 100, 100, 2) && w.is(w.v, 200, kBlock - 200, 0),
         "and zero around a partial write");
}

TAP_TEST("J10b a FUA write of a new block commits nothing whose data is not stable") {
  for (uint64_t seed = 1; seed <= 3 * kSeeds; seed++) {
    Scene w(lazy(seed));
    w.put(w.v, 0, kBlock, 1);
    w.snapshot({{w.v, "s"}});
    w.put(w.v, 0, kBlock, 2);
    TAP_EQ(w.put(w.v, 5 * kWindow, kBlock, 3, volume::kFua), 0, "FUA");
    w.lose_power(seed);
    TAP_OK(w.is(w.v, 5 * kWindow, kBlock, 3), "stable");
    if (!TAP_OK(Scene::either(w.read(w.v, 0, kBlock), kBlock, 1, 2),
                "the other is old or new, seed " + std::to_string(seed)))
      return;
  }
}

TAP_TEST(
    "J10e one of two volumes cannot be made stable: no snapshot of either, and the other goes on unharmed") {
  for (uint64_t seed = 1; seed <= kSeeds; seed++) {
    Scene w(lazy(seed));
    const uint64_t other = w.create(kVolume);
    for (const uint64_t volume : {w.v, other}) w.put(volume, 0, 2 * kBlock, 1);
    TAP_EQ(w.flush(other), 0, "flush");
    w.put(other, 0, kBlock, 2);
    const std::string file = w.path_of(w.level.containers.at(other).files.back());
    w.disk().faults().add({.actions = io::only(Action::sync), .path = file, .error = EIO});
    TAP_EQ(w.snapshot({{w.v, "a"}, {other, "b"}}), EIO, "refused");
    TAP_OK(w.level.snapshots.empty(), "none of them is listed");
    TAP_EQ(w.put(w.v, kBlock, kBlock, 3), 0, "the sound one writes");
    TAP_EQ(w.flush(w.v), 0, "and flushes");
    w.settle();
    while (w.chores()) w.settle();
    const auto right = [&] {
      return w.is(w.v, 0, kBlock, 1) && w.is(w.v, kBlock, kBlock, 3) &&
             Scene::either(w.read(other, 0, kBlock), kBlock, 1, 2) && w.is(other, kBlock, kBlock, 1);
    };
    TAP_OK(right(), "content");
    w.lose_power(seed);
    TAP_OK(right(), "after a loss of power");
    TAP_EQ(w.snapshot({{w.v, "c"}}), 0, "a snapshot of it alone");
    if (!TAP_OK(w.snapshot_is("c", 0, kBlock, 1), "seed " + std::to_string(seed))) return;
  }
}

TAP_TEST(
    "J11 the ring is full while an old write hangs and its cut waits: it has its room, the cut its own, then "
    "all go on") {
  WorldOptions options = at_disk();
  options.journal_cells = 64;
  Scene w(options);
  w.deliver = false;
  const auto old = w.fill(w.v, 0, kBlock, 1);
  std::vector<std::shared_ptr<Io>> many;
  bool raised = false;
  w.raised = [&](uint64_t) { raised = true; };
  w.idle = [&] {
    if (!raised || !many.empty()) return false;
    for (uint64_t i = 1; i < 90; i++) many.push_back(w.fill(w.v, i * kWindow, kBlock, 2));
    while (w.finish(Action::write, 1)) {
    }
    size_t answered = 0;
    for (const auto& io : many) answered += io->answered;
    TAP_OK(answered > 30 && answered < 60,
           "the new generation fills the ring and waits: " + std::to_string(answered));
    TAP_OK(!old->answered, "the old one hangs still");
    return w.deliver = true;
  };
  TAP_EQ(w.snapshot({{w.v, "s"}}), 0, "the cut is written");
  TAP_OK(old->answered && old->error == 0, "the old write too");
  for (const auto& io : many) TAP_EQ(w.wait(io), 0, "everybody gets through");
  TAP_OK(w.snapshot_is("s", 0, kBlock, 1) && w.snapshot_is("s", kWindow, kBlock, 0), "the snapshot");
  w.die();
  TAP_OK(w.is(w.v, 89 * kWindow, kBlock, 2), "the volume");
}

TAP_TEST(
    "J12a what an open map has adopted it does not write in place: a crash before the round leaves the "
    "snapshot as it was") {
  for (const CrashKind kind : {CrashKind::power_loss, CrashKind::process_death}) {
    for (uint64_t seed = 1; seed <= kSeeds; seed++) {
      Scene w(lazy(seed));
      w.put(w.v, 0, 4 * kBlock, 1);
      w.snapshot({{w.v, "s"}});
      w.put(w.v, kBlock, kBlock, 2);
      TAP_EQ(w.remove_snapshot("s"), 0, "deleted");
      // Whoever read the snapshot through another clone would see it change: look at its records, from
      // before, after the crash.
      const Level before = w.level;
      w.at = [&](const std::string& what) {
        if (what != "adopted") return;
        TAP_OK(w.fill(w.v, 0, kBlock, 9)->answered, "an overwrite of an adopted block");
        w.ask(w.v, Command::trim, 2 * kBlock, kBlock);
        w.disk().crash_at(w.disk().changes() + 1 + seed % 4);
      };
      TAP_EQ(w.reclaim(), kCrashed, "cut short");
      w.at = nullptr;
      const VersionId at{w.level.containers.at(w.v).line, 1};
      const bool there = w.level.lines.at(at.line).records.contains({0, 1});
      w.crash(kind, seed);
      TAP_EQ(w.start(), 0, "start");
      if (there) {
        const auto clone = w.level.add_container(kVolume, at);  // a reader of the deleted version alone
        w.crash(CrashKind::process_death, seed);
        TAP_EQ(w.start(), 0, "start");
        TAP_OK(w.is(clone, 0, 4 * kBlock, 1), "the deleted version reads as ever");
      }
      const bool right =
          Scene::either(w.read(w.v, 0, kBlock), kBlock, 1, 9) && w.is(w.v, kBlock, kBlock, 2) &&
          Scene::either(w.read(w.v, 2 * kBlock, kBlock), kBlock, 1, 0) && w.is(w.v, 3 * kBlock, kBlock, 1);
      if (!TAP_OK(right, "the volume, seed " + std::to_string(seed))) return;
    }
  }
}

TAP_TEST("J15 a clean stop empties the journal: a store that was stopped may be started anywhere") {
  for (uint64_t seed = 1; seed <= kSeeds; seed++) {
    Scene w(lazy(seed));
    w.put(w.v, 0, kBlock, 1);
    TAP_EQ(w.stop(), 0, "stop");
    w.crash(CrashKind::power_loss, seed);
    TAP_EQ(w.start(), 0, "start on another machine");
    if (!TAP_OK(w.is(w.v, 0, kBlock, 1), "answered and stopped in order, seed " + std::to_string(seed)))
      return;
  }
}

TAP_TEST("J15 another boot id over the same page cache: only what was committed counts") {
  Scene w(lazy());
  w.put(w.v, 0, kBlock, 1);
  w.flush(w.v);
  w.snapshot({{w.v, "s"}});
  w.put(w.v, 0, kBlock, 2);
  w.boot_elsewhere();
  w.die();
  TAP_OK(w.is(w.v, 0, kBlock, 1), "the uncommitted write does not count");
}

}  // namespace

int main() { return cellblock::test::run(); }
