// Races on purpose: the test holds requests at the disk, faults at the keeper, and says who goes first.
#include <cerrno>
#include <functional>

#include "test/core_scene.h"

using namespace cellblock;
using namespace cellblock::test;
using io::Action;
using volume::Command;

namespace {

WorldOptions at_disk(uint64_t seed = 1) {
  WorldOptions options;
  options.seed = seed;
  options.direct = options.held = true;
  return options;
}

// ---- snapshots ----

TAP_TEST(
    "a write under way when a version ends is in the snapshot, and the next write of its block waits for "
    "it") {
  Scene w(at_disk());
  TAP_EQ(w.put(w.v, 0, kBlock, 1), 0, "block 0");
  TAP_EQ(w.flush(w.v), 0, "flush");
  w.deliver = false;
  const auto overwrite = w.fill(w.v, 0, kBlock, 2);
  const auto first = w.fill(w.v, 5 * kBlock, kBlock, 3);
  TAP_EQ(w.waiting(Action::write), 2, "both are at the disk");
  std::shared_ptr<Io> newer, newer_first;
  w.raised = [&](uint64_t) {
    newer = w.fill(w.v, 0, kBlock, 4);
    newer_first = w.fill(w.v, 5 * kBlock, kBlock, 5);
    w.engine().flush();
    TAP_EQ(w.disk().pending().size(), 2, "the new generation's writes of these blocks wait");
  };
  w.idle = [&] {
    if (w.deliver) return false;
    TAP_EQ(w.waiting(Action::sync) + w.waiting(Action::journal_sync), 0,
           "no cut while the old generation writes");
    return w.deliver = true;
  };
  TAP_EQ(w.snapshot({{w.v, "s"}}), 0, "snapshot");
  TAP_OK(overwrite->answered && first->answered, "the snapshot waited for the old generation");
  TAP_EQ(w.wait(newer), 0, "new");
  TAP_EQ(w.wait(newer_first), 0, "new");
  TAP_OK(w.snapshot_is("s", 0, kBlock, 2) && w.snapshot_is("s", 5 * kBlock, kBlock, 3),
         "the snapshot has the old generation");
  TAP_OK(w.is(w.v, 0, kBlock, 4) && w.is(w.v, 5 * kBlock, kBlock, 5), "the volume the new one");
  TAP_OK(w.snapshot_is("s", 0, kBlock, 2), "and the snapshot stays");
}

TAP_TEST(
    "a first write of another block of a window waits while an older generation still changes the window") {
  Scene w(at_disk());
  w.deliver = false;
  const auto old = w.fill(w.v, 0, kBlock, 1);
  std::shared_ptr<Io> next;
  w.raised = [&](uint64_t) {
    next = w.fill(w.v, 3 * kBlock, kBlock, 2);
    w.deliver = true;
  };
  TAP_EQ(w.snapshot({{w.v, "s"}}), 0, "snapshot");
  TAP_EQ(w.wait(next), 0, "answered");
  TAP_OK(w.snapshot_is("s", 0, kBlock, 1) && w.snapshot_is("s", 3 * kBlock, kBlock, 0), "the snapshot");
  w.die();
  TAP_OK(w.is(w.v, 0, kBlock, 1) && w.is(w.v, 3 * kBlock, kBlock, 2), "the volume after replay");
  TAP_OK(w.snapshot_is("s", 0, kBlock, 1) && w.snapshot_is("s", 3 * kBlock, kBlock, 0),
         "the snapshot after replay");
}

TAP_TEST(
    "a trim under way when a version ends belongs to the snapshot; its punch never reaches the new version's "
    "place") {
  Scene w(at_disk());
  TAP_EQ(w.put(w.v, 0, 4 * kBlock, 1), 0, "data");
  w.deliver = false;
  const auto trim = w.ask(w.v, Command::trim, 0, 2 * kBlock);
  TAP_EQ(w.waiting(Action::punch), 1, "the punch is at the disk");
  std::shared_ptr<Io> write;
  w.raised = [&](uint64_t) {
    write = w.fill(w.v, 0, 2 * kBlock, 2);
    w.deliver = true;
  };
  TAP_EQ(w.snapshot({{w.v, "s"}}), 0, "snapshot");
  TAP_EQ(w.wait(write), 0, "write");
  TAP_OK(w.snapshot_is("s", 0, 2 * kBlock, 0) && w.snapshot_is("s", 2 * kBlock, 2 * kBlock, 1),
         "trimmed in the snapshot");
  TAP_OK(w.is(w.v, 0, 2 * kBlock, 2), "written in the volume");
}

TAP_TEST("one instant for several volumes: whatever was answered before it on one is in it, on all") {
  for (uint64_t seed = 1; seed <= 20; seed++) {
    WorldOptions options = at_disk(seed);
    options.shuffled = true;
    Scene w(options);
    const uint64_t other = w.create(kVolume);
    int done = 0;
    std::shared_ptr<Io> last;
    // One client that writes to the two volumes in turn, each write after the answer to the one before.
    w.between = [&] {
      if (last && !last->answered) return;
      if (last) done++;
      last = w.fill(done % 2 ? other : w.v, 0, kBlock, done + 1);
    };
    TAP_EQ(w.snapshot({{w.v, "a"}, {other, "b"}}), 0, "snapshot");
    w.between = nullptr;
    w.wait(last);
    const Bytes a = w.read_snapshot("a", 0, 1), b = w.read_snapshot("b", 0, 1);
    TAP_NEED(a.size() == 1 && b.size() == 1, "read");
    // The writes were numbered; of the two snapshots one has the last, the other the one before it.
    const int distance = static_cast<int>(a[0]) - static_cast<int>(b[0]);
    TAP_OK(distance == 1 || distance == -1 || (distance == 0 && a[0] == std::byte{0}),
           "no gap between the two, seed " + std::to_string(seed));
  }
}

// ---- holds ----

TAP_TEST(
    "A9 two requests on one shared block: every pair of partial writes, zeros and trims in every order of "
    "the disk") {
  struct Kind {
    Command command;
    uint64_t offset, length;
  };
  const Kind kinds[] = {{Command::write, 0, 512},
                        {Command::write, 512, 1000},
                        {Command::write_zeroes, 3000, 500},
                        {Command::write, 4000, 96}};
  for (const bool direct : {true, false}) {
    for (uint64_t seed = 1; seed <= 12; seed++) {
      for (const Kind& a : kinds) {
        for (const Kind& b : kinds) {
          if (a.offset == b.offset) continue;
          WorldOptions options = at_disk(seed);
          options.direct = direct;
          options.cached_percent = direct ? 100 : 0;
          options.shuffled = true;
          Scene w(options);
          w.put(w.v, 0, kBlock, 9);
          if (w.snapshot({{w.v, "s"}})) return;
          const auto send = [&](const Kind& kind, int value) {
            if (kind.command == Command::write) return w.fill(w.v, kind.offset, kind.length, value);
            return w.ask(w.v, kind.command, kind.offset, kind.length);
          };
          const auto one = send(a, 1), two = send(b, 2);
          w.wait(one);
          w.wait(two);
          Bytes wanted(kBlock, std::byte{9});
          const auto lay = [&](const Kind& kind, int value) {
            std::fill_n(wanted.begin() + static_cast<long>(kind.offset), kind.length,
                        static_cast<std::byte>(kind.command == Command::write ? value : 0));
          };
          lay(a, 1);
          lay(b, 2);
          if (!TAP_OK(w.read(w.v, 0, kBlock) == wanted, "both are there, seed " + std::to_string(seed)))
            return;
        }
      }
    }
  }
}

TAP_TEST("two partial writes of one block in place: both are kept, in either order of the disk") {
  for (const size_t first : {0, 1}) {
    Scene w(at_disk());
    w.put(w.v, 0, kBlock, 9);
    w.deliver = false;
    const auto one = w.fill(w.v, 0, 512, 1), two = w.fill(w.v, 1024, 512, 2);
    w.finish(Action::read, first);
    w.deliver = true;
    TAP_EQ(w.wait(one), 0, "one");
    TAP_EQ(w.wait(two), 0, "two");
    TAP_OK(w.is(w.v, 0, 512, 1) && w.is(w.v, 512, 512, 9) && w.is(w.v, 1024, 512, 2), "both");
  }
}

TAP_TEST("whole writes of an owned block go in parallel") {
  Scene w(at_disk());
  w.put(w.v, 0, 8 * kBlock, 9);
  w.deliver = false;
  w.fill(w.v, 0, 4 * kBlock, 1);
  w.fill(w.v, 2 * kBlock, 4 * kBlock, 2);
  TAP_EQ(w.waiting(Action::write), 2, "neither waits for the other");
  w.finish_all();
}

TAP_TEST("punch against write: who comes second waits, in both orders, and the answer stands after a crash") {
  for (const bool trim_first : {true, false}) {
    Scene w(at_disk());
    w.put(w.v, 0, kBlock, 1);
    TAP_EQ(w.flush(w.v), 0, "committed");
    w.deliver = false;
    std::shared_ptr<Io> trim, write;
    if (trim_first) trim = w.ask(w.v, Command::trim, 0, kBlock);
    write = w.fill(w.v, 0, kBlock, 2);
    if (!trim_first) trim = w.ask(w.v, Command::trim, 0, kBlock);
    TAP_EQ(w.waiting(Action::punch) + w.waiting(Action::write), 1, "one at a time");
    w.finish(trim_first ? Action::punch : Action::write);
    TAP_OK((trim_first ? trim : write)->answered, "the first is answered");
    TAP_EQ(w.waiting(trim_first ? Action::write : Action::punch), 1, "then the other goes");
    w.finish_all();
    TAP_OK(trim->answered && write->answered, "both answered");
    w.deliver = true;
    TAP_OK(w.is(w.v, 0, kBlock, trim_first ? 2 : 0), "the second stands");
    w.die();
    TAP_OK(w.is(w.v, 0, kBlock, trim_first ? 2 : 0), "and after replay");
  }
}

// ---- flushes and rounds ----

TAP_TEST("a flush that starts while a write is under way does not speak for it; the next one does") {
  Scene w(at_disk());
  w.put(w.v, 0, 8 * kBlock, 1);
  TAP_EQ(w.flush(w.v), 0, "flushed");
  w.put(w.v, kBlock, kBlock, 2);
  w.deliver = false;
  const auto write = w.fill(w.v, 0, kBlock, 3);
  const auto flush = w.ask(w.v, Command::flush);
  TAP_EQ(w.waiting(Action::sync), 1, "the sync goes");
  w.finish(Action::sync);
  TAP_OK(flush->answered, "overwrites of committed blocks need no journal");
  w.finish(Action::write);
  TAP_OK(write->answered, "now the write");
  const auto second = w.ask(w.v, Command::flush);
  TAP_EQ(w.waiting(Action::sync), 1, "the second flush syncs what the first did not cover");
  w.finish_all();
  TAP_OK(second->answered && second->error == 0, "answered");
  w.deliver = true;
  for (uint64_t seed = 1; seed < 6; seed++) {
    w.lose_power(seed);
    TAP_OK(w.is(w.v, 0, kBlock, 3) && w.is(w.v, kBlock, kBlock, 2), "both survive");
  }
}

TAP_TEST("J10a entries appended while a flush syncs are not committed by it") {
  for (uint64_t seed = 1; seed <= 40; seed++) {
    WorldOptions options = at_disk(seed);
    options.direct = false;  // writes are done at once, syncs are held
    options.write_back_percent = 0;
    Scene w(options);
    w.put(w.v, 0, 2 * kBlock, 1);
    w.flush(w.v);
    if (w.snapshot({{w.v, "s"}})) return;
    w.put(w.v, 0, kBlock, 2);
    w.deliver = false;
    const auto flush = w.ask(w.v, Command::flush);
    TAP_EQ(w.waiting(Action::sync), 1, "syncing");
    w.disk().execute(0);
    const auto late = w.fill(w.v, kBlock, kBlock, 3);  // a first write: an entry behind the noted position
    TAP_OK(late->answered, "answered during the sync");
    w.finish_all();
    TAP_OK(flush->answered && flush->error == 0, "flush");
    w.deliver = true;
    w.lose_power(seed);
    TAP_OK(w.is(w.v, 0, kBlock, 2), "the flushed block");
    if (!TAP_OK(Scene::either(w.read(w.v, kBlock, kBlock), kBlock, 1, 3),
                "the other is old or new, seed " + std::to_string(seed)))
      return;
  }
}

TAP_TEST("A2 round against flush: what a round stores is what was there when it was taken") {
  for (uint64_t seed = 1; seed <= 30; seed++) {
    WorldOptions options = at_disk(seed);
    options.direct = false;
    options.write_back_percent = 0;
    Scene w(options);
    w.put(w.v, 0, 3 * kBlock, 1);
    if (w.snapshot({{w.v, "s"}})) return;
    w.put(w.v, 0, kBlock, 2);
    bool flushed = false;
    std::shared_ptr<Io> flush;
    unsigned late = 0;
    // While the round's own flush is at the disk: a first write, then a flush of it, then another first
    // write.
    w.between = [&] {
      if (late == 0 && !w.disk().pending().empty()) {
        late = 1;
        TAP_OK(w.fill(w.v, kBlock, kBlock, 3)->answered, "written during the round");
        flush = w.ask(w.v, Command::flush);
      } else if (late == 1 && flush->answered) {
        late = 2;
        flushed = true;
        TAP_OK(w.fill(w.v, 2 * kBlock, kBlock, 4)->answered, "written after the flush");
      }
    };
    TAP_EQ(w.round(w.v), 0, "round");
    w.between = nullptr;
    w.lose_power(seed);
    TAP_OK(w.is(w.v, 0, kBlock, 2), "what the round stored");
    const Bytes second = w.read(w.v, kBlock, kBlock), third = w.read(w.v, 2 * kBlock, kBlock);
    TAP_OK(flushed ? Scene::all(second, kBlock, 3) : Scene::either(second, kBlock, 1, 3),
           "flushed, or old or new");
    if (!TAP_OK(Scene::either(third, kBlock, 1, 4), "old or new, seed " + std::to_string(seed))) return;
  }
}

TAP_TEST("writes during a round are in the next one, and a window changed since it was taken stays dirty") {
  Scene w(at_disk());
  w.put(w.v, 0, kBlock, 1);
  unsigned state = 0;
  w.between = [&] {
    if (state++ == 0) w.fill(w.v, kBlock, kBlock, 2);
  };
  TAP_EQ(w.round(w.v), 0, "round");
  w.between = nullptr;
  w.settle();
  TAP_EQ(w.volume(w.v).dirty_windows(), 1, "the window is dirty still or again");
  w.evict(w.v);
  TAP_OK(w.is(w.v, kBlock, kBlock, 2), "and not evicted");
  TAP_EQ(w.round(w.v), 0, "round");
  TAP_EQ(w.volume(w.v).dirty_windows(), 0, "now clean");
  w.evict(w.v);
  TAP_OK(w.is(w.v, 0, kBlock, 1) && w.is(w.v, kBlock, kBlock, 2), "read back from LevelDB");
}

// ---- faults ----

TAP_TEST("J13 a fault that was read before a trim of its region is asked again") {
  Scene w(at_disk());
  for (uint64_t window : {0, 5, 40}) w.put(w.v, window * kWindow, kBlock, 1);
  TAP_EQ(w.round(w.v), 0, "stored");
  w.evict(w.v);
  w.answer_faults = false;
  const auto read = w.ask(w.v, Command::read, 0, kBlock);
  w.settle();  // the fault has read
  const auto trim = w.ask(w.v, Command::trim, kWindow, 70 * kWindow);
  w.settle();
  TAP_OK(trim->answered, "a cut-off needs no map");
  w.answer_faults = true;
  TAP_EQ(w.wait(read), 0, "read");
  TAP_OK(w.is(w.v, 5 * kWindow, kBlock, 0) && w.is(w.v, 40 * kWindow, kBlock, 0), "trimmed stays trimmed");
  TAP_OK(w.is(w.v, 0, kBlock, 1), "the rest is there");
}

TAP_TEST("J13 a fault that was read before the round that stored a cut-off is asked again") {
  Scene w(at_disk());
  for (uint64_t window : {0, 5, 40}) w.put(w.v, window * kWindow, kBlock, 1);
  TAP_EQ(w.round(w.v), 0, "stored");
  w.evict(w.v);
  TAP_EQ(w.trim(w.v, kWindow, 70 * kWindow), 0, "cut off, in the journal only");
  w.answer_faults = false;
  const auto read = w.ask(w.v, Command::read, 0, kBlock);
  w.settle();  // read from LevelDB as it was before the round
  TAP_EQ(w.round(w.v), 0, "the cut-off is in LevelDB, nothing is pending any more");
  w.answer_faults = true;
  TAP_EQ(w.wait(read), 0, "read");
  TAP_OK(w.is(w.v, 5 * kWindow, kBlock, 0) && w.is(w.v, 40 * kWindow, kBlock, 0), "trimmed stays trimmed");
  TAP_EQ(w.put(w.v, 5 * kWindow, kBlock, 2), 0, "written again");
  TAP_EQ(w.round(w.v), 0, "round");
  TAP_EQ(w.punch_pending(), 0, "the old places go");
  TAP_OK(w.is(w.v, 5 * kWindow, kBlock, 2), "the new data does not lie in one of them");
}

TAP_TEST("a fault under way is a reader: nothing is punched before it has ended") {
  Scene w(at_disk());
  w.put(w.v, 0, kBlock, 1);
  if (w.snapshot({{w.v, "s"}})) return;
  w.put(w.v, 0, kBlock, 2);
  TAP_EQ(w.round(w.v), 0, "stored");
  w.evict(w.v);
  w.answer_faults = false;
  const auto read = w.ask(w.v, Command::read, 0, kBlock);
  w.settle();
  bool over = false;
  w.volume(w.v).grace([&] { over = true; });
  w.settle();
  TAP_OK(!over, "the grace period waits for it");
  w.answer_faults = true;
  TAP_EQ(w.wait(read), 0, "read");
  w.settle();
  TAP_OK(over, "and ends with it");
}

TAP_TEST("a fault whose answer is an error fails its requests and is asked again by the next") {
  Scene w(at_disk());
  w.put(w.v, 0, kBlock, 1);
  TAP_EQ(w.round(w.v), 0, "stored");
  w.evict(w.v);
  w.read_faults = false;
  const auto read = w.ask(w.v, Command::read, 0, kBlock), write = w.fill(w.v, kBlock, kBlock, 2);
  w.settle();
  w.volume(w.v).fault_reply(0, {}, EIO);
  w.settle();
  TAP_OK(read->answered && read->error == EIO, "read");
  TAP_OK(write->answered && write->error == EIO, "write");
  w.drop_questions();
  w.read_faults = true;
  TAP_OK(w.is(w.v, 0, kBlock, 1), "asked again, read");
}

TAP_TEST(
    "a window whose stored record is damaged gives EIO, its neighbours do not, a trim of it all heals it") {
  Scene w(at_disk());
  w.put(w.v, 0, kBlock, 1);
  w.put(w.v, kWindow, kBlock, 2);
  TAP_EQ(w.round(w.v), 0, "stored");
  w.evict(w.v);
  Level::Line& line = w.level.lines.at(w.level.containers.at(w.v).line);
  line.records.begin()->second[5] ^= std::byte{1};
  TAP_EQ(w.wait(w.ask(w.v, Command::read, 0, kBlock)), EIO, "read");
  TAP_EQ(w.put(w.v, 4 * kBlock, kBlock, 1), EIO, "write");
  TAP_EQ(w.trim(w.v, 0, kBlock), EIO, "trim of a block");
  TAP_OK(w.is(w.v, kWindow, kBlock, 2), "the neighbour");
  TAP_EQ(w.trim(w.v, 0, kVolume), 0, "trim of everything");
  TAP_OK(w.is(w.v, 0, kWindow, 0), "zeros");
  TAP_EQ(w.put(w.v, 0, kBlock, 3), 0, "write");
  TAP_OK(w.is(w.v, 0, kBlock, 3), "and read");
}

// ---- deletion of a snapshot ----

TAP_TEST("A5 a read that looked up a block before it was covered, merged and freed reads what it looked up") {
  Scene w(at_disk());
  w.put(w.v, 0, 2 * kBlock, 1);
  if (w.snapshot({{w.v, "s"}})) return;
  w.deliver = false;
  const auto read = w.ask(w.v, Command::read, 0, kBlock);
  TAP_EQ(w.waiting(Action::read), 1, "looked up in the snapshot's slot, at the disk");
  const auto write = w.fill(w.v, 0, kBlock, 2);
  w.finish(Action::write);
  TAP_OK(write->answered, "covered");
  // From here on everything but that one read is delivered.
  const auto others = [&] {
    const auto pending = w.disk().pending();
    for (size_t i = 0; i < pending.size(); i++) {
      if (pending[i].action == Action::read) continue;
      return w.disk().deliver(i);
    }
    return false;
  };
  w.idle = others;
  TAP_EQ(w.remove_snapshot("s"), 0, "deleted");
  TAP_EQ(w.reclaim(), 0, "merged");
  TAP_OK(!w.level.punches.empty(), "the covered block is a pending punch");
  bool ended_first = false;
  w.at = [&](const std::string& what) {
    if (what == "grace over") ended_first = read->answered;
  };
  w.idle = [&] { return others() || w.finish(Action::read); };
  TAP_EQ(w.punch_pending(), 0, "punched");
  TAP_OK(ended_first, "not before the read had ended");
  TAP_OK(Scene::all(read->bytes, kBlock, 1), "which read the old content");
  w.deliver = true;
  TAP_OK(w.is(w.v, 0, kBlock, 2) && w.is(w.v, kBlock, kBlock, 1), "the volume is right");
}

TAP_TEST("A3 adopt against an open map with writes, trims and reads under way, in every order") {
  for (uint64_t seed = 1; seed <= 30; seed++) {
    WorldOptions options = at_disk(seed);
    options.shuffled = true;
    options.cache_bytes = seed % 2 ? 1 : 64 << 20;
    Scene w(options);
    for (uint64_t window = 0; window < 3; window++) w.put(w.v, window * kWindow, 8 * kBlock, 1);
    if (w.snapshot({{w.v, "s"}})) return;
    w.put(w.v, kBlock, kBlock, 2);
    TAP_EQ(w.remove_snapshot("s"), 0, "deleted");
    std::vector<std::shared_ptr<Io>> asked;
    unsigned count = 0;
    w.between = [&] {
      if (++count % 3 || asked.size() >= 9) return;
      const uint64_t window = asked.size() % 3 * kWindow;
      if (asked.size() < 3)
        asked.push_back(w.fill(w.v, window + 2 * kBlock, kBlock, 3));
      else if (asked.size() < 6)
        asked.push_back(w.ask(w.v, Command::trim, window + 3 * kBlock, kBlock));
      else
        asked.push_back(w.fill(w.v, window + 4 * kBlock + 100, 200, 4));
    };
    TAP_EQ(w.reclaim(), 0, "merged");
    w.between = nullptr;
    for (const auto& io : asked) TAP_EQ(w.wait(io), 0, "answered");
    const auto check = [&](const std::string& when) {
      for (uint64_t window = 0; window < 3; window++) {
        const uint64_t at = window * kWindow;
        const auto did = [&](size_t nth) { return asked.size() > nth * 3 + window; };
        bool right = w.is(w.v, at, kBlock, 1) && w.is(w.v, at + kBlock, kBlock, window == 0 ? 2 : 1);
        right &= w.is(w.v, at + 2 * kBlock, kBlock, did(0) ? 3 : 1) &&
                 w.is(w.v, at + 3 * kBlock, kBlock, did(1) ? 0 : 1);
        right &= w.is(w.v, at + 4 * kBlock, 100, 1) && w.is(w.v, at + 4 * kBlock + 100, 200, did(2) ? 4 : 1);
        right &=
            w.is(w.v, at + 4 * kBlock + 300, kBlock - 300, 1) && w.is(w.v, at + 5 * kBlock, 3 * kBlock, 1);
        if (!TAP_OK(right,
                    "window " + std::to_string(window) + " " + when + ", seed " + std::to_string(seed)))
          return false;
      }
      return true;
    };
    if (!check("after the merge")) return;
    TAP_EQ(w.punch_pending(), 0, "punched");
    TAP_EQ(w.round(w.v), 0, "round");
    w.evict(w.v);
    if (!check("from LevelDB, after the punches")) return;
    w.lose_power(seed);
    if (!check("after a loss of power")) return;
  }
}

TAP_TEST("a snapshot taken between adoption's question and its end changes nothing of its target") {
  Scene w(at_disk());
  w.put(w.v, 0, 4 * kBlock, 1);
  if (w.snapshot({{w.v, "s"}})) return;
  w.put(w.v, kBlock, kBlock, 2);
  if (w.snapshot({{w.v, "t"}})) return;
  w.put(w.v, 2 * kBlock, kBlock, 3);
  TAP_EQ(w.remove_snapshot("s"), 0, "the older one goes into the frozen one");
  TAP_EQ(w.reclaim(), 0, "merged");
  TAP_EQ(w.punch_pending(), 0, "punched");
  TAP_OK(w.snapshot_is("t", 0, kBlock, 1) && w.snapshot_is("t", kBlock, kBlock, 2) &&
             w.snapshot_is("t", 2 * kBlock, 2 * kBlock, 1),
         "the snapshot");
  TAP_OK(w.is(w.v, 0, kBlock, 1) && w.is(w.v, 2 * kBlock, kBlock, 3), "the volume");
}

// ---- size ----

TAP_TEST("shrink against writes: at the disk, waiting for a fault, waiting for a hold, and new ones") {
  Scene w(at_disk());
  const uint64_t end = 10 * kWindow + 1000;
  for (uint64_t window : {9, 10, 20, 70}) w.put(w.v, window * kWindow, kWindow, 1);
  TAP_EQ(w.round(w.v), 0, "stored");
  w.evict(w.v);
  TAP_OK(w.is(w.v, 10 * kWindow, kBlock, 1), "one region is resident");
  w.deliver = w.read_faults = false;
  const auto in_tail = w.fill(w.v, 10 * kWindow + 4 * kBlock, kBlock, 2);
  const auto over_end = w.fill(w.v, 10 * kWindow, 4 * kBlock, 3);
  const auto behind = w.fill(w.v, 20 * kWindow, kBlock, 4);
  const auto faulting = w.fill(w.v, 70 * kWindow, kBlock, 5);
  const auto held = w.fill(w.v, 10 * kWindow + 4 * kBlock + 512, 512, 6);
  w.think();
  std::shared_ptr<Io> late;
  w.idle = [&] {
    if (w.deliver) return false;
    late = w.fill(w.v, end - 100, 100, 7);
    return w.deliver = w.read_faults = true;
  };
  TAP_EQ(w.resize(w.v, end), 0, "shrunk");
  for (const auto& io : {in_tail, over_end, behind, faulting, held}) {
    const int error = w.wait(io);
    TAP_OK(error == 0 || error == ENOSPC, "answered");
  }
  TAP_NEED(late, "a write came while the shrink waited");
  TAP_EQ(w.wait(late), 0, "below the new end writes go on");
  TAP_EQ(w.volume(w.v).size(), end, "size");
  TAP_EQ(w.resize(w.v, kVolume), 0, "grown again");
  const auto zero_behind = [&] {
    bool zero = w.is(w.v, end, 11 * kWindow - end, 0);
    for (uint64_t window : {20, 70}) zero &= w.is(w.v, window * kWindow, kWindow, 0);
    return zero;
  };
  TAP_OK(zero_behind(), "nothing of what lay behind the end shows");
  TAP_OK(w.is(w.v, 9 * kWindow, kWindow, 1), "what lay before it does");
  w.lose_power();
  TAP_OK(zero_behind(), "nor after a loss of power");
}

TAP_TEST(
    "a shrink that found no room in the journal leaves the old size, and succeeds when it is asked for "
    "again") {
  Scene w;
  w.put(w.v, 50 * kWindow, kWindow, 1);
  TAP_EQ(w.round(w.v), 0, "stored");
  // Even the quarter that is kept is full.
  store::Entry filler;
  filler.type = store::EntryType::commit;
  uint64_t at = 0;
  int result = -1;
  while (w.journal().append_kept(filler, at)) {
  }
  w.volume(w.v).resize(20 * kWindow, [&](int error) { result = error; });
  w.settle();
  TAP_EQ(result, ENOSPC, "refused");
  TAP_EQ(w.volume(w.v).size(), kVolume, "the old size");
  w.journal().set_tail(w.journal().next());
  TAP_EQ(w.resize(w.v, 20 * kWindow), 0, "again");
  TAP_EQ(w.resize(w.v, kVolume), 0, "grown");
  TAP_OK(w.is(w.v, 50 * kWindow, kWindow, 0), "nothing shows");
}

// ---- turns ----

TAP_TEST("D11 who needs blocks alone gets them, however many keep sharing them") {
  const std::pair<const char*, std::function<std::shared_ptr<Io>(Scene&)>> alone[] = {
      {"a partial write", [](Scene& w) { return w.fill(w.v, 100, 100, 9); }},
      {"a trim", [](Scene& w) { return w.ask(w.v, Command::trim, 0, 2 * kBlock); }},
      {"zeros that stay allocated",
       [](Scene& w) { return w.ask(w.v, Command::write_zeroes, 0, kBlock, volume::kNoHole); }},
      {"a first write of a block more", [](Scene& w) { return w.fill(w.v, kBlock, 4 * kBlock, 9); }},
      {"a cut-off", [](Scene& w) { return w.ask(w.v, Command::trim, 0, 80 * kWindow); }},
  };
  for (const auto& [what, submit] : alone) {
    Scene w(at_disk());
    TAP_EQ(w.put(w.v, 0, 4 * kBlock, 1), 0, "owned");
    TAP_EQ(w.put(w.v, 9 * kWindow, kBlock, 1), 0, "another window");
    w.deliver = false;
    std::vector<std::shared_ptr<Io>> shared;
    const auto share = [&] {
      for (const uint64_t offset : {uint64_t{0}, kBlock, 9 * kWindow})
        shared.push_back(w.fill(w.v, offset, offset == 0 ? 2 * kBlock : kBlock, 2));
    };
    share();
    const auto waiting = submit(w);
    for (int i = 0; i < 50 && !waiting->answered; i++) {
      share();  // before those under way end: the blocks are never free
      const size_t under_way = w.disk().pending().size();
      for (size_t n = 0; n < under_way; n++) w.disk().deliver(0);
      w.engine().reap();
      share();  // and once more before anybody who waited is resumed
      w.think();
    }
    TAP_OK(waiting->answered && waiting->error == 0, std::string(what) + " got its turn");
    w.deliver = true;
    for (const auto& one : shared) {
      if (!TAP_EQ(w.wait(one), 0, std::string(what) + ": and so did everybody else")) return;
    }
  }
}

// ---- memory ----

TAP_TEST(
    "B14 the cache keeps to its budget, in all volumes together, and never drops what is dirty or held") {
  WorldOptions options = at_disk();
  options.cache_bytes = 200'000;
  Scene w(options);
  std::vector<uint64_t> volumes{w.v};
  for (int i = 0; i < 3; i++) volumes.push_back(w.create(1000 * kWindow));
  for (uint64_t volume : volumes) {
    for (uint64_t window = 0; window < 90; window += 9)
      TAP_EQ(w.put(volume, window * kWindow, kBlock, static_cast<int>(volume)), 0, "write");
  }
  for (uint64_t volume : volumes) TAP_EQ(w.round(volume), 0, "round");
  for (uint64_t volume : volumes) w.evict(volume);
  TAP_EQ(w.budget().used_bytes.load(), 0, "everything clean is gone");
  for (int i = 0; i < 3; i++) {
    for (uint64_t volume : volumes) {
      for (uint64_t window = 0; window < (volume == w.v ? 100 : 1000); window += 37)
        w.read(volume, window * kWindow, 1);
      TAP_OK(w.budget().used_bytes.load() <= options.cache_bytes + 20'000,
             "at most one region above the limit");
    }
  }
  for (uint64_t volume : volumes) {
    for (uint64_t window = 0; window < 90; window += 9)
      TAP_OK(w.is(volume, window * kWindow, kBlock, static_cast<int>(volume)), "content");
  }
}

TAP_TEST("a ring more than half full lets writes in slowly, without a round, in order") {
  WorldOptions options;
  options.journal_cells = 4096;
  Scene w(options);
  uint64_t at = 0;
  const auto next = [&] {
    const auto io = w.fill(w.v, at++ % (kVolume / kBlock) * kBlock, kBlock, 1);
    w.think();
    // Every block is new again: the ring fills, no round is run.
    if (at % (kVolume / kBlock) == 0) w.ask(w.v, Command::trim, 0, kVolume);
    w.think();
    return io;
  };
  std::vector<std::shared_ptr<Io>> waiting;
  while (w.journal().used() < 3000 && waiting.size() < 3) {
    const auto io = next();
    if (!io->answered) waiting.push_back(io);
  }
  TAP_OK(waiting.size() == 3 && w.journal().used() < 3000, "some wait while there is room");
  w.pass(3);
  w.volume(w.v).journal_freed();
  w.think();
  TAP_OK(waiting[0]->answered, "the first is let in when time has passed");
  TAP_OK(!waiting[2]->answered, "not all of them at once");
  for (unsigned i = 0; i < 100; i++) {
    w.pass(20);
    w.volume(w.v).journal_freed();
    w.think();
  }
  TAP_OK(waiting[1]->answered && waiting[2]->answered, "then the others");
}

TAP_TEST(
    "B14 a volume that filled the cache and is quiet gives it to the one that needs it; the bound holds") {
  WorldOptions options;
  options.cache_bytes = 400'000;
  Scene w(options);
  const uint64_t busy = w.create(10'000 * kWindow);
  const uint64_t quiet = w.create(10'000 * kWindow);
  for (uint64_t volume : {busy, quiet}) {
    TAP_EQ(w.put(volume, 0, kBlock, 1), 0, "write");
    TAP_EQ(w.round(volume), 0, "round");
    w.evict(volume);
  }
  const auto read = [&](uint64_t volume, uint64_t regions) {
    for (uint64_t region = 0; region < regions; region++) {
      w.read(volume, region * volume::kRegionWindows * kWindow, 1);
      if (!TAP_OK(w.budget().used_bytes.load() <= options.cache_bytes + 20'000, "the bound")) return;
    }
  };
  read(quiet, 150);
  const uint64_t full = w.volume(quiet).resident_bytes();
  TAP_OK(full > options.cache_bytes / 4 * 3, "full");
  constexpr uint64_t kWorking = 30;  // an even share of three
  for (int i = 0; i < 20; i++) {
    read(busy, kWorking);
    for (uint64_t volume : {w.v, busy, quiet}) w.volume(volume).tick(0);
  }
  const uint64_t before = w.faults;
  read(busy, kWorking);
  TAP_EQ(w.faults - before, 0, "what it works on is resident");
  TAP_OK(w.volume(quiet).resident_bytes() < full, "the other one gave");
}

}  // namespace

int main() { return cellblock::test::run(); }
