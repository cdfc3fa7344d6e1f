// Volumes that share a reactor: what a request of a quiet one has to wait for, and what two busy ones get.
// Everything is counted in bytes and turns of the loop, nothing in time.
#include "plane/turns.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "test/wire_client.h"

using namespace cellblock;
using namespace cellblock::nbd;
using namespace cellblock::test;
using C = CommandType;

namespace {

constexpr uint32_t kMiB = 1 << 20;

struct SharedHost : Host {
  SharedHost() { directory.table["quiet"] = {&quiet, "another disk", false, {}, 0}; }
  FakeDevice quiet{4 << 20};
};

std::string reads(unsigned count, uint32_t bytes) {
  std::string all;
  for (unsigned i = 0; i < count; i++) all += request(C::read, i, 0, bytes);
  return all;
}

std::vector<std::unique_ptr<Client>> clients(Host& host, size_t count, std::string_view name) {
  std::vector<std::unique_ptr<Client>> all;
  for (size_t i = 0; i < count; i++) {
    all.push_back(std::make_unique<Client>(host));
    all.back()->enter(true, {}, name);
  }
  return all;
}

void take_all(std::vector<std::unique_ptr<Client>>& all) {
  for (auto& one : all) one->take(), one->got.clear();
}

}  // namespace

TAP_TEST("a quiet volume beside a busy one waits for one turn of it, however many connections that has") {
  SharedHost host;
  auto busy = clients(host, 16, "disk");
  Client quiet(host);
  quiet.enter(true, {}, "quiet");
  for (auto& one : busy) one->send(reads(200, kMiB));
  uint64_t most = 0;
  for (int i = 0; i < 200; i++) {
    quiet.send(reads(1, 4096));
    const uint64_t before = host.disk.moved_bytes;
    do {
      host.turn();
      take_all(busy);
      quiet.take();
    } while (quiet.got.empty());
    most = std::max(most, host.disk.moved_bytes - before);
    quiet.got.clear();
  }
  TAP_OK(host.disk.moved_bytes > 10 * uint64_t{kMiB}, "the busy one is");
  TAP_OK(most <= 2 * kMiB, "at most two of its requests in between: " + std::to_string(most));
}

TAP_TEST("two busy volumes get the same, one with one connection and one with sixteen, of 4 KiB and 1 MiB") {
  SharedHost host;
  auto many = clients(host, 16, "disk");
  auto one = clients(host, 1, "quiet");
  for (auto& client : many) client->send(reads(1000, kMiB));
  one[0]->send(reads(5000, 4096));
  uint64_t from_many = 0, from_one = 0, sent = 5000;
  for (int i = 0; i < 3000; i++) {
    const uint64_t many_before = host.disk.moved_bytes, one_before = host.quiet.moved_bytes;
    host.turn();
    take_all(many);
    take_all(one);
    from_many += host.disk.moved_bytes - many_before;
    from_one += host.quiet.moved_bytes - one_before;
    if (host.quiet.moved_bytes / 4096 + 2500 > sent) {
      one[0]->send(reads(2500, 4096));
      sent += 2500;
    }
  }
  // Per 4 KiB: read, sent, and the constant of a request, which is twice that; per 1 MiB the constant is
  // nothing.
  const double share = static_cast<double>(from_one) / static_cast<double>(from_one + from_many);
  TAP_OK(share > 0.15 && share < 0.5, "the share of the one with 4 KiB requests: " + std::to_string(share));
}

TAP_TEST("who sends what is thrown away gets a small part of what one gets that works") {
  SharedHost host;
  Client wasteful(host);
  wasteful.enter();
  wasteful.enlarge();
  auto useful = clients(host, 1, "quiet");
  const std::string junk(kMiB, 'j');
  uint64_t thrown_away = 0;
  const char* effort = std::getenv("CELLBLOCK_TEST_EFFORT");
  const unsigned floods = effort && std::strcmp(effort, "quick") == 0 ? 5 : 20;
  for (unsigned i = 0; i < floods; i++) {
    // Larger than there may be: refused, behind its payload.
    wasteful.send(request(C::write, 1, 0, UINT32_MAX));
    for (int n = 0; n < 100; n++) {
      useful[0]->send(reads(4, kMiB));
      thrown_away += wasteful.send_some(junk);
      for (int turns = 0; turns < 8; turns++) host.turn(), take_all(useful);
    }
  }
  const double part = static_cast<double>(thrown_away) / static_cast<double>(host.quiet.moved_bytes);
  TAP_OK(thrown_away > floods * uint64_t{kMiB} / 5, "it goes on: " + std::to_string(thrown_away));
  TAP_OK(part < 0.25, "of what the other one gets: " + std::to_string(part));
}

TAP_TEST("connections of one volume get the same by bytes where volumes share a reactor") {
  SharedHost host;
  auto small = clients(host, 1, "disk");
  auto large = clients(host, 4, "disk");
  Client other(host);
  other.enter(true, {}, "quiet");
  const uint32_t small_bytes = 64 << 10;
  for (auto& client : large) client->send(reads(500, 4 * kMiB));
  small[0]->send(reads(2000, small_bytes));
  uint64_t got_small = 0, got_large = 0;
  for (int i = 0; i < 4000; i++) {
    host.turn();
    got_small += small[0]->take();
    small[0]->got.clear();
    for (auto& client : large) got_large += client->take(), client->got.clear();
    if (got_small > 2000ull * small_bytes * 9 / 10) break;
  }
  const double ratio = static_cast<double>(got_small) / (static_cast<double>(got_large) / 4);
  TAP_OK(ratio > 0.6 && ratio < 1.7, "small beside a large one: " + std::to_string(ratio));
}

TAP_TEST(
    "alone on its reactor a volume's connections are all served in one turn, without a look in between") {
  Host host;
  auto all = clients(host, 16, "disk");
  host.disk.remember = true;
  for (auto& one : all) one->send(reads(1, kMiB));
  host.turn();
  TAP_EQ(host.disk.seen.size(), 16u, "every connection");
}

TAP_TEST("replies of a device that takes its time are sent in turns, too") {
  SharedHost host;
  auto busy = clients(host, 8, "disk");
  Client quiet(host);
  quiet.enter(true, {}, "quiet");
  host.disk.wait = true;
  for (auto& one : busy) one->send(reads(20, kMiB));
  for (int i = 0; i < 400; i++) host.turn();
  TAP_EQ(host.disk.waiting.size(), 160u, "all are with the device");
  host.disk.complete();
  quiet.send(reads(1, 4096));
  uint64_t sent = 0;
  do {
    host.turn();
    for (auto& one : busy) sent += one->take(), one->got.clear();
    quiet.take();
  } while (quiet.got.empty());
  TAP_OK(sent <= 3 * kMiB, "sent before the quiet one's turn came: " + std::to_string(sent));
  for (int i = 0; i < 4000; i++) {
    host.turn();
    for (auto& one : busy) sent += one->take(), one->got.clear();
  }
  TAP_OK(sent > 160 * uint64_t{kMiB}, "and everything in the end");
}

TAP_TEST("volumes come and go: who is left alone goes on, nobody is lost") {
  SharedHost host;
  auto left = clients(host, 4, "disk");
  for (int i = 0; i < 10; i++) {
    auto passing = clients(host, 3, "quiet");
    for (auto& one : passing) one->send(reads(20, kMiB));
    for (auto& one : left) one->send(reads(3, kMiB));
    for (int n = 0; n < i; n++) host.turn();
    passing.clear();
    for (auto& one : left) one->pump();
    for (auto& one : left) TAP_EQ(one->replies(kMiB).size(), 3u, "all answered");
  }
}

int main() { return cellblock::test::run(); }

TAP_TEST("a payload is whole where the socket holds more of it than a turn takes") {
  SharedHost host;
  Client other(host);
  other.enter(true, {}, "quiet");
  Client client(host);
  client.enter();
  client.enlarge();
  const std::string data = pattern(2 * kMiB, 7);
  const std::string all = request(C::write, 1, 0, static_cast<uint32_t>(data.size())) + data;
  size_t at = 0, most = 0;
  while (at < all.size()) {
    const size_t before = at;
    for (size_t n = 1; n > 0 && at < all.size(); at += n)
      n = client.send_some(std::string_view(all).substr(at));
    most = std::max(most, at - before);
    host.turn();
  }
  client.pump();
  TAP_OK(most > static_cast<size_t>(plane::Turns::kQuantum), "it does: " + std::to_string(most));
  TAP_OK(std::memcmp(host.disk.bytes().data(), data.data(), data.size()) == 0, "every byte in its place");
}
