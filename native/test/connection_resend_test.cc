// Connections of a client that asks again elsewhere for what it was not answered, as the kernel does: no
// ESHUTDOWN at a stop, and no request is taken beside one of a connection that is gone.
#include "test/wire_client.h"

using namespace cellblock;
using namespace cellblock::nbd;
using namespace cellblock::test;
using C = CommandType;

namespace {

// The kernel's end of a connection that began without a handshake.
struct Kernel {
  explicit Kernel(Host& host) : host(host) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0) std::abort();
    fd = ends[0];
    plane::Settled settled;
    settled.fd = ends[1];
    settled.peer.name = "kernel";
    settled.resends = true;
    settled.lease.device = &host.disk;
    host.directory.leases_open++;
    host.wire.connections++;
    host.reactor().serve(std::move(settled));
  }
  ~Kernel() { shut(); }
  void shut() {
    if (fd >= 0) close(std::exchange(fd, -1));
  }
  void put(std::string_view bytes) {
    TAP_EQ(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()), "sent");
    turns();
  }
  void turns() {
    for (int i = 0; i < 6; i++) host.turn();
  }
  // Bytes that have come; `ended` when there will be no more.
  size_t take() {
    char room[65536];
    size_t total = 0;
    for (;;) {
      const ssize_t got = recv(fd, room, sizeof room, 0);
      if (got > 0) total += static_cast<size_t>(got);
      if (got == 0 || (got < 0 && errno != EAGAIN)) ended = true;
      if (got <= 0) return total;
    }
  }

  Host& host;
  int fd;
  bool ended = false;
};

constexpr size_t kSimpleReply = 16;

std::string write_of(uint64_t cookie, char byte) {
  return request(C::write, cookie, 0, 4096) + std::string(4096, byte);
}

}  // namespace

TAP_TEST("a stop answers what the device has and leaves the rest to be asked again") {
  Host host;
  Kernel kernel(host);
  host.disk.wait = true;
  kernel.put(write_of(1, 'a'));
  host.disk.hold = true;
  kernel.put(write_of(2, 'b'));
  bool stopped = false;
  host.reactor().stop_serving(60'000, [&](size_t) { stopped = true; });
  kernel.turns();
  TAP_OK(!stopped, "not while a request is under way");
  host.disk.complete();
  kernel.turns();
  TAP_OK(stopped, "then");
  TAP_EQ(kernel.take(), kSimpleReply,
         "one reply: the second request was never taken, and nothing was refused");
  TAP_OK(kernel.ended, "closed");
  TAP_EQ(host.directory.leases_open, 0u, "lease given back");
}

TAP_TEST("no request is taken while one of a connection that is gone is under way") {
  Host host;
  Kernel first(host);
  Kernel second(host);
  host.disk.wait = true;
  first.put(write_of(1, 'a'));
  first.shut();
  second.turns();
  second.put(write_of(2, 'b'));
  TAP_EQ(host.disk.waiting.size(), 1u, "the newer one waits");
  Client other(host);
  other.enter();
  other.talk(request(C::read, 3, 8192, 4096));
  TAP_EQ(host.disk.waiting.size(), 2u, "others do not");
  host.disk.complete(1);
  second.turns();
  TAP_EQ(host.disk.waiting.size(), 2u, "taken when the old one has ended");
  host.disk.complete();
  second.turns();
  TAP_EQ(second.take(), kSimpleReply, "and answered");
  TAP_EQ(static_cast<char>(host.disk.bytes()[0]), 'b', "the newer one is the last");
}

TAP_TEST("a connection that ends with nothing under way keeps nobody") {
  Host host;
  Kernel first(host);
  Kernel second(host);
  first.put(write_of(1, 'a'));
  first.shut();
  second.turns();
  second.put(write_of(2, 'b'));
  TAP_EQ(second.take(), kSimpleReply, "answered");
}

TAP_TEST("what is unread of a connection that it has shut is not taken: it asks for that on another one") {
  Host host;
  Kernel first(host);
  Kernel second(host);
  host.disk.hold = true;
  first.put(write_of(1, 'a'));
  shutdown(first.fd, SHUT_RDWR);
  first.turns();
  second.put(write_of(2, 'a'));
  host.disk.remember = true;
  host.disk.hold = false;
  host.reactor().device_released(&host.disk);
  second.turns();
  TAP_EQ(second.take(), kSimpleReply, "the second time it is answered");
  TAP_EQ(host.disk.seen.size(), 1u, "and it was done once");
  TAP_EQ(host.directory.leases_open, 1u, "the first has given its lease back");
}

int main() { return run(); }
