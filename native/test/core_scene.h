// What the tests of races, faults and hazards share: a world with one volume in it, and its levers in few
// words.
#pragma once

#include <string>

#include "io/fault_plan.h"
#include "test/core_world.h"
#include "test/tap.h"

namespace cellblock::test {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kWindow = 64 << 10;
constexpr uint64_t kVolume = 100 * kWindow;

struct Scene : World {
  explicit Scene(WorldOptions options = {}) : World(options) {
    TAP_EQ(start(), 0, "start");
    v = create(kVolume);
    TAP_OK(v != 0, "a volume");
  }

  // Every byte of [offset, offset + length) of a volume or of what was read.
  bool is(uint64_t container, uint64_t offset, uint64_t length, int value) {
    return all(read(container, offset, length), length, value);
  }
  bool snapshot_is(const std::string& name, uint64_t offset, uint64_t length, int value) {
    return all(read_snapshot(name, offset, length), length, value);
  }
  static bool all(const Bytes& bytes, uint64_t length, int value) {
    if (bytes.size() != length) return false;
    for (std::byte byte : bytes) {
      if (byte != static_cast<std::byte>(value)) return false;
    }
    return true;
  }
  // Each sector wholly one of the two.
  static bool either(const Bytes& bytes, uint64_t length, int a, int b) {
    if (bytes.size() != length) return false;
    for (uint64_t at = 0; at < length; at += 512) {
      const Bytes sector(bytes.begin() + static_cast<long>(at),
                         bytes.begin() + static_cast<long>(std::min(length, at + 512)));
      if (!all(sector, sector.size(), a) && !all(sector, sector.size(), b)) return false;
    }
    return true;
  }

  int put(uint64_t container, uint64_t offset, uint64_t length, int value, uint16_t flags = 0) {
    return wait(fill(container, offset, length, value, flags));
  }
  int trim(uint64_t container, uint64_t offset, uint64_t length, uint16_t flags = 0) {
    return wait(ask(container, volume::Command::trim, offset, length, flags));
  }

  // Everything but the disk moves on; what is at the disk stays there.
  void think() {
    const bool delivering = std::exchange(deliver, false);
    settle();
    deliver = delivering;
  }
  // Requests of a kind that wait at the disk.
  size_t waiting(io::Action action) {
    think();
    size_t count = 0;
    for (const io::Event& event : disk().pending()) count += event.action == action;
    return count;
  }
  // The nth of them ends, and everybody hears of it. False: there is none.
  bool finish(io::Action action, size_t nth = 0) {
    think();
    const auto pending = disk().pending();
    for (size_t i = 0; i < pending.size(); i++) {
      if (pending[i].action != action || nth-- > 0) continue;
      disk().deliver(i);
      think();
      return true;
    }
    return false;
  }
  // All of them, oldest first.
  void finish_all() {
    think();
    while (!disk().pending().empty()) {
      disk().deliver(0);
      think();
    }
  }

  void lose_power(uint64_t seed = 1) {
    crash(io::CrashKind::power_loss, seed);
    TAP_EQ(start(), 0, "start after a loss of power");
  }
  void die(uint64_t seed = 1) {
    crash(io::CrashKind::process_death, seed);
    TAP_EQ(start(), 0, "start after the death of the process");
  }

  uint64_t v = 0;
};

}  // namespace cellblock::test
