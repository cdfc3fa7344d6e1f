// Clients that a stop leaves between two messages, and another process goes on with: here another host.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "nbd/constants.h"
#include "test/wire_client.h"

using namespace cellblock;
using namespace cellblock::nbd;
using namespace cellblock::test;
using C = CommandType;

namespace {

constexpr uint64_t kLong = 1'000'000;

// A stop that keeps clients; `done` when it is.
struct Keeping {
  explicit Keeping(Host& host) : host(host) { stop(kLong); }
  void stop(uint64_t deadline_ms) {
    host.reactor().stop_serving(
        deadline_ms, [this](size_t) { done = true; }, plane::Reactor::Clients::keep);
  }
  // Asked again, it is soon.
  void deadline() { stop(1); }
  void turns() {
    for (int i = 0; i < 4; i++) host.turn();
  }
  // The one client, given to the next host.
  void give(Host& next, Client& client) {
    turns();
    TAP_OK(done, "the stop is done");
    auto kept = host.reactor().take_kept();
    TAP_EQ(kept.size(), size_t{1}, "one client is kept");
    if (kept.size() != 1) return;
    fcntl(kept[0].fd, F_SETFD, 0);  // as what a service manager passes
    const int fd = kept[0].fd;
    next.reactor().resume(std::move(kept[0]));
    const int flags = fcntl(fd, F_GETFD);
    TAP_OK(flags < 0 || (flags & FD_CLOEXEC), "no child of the next process inherits it");
    client.meet(next);
    client.pump();
  }

  Host& host;
  bool done = false;
};

void same_content(Host& host, Host& next) { next.disk.bytes() = host.disk.bytes(); }

}  // namespace

TAP_TEST("an idle client is told nothing and goes on with what it negotiated") {
  Host host;
  Host next;
  Client client(host);
  client.enter(true, {"base:allocation", "qemu:dirty-bitmap:tue"});
  Keeping stop(host);
  stop.give(next, client);
  TAP_OK(!client.ended && client.got.empty(), "not a byte");
  TAP_EQ(next.directory.last_changed_since.size(), size_t{1}, "its snapshot is asked for again");
  TAP_EQ(next.directory.last_changed_since.at(0), std::string("tue"), "that one");
  const Reply read = client.ask(request(C::read, 7, 4096, 100));
  TAP_EQ(read.error, 0u, "it is served");
  TAP_EQ(read.data.size(), size_t{100}, "with data");
  client.talk(request(C::block_status, 8, 0, 4096));
  TAP_EQ(client.replies().size(), size_t{2}, "a reply for each of its contexts");
  TAP_EQ(host.directory.leases_open, size_t{0}, "the old lease is given back");
  TAP_EQ(host.wire.connections.load(), 0u, "and it is counted out");
  TAP_EQ(next.wire.connections.load(), 1u, "and in");
}

TAP_TEST("what is in flight is answered first; what is behind it is answered by the next") {
  Host host;
  Host next;
  Client client(host);
  client.enter();
  host.disk.wait = true;
  client.talk(request(C::write, 1, 0, 5) + "hello");
  Keeping stop(host);
  client.talk(request(C::write, 2, 5, 5) + "later" + request(C::read, 3, 0, 10));
  TAP_OK(!stop.done, "not while the device has one");
  host.disk.complete();
  client.pump();
  const auto before = client.replies();
  TAP_EQ(before.size(), size_t{1}, "one is answered");
  same_content(host, next);
  stop.give(next, client);
  const auto after = client.replies();
  TAP_EQ(after.size(), size_t{2}, "both");
  for (const Reply& reply : after) TAP_EQ(reply.error, 0u, "nobody is told ESHUTDOWN");
  if (after.size() == 2) TAP_EQ(after[1].data, std::string("hellolater"), "in order");
}

TAP_TEST("left at every byte of its requests, a client gets the same replies") {
  const std::string head =
      request(C::write, 1, 100, 300) + std::string(300, 'w') + request(C::read, 2, 0, 64);
  const std::string bytes = head + request(C::write, 3, 5000, 2) + "ab" + request(C::read, 4, 100, 300);
  const auto length = [](uint64_t cookie) -> uint32_t { return cookie == 2 ? 64 : cookie == 4 ? 300 : 0; };
  for (size_t cut = 0; cut <= bytes.size(); cut++) {
    Host host;
    Host next;
    Client client(host);
    client.enter(false);
    client.talk(bytes.substr(0, cut));
    Keeping stop(host);
    stop.turns();
    size_t sent = cut;
    // In the middle of a payload it waits for the rest of that.
    while (!stop.done && sent < bytes.size()) {
      client.send(bytes.substr(sent++, 1));
      stop.turns();
    }
    client.take();
    const std::string early = client.got;
    same_content(host, next);
    stop.give(next, client);
    client.talk(bytes.substr(sent));
    const auto all = client.replies(length);
    const std::string where = "cut at byte " + std::to_string(cut);
    TAP_EQ(all.size(), size_t{4}, where);
    for (size_t i = 0; i < all.size(); i++) {
      TAP_EQ(all[i].cookie, uint64_t{i + 1}, where + ": in order");
      TAP_EQ(all[i].error, 0u, where + ": without an error");
    }
    if (all.size() == 4) TAP_EQ(all[3].data, std::string(300, 'w'), where + ": what was written");
  }
}

TAP_TEST("a payload that does not come in time ends its client, not the others") {
  Host host;
  Host next;
  Client slow(host);
  Client idle(host);
  slow.enter();
  idle.enter();
  slow.talk(request(C::write, 1, 0, 5000) + "half");
  Keeping stop(host);
  stop.turns();
  TAP_OK(!stop.done, "the stop waits for the payload");
  stop.deadline();
  while (!stop.done) host.reactor().loop().run_once(100);
  slow.pump();
  TAP_OK(slow.ended, "closed");
  stop.give(next, idle);
  TAP_EQ(idle.ask(request(C::read, 2, 0, 10)).data.size(), size_t{10}, "the other goes on");
}

// A connection that began without a handshake: a new one, whose other end is answered, or what was kept of
// one.
int without_handshake(Host& host, bool of_kernel, std::vector<std::byte> input = {}, int fd = -1) {
  int ends[2] = {-1, fd};
  if (fd < 0) {
    TAP_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0, "a pair");
    if (!of_kernel) fd = dup(ends[1]);
  }
  plane::Settled settled;
  settled.fd = ends[1];
  settled.resends = of_kernel;
  settled.input = std::move(input);
  if (!of_kernel) settled.companion = std::make_shared<plane::Companion>(fd);
  settled.lease.device = &host.disk;
  settled.negotiated.name = "disk";
  host.directory.leases_open++;
  host.wire.connections.fetch_add(1);
  host.reactor().serve(std::move(settled));
  return ends[0];
}

TAP_TEST("who cannot be kept is stopped: one a program handed over") {
  Host host;
  const int program = without_handshake(host, false);
  Keeping stop(host);
  stop.turns();
  char byte;
  TAP_EQ(recv(program, &byte, 1, 0), ssize_t{0}, "closed");
  close(program);
  stop.turns();
  TAP_OK(stop.done, "done");
  TAP_EQ(host.reactor().take_kept().size(), size_t{0}, "nobody is kept");
}

TAP_TEST("the kernel is kept when what the device has is answered, and told of nothing else") {
  Host host;
  Host next;
  const int kernel = without_handshake(host, true);
  const auto put = [&](const std::string& bytes) {
    TAP_EQ(send(kernel, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()),
           "sent");
  };
  const auto got = [&] {
    char room[4096];
    return recv(kernel, room, sizeof room, 0);
  };
  host.disk.wait = true;
  put(request(C::write, 1, 0, 5) + "hello");
  host.turn();
  Keeping stop(host);
  stop.turns();
  put(request(C::write, 2, 5, 5) + "later");
  stop.turns();
  TAP_OK(!stop.done, "not while the device has one");
  host.disk.complete();
  stop.turns();
  TAP_OK(stop.done, "then");
  TAP_EQ(got(), ssize_t{16}, "one reply");
  TAP_EQ(got(), ssize_t{-1}, "no more, and no end");
  auto kept = host.reactor().take_kept();
  TAP_EQ(kept.size(), size_t{1}, "kept");
  if (kept.size() != 1) return;
  TAP_OK(kept[0].resends, "known for what it is");
  TAP_EQ(host.directory.leases_open, size_t{0}, "the old lease is given back");
  same_content(host, next);
  without_handshake(next, true, std::move(kept[0].input), kept[0].fd);
  for (int i = 0; i < 4; i++) next.turn();
  TAP_EQ(got(), ssize_t{16}, "the other one is answered by the next");
  TAP_EQ(std::memcmp(next.disk.bytes().data(), "hellolater", 10), 0, "both are there");
  close(kernel);
}

TAP_TEST("a handshake is not kept") {
  Host host;
  Client client(host);
  client.talk(client_flags());
  Keeping stop(host);
  client.pump();
  TAP_OK(client.ended, "closed");
  TAP_OK(stop.done, "done");
  TAP_EQ(host.reactor().take_kept().size(), size_t{0}, "nobody");
}

TAP_TEST("an export that is not there any more: closed, and said in the log") {
  Host host;
  Host next;
  Client client(host);
  client.enter();
  next.directory.table.erase("disk");
  Keeping stop(host);
  stop.give(next, client);
  TAP_OK(client.ended, "closed");
  TAP_EQ(next.wire.connections.load(), 0u, "counted out");
  TAP_EQ(next.log.size(), size_t{1}, "one line");
  if (next.log.size() == 1) TAP_OK(next.log[0].starts_with("a client of the run before"), next.log[0]);
}

TAP_TEST("an export that is not served yet is asked for again, and the client waits in its socket") {
  Host host;
  Host next;
  Client client(host);
  client.enter();
  next.directory.table["disk"].open_error = ESHUTDOWN;
  Keeping stop(host);
  client.talk(request(C::read, 1, 0, 10));
  stop.give(next, client);
  TAP_OK(!client.ended && client.got.empty(), "it waits");
  next.directory.table["disk"].open_error = 0;
  while (client.got.empty() && !client.ended) {
    next.reactor().loop().run_once(100);
    client.take();
  }
  client.pump();
  TAP_EQ(client.replies().size(), size_t{1}, "answered when it is");
}

TAP_TEST("a stop while it waits for its export closes it") {
  Host host;
  Host next;
  Client client(host);
  client.enter();
  next.directory.later = true;
  Keeping stop(host);
  stop.give(next, client);
  bool stopped = false;
  next.reactor().stop_serving(kLong, [&](size_t) { stopped = true; });
  client.pump();
  TAP_OK(client.ended, "closed");
  TAP_OK(stopped, "the stop is done");
  next.directory.answer();
  client.pump();
  TAP_EQ(next.directory.leases_open, size_t{0}, "the lease that came late is given back");
}

int main() { return cellblock::test::run(); }
