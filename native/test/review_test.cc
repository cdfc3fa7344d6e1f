#include <cerrno>

#include "test/core_scene.h"
#include "test/wire_client.h"

using namespace cellblock;
using namespace cellblock::test;
using io::Action;
using volume::Command;

namespace {

WorldOptions lazy(uint64_t seed = 1) {
  WorldOptions options;
  options.seed = seed;
  options.write_back_percent = 0;
  return options;
}

TAP_TEST("R1 FUA trim of blocks under an uncommitted cut-off whose region is not resident") {
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

TAP_TEST("R2 a FUA write takes a write-back error that is ENOSPC: the next flush fails all the same") {
  for (uint64_t seed = 1; seed <= 4; seed++) {
    Scene w(lazy(seed));
    w.put(w.v, 0, 2 * kBlock, 1);
    w.flush(w.v);
    w.put(w.v, 10 * kWindow, kBlock, 2);  // answered, not flushed
    const uint64_t file = w.level.containers.at(w.v).files.back();
    w.disk().fail_writeback(w.path_of(file), ENOSPC);  // a thin pool that is full
    const int fua = w.put(w.v, 0, kBlock, 3, volume::kFua);
    const int flush = w.flush(w.v);
    w.settle();
    std::printf("# fua %d flush %d\n", fua, flush);
    w.lose_power(seed);
    if (!TAP_OK(flush != 0 || w.is(w.v, 10 * kWindow, kBlock, 2),
                "what an answered flush promised, seed " + std::to_string(seed)))
      return;
  }
}

TAP_TEST("R3 a round with a cut-off that failed after its batch was there: the own slot is not punched later") {
  for (const bool base : {false, true}) {
  Scene w(lazy());
  if (base) { w.put(w.v, 5 * kWindow, kBlock, 9); w.snapshot({{w.v, "s"}}); w.round(w.v); }
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
  std::printf("# pending punches %zu\n", w.level.punches.size());
  TAP_EQ(w.punch_pending(), 0, "punched");
  TAP_OK(wrote, "wrote");
  TAP_OK(w.is(w.v, 5 * kWindow, kBlock, 3), "what was written and flushed");
  }
}

TAP_TEST("R4 places of data that no round had stored are given back after a cut-off") {
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
    std::printf("# %s: %lld bytes more\n", stored ? "stored" : "not stored", static_cast<long long>(after - before));
    TAP_OK(after - before < 10 * kWindow, "given back");
  }
}

TAP_TEST("R5 a shrink lets go of its hold: connections that were not read meanwhile are read again") {
  WorldOptions options;
  options.held = true;
  Scene w(options);
  w.put(w.v, 0, kBlock, 1);
  Host host;
  host.directory.table["disk"] = {&w.volume(w.v), "a disk", false, {}, 0};
  Client client(host);
  client.enter();
  w.deliver = false;
  const auto flush = w.ask(w.v, Command::flush);  // somebody's, at the disk
  TAP_EQ(w.waiting(Action::sync), 1, "syncing");
  int result = -1;
  w.volume(w.v).resize(50 * kWindow, [&](int error) { result = error; });  // what Plane::resize does
  TAP_OK(w.volume(w.v).held(), "held until it has ended");
  client.talk(request(nbd::CommandType::read, 7, 0, 512));
  w.deliver = true;
  w.let_go = [&](volume::Volume& volume) { host.reactor().device_released(&volume); };
  w.run_until([&] { return result >= 0; });
  TAP_EQ(result, 0, "shrunk");
  for (int i = 0; i < 10; i++) { client.pump(); w.settle(); }
  TAP_OK(!client.got.empty(), "answered");
  if (client.got.empty()) {
    host.reactor().device_released(&w.volume(w.v));
    client.pump(); w.settle(); client.pump();
    std::printf("# after device_released: %zu bytes\n", client.got.size());
  }
}

}  // namespace

int main() { return cellblock::test::run(); }
