// The life of connections: beginnings that hang, clients that stop reading or vanish, holds, limits, moves,
// the stop.
#include <sys/stat.h>
#include <sys/un.h>

#include <chrono>

#include "base/units.h"
#include "plane/listener.h"
#include "test/wire_client.h"

using namespace cellblock;
using namespace cellblock::nbd;
using namespace cellblock::test;
using C = CommandType;

TAP_TEST("DISC: what is in flight is finished, then it closes") {
  Host host;
  Client client(host);
  client.enter();
  host.disk.wait = true;
  client.talk(request(C::read, 1, 0, 100) + request(C::disc, 2, 0, 0) + request(C::read, 3, 0, 100));
  TAP_OK(!client.ended, "not before");
  host.disk.complete();
  client.pump();
  TAP_OK(client.ended, "closed");
  TAP_EQ(client.replies().size(), 1u, "one reply, nothing behind DISC is taken");
  TAP_EQ(host.directory.leases_open, 0u, "lease given back");
  TAP_EQ(host.wire.connections.load(), 0u, "counted out");
}

TAP_TEST("a half-closed client gets its replies, then the end") {
  Host host;
  Client client(host);
  client.enter();
  host.disk.wait = true;
  client.talk(request(C::read, 1, 0, 4096) + request(C::write, 2, 0, 5) + "hello" +
              request(C::write, 3, 0, 100) + "half");
  client.half_close();
  client.pump();
  TAP_OK(!client.ended, "not before");
  host.disk.complete();
  client.pump();
  TAP_OK(client.ended, "closed");
  TAP_EQ(client.replies().size(), 2u, "whole requests only");
}

TAP_TEST("a client that vanishes: what the device has comes back to nobody") {
  Host host;
  auto client = std::make_unique<Client>(host);
  client->enter();
  host.disk.wait = true;
  client->talk(request(C::write, 1, 0, 4096) + std::string(4096, 'w') + request(C::read, 2, 0, 4096));
  client->close();
  for (int i = 0; i < 4; i++) host.turn();
  host.disk.complete(1);
  TAP_EQ(host.directory.leases_open, 1u, "the lease is needed while a request is out");
  host.disk.complete();
  for (int i = 0; i < 4; i++) host.turn();
  TAP_EQ(host.directory.leases_open, 0u, "then it is given back");
  TAP_EQ(host.wire.budget.used(), 0, "and nothing is charged");
}

TAP_TEST("a wrong request magic: what is in flight is answered, then it closes") {
  Host host;
  Client client(host);
  client.enter();
  client.talk(request(C::read, 1, 0, 10) + std::string(28, 'x') + request(C::read, 2, 0, 10));
  TAP_OK(client.ended, "closed");
  TAP_EQ(client.replies().size(), 1u, "the one before it");
}

TAP_TEST("a client that stops reading: bounded memory, nobody else is stalled, all is there later") {
  plane::WireOptions options;
  options.bytes_per_connection = 1 << 20;
  Host host(options);
  const std::string data = pattern(4 << 20, 1);
  std::memcpy(host.disk.bytes().data(), data.data(), data.size());
  Client slow(host);
  Client other(host);
  slow.enter();
  other.enter();
  slow.reads = false;
  std::string bytes;
  for (uint64_t i = 0; i < 1000; i++) bytes += request(C::read, i, i * 4000, 64000);
  slow.send(bytes);
  slow.pump();
  TAP_OK(host.wire.budget.used() > 0, "what the socket does not take is held");
  TAP_OK(host.wire.budget.used() <= (1 << 19),
         "and no more is read ahead: " + std::to_string(host.wire.budget.used()));
  TAP_EQ(other.ask(request(C::read, 1, 0, 4096)).data.size(), 4096u, "the other is served");
  slow.reads = true;
  slow.pump();
  const auto all = slow.replies();
  TAP_EQ(all.size(), 1000u, "every reply");
  for (const Reply& reply : all) {
    if (reply.data != data.substr(reply.cookie * 4000, 64000)) TAP_OK(false, "data");
  }
  TAP_EQ(host.wire.budget.used(), 0, "nothing is charged any more");
}

TAP_TEST("waiting writes are bounded per connection and go on when they finish") {
  plane::WireOptions options;
  options.bytes_per_connection = 1 << 20;
  Host host(options);
  Client client(host);
  client.enter();
  host.disk.wait = true;
  const std::string data = pattern(100000, 2);
  std::string bytes;
  for (uint64_t i = 0; i < 40; i++) bytes += request(C::write, i, i * 100000, 100000) + data;
  size_t most = 0;
  size_t at = 0;
  int rounds = 0;
  std::vector<Reply> all;
  Client* sender = &client;
  // Sends what the socket takes, lets one request finish, and so on.
  while (all.size() < 40 && rounds++ < 1000) {
    const size_t part = std::min<size_t>(bytes.size() - at, 50000);
    if (part > 0 && host.disk.waiting.size() < 10) {
      sender->send(std::string_view(bytes).substr(at, part));
      at += part;
    }
    sender->pump();
    most = std::max(most, host.disk.waiting.size());
    if (host.disk.waiting.size() >= 10 || at == bytes.size()) host.disk.complete(1);
    sender->pump();
    for (Reply& reply : sender->replies()) all.push_back(reply);
  }
  TAP_EQ(all.size(), 40u, "all are answered");
  TAP_OK(most <= 11, "no more than the limit at once: " + std::to_string(most));
}

TAP_TEST("the budget of all: stuck clients leave something for the others") {
  plane::WireOptions options;
  options.bytes_in_all = 8 << 20;
  Host host(options);
  std::vector<std::unique_ptr<Client>> stuck;
  for (int i = 0; i < 12; i++) {
    stuck.push_back(std::make_unique<Client>(host));
    stuck.back()->enter();
    stuck.back()->reads = false;
    std::string bytes;
    for (uint64_t n = 0; n < 30; n++) bytes += request(C::read, n, 0, 1 << 20);
    stuck.back()->send(bytes);
    for (int turn = 0; turn < 60; turn++) host.turn();
  }
  const int64_t used = host.wire.budget.used();
  TAP_OK(used <= (16 << 20), "bounded: " + std::to_string(used));
  Client other(host);
  other.enter();
  TAP_EQ(other.ask(request(C::read, 1, 0, 100000)).data.size(), 100000u, "the other is served");
  for (auto& one : stuck) {
    one->reads = true;
    while (one->got.size() < 30 * ((1 << 20) + size_t{28})) {
      for (int turn = 0; turn < 4; turn++) host.turn();
      for (auto& each : stuck) {
        if (each->reads) each->take();
      }
    }
    TAP_EQ(one->replies().size(), 30u, "in the end each has all");
  }
}

TAP_TEST("a client that is gone when its GO is answered leaves nothing open") {
  Host host;
  {
    Client client(host);
    client.send(client_flags() + go("disk"));
  }
  for (int turn = 0; turn < 8; turn++) host.turn();
  TAP_EQ(host.directory.leases_open, size_t{0}, "its export is given back");
  TAP_OK(host.wire.connections == 0, "and its connection");
}

TAP_TEST("payloads that stop in the middle take nothing from others") {
  plane::WireOptions options;
  options.bytes_in_all = 4 << 20;
  Host host(options);
  std::vector<std::unique_ptr<Client>> stuck;
  for (int i = 0; i < 12; i++) {
    stuck.push_back(std::make_unique<Client>(host));
    stuck.back()->enter();
    stuck.back()->talk(request(C::write, 1, 0, 3 << 20) + std::string(100'000, 'x'));
  }
  TAP_OK(host.wire.budget.used() <= 12 * 400'000, "what has not come is not counted");
  TAP_EQ(host.wire.payloads.reserved(), uint64_t{3} << 20, "one may come, the others wait");
  Client other(host);
  other.enter();
  std::string bytes;
  for (uint64_t n = 0; n < 16; n++) bytes += request(C::read, n, n * 4096, 4096);
  other.talk(bytes);
  TAP_EQ(other.replies(4096).size(), 16u, "sixteen reads at once");
  TAP_EQ(other.ask(request(C::read, 1, 0, 2 << 20)).data.size(), size_t{2} << 20, "a large read");
  TAP_OK(other.ask(request(C::write, 2, 0, 200'000) + std::string(200'000, 'y')).error == 0, "a write");
  TAP_OK(other.ask(request(C::write, 3, 0, 400'000) + std::string(400'000, 'z')).error == 0,
         "and one that is large, but less so");
  stuck.clear();
  host.turn();
  host.turn();
  TAP_EQ(host.wire.payloads.reserved(), uint64_t{0}, "and nothing stays reserved");
  TAP_EQ(host.wire.budget.used(), int64_t{0}, "or counted");
}

TAP_TEST(
    "a payload that stops while others wait to send theirs is given up; one that nobody waits for is not") {
  plane::WireOptions options;
  options.bytes_in_all = 1 << 20;
  options.payload_idle_ms = 1;
  Host host(options);
  Client slow(host);
  slow.enter();
  const std::string content(3 << 19, 's');
  slow.talk(request(C::write, 1, 0, 3 << 19) + content.substr(0, 100'000));
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
  while (std::chrono::steady_clock::now() < until) host.turn();
  TAP_OK(!slow.ended, "alone it may take its time");
  slow.talk(content.substr(100'000));
  TAP_EQ(slow.replies().size(), 1u, "and is served");

  slow.talk(request(C::write, 2, 0, 3 << 19) + content.substr(0, 100'000));
  Client other(host);
  other.enter();
  other.send(request(C::write, 3, 0, 1 << 20) + std::string(1 << 20, 'o'));
  while (other.got.empty() && !other.ended) {
    host.turn();
    other.take();
  }
  TAP_OK(!other.ended && other.replies().size() == 1, "who waited is served");
  slow.pump();
  TAP_OK(slow.ended, "who stopped is closed");
  TAP_OK(std::any_of(host.log.begin(), host.log.end(),
                     [](const std::string& line) { return line.find("stopped in the middle") != line.npos; }),
         "and the log says why");
}

TAP_TEST("a flood on one connection leaves every turn room for another") {
  Host host;
  Client flood(host);
  Client other(host);
  flood.enter();
  other.enter();
  std::string bytes;
  for (uint64_t i = 0; i < 4000; i++) bytes += request(C::flush, i, 0, 0);
  flood.send(bytes);
  other.send(request(C::read, 1, 0, 10));
  host.turn();
  host.turn();
  other.take();
  flood.take();
  TAP_OK(!other.got.empty(), "answered within two turns");
  TAP_OK(flood.got.size() < 4000 * 16, "while the flood goes on");
  flood.pump();
  TAP_EQ(flood.replies().size(), 4000u, "which is answered, too");
}

TAP_TEST("a held device's sockets are not read until it is released") {
  Host host;
  FakeDevice free(1 << 20);
  host.directory.table["free"] = {&free, "", false, {}, 0};
  Client held(host);
  Client other(host);
  held.enter();
  other.enter(true, {}, "free");
  host.disk.hold = true;
  host.disk.remember = true;
  held.talk(request(C::write, 1, 0, 5) + "hello");
  TAP_EQ(host.disk.seen.size(), 0u, "nothing is submitted");
  TAP_EQ(other.ask(request(C::read, 1, 0, 10)).data.size(), 10u, "others go on");
  host.disk.hold = false;
  host.reactor().device_released(&host.disk);
  held.pump();
  TAP_EQ(held.replies().size(), 1u, "answered after the release");
  host.disk.hold = true;
  held.talk(request(C::flush, 2, 0, 0));
  held.close();
  for (int i = 0; i < 4; i++) host.turn();
  host.disk.hold = false;
  host.reactor().device_released(&host.disk);
  for (int i = 0; i < 4; i++) host.turn();
  TAP_EQ(host.directory.leases_open, 1u, "a client that left while held is noticed");
}

TAP_TEST("the stop: in-flight finished, later ESHUTDOWN, then closed") {
  Host host;
  Client client(host);
  Client idle(host);
  Client shaking(host);
  client.enter();
  idle.enter();
  shaking.talk(client_flags());
  host.disk.wait = true;
  client.talk(request(C::write, 1, 0, 5) + "hello");
  size_t abandoned = 99;
  host.reactor().stop_serving(1'000'000, [&](size_t n) { abandoned = n; });
  client.pump();
  client.talk(request(C::write, 2, 0, 5) + "later" + request(C::read, 3, 0, 10));
  TAP_OK(!client.ended, "not before the write is done");
  host.disk.complete();
  client.pump();
  idle.pump();
  shaking.pump();
  const auto all = client.replies();
  TAP_EQ(all.size(), 3u, "three replies");
  for (const Reply& reply : all)
    TAP_EQ(reply.error, reply.cookie == 1 ? 0u : 108u, "ESHUTDOWN for the later ones");
  TAP_OK(client.ended && idle.ended && shaking.ended, "all closed");
  TAP_EQ(abandoned, 99u, "done waits for the clients to close");
  client.close();
  idle.close();
  for (int i = 0; i < 4; i++) host.turn();
  TAP_EQ(abandoned, 0u, "done");
  Client late(host);
  late.pump();
  TAP_OK(late.ended, "nobody is let in any more");
  late.close();
}

TAP_TEST("the stop's deadline closes what does not end") {
  Host host;
  Client client(host);
  client.enter();
  host.disk.wait = true;
  client.talk(request(C::read, 1, 0, 10));
  size_t abandoned = 99;
  host.reactor().stop_serving(1, [&](size_t n) { abandoned = n; });
  while (abandoned == 99) host.reactor().loop().run_once(100);
  TAP_EQ(abandoned, 1u, "one request is still out");
  client.pump();
  TAP_OK(client.ended, "closed");
  host.disk.complete();
  for (int i = 0; i < 4; i++) host.turn();
  TAP_EQ(host.directory.leases_open, 0u, "and comes back safely");
}

TAP_TEST("disconnect ends the connections of one device") {
  Host host;
  FakeDevice second(1 << 20);
  host.directory.table["second"] = {&second, "", false, {}, 0};
  Client client(host);
  Client other(host);
  client.enter();
  other.enter(true, {}, "second");
  bool done = false;
  host.reactor().disconnect(&host.disk, [&] { done = true; });
  client.pump();
  client.close();
  for (int i = 0; i < 4; i++) host.turn();
  TAP_OK(done && client.ended, "ended");
  TAP_EQ(other.ask(request(C::flush, 1, 0, 0)).error, 0u, "the other goes on");
  host.reactor().forget(&host.disk);
  TAP_EQ(host.reactor().counters().size(), 1u, "forgotten");
}

TAP_TEST("a handshake that does not finish in time is dropped") {
  plane::WireOptions options;
  options.handshake_timeout_ms = 1;
  Host host(options);
  Client client(host);
  client.send(client_flags() + "IHAVE");
  while (!client.ended) {
    host.reactor().loop().run_once(10);
    client.take();
  }
  TAP_EQ(host.wire.connections.load(), 0u, "dropped");
  TAP_OK(!host.log.empty(), "and logged");
}

TAP_TEST("answers of the directory may come late, or too late") {
  Host host;
  host.directory.later = true;
  Client client(host);
  client.talk(client_flags() + option(Option::list) + go("disk"));
  TAP_EQ(host.directory.questions.size(), 1u, "one question at a time");
  while (host.directory.answer()) client.pump();
  TAP_OK(answers(client.got).back().type == OptionReply::ack, "through");
  {
    Client vanishing(host);
    vanishing.talk(client_flags() + go("disk"));
    host.directory.answer();
    vanishing.pump();
    TAP_EQ(host.directory.questions.size(), 1u, "open is asked");
  }
  for (int i = 0; i < 4; i++) host.turn();
  host.directory.answer();
  TAP_EQ(host.directory.leases_open, 1u, "the lease of the vanished one was given back");
}

TAP_TEST("a half-closed client in the handshake still gets its answer") {
  Host host;
  Client client(host);
  client.send(client_flags() + option(Option::list));
  client.half_close();
  client.pump();
  TAP_OK(client.ended, "closed in the end");
  TAP_EQ(answers(client.got).size(), 2u, "after the answer");
}

TAP_TEST("the limit of connections: a refusal says so, and a place that is free again is given") {
  plane::WireOptions options;
  options.max_connections = 2;
  Host host(options);
  auto first = std::make_unique<Client>(host);
  Client second(host);
  first->enter();
  second.enter();
  Client third(host);
  third.talk(client_flags() + go("disk"));
  const auto all = answers(third.got);
  TAP_OK(all.size() == 1 && all[0].type == OptionReply::err_policy, "ERR_POLICY");
  TAP_OK(all[0].data.find("limit is 2") != std::string::npos, all[0].data);
  TAP_EQ(host.log.size(), 1u, "logged");
  TAP_EQ(host.wire.refused.load(), 1u, "counted");
  third.close();
  first.reset();
  second.pump();
  Client fourth(host);
  fourth.enter();
}

TAP_TEST("the limit of one client's connections: refusals say whose, others get in, places come back") {
  plane::WireOptions options;
  options.max_connections_per_client = 2;
  Host host(options);
  const auto arrive = [&](const std::string& name, int64_t uid) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0) std::abort();
    host.reactor().adopt(
        plane::Arrival{ends[1], {.name = name, .uid = uid, .identity = {}, .host = {}}, {}, nullptr});
    return ends[0];
  };
  const auto refusal = [&](int fd) {
    const std::string ask = client_flags() + go("disk");
    TAP_EQ(write(fd, ask.data(), ask.size()), static_cast<ssize_t>(ask.size()), "asks");
    for (int i = 0; i < 4; i++) host.turn();
    std::string got(4096, '\0');
    const ssize_t bytes = read(fd, got.data(), got.size());
    got.resize(static_cast<size_t>(std::max<ssize_t>(bytes, 0)));
    const auto all = answers(got);
    if (all.empty()) return std::string("no answer");
    return all.back().type == OptionReply::err_policy ? all.back().data : std::string();
  };
  const int one = arrive("tcp:192.0.2.1:1000", -1);
  const int two = arrive("tcp:192.0.2.1:2000", -1);
  TAP_EQ(refusal(one), "", "the first");
  TAP_EQ(refusal(two), "", "the second");
  const int three = arrive("tcp:192.0.2.1:3000", -1);
  TAP_EQ(refusal(three), "too many connections of 192.0.2.1, the limit for each is 2", "the third");
  TAP_EQ(host.wire.refused_per_client.load(), 1u, "counted");
  TAP_EQ(host.wire.refused.load(), 0u, "and not as one over the limit of all");
  const int other = arrive("tcp:192.0.2.11:1000", -1);
  TAP_EQ(refusal(other), "", "another address");
  const int users[] = {arrive("unix:uid=7", 7), arrive("unix:uid=7", 7), arrive("stdio:uid=7", 7)};
  TAP_EQ(refusal(users[1]), "", "the second of a user");
  TAP_EQ(refusal(users[2]), "too many connections of uid 7, the limit for each is 2", "however they come");
  close(three);
  close(one);
  for (int i = 0; i < 4; i++) host.turn();
  const int again = arrive("tcp:192.0.2.1:4000", -1);
  TAP_EQ(refusal(again), "", "a place that is free again");
  for (int fd : {two, other, users[0], users[1], users[2], again}) close(fd);
  for (int i = 0; i < 4; i++) host.turn();
  TAP_EQ(host.wire.clients.size(), 0u, "nobody is remembered");
  TAP_EQ(host.wire.connections.load(), 0u, "all counted out");
}

TAP_TEST("a crowd of one client is closed on without a word") {
  plane::WireOptions options;
  options.max_connections_per_client = 1;
  Host host(options);
  std::vector<std::unique_ptr<Client>> crowd;
  for (int i = 0; i < 100; i++) crowd.push_back(std::make_unique<Client>(host));
  for (auto& one : crowd) one->pump();
  size_t closed = 0;
  for (auto& one : crowd) closed += one->ended && one->got.empty();
  TAP_EQ(closed, 35u, "64 are told why");
  crowd.clear();
  // A turn of the door ends by time: how many it takes depends on the machine.
  while (host.wire.clients.size() > 0 && host.turn() > 0) {
  }
  TAP_EQ(host.wire.clients.size(), 0u, "nobody is remembered");
}

TAP_TEST("what is thrown away waits while newcomers have used up what they may") {
  Host host;
  Client wasteful(host), steady(host);
  wasteful.enter();
  steady.enter();
  constexpr uint32_t kBytes = cellblock::kMaxRequestBytes + 1;
  constexpr int64_t kDebt = int64_t{1} << 61;
  const std::string part(256 << 10, 'p');
  wasteful.talk(request(C::write, 1, 0, kBytes));
  size_t sent = 0;
  host.reactor().lobby().charge(kDebt);
  for (int i = 0; i < 400; i++) {
    sent +=
        wasteful.send_some(std::string_view(part).substr(0, std::min<size_t>(part.size(), kBytes - sent)));
    host.turn();
  }
  TAP_OK(sent < (8 << 20), "only what the socket holds: " + std::to_string(sent));
  TAP_EQ(steady.ask(request(C::flush, 1, 0, 0)).error, 0u, "others go on");
  host.reactor().lobby().charge(-kDebt);
  for (; sent < kBytes; sent += std::min<size_t>(part.size(), kBytes - sent))
    wasteful.send(std::string_view(part).substr(0, kBytes - sent));
  wasteful.pump();
  TAP_EQ(wasteful.replies().at(0).error, 22u, "EINVAL");
  TAP_EQ(wasteful.ask(request(C::flush, 2, 0, 0)).error, 0u, "goes on");
}

TAP_TEST("a connection moves to the device's home reactor with what was received and not yet sent") {
  Host host({}, 3);
  FakeDevice far(1 << 20, 2);
  host.directory.table["far"] = {&far, "", false, {}, 0};
  Client client(host);
  client.talk(client_flags() + option(Option::structured_reply) + go("far") + request(C::write, 1, 0, 5) +
              "hello" + request(C::read, 2, 0, 5));
  TAP_OK(client.got.find("hello") != std::string::npos, "answered there");
  TAP_EQ(host.all[0]->counters().size(), 0u, "not here");
  TAP_EQ(host.all[2]->counters().size(), 1u, "but there");
  TAP_EQ(host.all[2]->counters()[0].connections, 1u, "connected there");
}

TAP_TEST("random bytes in transmission disturb nobody") {
  Host host;
  Client steady(host);
  steady.enter();
  Random random;
  for (int i = 0; i < 400; i++) {
    Client wild(host);
    wild.enter(random.chance(50), {}, "disk");
    host.disk.wait = random.chance(30);
    std::string bytes;
    for (uint64_t n = random.below(12); n > 0; n--) {
      std::string one = request(static_cast<C>(random.below(10)), random.next(), random.below(5 << 20),
                                static_cast<uint32_t>(random.chance(5) ? random.next() : random.below(70000)),
                                static_cast<uint16_t>(random.chance(20) ? random.next() : 0));
      if (random.chance(5)) one[random.below(one.size())] ^= static_cast<char>(1 + random.below(255));
      bytes += one + std::string(random.below(3) ? 0 : random.below(40000), 'g');
    }
    wild.talk(bytes);
    if (random.chance(50)) wild.half_close();
    wild.pump();
    if (random.chance(50)) host.disk.complete(random.below(6));
    wild.close();
    for (int turn = 0; turn < 3; turn++) host.turn();
    host.disk.complete();
    host.disk.wait = false;
    if (steady.ask(request(C::flush, 1, 0, 0)).error != 0) TAP_OK(false, "the steady one");
  }
  TAP_EQ(host.wire.connections.load(), 1u, "only the steady one is left");
  TAP_EQ(host.wire.budget.used(), 0, "nothing is charged");
  TAP_EQ(host.directory.leases_open, 1u, "no lease is lost");
}

namespace {

int connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  return connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 ? fd : -1;
}

struct Directory {
  Directory() {
    char name[] = "/tmp/cellblock-listener-XXXXXX";
    path = mkdtemp(name);
  }
  ~Directory() { rmdir(path.c_str()); }
  std::string path;
};

}  // namespace

TAP_TEST("unix: the mode, a stale file is replaced, one that answers is not, the file goes at the end") {
  Host host;
  Directory directory;
  const std::string path = directory.path + "/s";
  plane::Bound stale = plane::listen_on("unix:" + path, {});
  TAP_EQ(stale.error, 0, "bound");
  close(stale.fd);
  struct stat there {};
  {
    plane::Listener listener(host.reactor(), plane::listen_on("unix:" + path, {.mode = 0600}));
    TAP_EQ(listener.address(), "unix:" + path, "replaced");
    TAP_OK(stat(path.c_str(), &there) == 0 && (there.st_mode & 07777) == 0600, "mode");
    const plane::Bound second = plane::listen_on("unix:" + path, {});
    TAP_EQ(second.error, EADDRINUSE, "somebody answers");
    TAP_OK(second.sentence.find(path) != std::string::npos, second.sentence);
    const int fd = connect_to(path);
    TAP_OK(fd >= 0, "connects");
    for (int i = 0; i < 4; i++) host.turn();
    char greeting[18];
    TAP_EQ(read(fd, greeting, sizeof greeting), 18, "is greeted");
    const std::string ask = client_flags() + go("disk");
    TAP_OK(write(fd, ask.data(), ask.size()) == static_cast<ssize_t>(ask.size()), "asks");
    for (int i = 0; i < 4; i++) host.turn();
    TAP_EQ(host.directory.last_peer.name, "unix:uid=" + std::to_string(getuid()), "known by its uid");
    TAP_EQ(host.directory.last_peer.uid, getuid(), "as a number");
    close(fd);
  }
  TAP_OK(stat(path.c_str(), &there) < 0, "removed");
  FILE* file = fopen(path.c_str(), "w");
  fclose(file);
  TAP_EQ(plane::listen_on("unix:" + path, {}).error, EEXIST, "a file that is no socket is left alone");
  unlink(path.c_str());
  TAP_EQ(plane::listen_on("unix:" + std::string(200, 'p'), {}).error, EINVAL, "too long a path");
}

TAP_TEST("tcp: loopback only unless allowed, port 0 is resolved, bad addresses are refused") {
  Host host;
  plane::Bound bound = plane::listen_on("tcp:127.0.0.1:0", {});
  TAP_EQ(bound.error, 0, bound.sentence);
  TAP_OK(bound.address.starts_with("tcp:127.0.0.1:") && !bound.address.ends_with(":0"), bound.address);
  const plane::Bound again = plane::listen_on(bound.address, {});
  TAP_EQ(again.error, EADDRINUSE, "in use");
  const plane::Bound adopted = plane::adopt_listening(dup(bound.fd), {});
  TAP_EQ(adopted.address, bound.address, "an inherited socket");
  close(adopted.fd);
  plane::Listener listener(host.reactor(), std::move(bound));
  TAP_EQ(plane::listen_on("tcp:0.0.0.0:0", {}).error, EACCES, "all addresses");
  TAP_EQ(plane::listen_on("tcp:*:0", {}).error, EACCES, "all addresses, by star");
  plane::Bound remote = plane::listen_on("tcp:0.0.0.0:0", {.allow_remote = true});
  TAP_EQ(remote.error, 0, "allowed");
  close(remote.fd);
  for (const char* bad :
       {"tcp:127.0.0.1", "tcp:", "tcp:127.0.0.1:", "tcp:127.0.0.1:port", "udp:1", "", "unix:"}) {
    TAP_EQ(plane::listen_on(bad, {}).error, EINVAL, bad);
  }
  const int everywhere = plane::listen_on("tcp:0.0.0.0:0", {.allow_remote = true}).fd;
  const plane::Bound refused = plane::adopt_listening(everywhere, {});
  TAP_EQ(refused.error, EACCES, "an inherited one for all addresses");
  TAP_OK(refused.sentence.find("TLS") != std::string::npos, refused.sentence);
  TAP_EQ(plane::adopt_listening(everywhere, {.allow_remote = true}).error, 0, "allowed");
  close(everywhere);
}

TAP_TEST("inherited descriptors that cannot be listened on are refused, each with its reason") {
  TAP_EQ(plane::adopt_listening(-1, {}).error, EBADF, "no descriptor");
  int ends[2];
  TAP_NEED(pipe(ends) == 0, "pipe");
  TAP_EQ(plane::adopt_listening(ends[0], {}).error, ENOTSOCK, "a pipe");
  close(ends[0]);
  close(ends[1]);
  TAP_NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "sockets");
  TAP_EQ(plane::adopt_listening(ends[0], {}).error, EINVAL, "a connected socket");
  close(ends[0]);
  close(ends[1]);
  const int datagrams = socket(AF_INET, SOCK_DGRAM, 0);
  TAP_EQ(plane::adopt_listening(datagrams, {}).error, EINVAL, "a socket of datagrams");
  close(datagrams);
  Directory directory;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, (directory.path + "/p").c_str());
  const int packets = socket(AF_UNIX, SOCK_SEQPACKET, 0);
  TAP_NEED(
      bind(packets, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 && listen(packets, 1) == 0,
      "a socket of packets");
  TAP_EQ(plane::adopt_listening(packets, {}).error, EINVAL, "a listening socket that is no stream");
  close(packets);
  unlink(address.sun_path);
}

TAP_TEST("reactors on threads of their own") {
  Host host({}, 2);
  FakeDevice far(1 << 20, 1);
  host.directory.table["far"] = {&far, "", false, {}, 0};
  int ends[2];
  TAP_NEED(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "sockets");
  for (auto& one : host.all) one->start();
  host.reactor().loop().post([&] { host.reactor().adopt(ends[1]); });
  std::string bytes = client_flags() + go("far");
  for (uint64_t i = 0; i < 100; i++) bytes += request(C::read, i, 0, 4096);
  TAP_EQ(write(ends[0], bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()), "sent");
  std::string got;
  const size_t wanted = 18 + 20 + 12 + 20 + 100 * (16 + 4096);
  char buffer[65536];
  while (got.size() < wanted) {
    const ssize_t n = read(ends[0], buffer, sizeof buffer);
    if (n <= 0) break;
    got.append(buffer, static_cast<size_t>(n));
  }
  TAP_EQ(got.size(), wanted, "answered");
  close(ends[0]);
  for (auto& one : host.all) one->join();
}

int main() { return cellblock::test::run(); }
