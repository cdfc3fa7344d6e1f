// Lengths of 64 bits on a real volume: whatever is asked for in one request, memory and the time of one turn
// stay bounded.
#include <algorithm>
#include <cerrno>

#include "test/core_scene.h"

using namespace cellblock;
using namespace cellblock::test;
using io::Action;
using volume::Command;

namespace {

constexpr uint64_t kVast = uint64_t{1} << 60;
constexpr uint64_t kFourGiB = uint64_t{4} << 30;
constexpr size_t kMostAtOnce = 80;  // requests at the disk of one WRITE_ZEROES

WorldOptions at_disk() {
  WorldOptions options;
  options.direct = options.held = true;
  options.journal_cells = 4096;  // no request here waits for a round
  return options;
}

struct Status {
  Io io;
  Status(World& w, uint64_t container, uint64_t offset, uint64_t length, uint16_t flags = 0) {
    io.command = Command::block_status;
    io.offset = offset;
    io.length = length;
    io.flags = flags;
    io.asked.push_back({1, volume::ContextKind::allocation, 0, nullptr});
    io.contexts = &io.asked;
    w.submit(w.volume(container), io);
    TAP_EQ(w.run_until([&] { return io.answered; }), 0, "answered");
    TAP_EQ(io.error, 0, "without an error");
  }
  const std::vector<volume::StatusExtent>& extents() const { return io.extents[0]; }
  uint64_t covered() const {
    uint64_t bytes = 0;
    for (const auto& extent : extents()) bytes += extent.length;
    return bytes;
  }
};

TAP_TEST("WRITE_ZEROES that allocates keeps few requests at the disk, and does all of it") {
  for (const uint16_t flags : {volume::kNoHole + 0, volume::kNoHole | volume::kFua}) {
    Scene w(at_disk());
    constexpr uint64_t kWindows = 600;
    const uint64_t v = w.create(kWindows * kWindow);
    TAP_EQ(w.put(v, 5 * kWindow + 100, 300, 7), 0, "data");
    w.deliver = false;
    const auto io = w.ask(v, Command::write_zeroes, 0, kWindows * kWindow, flags);
    size_t most = 0;
    size_t done = 0;
    for (; w.waiting(Action::zero_range) > 0; done++) {
      most = std::max(most, w.waiting(Action::zero_range));
      TAP_OK(!io->answered, "not before all of it");
      w.finish(Action::zero_range, done % 3 == 2 ? w.waiting(Action::zero_range) - 1 : 0);
    }
    TAP_EQ(done, kWindows, "every window");
    TAP_OK(most > 1 && most <= kMostAtOnce, "several at once, and few: " + std::to_string(most));
    w.deliver = true;
    TAP_EQ(w.wait(io), 0, "answered");
    if (flags & volume::kFua) w.lose_power();
    TAP_OK(w.is(v, 0, 10 * kWindow, 0), "zeros");
    const Status status(w, v, 0, kWindows * kWindow);
    TAP_OK(status.extents().size() == 1 && status.extents()[0].flags == 0, "and allocated");
    TAP_EQ(status.covered(), kWindows * kWindow, "all of it");
  }
}

TAP_TEST("WRITE_ZEROES that allocates ends at the first error, when what is at the disk has come back") {
  Scene w(at_disk());
  const uint64_t v = w.create(600 * kWindow);
  w.deliver = false;
  const auto io = w.ask(v, Command::write_zeroes, 0, 600 * kWindow, volume::kNoHole);
  const size_t begun = w.waiting(Action::zero_range);
  TAP_OK(begun > 1 && begun <= kMostAtOnce, "some are at the disk");
  w.disk().faults().add({.actions = io::only(Action::zero_range), .times = 1000, .error = ENOSPC});
  w.finish_all();
  w.deliver = true;
  TAP_EQ(w.wait(io), ENOSPC, "answered");
}

TAP_TEST("BLOCK_STATUS of an exbibyte answers for a part and makes progress") {
  Scene w;
  const uint64_t v = w.create(kVast);
  const uint64_t far = kVast - 3 * kWindow;
  TAP_EQ(w.put(v, far, kBlock, 7), 0, "data at the end");
  for (const uint16_t flags : {uint16_t{0}, uint16_t{volume::kRequestOne}}) {
    const Status status(w, v, 0, kVast, flags);
    TAP_EQ(status.extents().size(), 1u, "one hole");
    TAP_EQ(status.covered(), kFourGiB, "65536 windows of it");
  }
  const Status end(w, v, far - kWindow, 4 * kWindow);
  TAP_EQ(end.extents().size(), 3u, "hole, data, hole");
  TAP_EQ(end.covered(), 4 * kWindow, "to the end");
  TAP_OK(w.budget().used_bytes.load() <= w.budget().limit_bytes, "the cache keeps its bound");
}

TAP_TEST("CACHE of an exbibyte takes a part of the hint") {
  Scene w;
  const uint64_t v = w.create(kVast);
  TAP_EQ(w.put(v, 0, kBlock, 7), 0, "data");
  TAP_EQ(w.stop(), 0, "stop");
  TAP_EQ(w.start(), 0, "start: its maps have to be asked for");
  const uint64_t before = w.faults;
  TAP_EQ(w.wait(w.ask(v, Command::cache, 0, kVast)), 0, "success");
  TAP_EQ(w.faults - before, kFourGiB / (volume::kRegionWindows * kWindow), "4 GiB of it");
}

TAP_TEST("TRIM and WRITE_ZEROES of an exbibyte cost what is there") {
  for (const Command command : {Command::trim, Command::write_zeroes}) {
    Scene w;
    const uint64_t v = w.create(kVast);
    const uint64_t far = kVast - 3 * kWindow;
    for (const uint64_t at : {uint64_t{0}, kVast / 2, far}) TAP_EQ(w.put(v, at, kBlock, 7), 0, "data");
    TAP_EQ(w.round(v), 0, "round");
    TAP_EQ(w.put(v, kVast / 4, kBlock, 7), 0, "and data of no round");
    const uint64_t before = w.faults;
    TAP_EQ(w.wait(w.ask(v, command, 0, kVast, volume::kFua)), 0, "success");
    TAP_EQ(w.faults, before, "no map was asked for");
    w.lose_power();
    for (const uint64_t at : {uint64_t{0}, kVast / 4, kVast / 2, far}) {
      TAP_OK(w.is(v, at, kBlock, 0), "zeros");
    }
  }
}

}  // namespace

int main() { return cellblock::test::run(); }
