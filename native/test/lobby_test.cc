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

// The loop reads its clock right before a wait and right behind it: there, a millisecond has passed.
unsigned reads_until_wait_ends = 0;
uint64_t the_waiting_clock() {
  if (reads_until_wait_ends > 0 && --reads_until_wait_ends == 0) the_time_ns += kMs;
  return the_time_ns;
}

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
    lobby = std::make_unique<Lobby>(loop, kBurst);
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
  scene.work_inside(1000 * kMs);
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

TAP_TEST("a loop that waits most of the time gives half of it") {
  Scene scene;
  scene.loop.use_clock(the_waiting_clock);
  Newcomer one(*scene.lobby, 0);
  scene.lobby->charge(static_cast<int64_t>(kBurst));
  const auto turn = [&](bool waits) {
    // Where a timer is armed the clock is read once more, to see how long the wait may take.
    reads_until_wait_ends = !waits ? 0 : scene.lobby->is_closed() ? 3 : 2;
    if (!waits) the_time_ns += kMs;
    scene.loop.run_once(waits ? 1 : 0);
    reads_until_wait_ends = 0;
  };
  // Nothing is ready while the lobby is closed, so a turn may wait.
  const auto paid_off_after = [&](bool waits) {
    for (int i = 0; i < 20; i++) turn(waits);  // long enough to be seen
    const uint64_t told = one.told;
    scene.lobby->charge(static_cast<int64_t>(3 * kBurst));
    uint64_t ms = 0;
    while (one.told == told && ms < 1000) turn(waits), ms++;
    return ms;
  };
  const uint64_t busy = paid_off_after(false), idle = paid_off_after(true);
  TAP_OK(busy >= 300 && busy <= 500, "at work: after " + std::to_string(busy) + " ms");
  TAP_OK(idle >= 30 && idle <= 70, "idle: after " + std::to_string(idle) + " ms");
}

int main() { return cellblock::test::run(); }
