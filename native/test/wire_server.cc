// Serves a RAM disk over the wire, for trying strangers' clients against it and for measuring the wire alone:
//   wire_server ADDRESS BYTES [reactors [pending]]
// Exports: "" and "disk" (plain), "holes" (every other 64 KiB is a hole in replies), "frozen" (read-only).
// "pending": every request is answered in a later turn of the loop.
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "plane/listener.h"
#include "plane/reactor.h"
#include "test/fake_device.h"

using namespace cellblock;

namespace {

// Answers by a posted closure instead of at once.
class LateDevice : public test::FakeDevice {
 public:
  LateDevice(uint64_t bytes, plane::Loop& loop) : FakeDevice(bytes), loop_(loop) { wait = true; }
  volume::Submitted submit(volume::Request& request) override {
    if (waiting.empty()) loop_.post([this] { complete(); });
    return FakeDevice::submit(request);
  }

 private:
  plane::Loop& loop_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: wire_server ADDRESS BYTES [reactors [pending]]\n");
    return 2;
  }
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);

  const uint64_t bytes = std::strtoull(argv[2], nullptr, 0);
  const unsigned reactors = argc > 3 ? static_cast<unsigned>(std::atoi(argv[3])) : 1;
  test::TableDirectory directory;
  plane::Wire wire({}, directory, [](plane::LogLevel, const std::string& message, auto fields) {
    std::fprintf(stderr, "%s", message.c_str());
    for (const auto& [key, value] : fields) std::fprintf(stderr, " %s=%s", key.c_str(), value.c_str());
    std::fprintf(stderr, "\n");
  });
  std::vector<std::unique_ptr<plane::Reactor>> all;
  for (unsigned i = 0; i < reactors; i++) {
    all.push_back(std::make_unique<plane::Reactor>(i, wire, nullptr));
    wire.reactors.push_back(all.back().get());
  }
  std::unique_ptr<test::FakeDevice> disk = argc > 4 ? std::make_unique<LateDevice>(bytes, all[0]->loop())
                                                    : std::make_unique<test::FakeDevice>(bytes, reactors - 1);
  test::FakeDevice holes(64 << 20);
  holes.hole_at = [](uint64_t block) { return (block / 16) % 2 == 1; };
  holes.status = [](const volume::Request& request) {
    std::vector<volume::StatusExtent> extents;
    for (uint64_t at = request.offset; at < request.offset + request.length;) {
      const uint64_t part = 65536 - at % 65536;
      extents.push_back({part, at / 65536 % 2 == 1 ? 3u : 0u});
      at += part;
    }
    return std::vector<std::vector<volume::StatusExtent>>(request.contexts->size(), extents);
  };
  for (uint64_t at = 65536; at < holes.size(); at += 131072) std::memset(&holes.bytes()[at], 0, 65536);
  test::FakeDevice frozen(1 << 20);
  frozen.is_read_only = true;
  directory.table[""] = {disk.get(), "a RAM disk", false, {}, 0};
  directory.table["disk"] = {disk.get(), "a RAM disk", false, {"monday"}, 0};
  directory.table["holes"] = {&holes, "half of it is holes", false, {}, 0};
  directory.table["frozen"] = {&frozen, "read-only", true, {}, 0};

  plane::Bound bound = plane::listen_on(argv[1], {});
  if (bound.error) {
    std::fprintf(stderr, "%s\n", bound.sentence.c_str());
    return 1;
  }
  std::printf("%s\n", bound.address.c_str());
  std::fflush(stdout);
  plane::Listener listener(*all[0], std::move(bound));
  for (auto& reactor : all) reactor->start();
  int signal = 0;
  sigwait(&ends, &signal);
  for (auto& reactor : all) reactor->join();
  for (auto& reactor : all) {
    for (const auto& device : reactor->counters()) {
      std::fprintf(stderr, "device: %llu connections", static_cast<unsigned long long>(device.connections));
      for (const auto& kind : device.kinds)
        std::fprintf(stderr, " %llu", static_cast<unsigned long long>(kind.requests));
      std::fprintf(stderr, "\n");
    }
  }
  return 0;
}
