// A held volume swaps its map: what had begun ends before, what comes waits, and the agent's own requests go
// on.
#include <cerrno>

#include "test/core_scene.h"

using namespace cellblock;
using namespace cellblock::test;
using io::Action;
using volume::Command;

namespace {

WorldOptions at_disk() {
  WorldOptions options;
  options.direct = options.held = true;
  return options;
}

// Another line of the container, with nothing in it or below.
volume::Rebase elsewhere(World& w, uint64_t container) {
  volume::Rebase to;
  to.line = 99;
  to.version = 1;
  to.size_bytes = w.volume(container).size();
  to.empty = true;
  to.layers = {w.volume(container).current_layer() + 1};
  return to;
}

std::shared_ptr<Io> own(Scene& w, Command command, uint64_t offset, uint64_t length, int value = 0) {
  auto io = std::make_shared<Io>();
  io->command = command;
  io->offset = offset;
  io->length = length;
  io->privileged = io->fill_holes = true;
  io->bytes.assign(length, static_cast<std::byte>(value));
  io->data = io->bytes.data();
  w.submit(w.volume(w.v), *io);
  return io;
}

TAP_TEST("a write that is halfway ends before the volume is quiet; one that comes waits for the release") {
  Scene w(at_disk());
  TAP_EQ(w.put(w.v, 0, kBlock, 1), 0, "data");
  TAP_EQ(w.put(w.v, kWindow, kBlock, 1), 0, "data");
  TAP_EQ(w.round(w.v), 0, "round");
  w.deliver = false;
  // Across two windows, each with a first write: its second half begins when there is room for it.
  const auto begun = w.fill(w.v, kWindow - kBlock, 2 * kBlock, 2);
  w.think();
  volume::Volume& volume = w.volume(w.v);
  int quiet = -1;
  volume.hold();
  volume.quiesced([&](int error) { quiet = error; });
  const auto later = w.fill(w.v, 0, kBlock, 3);
  w.think();
  TAP_EQ(quiet, -1, "not while it is under way");
  TAP_EQ(volume.rebase(elsewhere(w, w.v)), EBUSY, "and the map stays");
  w.finish_all();
  TAP_EQ(quiet, 0, "quiet");
  TAP_OK(begun->answered && !later->answered, "the first is answered, the second waits");
  TAP_EQ(volume.rebase(elsewhere(w, w.v)), EBUSY, "it is dirty");
  w.deliver = true;
  TAP_EQ(w.round(w.v), 0, "a round under the hold");
  TAP_EQ(volume.rebase(elsewhere(w, w.v)), 0, "now it is not");
  const auto seen = own(w, Command::read, 0, 2 * kWindow);
  TAP_EQ(w.wait(seen), 0, "the agent reads on");
  TAP_OK(Scene::all(seen->bytes, 2 * kWindow, 0), "nothing of the old map");
  TAP_EQ(w.wait(own(w, Command::write, kBlock, kBlock, 7)), 0, "and writes");
  TAP_OK(!later->answered, "the client still waits");
  volume.release();
  TAP_EQ(w.wait(later), 0, "it is answered");
  TAP_OK(w.is(w.v, 0, kBlock, 3) && w.is(w.v, kBlock, kBlock, 7), "all of it in the new map");
  TAP_OK(w.is(w.v, kWindow - kBlock, 2 * kBlock, 0), "and nothing else");
}

TAP_TEST("a hold that ends before the volume is quiet says so, and nothing has changed") {
  Scene w(at_disk());
  w.deliver = false;
  const auto begun = w.fill(w.v, 0, kBlock, 2);
  w.think();
  int quiet = -1;
  w.volume(w.v).hold();
  w.volume(w.v).quiesced([&](int error) { quiet = error; });
  w.volume(w.v).release();
  TAP_EQ(quiet, ECANCELED, "told");
  w.deliver = true;
  TAP_EQ(w.wait(begun), 0, "answered");
  TAP_OK(w.is(w.v, 0, kBlock, 2), "there");
}

TAP_TEST("what is given up with the old map is not asked for any more, and the journal goes on") {
  Scene w;
  TAP_EQ(w.put(w.v, 0, 3 * kBlock, 2), 0, "data");
  volume::Volume& volume = w.volume(w.v);
  volume.hold();
  volume::Rebase to = elsewhere(w, w.v);
  TAP_EQ(volume.rebase(to), EBUSY, "dirty");
  to.discard = true;
  TAP_EQ(volume.rebase(to), 0, "given up");
  TAP_EQ(volume.dirty_windows(), 0u, "nothing is dirty");
  TAP_EQ(volume.oldest_unapplied(), UINT64_MAX, "nothing holds the journal");
  volume.release();
  TAP_EQ(w.put(w.v, 0, kBlock, 5), 0, "written");
  TAP_EQ(w.flush(w.v), 0, "flushed");
  TAP_OK(w.is(w.v, 0, kBlock, 5) && w.is(w.v, kBlock, kBlock, 0), "the new map alone");
}

TAP_TEST("whoever asks what changed since before a rebase is told that everything did") {
  Scene w;
  TAP_EQ(w.put(w.v, 0, kBlock, 2), 0, "data");
  TAP_EQ(w.round(w.v), 0, "round");
  volume::Volume& volume = w.volume(w.v);
  const uint32_t before = volume.current_layer();
  volume.hold();
  TAP_EQ(volume.rebase(elsewhere(w, w.v)), 0, "rebased");
  volume.release();
  for (const uint32_t since : {before, volume.current_layer()}) {
    Io io;
    io.command = Command::block_status;
    io.length = 2 * kWindow;
    io.asked.push_back({0, volume::ContextKind::changed, since, nullptr});
    io.contexts = &io.asked;
    w.submit(volume, io);
    TAP_EQ(w.run_until([&] { return io.answered; }), 0, "answered");
    TAP_EQ(io.extents[0].size(), 1u, "one extent");
    TAP_EQ(io.extents[0][0].flags, since == before ? 1u : 0u, "all, or nothing");
  }
}

TAP_TEST("the agent's own requests are refused what a client's are") {
  WorldOptions options;
  Scene w(options);
  volume::Volume& volume = w.volume(w.v);
  volume.set_read_only(true);
  TAP_EQ(w.wait(own(w, Command::write, 0, kBlock, 1)), EPERM, "read-only");
}

}  // namespace

int main() { return cellblock::test::run(); }
