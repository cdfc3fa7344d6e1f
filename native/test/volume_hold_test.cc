// A volume's hold as the connections behind it see it: a real volume, a real reactor.
#include <cerrno>

#include "test/core_scene.h"
#include "test/wire_client.h"

using namespace cellblock;
using namespace cellblock::test;
using io::Action;
using volume::Command;

namespace {

TAP_TEST("a shrink lets go of its hold: connections that were not read meanwhile are read again") {
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
  for (int i = 0; i < 10; i++) {
    client.pump();
    w.settle();
  }
  TAP_OK(!client.got.empty(), "answered");
}

}  // namespace

int main() { return cellblock::test::run(); }
