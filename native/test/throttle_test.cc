// Limits of a volume: how much goes through in how much time, and who of its clients gets it. The clock
// stands still but where a test moves it.
#include "plane/throttle.h"

#include "plane/token_bucket.h"
#include "test/wire_client.h"

using namespace cellblock;
using namespace cellblock::nbd;
using namespace cellblock::test;
using C = CommandType;

namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSecond = 1000 * kMs;

uint64_t the_time_ns = 0;
uint64_t the_clock() { return the_time_ns; }

struct LimitedHost : Host {
  explicit LimitedHost(const plane::Limits& limits) {
    the_time_ns = kSecond;
    reactor().loop().use_clock(the_clock);
    limit(limits);
  }
  void limit(const plane::Limits& limits) { reactor().limit(disk, limits); }

  // A millisecond at a time, as the timers are.
  void pass(uint64_t ms) {
    for (; ms > 0; ms--) {
      the_time_ns += kMs;
      for (int idle = 0; idle < 2;) idle = turn() ? 0 : idle + 1;
    }
  }
  uint64_t throttled() {
    uint64_t all = 0;
    for (const auto& one : reactor().counters()) all += one.throttled;
    return all;
  }
};

std::string reads(unsigned count, uint32_t bytes, uint64_t first_cookie = 1) {
  std::string all;
  for (unsigned i = 0; i < count; i++) all += request(C::read, first_cookie + i, 0, bytes);
  return all;
}

// Replies that have come since the last time.
size_t came(Client& client, uint32_t bytes) {
  client.take();
  return client.replies(bytes).size();
}

}  // namespace

TAP_TEST("a bucket: never more than rate * time + burst, and not a token less for who always asks") {
  for (uint64_t seed = 1; seed <= 300; seed++) {
    Random random(seed);
    const uint64_t rate = 1 + random.below(seed % 2 ? 1000 : 3'000'000'000);
    const uint64_t burst = 1 + random.below(rate);
    plane::TokenBucket bucket;
    bucket.set(rate, burst);
    const uint64_t largest = 1 + random.below(burst);
    const double given_at_once = std::max(
        static_cast<double>(burst), static_cast<double>(rate) * plane::TokenBucket::kLeastBurstNs / 1e9);
    uint64_t now = 5 * kSecond;
    const uint64_t start = now;
    uint64_t taken = 0;
    for (int i = 0; i < 300; i++) {
      const uint64_t tokens = 1 + random.below(largest);
      now += bucket.wait_ns(now, tokens);
      TAP_EQ(bucket.wait_ns(now, tokens), 0u, "the wait is long enough");
      bucket.take(now, tokens);
      taken += tokens;
      const double most = static_cast<double>(rate) * static_cast<double>(now - start) / 1e9 + given_at_once;
      // A nanosecond for each rounding.
      if (static_cast<double>(taken) > most + static_cast<double>(rate) * 2e-9 + 1) {
        TAP_OK(false, "too much, seed " + std::to_string(seed));
        break;
      }
      if (now > start && static_cast<double>(taken) <
                             most - static_cast<double>(largest) - 2 - static_cast<double>(rate) * 4e-9) {
        TAP_OK(false, "too little, seed " + std::to_string(seed));
        break;
      }
    }
  }
}

TAP_TEST("a request larger than the burst goes when the bucket is full, and is owed") {
  plane::TokenBucket bucket;
  bucket.set(1000, 100);
  TAP_EQ(bucket.wait_ns(kSecond, 5000), 0u, "full: it goes");
  bucket.take(kSecond, 5000);
  TAP_EQ(bucket.wait_ns(kSecond, 5000), 5 * kSecond, "the next one like it when the bucket is full again");
  TAP_EQ(bucket.wait_ns(kSecond, 100), 5 * kSecond, "as many as the burst: the same");
  TAP_EQ(bucket.wait_ns(kSecond, 40), 5 * kSecond - 60 * kMs, "and fewer when there are so many");
}

TAP_TEST("requests a second: the burst at once, then the rate, whoever asks how much") {
  LimitedHost host({.iops = 100, .iops_burst = 10});
  Client client(host);
  client.enter();
  client.talk(reads(200, 512));
  TAP_EQ(came(client, 512), 10u, "the burst");
  host.pass(100);
  const size_t first = came(client, 512);
  TAP_OK(first == 9 || first == 10, "ten in a tenth of a second: " + std::to_string(first));
  host.pass(1000);
  const size_t second = came(client, 512);
  TAP_OK(second >= 99 && second <= 101, "a hundred in a second: " + std::to_string(second));
  host.pass(2000);
  TAP_EQ(first + second + came(client, 512), 190u, "all of them in the end");
  client.talk(reads(20, 512));
  TAP_EQ(came(client, 512), 10u, "and the bucket fills again");
}

TAP_TEST("bytes a second: reads and writes count, trim and zeroes count as requests only") {
  LimitedHost host({.bandwidth = 1 << 20, .bandwidth_burst = 1 << 16});
  Client client(host);
  client.enter();
  const std::string data(1 << 15, 'x');
  client.talk(request(C::write, 1, 0, 1 << 15) + data + request(C::read, 2, 0, 1 << 15) +
              request(C::trim, 3, 0, 1 << 20) + request(C::write_zeroes, 4, 0, 1 << 20) +
              request(C::read, 5, 0, 4096));
  TAP_EQ(client.replies(0).size(), 4u, "64 KiB and whatever moves nothing");
  host.pass(3);
  client.take();
  TAP_OK(client.got.empty(), "then one waits");
  host.pass(3);
  client.take();
  TAP_OK(!client.got.empty(), "for 4 KiB of time, which are 3.9 ms");
}

TAP_TEST("a flush is not counted, and does not wait on a connection of its own") {
  LimitedHost host({.iops = 1});
  Client busy(host);
  Client other(host);
  busy.enter();
  other.enter();
  busy.talk(reads(10, 512));
  TAP_EQ(came(busy, 512), 1u, "the limit is reached");
  TAP_EQ(other.ask(request(C::flush, 1, 0, 0)).error, 0u, "a flush goes");
  TAP_EQ(other.ask(request(C::flush, 2, 0, 0)).error, 0u, "and another");
  host.pass(1001);
  TAP_EQ(came(busy, 512), 1u, "at nobody's expense");
}

TAP_TEST("connections of a volume share its requests: one with much in its socket and one with little") {
  LimitedHost host({.iops = 1000});
  Client deep(host);
  Client shallow(host);
  deep.enter();
  shallow.enter();
  deep.talk(reads(3000, 4096));
  came(deep, 4096);
  size_t many = 0, few = 0;
  shallow.send(reads(1, 4096));
  for (int ms = 0; ms < 1000; ms++) {
    host.pass(1);
    many += came(deep, 4096);
    // Depth 1: the next when the last is answered.
    if (came(shallow, 4096) == 0) continue;
    few++;
    shallow.send(reads(1, 4096));
  }
  // The deep one takes a quantum at a time: 22 requests of 4 KiB and their constant.
  TAP_OK(few >= 1000 / 40, "the shallow one gets its turn: " + std::to_string(few));
  TAP_OK(many + few >= 990 && many + few <= 1110, "and nothing is lost: " + std::to_string(many + few));
}

TAP_TEST("connections of a volume share its bandwidth by bytes: 1 MiB requests beside 4 KiB requests") {
  LimitedHost host({.bandwidth = 10 << 20});
  Client large(host);
  Client small(host);
  large.enter();
  small.enter();
  large.send(reads(200, 1 << 20));
  small.send(reads(4000, 4096));
  uint64_t large_bytes = 0, small_bytes = 0;
  for (int i = 0; i < 2000; i++) {
    host.pass(1);
    large_bytes += large.take();
    small_bytes += small.take();
  }
  const uint64_t all = large_bytes + small_bytes;
  TAP_OK(all <= (21 << 20) + (2 << 20), "the limit holds: " + std::to_string(all));
  TAP_OK(all >= (20 << 20) - (2 << 20), "and is used: " + std::to_string(all));
  // A request of 4 KiB costs 12 KiB in turns, so a third of the half is the least.
  TAP_OK(small_bytes >= all / 8, "the small ones get their share: " + std::to_string(small_bytes));
  TAP_OK(large_bytes >= all / 4, "and the large ones theirs: " + std::to_string(large_bytes));
}

TAP_TEST("limits are taken off, put on and changed while clients are connected") {
  LimitedHost host({});
  Client client(host);
  client.enter();
  client.talk(reads(100, 512));
  TAP_EQ(came(client, 512), 100u, "none");
  host.limit({.iops = 10, .iops_burst = 1});
  client.talk(reads(100, 512));
  TAP_EQ(came(client, 512), 1u, "one at a time");
  host.limit({.iops = 1000, .iops_burst = 20});
  client.pump();
  TAP_EQ(came(client, 512), 20u, "another limit");
  host.limit({});
  client.pump();
  TAP_EQ(came(client, 512), 79u, "none again");
}

TAP_TEST("what waited is counted, with the time it waited") {
  LimitedHost host({.iops = 10, .iops_burst = 1});
  Client client(host);
  client.enter();
  client.talk(reads(3, 512));
  host.pass(500);
  TAP_EQ(came(client, 512), 3u, "answered");
  const auto counters = host.reactor().counters();
  TAP_EQ(counters.size(), 1u, "one device");
  TAP_EQ(counters[0].throttled, 2u, "all but the first waited");
  const uint64_t ms = counters[0].throttled_microseconds / 1000;
  TAP_OK(ms >= 200 && ms <= 206, "a tenth of a second each: " + std::to_string(ms));
}

TAP_TEST("who leaves the line, whether called or not, does not keep the others") {
  LimitedHost host({.iops = 1000, .iops_burst = 1});
  for (int i = 0; i < 20; i++) {
    auto first = std::make_unique<Client>(host);
    auto second = std::make_unique<Client>(host);
    Client third(host);
    first->enter();
    second->enter();
    third.enter();
    first->send(reads(100, 512));
    second->send(reads(100, 512));
    third.send(reads(10, 512));
    host.pass(static_cast<uint64_t>(i % 7));
    first.reset();
    host.pass(1);
    second->half_close();
    second.reset();
    host.pass(40);
    TAP_EQ(came(third, 512), 10u, "the third is served");
  }
}

TAP_TEST("at a stop nobody waits for a limit: later requests get ESHUTDOWN at once") {
  LimitedHost host({.iops = 1});
  Client client(host);
  client.enter();
  client.talk(reads(50, 512));
  TAP_EQ(came(client, 512), 1u, "the limit is reached");
  size_t abandoned = 1;
  host.reactor().stop_serving(1000, [&](size_t left) { abandoned = left; });
  client.pump();
  const auto replies = client.replies(512);
  TAP_EQ(replies.size(), 49u, "all are answered");
  TAP_EQ(replies.back().error, static_cast<uint32_t>(WireError::eshutdown), "with ESHUTDOWN");
  client.close();
  for (int i = 0; i < 4; i++) host.turn();
  TAP_EQ(abandoned, 0u, "and the stop ends");
}

TAP_TEST("a client that is gone leaves the line: nobody waits for what it had asked for") {
  LimitedHost host({.bandwidth = 1 << 20, .bandwidth_burst = 1 << 20});
  host.disk.remember = true;
  {
    std::vector<std::unique_ptr<Client>> gone;
    for (int i = 0; i < 10; i++) {
      gone.push_back(std::make_unique<Client>(host));
      gone.back()->enter();
      // A payload that never comes whole, and costs four seconds.
      gone.back()->send(request(C::write, 1, 0, 4 << 20) + std::string(100'000, 'w'));
    }
    host.pass(100);
    TAP_EQ(host.wire.connections.load(), 10u, "they are here");
  }
  host.pass(100);
  TAP_EQ(host.wire.connections.load(), 0u, "and gone");
}

int main() { return cellblock::test::run(); }
