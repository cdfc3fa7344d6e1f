// What goes wrong, at every place it can: errors at the nth operation and crashes at the kth change of every
// scenario, and containers that fail.
#include <cerrno>
#include <functional>

#include "test/core_scene.h"

using namespace cellblock;
using namespace cellblock::test;
using io::Action;
using io::CrashKind;
using volume::Command;

namespace {

// Blocks of the scenarios' volumes and what they hold when nothing went wrong.
constexpr int kOld = 1, kNew = 2;

// A scenario changes what prepare() left behind. Whatever happens on the way: blocks 0 and 1 of a volume hold
// kOld or kNew (TRIM: zero), sector by sector; what it answered stands; the snapshot "before" holds kOld for
// ever.
struct Scenario {
  const char* name;
  std::function<int(Scene&)> run;  // errno or kCrashed
  // What must be so when run() answered 0.
  std::function<bool(Scene&)> done;
  bool trims = false;
};

struct Both : Scene {
  explicit Both(WorldOptions options = {}) : Scene(options) {
    other = create(kVolume);
    for (const uint64_t volume : {v, other}) {
      put(volume, 0, 4 * kBlock, kOld);
      put(volume, 70 * kWindow, kBlock, kOld);
      put(volume, 99 * kWindow, kBlock, kOld);
    }
    TAP_EQ(snapshot({{v, "before"}}), 0, "a snapshot");
    TAP_EQ(flush(other), 0, "flush");
    TAP_EQ(round(v), 0, "round");
  }
  uint64_t other = 0;
};

const Scenario kScenarios[] = {
    {"flush",
     [](Scene& w) {
       if (const int error = w.put(w.v, 0, 2 * kBlock, kNew)) return error;
       return w.flush(w.v);
     },
     [](Scene& w) { return w.is(w.v, 0, 2 * kBlock, kNew); }},
    {"FUA",
     [](Scene& w) {
       if (const int error = w.put(w.v, 0, kBlock, kNew, volume::kFua)) return error;
       return w.put(w.v, 0, 2 * kBlock, kNew, volume::kFua);
     },
     [](Scene& w) { return w.is(w.v, 0, 2 * kBlock, kNew); }},
    {"round",
     [](Scene& w) {
       if (const int error = w.put(w.v, 0, 2 * kBlock, kNew)) return error;
       return w.round(w.v);
     },
     [](Scene& w) { return w.is(w.v, 0, 2 * kBlock, kNew); }},
    {"snapshot",
     [](Scene& w) {
       if (const int error = w.put(w.v, 0, 2 * kBlock, kNew)) return error;
       if (const int error = w.snapshot({{w.v, "new"}})) return error;
       w.put(w.v, 0, 2 * kBlock, kOld);
       return 0;
     },
     [](Scene& w) {
       return w.snapshot_is("new", 0, 2 * kBlock, kNew) && w.snapshot_is("new", 2 * kBlock, kBlock, kOld);
     }},
    {"cut of two volumes",
     [](Scene& w) {
       const uint64_t other = w.level.containers.rbegin()->first;
       if (const int error = w.put(w.v, 0, 2 * kBlock, kNew)) return error;
       if (const int error = w.put(other, 0, 2 * kBlock, kNew)) return error;
       return w.snapshot({{w.v, "one"}, {other, "two"}});
     },
     [](Scene& w) {
       return w.snapshot_is("one", 0, 2 * kBlock, kNew) && w.snapshot_is("two", 0, 2 * kBlock, kNew);
     }},
    {"trim",
     [](Scene& w) {
       if (const int error = w.put(w.v, 0, kBlock, kNew)) return error;
       if (const int error = w.trim(w.v, 0, 2 * kBlock)) return error;
       if (const int error = w.trim(w.v, kWindow, 98 * kWindow)) return error;
       return w.flush(w.v);
     },
     [](Scene& w) {
       return w.is(w.v, 0, 2 * kBlock, 0) && w.is(w.v, 70 * kWindow, kBlock, 0) &&
              w.is(w.v, 99 * kWindow, kBlock, kOld);
     },
     true},
    {"resize",
     [](Scene& w) {
       if (const int error = w.resize(w.v, 60 * kWindow + 100)) return error;
       return w.resize(w.v, kVolume);
     },
     [](Scene& w) { return w.is(w.v, 70 * kWindow, kBlock, 0) && w.is(w.v, 99 * kWindow, kBlock, 0); }, true},
    {"delete of a snapshot",
     [](Scene& w) {
       if (const int error = w.put(w.v, 0, 2 * kBlock, kNew)) return error;
       if (const int error = w.snapshot({{w.v, "middle"}})) return error;
       if (const int error = w.put(w.v, 0, kBlock, kOld)) return error;
       if (const int error = w.remove_snapshot("middle")) return error;
       if (const int error = w.reclaim()) return error;
       if (const int error = w.punch_pending()) return error;
       return w.flush(w.v);
     },
     [](Scene& w) { return w.is(w.v, 0, kBlock, kOld) && w.is(w.v, kBlock, kBlock, kNew); }},
};

// What holds however a scenario ended.
bool sound(Both& w, const Scenario& scenario, const std::string& when) {
  const uint64_t size = w.volume(w.v).size();
  bool right = true;
  for (const uint64_t at : {uint64_t{0}, kBlock}) {
    const Bytes block = w.read(w.v, at, kBlock);
    bool fits = block.size() == kBlock;
    for (uint64_t sector = 0; fits && sector < kBlock; sector += 512) {
      const int value = static_cast<int>(block[sector]);
      fits = (value == kOld || value == kNew || (scenario.trims && value == 0)) &&
             Scene::all(Bytes(block.begin() + static_cast<long>(sector),
                              block.begin() + static_cast<long>(sector) + 512),
                        512, value);
    }
    right &= TAP_OK(fits, std::string(scenario.name) + ": block is old or new, " + when);
  }
  right &= TAP_OK(w.is(w.v, 2 * kBlock, 2 * kBlock, kOld),
                  std::string(scenario.name) + ": its neighbours, " + when);
  if (size > 99 * kWindow + kBlock && !scenario.trims) {
    right &= TAP_OK(w.is(w.v, 99 * kWindow, kBlock, kOld),
                    std::string(scenario.name) + ": the last window, " + when);
  }
  right &= TAP_OK(w.is(w.other, 2 * kBlock, 2 * kBlock, kOld),
                  std::string(scenario.name) + ": the other volume, " + when);
  right &= TAP_OK(
      w.snapshot_is("before", 0, 4 * kBlock, kOld) && w.snapshot_is("before", 70 * kWindow, kBlock, kOld),
      std::string(scenario.name) + ": the snapshot of before, " + when);
  right &= TAP_OK(w.level.snapshots.contains("one") == w.level.snapshots.contains("two"),
                  "all members of a cut or none, " + when);
  return right;
}

WorldOptions variant(bool direct, uint64_t seed) {
  WorldOptions options;
  options.direct = direct;
  options.seed = seed;
  options.records_a_batch = 1;
  return options;
}

void crash_everywhere(CrashKind kind) {
  for (const Scenario& scenario : kScenarios) {
    for (const bool direct : {false, true}) {
      for (uint64_t k = 1;; k++) {
        Both w(variant(direct, k));
        w.disk().crash_at(w.disk().changes() + k);
        const int result = scenario.run(w);
        const bool whole = !w.crashed();
        if (whole) TAP_EQ(result, 0, std::string(scenario.name) + " without a crash");
        w.crash(kind, k);
        TAP_EQ(w.start(), 0, "start");
        const std::string when = "crash at change " + std::to_string(k) + (direct ? ", direct" : "");
        if (!sound(w, scenario, when)) return;
        if (result == 0 &&
            !TAP_OK(scenario.done(w), std::string(scenario.name) + " was answered and stands, " + when))
          return;
        // And once more, from what recovery left.
        TAP_EQ(w.flush(w.v), 0, "flush after the restart");
        w.lose_power(k);
        if (!sound(w, scenario, "again, " + when)) return;
        if (result == 0 && !TAP_OK(scenario.done(w), std::string(scenario.name) + " stands twice, " + when))
          return;
        if (whole) break;
      }
    }
  }
}

TAP_TEST("a loss of power at every change of every scenario") { crash_everywhere(CrashKind::power_loss); }

TAP_TEST("the death of the process at every change of every scenario") {
  crash_everywhere(CrashKind::process_death);
}

TAP_TEST("a crash at every change of the start itself") {
  for (const CrashKind kind : {CrashKind::power_loss, CrashKind::process_death}) {
    for (uint64_t k = 1;; k++) {
      Both w(variant(false, k));
      w.put(w.v, 0, 2 * kBlock, kNew);
      TAP_EQ(w.flush(w.v), 0, "flush");
      w.put(w.other, 0, kBlock, kNew);
      w.crash(CrashKind::process_death, k);
      w.disk().crash_at(w.disk().changes() + k);
      const bool whole = w.start() == 0 && !w.crashed();
      w.crash(kind, k);
      TAP_EQ(w.start(), 0, "start after a crash at change " + std::to_string(k));
      TAP_OK(w.is(w.v, 0, 2 * kBlock, kNew), "the flushed blocks");
      const bool kept = kind == CrashKind::process_death
                            ? w.is(w.other, 0, kBlock, kNew)
                            : Scene::either(w.read(w.other, 0, kBlock), kBlock, kOld, kNew);
      if (!TAP_OK(kept, "what was answered survives the death of the process, change " + std::to_string(k)))
        return;
      if (whole) break;
    }
  }
}

// The nth operation of a kind goes wrong; the world lives on, then dies, then loses power.
void fail_everywhere(uint32_t actions, int error, const std::string& path) {
  for (const Scenario& scenario : kScenarios) {
    for (const bool direct : {false, true}) {
      for (uint64_t n = 0;; n++) {
        Both w(variant(direct, n + 1));
        w.disk().faults().add({.actions = actions, .path = path, .skip = n, .error = error});
        const int result = scenario.run(w);
        const bool hit = w.disk().faults().left() == 0;
        w.disk().faults().clear();
        TAP_OK(result != kStuck, std::string(scenario.name) + " ends, error " + std::to_string(error) +
                                     " at operation " + std::to_string(n + 1));
        if (!hit) TAP_EQ(result, 0, std::string(scenario.name) + " without an error");
        w.settle();
        while (w.chores()) w.settle();
        const std::string when = std::string(io::name_of(Action::write)) + "... error " +
                                 std::to_string(error) + " at operation " + std::to_string(n + 1) +
                                 (direct ? ", direct" : "");
        if (!sound(w, scenario, when)) return;
        if (result == 0 &&
            !TAP_OK(scenario.done(w), std::string(scenario.name) + " was answered and stands, " + when))
          return;
        w.die(n + 1);
        if (!sound(w, scenario, "then the process died, " + when)) return;
        w.lose_power(n + 1);
        if (!sound(w, scenario, "then power went, " + when)) return;
        if (result == 0 &&
            !TAP_OK(scenario.done(w), std::string(scenario.name) + " stands after all, " + when))
          return;
        if (!hit) break;
      }
    }
  }
}

TAP_TEST("EIO at the nth operation on the data") {
  fail_everywhere(io::kAnyAction & ~io::only(Action::read), EIO, "/extents");
}

TAP_TEST("ENOSPC at the nth operation on the data") {
  fail_everywhere(Action::write | Action::write_dsync | Action::zero_range | Action::punch, ENOSPC,
                  "/extents");
}

TAP_TEST("a short transfer at the nth operation on the data is no error at all") {
  for (const Scenario& scenario : kScenarios) {
    for (const bool direct : {false, true}) {
      Both w(variant(direct, 1));
      w.disk().faults().add({.actions = Action::read | Action::write | Action::write_dsync,
                             .path = "/extents",
                             .times = 1000,
                             .error = 0});
      TAP_EQ(scenario.run(w), 0, std::string(scenario.name) + " with every transfer short");
      TAP_OK(scenario.done(w), scenario.name);
      sound(w, scenario, "short transfers");
    }
  }
}

TAP_TEST("EIO and ENOSPC at the nth batch of LevelDB") {
  fail_everywhere(io::kAnyAction, EIO, "/store/level");
  fail_everywhere(io::kAnyAction, ENOSPC, "/store/level");
}

TAP_TEST("EIO at a read of data fails that request and nothing else") {
  for (const bool direct : {false, true}) {
    Both w(variant(direct, 1));
    w.disk().faults().add({.actions = io::only(Action::read), .path = "/extents", .error = EIO});
    TAP_EQ(w.wait(w.ask(w.v, Command::read, 0, kBlock)), EIO, "read");
    TAP_OK(w.is(w.v, 0, kBlock, kOld), "again");
    // Buffered, it is tried inline first, then by the engine.
    w.disk().faults().add(
        {.actions = io::only(Action::read), .path = "/extents", .times = direct ? 1u : 2u, .error = EIO});
    TAP_EQ(w.put(w.v, 100, 100, kNew), EIO, "a partial write reads what it does not cover");
    TAP_OK(w.is(w.v, 0, kBlock, kOld), "and has changed nothing");
    TAP_EQ(w.put(w.v, 100, 100, kNew), 0, "again");
    TAP_OK(w.is(w.v, 100, 100, kNew) && w.is(w.v, 0, 100, kOld), "written");
  }
}

// ---- containers that fail ----

TAP_TEST(
    "A6 D8 a failed write-back fails the container: FAILED is durable before EIO is answered, the others go "
    "on") {
  for (uint64_t seed = 1; seed <= 8; seed++) {
    WorldOptions options = variant(false, seed);
    options.held = true;
    Both w(options);
    w.put(w.v, 0, kBlock, kNew);
    w.put(w.other, 0, kBlock, kNew);
    w.deliver = false;
    const auto flush = w.ask(w.v, Command::flush);
    w.disk().faults().add({.actions = io::only(Action::sync), .path = "/extents", .error = EIO});
    w.finish(Action::sync);
    TAP_OK(!flush->answered, "not answered before FAILED is durable");
    TAP_EQ(w.waiting(Action::journal_sync), 1, "it is on its way");
    w.finish(Action::journal_sync);
    TAP_OK(flush->answered && flush->error == EIO, "EIO");
    w.deliver = true;
    TAP_OK(w.volume(w.v).read_only() && w.volume(w.v).failed(), "read-only");
    TAP_EQ(w.put(w.v, 0, kBlock, 3), EIO, "no writes");
    TAP_EQ(w.trim(w.v, 0, kBlock), EIO, "no trims");
    TAP_EQ(w.flush(w.v), EIO, "a flush never succeeds again");
    w.settle();
    while (w.chores()) w.settle();
    TAP_OK(w.is(w.v, 0, kBlock, kOld) && w.is(w.v, kBlock, 3 * kBlock, kOld),
           "reads go on with what was committed");
    TAP_EQ(w.put(w.other, kBlock, kBlock, kNew), 0, "the other volume writes");
    TAP_EQ(w.flush(w.other), 0, "and flushes");
    // Void at every later start, whatever kind.
    for (int start = 0; start < 3; start++) {
      if (start == 1)
        w.die(seed);
      else
        w.lose_power(seed);
      TAP_OK(w.is(w.v, 0, kBlock, kOld), "the void write does not come back, start " + std::to_string(start));
      TAP_EQ(w.put(w.v, 0, kBlock, 3), EPERM, "read-only until it is repaired");
      TAP_OK(w.is(w.other, 0, 2 * kBlock, kNew), "the other volume");
    }
  }
}

TAP_TEST("J9a a sync that failed is not laundered by a restart in the same boot before LevelDB knew") {
  for (uint64_t seed = 1; seed <= 8; seed++) {
    Both w(variant(false, seed));
    w.put(w.v, 0, kBlock, kNew);
    w.disk().faults().add({.actions = io::only(Action::sync), .path = "/extents", .error = EIO});
    TAP_EQ(w.flush(w.v), EIO, "failed");
    w.die(seed);  // at once: only the journal knows
    TAP_OK(w.is(w.v, 0, kBlock, kOld), "void");
    w.lose_power(seed);
    TAP_OK(w.is(w.v, 0, kBlock, kOld), "and after a loss of power");
  }
}

TAP_TEST("J9b a FUA write takes the error a flush would have got: the flush fails too") {
  for (uint64_t seed = 1; seed <= 8; seed++) {
    WorldOptions options = variant(false, seed);
    options.held = true;
    Both w(options);
    TAP_EQ(w.put(w.other, 0, 2 * kBlock, kOld), 0, "owned");
    TAP_EQ(w.flush(w.other), 0, "committed");
    TAP_EQ(w.put(w.other, 10 * kWindow, kBlock, kNew), 0, "not flushed");
    const uint64_t file = w.level.containers.at(w.other).files.back();
    w.disk().fail_writeback(w.path_of(file), EIO);
    w.deliver = false;
    const auto fua = w.fill(w.other, 0, kBlock, kNew, volume::kFua);
    const auto flush = w.ask(w.other, Command::flush);
    TAP_EQ(w.waiting(Action::write_dsync), 1, "an overwrite of a committed block");
    TAP_EQ(w.waiting(Action::sync), 1, "beside a flush");
    TAP_OK(w.finish(Action::write_dsync), "the write hears of the error, once");
    TAP_OK(w.finish(Action::sync), "the sync hears nothing");
    w.deliver = true;
    TAP_EQ(w.wait(fua), EIO, "FUA");
    TAP_EQ(w.wait(flush), EIO, "the flush did not make stable what it was to");
    w.settle();
    while (w.chores()) w.settle();
    TAP_OK(w.is(w.other, 10 * kWindow, kBlock, 0), "what was never stable is void");
    w.lose_power(seed);
    TAP_OK(w.is(w.other, 10 * kWindow, kBlock, 0), "for ever");
  }
}

TAP_TEST(
    "J9b a container that fails while a flush's commit record is at the disk: an answered flush stands, or "
    "is not answered well") {
  for (uint64_t seed = 1; seed <= 8; seed++) {
    WorldOptions options = variant(false, seed);
    options.held = true;
    Both w(options);
    TAP_EQ(w.flush(w.other), 0, "committed");
    TAP_EQ(w.put(w.other, 10 * kWindow, kBlock, kNew), 0, "not flushed");
    w.deliver = false;
    const auto flush = w.ask(w.other, Command::flush);
    TAP_OK(w.finish(Action::sync), "its data is stable");
    TAP_EQ(w.waiting(Action::journal_sync), 1, "its commit record is at the disk");
    const auto fua = w.fill(w.other, 0, kBlock, kNew, volume::kFua);
    w.disk().faults().add({.actions = io::only(Action::write_dsync), .path = "/extents", .error = EIO});
    TAP_OK(w.finish(Action::write_dsync), "another write fails the container");
    w.deliver = true;
    TAP_EQ(w.wait(fua), EIO, "FUA");
    const int answer = w.wait(flush);
    if (seed % 2) {  // else only the journal knows when the process dies
      w.settle();
      while (w.chores()) w.settle();
    }
    const auto kept = [&](const std::string& when) {
      const Bytes got = w.read(w.other, 10 * kWindow, kBlock);
      const bool right = answer == 0 ? Scene::all(got, kBlock, kNew) : Scene::either(got, kBlock, 0, kNew);
      TAP_OK(right, "what was answered is there, " + when);
    };
    if (seed % 2) kept("at once");
    w.die(seed);
    kept("after the death of the process");
    w.lose_power(seed);
    kept("after a loss of power");
  }
}

TAP_TEST("J9b the error a FUA write takes from write-back may be ENOSPC: the flush fails too") {
  for (uint64_t seed = 1; seed <= 4; seed++) {
    WorldOptions options;
    options.seed = seed;
    options.write_back_percent = 0;
    Scene w(options);
    w.put(w.v, 0, 2 * kBlock, 1);
    w.flush(w.v);
    w.put(w.v, 10 * kWindow, kBlock, 2);  // answered, not flushed
    const uint64_t file = w.level.containers.at(w.v).files.back();
    w.disk().fail_writeback(w.path_of(file), ENOSPC);  // a thin pool that is full
    TAP_EQ(w.put(w.v, 0, kBlock, 3, volume::kFua), EIO, "FUA");
    const int flush = w.flush(w.v);
    w.settle();
    w.lose_power(seed);
    if (!TAP_OK(flush != 0 || w.is(w.v, 10 * kWindow, kBlock, 2),
                "what an answered flush promised, seed " + std::to_string(seed)))
      return;
  }
}

TAP_TEST("D8 a failed container whose entries LevelDB cannot take: reads get EIO, and go on when it can") {
  for (uint64_t seed = 1; seed <= 8; seed++) {
    Both w(variant(false, seed));
    w.put(w.v, 0, kBlock, kNew);
    w.disk().faults().add({.actions = io::only(Action::sync), .path = "/extents", .error = EIO});
    w.disk().faults().add({.actions = io::only(Action::sync), .path = "level", .times = 1, .error = EIO});
    TAP_EQ(w.flush(w.v), EIO, "failed");
    const auto waiting = w.ask(w.v, Command::read, 0, kBlock);
    TAP_EQ(w.wait(waiting), EIO, "one that waited");
    const auto later = w.ask(w.v, Command::read, 2 * kBlock, kBlock);
    TAP_OK(!later->answered, "never answered inside its own submit");
    TAP_EQ(w.wait(later), EIO, "one that came then");
    w.volume(w.v).reopen(w.volume(w.v).last_position());
    TAP_OK(w.is(w.v, 0, kBlock, kOld), "what was committed");
    w.die(seed);
    TAP_OK(w.is(w.v, 0, kBlock, kOld), "also at the next start");
  }
}

TAP_TEST("J9c entries of a failed container do not pin the ring") {
  WorldOptions options = variant(false, 1);
  options.journal_cells = 128;
  Both w(options);
  w.put(w.v, 0, kBlock, kNew);
  w.disk().faults().add({.actions = io::only(Action::sync), .path = "/extents", .error = EIO});
  TAP_EQ(w.flush(w.v), EIO, "failed");
  for (uint64_t i = 0; i < 400; i++) {
    if (!TAP_EQ(w.put(w.other, (i % 90) * kWindow + i / 90 * kBlock, kBlock, kNew), 0,
                "the other one writes on and on"))
      return;
  }
}

TAP_TEST(
    "D8 a failed sync of the journal makes the store read-only: nothing is acknowledged any more, reads go "
    "on") {
  for (const bool direct : {false, true}) {
    Both w(variant(direct, 1));
    w.put(w.v, 0, kBlock, kNew);
    w.disk().faults().add({.actions = io::only(Action::journal_sync), .error = EIO});
    TAP_EQ(w.flush(w.v), EIO, "flush");
    TAP_OK(w.journal().broken(), "broken");
    for (const uint64_t volume : {w.v, w.other}) {
      TAP_EQ(w.put(volume, 30 * kWindow, kBlock, kNew), EIO, "a first write");
      TAP_EQ(w.put(volume, 0, kBlock, 3), EIO, "an overwrite");
      TAP_EQ(w.trim(volume, 0, kBlock), EIO, "a trim");
      TAP_EQ(w.trim(volume, 0, kVolume), EIO, "a cut-off");
      TAP_EQ(w.wait(w.ask(volume, Command::write_zeroes, 0, kBlock, volume::kNoHole)), EIO, "zeros");
      TAP_OK(w.flush(volume) == EIO, "flush");
      TAP_OK(w.round(volume) != 0, "round");
    }
    TAP_OK(w.snapshot({{w.v, "s"}}) != 0 && !w.level.snapshots.contains("s"), "no snapshot");
    TAP_OK(w.is(w.v, 0, kBlock, kNew) && w.is(w.other, 0, kBlock, kOld), "reads");
    w.die();
    TAP_OK(w.is(w.v, 0, kBlock, kNew), "what was replied to survives the death of the process");
    TAP_EQ(w.put(w.v, 0, kBlock, 3), 0, "and a new start writes again");
  }
}

TAP_TEST("an extents file that cannot be opened fails the request that needs it, not the process") {
  for (const bool direct : {false, true}) {
    Both w(variant(direct, 1));
    const auto again = [&] {  // in order, so that recovery opens nothing
      TAP_EQ(w.stop(), 0, "stop");
      TAP_EQ(w.start(), 0, "start");
    };
    const auto refused = [&](const std::string& what, const std::function<int()>& request) {
      again();
      w.disk().faults().add({.actions = io::only(Action::open), .path = "/extents", .error = EIO});
      TAP_EQ(request(), EIO, what);
      TAP_EQ(w.disk().faults().left(), 0, "the file was to be opened");
      TAP_EQ(request(), 0, what + ", again");
    };
    refused("an overwrite", [&] { return w.put(w.other, 0, kBlock, kNew); });
    refused("a partial overwrite", [&] { return w.put(w.other, 100, 100, kNew); });
    refused("a first write", [&] { return w.put(w.other, kBlock * 9, kBlock, kNew); });
    refused("zeros that stay allocated",
            [&] { return w.wait(w.ask(w.other, Command::write_zeroes, 0, kBlock, volume::kNoHole)); });
    refused("a read", [&] { return w.wait(w.ask(w.other, Command::read, kBlock, kBlock)); });
    again();
    w.disk().faults().add({.actions = io::only(Action::open), .path = "/extents", .error = EIO});
    TAP_EQ(w.trim(w.other, 2 * kBlock, kBlock), 0, "a trim only keeps its place");
    TAP_OK(w.is(w.other, 2 * kBlock, kBlock, 0), "and the block is zero");
  }
}

TAP_TEST("a volume that was opened read-only writes when it is told to") {
  Both w(variant(false, 1));
  w.put(w.v, 0, kBlock, kNew);
  w.disk().faults().add({.actions = io::only(Action::sync), .path = "/extents", .error = EIO});
  TAP_EQ(w.flush(w.v), EIO, "failed");
  w.die();
  TAP_EQ(w.put(w.v, 0, kBlock, 3), EPERM, "read-only");
  w.volume(w.v).set_read_only(false);  // repaired
  TAP_EQ(w.put(w.v, 0, kBlock, 3), 0, "written");
  TAP_EQ(w.flush(w.v), 0, "flushed");
  w.lose_power();
}

TAP_TEST("D8 a full disk refuses first writes and nothing else, and recovers when there is room") {
  WorldOptions options = variant(false, 1);
  options.reserve_bytes = 1 << 20;
  Both w(options);
  w.disk().set_capacity(w.disk().allocated_bytes() + (512 << 10));
  w.pass(1000);
  TAP_EQ(w.put(w.v, 20 * kWindow, kBlock, kNew), ENOSPC, "a first write, below the reserve");
  TAP_EQ(w.put(w.other, 0, kBlock, kNew), 0, "an overwrite");
  TAP_EQ(w.trim(w.v, 70 * kWindow, kBlock), 0, "a trim");
  TAP_EQ(w.flush(w.v), 0, "a flush");
  TAP_EQ(w.round(w.v), 0, "a round");
  TAP_OK(w.is(w.v, 0, kBlock, kOld), "a read");
  w.disk().set_capacity(uint64_t{1} << 40);
  w.pass(1000);
  TAP_EQ(w.put(w.v, 20 * kWindow, kBlock, kNew), 0, "room again");
  w.disk().set_capacity(w.disk().allocated_bytes());  // full without warning
  TAP_OK(w.put(w.other, 0, kBlock, 3) == 0, "overwrites need no room");
}

TAP_TEST(
    "ENOSPC of a first write in the middle of a request leaves old or new and no record of what is not "
    "there") {
  for (const bool direct : {false, true}) {
    Both w(variant(direct, 1));
    w.disk().set_capacity(w.disk().allocated_bytes() + 20 * 4096);
    TAP_EQ(w.put(w.other, 30 * kWindow, 3 * kWindow, kNew), ENOSPC, "no room for all of it");
    w.disk().set_capacity(uint64_t{1} << 40);
    TAP_OK(Scene::either(w.read(w.other, 30 * kWindow, 3 * kWindow), 3 * kWindow, 0, kNew), "old or new");
    TAP_EQ(w.flush(w.other), 0, "flush");
    w.lose_power();
    TAP_OK(Scene::either(w.read(w.other, 30 * kWindow, 3 * kWindow), 3 * kWindow, 0, kNew),
           "old or new after a loss of power");
  }
}

TAP_TEST(
    "writes that wait for the journal while rounds fail get ENOSPC; overwrites, reads and flushes go on") {
  WorldOptions options = variant(false, 1);
  options.journal_cells = 64;
  Both w(options);
  w.disk().faults().add({.path = "/store/level", .times = 1000, .error = ENOSPC});
  int last = 0;
  for (uint64_t i = 0; i < 200 && last == 0; i++)
    last = w.put(w.other, (i % 90) * kWindow + i / 90 * kBlock, kBlock, kNew);
  TAP_EQ(last, ENOSPC, "the ring is full and cannot be emptied");
  TAP_EQ(w.put(w.other, 0, kBlock, 3), 0, "an overwrite");
  TAP_OK(w.is(w.other, 0, kBlock, 3), "a read");
  TAP_EQ(w.flush(w.other), 0, "a flush");
  w.disk().faults().clear();
  TAP_EQ(w.round(w.other), 0, "a round passes again");
  TAP_EQ(w.round(w.v), 0, "for everybody");
  TAP_EQ(w.put(w.other, 95 * kWindow, kBlock, kNew), 0, "writes go on");
}

TAP_TEST(
    "a file that cannot be added is asked for again; first writes get ENOSPC meanwhile, and none waits for "
    "ever") {
  Both w(variant(false, 1));
  TAP_EQ(w.put(w.other, 0, 2 * kBlock, kNew), 0, "owned");
  TAP_EQ(w.stop(), 0, "stop");
  // The file's length is the high-water mark of its places: this one is full at the next start.
  const uint64_t full = w.level.containers.at(w.other).files.back();
  std::unique_ptr<io::File> file;
  w.disk().open(w.path_of(full), {}, file);
  const std::byte last{};
  file->try_write(&last, 1, std::min(store::kMaxFileBytes, store::kMaxPlaces * kWindow) - 1);
  TAP_EQ(w.start(), 0, "start");
  w.disk().faults().add(
      {.actions = io::only(Action::write), .path = "/store/level", .times = 1000, .error = EIO});
  w.idle = [seconds = 20]() mutable { return seconds-- > 0; };  // each pass of the world takes one
  TAP_EQ(w.put(w.other, 40 * kWindow, kBlock, kNew), ENOSPC, "a first write that needs a place");
  TAP_EQ(w.put(w.other, 41 * kWindow, kBlock, kNew), ENOSPC, "and the next");
  TAP_EQ(w.put(w.other, 0, kBlock, 3), 0, "an overwrite");
  TAP_EQ(w.flush(w.other), 0, "a flush");
  w.disk().faults().clear();
  for (int i = 0; i < 20 && w.level.containers.at(w.other).files.size() == 1; i++) w.chores();
  w.settle();
  TAP_EQ(w.level.containers.at(w.other).files.size(), 2u, "one file more");
  TAP_EQ(w.put(w.other, 40 * kWindow, kBlock, kNew), 0, "first writes go on");
  TAP_EQ(w.flush(w.other), 0, "flushed");
  w.lose_power();
  TAP_OK(w.is(w.other, 40 * kWindow, kBlock, kNew) && w.is(w.other, 0, kBlock, 3), "and there");
}

TAP_TEST(
    "D8 a flush that finds no descriptor left fails alone: the container goes on, the next one makes it all "
    "stable") {
  Both w(variant(false, 1));
  TAP_EQ(w.put(w.other, 0, 2 * kBlock, kNew), 0, "answered");
  TAP_EQ(w.round(w.other), 0, "in LevelDB");
  TAP_EQ(w.put(w.other, 0, kBlock, 3), 0, "an overwrite that only the page cache has");
  w.die();  // from now on every file counts as written, and nobody has opened that one
  const std::string path = w.path_of(w.level.containers.at(w.other).files.back());
  w.disk().faults().add({.actions = io::only(Action::open), .path = path, .times = 2, .error = EMFILE});
  TAP_EQ(w.flush(w.other), EIO, "this flush");
  TAP_OK(w.round(w.other) != 0, "a round, which flushes too");
  TAP_EQ(w.disk().faults().left(), 0, "the file was to be opened");
  TAP_OK(!w.volume(w.other).failed(), "nothing was lost");
  TAP_OK(w.disk().unsynced_sectors(path) > 0, "nothing was promised");
  TAP_EQ(w.flush(w.other), 0, "the next flush");
  TAP_EQ(w.disk().unsynced_sectors(path), 0, "syncs what the first one could not open");
  TAP_EQ(w.put(w.other, 40 * kWindow, kBlock, kNew), 0, "writes go on");
  TAP_EQ(w.flush(w.other), 0, "and flushes");
  w.lose_power();
  TAP_OK(w.is(w.other, 0, kBlock, 3) && w.is(w.other, 40 * kWindow, kBlock, kNew), "all there");
}

TAP_TEST("D8 the directory of a container's first file is synced without a descriptor to spare") {
  Both w(variant(false, 1));
  const uint64_t fresh = w.create(kVolume);
  TAP_EQ(w.put(fresh, 0, kBlock, kNew), 0, "its file is made");
  w.disk().faults().add({.actions = io::only(Action::open), .times = 1000, .error = EMFILE});
  TAP_EQ(w.flush(fresh), 0, "flush");
  w.disk().faults().clear();
  w.lose_power();
  TAP_OK(w.is(fresh, 0, kBlock, kNew), "there");
}

}  // namespace

int main() { return cellblock::test::run(); }
