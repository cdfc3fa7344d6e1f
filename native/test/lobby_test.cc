// What those who come in may cost those who are inside. The clock stands still but where a test, or what is
// called in it, moves it.
#include "plane/lobby.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <memory>
#include <vector>

#include "plane/reactor.h"
#include "test/fake_device.h"
#include "test/tap.h"

using namespace cellblock;
using namespace cellblock::plane;
using namespace cellblock::test;

namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kBurst = 10 * kMs;

uint64_t the_time_ns = 0;
uint64_t the_clock() { return the_time_ns; }

// A processor that is always at work, unless a test says how much of a millisecond it is.
uint64_t the_work_ns = 0;
bool always_at_work = true;
uint64_t the_work() { return always_at_work ? the_time_ns : the_work_ns; }

// Always ready, and costs so much time whenever it is told.
struct Newcomer final : Watcher {
  Newcomer(Lobby& in, uint64_t costs_ns) : lobby(in), costs(costs_ns), fd(eventfd(1, EFD_CLOEXEC)) {
    lobby.watch(fd, EPOLLIN, this);
  }
  ~Newcomer() {
    lobby.unwatch(fd, this);
    close(fd);
  }
  void ready(uint32_t) override {
    told++;
    the_time_ns += costs;
  }
  Lobby& lobby;
  const uint64_t costs;
  const int fd;
  uint64_t told = 0;
};

struct Scene {
  Scene() : loop(nullptr) {
    the_time_ns = 1000 * kMs;
    loop.use_clock(the_clock);
    always_at_work = true;
    lobby = std::make_unique<Lobby>(loop, kBurst, the_work);
  }
  // Of those inside: so much time, in turns of a tenth of a millisecond with a look at the sockets in
  // between.
  void work_inside(uint64_t ns) {
    for (const uint64_t end = the_time_ns + ns; the_time_ns < end; the_time_ns += kMs / 10) loop.run_once(0);
  }
  Loop loop;
  std::unique_ptr<Lobby> lobby;
};

}  // namespace

TAP_TEST("beside work inside, a flood takes a burst and then its part of the time, each newcomer as much") {
  Scene scene;
  std::vector<std::unique_ptr<Newcomer>> flood;
  for (int i = 0; i < 50; i++) flood.push_back(std::make_unique<Newcomer>(*scene.lobby, kMs / 20));
  const auto told = [&] {
    uint64_t all = 0;
    for (const auto& one : flood) all += one->told;
    return all;
  };
  const uint64_t begin = the_time_ns;
  scene.work_inside(10'000 * kMs);
  const uint64_t all_ns = the_time_ns - begin;
  const uint64_t theirs_ns = told() * kMs / 20;
  TAP_OK(theirs_ns >= all_ns / Lobby::kBusyShare, "no less: " + std::to_string(theirs_ns / kMs) + " ms");
  TAP_OK(theirs_ns <= all_ns / Lobby::kBusyShare + kBurst + kMs, "and no more");
  uint64_t least = UINT64_MAX, most = 0;
  for (const auto& one : flood) least = std::min(least, one->told), most = std::max(most, one->told);
  TAP_OK(least * 10 >= most * 9, std::to_string(least) + " and " + std::to_string(most) + " times");
}

TAP_TEST("few newcomers never wait") {
  Scene scene;
  for (int i = 0; i < 100; i++) {
    Newcomer one(*scene.lobby, kMs / 10);
    scene.loop.run_once(0);
    TAP_EQ(one.told > 0, true, "told at once");
    scene.lobby->unwatch(one.fd, &one);
    scene.work_inside(50 * kMs);
  }
}

TAP_TEST("one that costs a hundred times its due keeps the others out only until that is paid off") {
  Scene scene;
  {
    Newcomer dear(*scene.lobby, 100 * kMs);
    scene.loop.run_once(0);
    TAP_EQ(dear.told, uint64_t{1}, "told");
  }
  TAP_OK(scene.lobby->is_closed(), "the lobby is left alone");
  Newcomer next(*scene.lobby, 0);
  scene.work_inside(1000 * kMs);
  TAP_EQ(next.told, uint64_t{0}, "too early");
  scene.work_inside((100 * Lobby::kBusyShare - 1000) * kMs);
  TAP_OK(next.told > 0, "and in the end it is looked at");
  TAP_OK(!scene.lobby->is_closed(), "as are all");
}

TAP_TEST("work that no socket tells of waits in line behind the debt, in its order") {
  Scene scene;
  std::string order;
  scene.lobby->run([&] { order += "a", the_time_ns += 20 * kMs; });
  TAP_EQ(order, "a", "at once");
  scene.lobby->run([&] { order += "b"; });
  scene.lobby->run([&] { order += "c"; });
  scene.loop.run_once(0);
  TAP_EQ(order, "a", "not yet");
  scene.work_inside(400 * kMs);
  TAP_EQ(order, "abc", "later");
}

TAP_TEST("what is paid for elsewhere counts too") {
  Scene scene;
  scene.lobby->charge(static_cast<int64_t>(2 * kBurst));
  Newcomer one(*scene.lobby, 0);
  scene.loop.run_once(0);
  TAP_EQ(one.told, uint64_t{0}, "nobody is looked at");
}

TAP_TEST("what is of use to nobody waits for its part, too") {
  Scene scene;
  TAP_OK(scene.lobby->may_spend(), "at first");
  scene.lobby->charge(static_cast<int64_t>(kBurst + kMs));
  TAP_OK(!scene.lobby->may_spend(), "there is a debt");
  the_time_ns += kMs * (Lobby::kBusyShare - 1);
  TAP_OK(!scene.lobby->may_spend(), "not yet paid off");
  the_time_ns += 2 * kMs;
  TAP_OK(scene.lobby->may_spend(), "paid off");
}

TAP_TEST("a process that works on nothing else gives half of the time") {
  Scene scene;
  always_at_work = false;
  std::vector<std::unique_ptr<Newcomer>> flood;
  for (int i = 0; i < 10; i++) flood.push_back(std::make_unique<Newcomer>(*scene.lobby, kMs / 10));
  // Every tenth of a millisecond a turn, in which the reactor itself does nothing: what is worked is what the
  // newcomers cost, and what other threads do.
  const auto part_of_time = [&](uint64_t elsewhere_in_ms) {
    const auto theirs = [&] {
      uint64_t told = 0;
      for (const auto& one : flood) told += one->told;
      return told * kMs / 10;
    };
    const auto pass = [&](uint64_t ms) {
      for (const uint64_t end = the_time_ns + ms * kMs; the_time_ns < end;) {
        const uint64_t before = theirs();
        scene.loop.run_once(0);
        the_work_ns += theirs() - before + elsewhere_in_ms / 10;
        the_time_ns += kMs / 10;
      }
    };
    pass(1000);  // what was before is paid off
    const uint64_t begin = the_time_ns, before = theirs();
    pass(4000);
    return static_cast<double>(theirs() - before) / static_cast<double>(the_time_ns - begin);
  };
  const double idle = part_of_time(0), little = part_of_time(kMs / 20), busy = part_of_time(kMs / 2);
  const auto is_about = [](double part, uint64_t share) {
    return part * static_cast<double>(share) > 0.9 && part * static_cast<double>(share) < 1.1;
  };
  TAP_OK(is_about(idle, Lobby::kIdleShare), "idle: " + std::to_string(idle));
  TAP_OK(is_about(little, Lobby::kIdleShare), "next to idle: " + std::to_string(little));
  TAP_OK(is_about(busy, Lobby::kBusyShare), "another thread is at work: " + std::to_string(busy));
}

int main() { return cellblock::test::run(); }
