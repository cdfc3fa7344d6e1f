// Handshake and transmission as a whole: the real reactor, negotiation and connection over a socket pair, on
// a loop that turns only here, with a device and a directory that answer when the session says so. Nothing
// depends on time, so a session does the same in every run.
//
// What is found wrong: what the sanitizers see, an answer that judge.h does not accept, a connection, lease
// or request that is left over at the end, and a client that comes afterwards and is not served.
#include <memory>

#include "fuzz/fail.h"
#include "fuzz/judge.h"
#include "fuzz/session.h"
#include "test/wire_client.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace cellblock::fuzz {
namespace {

using plane::Reactor;

constexpr uint64_t kDiskBytes = 256 << 20;

// Named as in the conformance suite, whose sessions are the seeds.
const std::vector<KnownExport>& exports() {
  static const std::vector<KnownExport> all{
      {"", kDiskBytes, false},
      {"disk", kDiskBytes, false},
      {"disk@before", kDiskBytes, true},
      {"huge", INT64_MAX, false},
  };
  return all;
}

plane::WireOptions options_for(uint8_t settings) {
  plane::WireOptions options;
  if (settings & kSmallLimit) options.bytes_per_connection = 96 << 10;
  if (settings & kRefusing) options.max_connections = 0;
  // Nothing may end by time: a run is far shorter.
  options.handshake_timeout_ms = 3'600'000;
  options.linger_ms = 3'600'000;
  return options;
}

// Bytes of a fill: of a length that no size of the protocol divides, so that a shift shows.
const std::string& filling() {
  static const std::string bytes = test::pattern(65521, 1);
  return bytes;
}

std::string stream_of(const Session& session) {
  constexpr size_t kMostBytes = 384 << 10;
  std::string stream;
  for (const Step& step : session.steps) {
    if (step.kind == StepKind::send) stream += step.bytes;
    if (step.kind != StepKind::fill || stream.size() >= kMostBytes) continue;
    for (size_t left = std::min(step.value * Session::kFillUnit, kMostBytes - stream.size()); left > 0;) {
      const size_t from = stream.size() % filling().size();
      const size_t part = std::min(left, filling().size() - from);
      stream.append(filling(), from, part);
      left -= part;
    }
  }
  return stream;
}

class Run {
 public:
  explicit Run(const Session& session)
      : session_(session),
        stream_(stream_of(session)),
        said_(read_conversation(stream_, exports())),
        host_(options_for(session.settings), 1, 0),
        client_(host_) {
    told_.conversation = &said_;
    told_.stream = stream_;
    told_.outcomes.resize(said_.requests.size());
    told_.submitted.resize(said_.requests.size());
    told_.wait = session.settings & kWaiting;
    told_.holes = session.settings & kHoles;
    how_.refused = session.settings & kRefusing;
    host_.directory.table.clear();
    for (const KnownExport& one : exports()) {
      devices_.push_back(std::make_unique<PatternDevice>(one, told_));
      host_.directory.table[std::string(one.name)] = {
          devices_.back().get(), "for fuzzing", false, {"before"}, 0};
    }
    host_.directory.later = session.settings & kLater;
  }

  void run() {
    for (const Step& step : session_.steps) {
      take(step);
      turn();
    }
    end();
    judge(said_, told_, client_.got, how_);
    expect(host_.wire.connections == 0, "a connection is left over");
    expect(host_.directory.leases_open == 0, "a lease is left over");
    expect(host_.wire.budget.used() == 0, "bytes in flight are left over");
    if (!(session_.settings & kRefusing) && !server_stopped_) another_is_served();
  }

 private:
  Reactor& reactor() { return host_.reactor(); }

  void turn() {
    host_.turn();
    if (client_.reads) client_.take();
  }

  void pump() {
    constexpr int kIdle = 8;
    for (int idle = 0; idle < kIdle;) {
      const size_t happened = host_.turn() + (client_.reads ? client_.take() : 0);
      idle = happened ? 0 : idle + 1;
    }
  }

  // As much as the socket takes; the rest goes ahead of what is sent next.
  void send(size_t bytes) {
    due_ += bytes;
    due_ = std::min(due_, stream_.size());
    push();
  }

  void push() {
    if (sending_ended_) return;
    how_.sent += client_.send_some(std::string_view(stream_).substr(how_.sent, due_ - how_.sent));
  }

  void take(const Step& step) {
    switch (step.kind) {
      case StepKind::send:
        return send(step.bytes.size());
      case StepKind::fill:
        return send(step.value * Session::kFillUnit);
      case StepKind::pump:
        return pump();
      case StepKind::complete:
        return complete(step.value);
      case StepKind::complete_last:
        for (auto& device : devices_) device->complete_last();
        return;
      case StepKind::answer:
        host_.directory.answer();
        return;
      case StepKind::toggle_wait:
        told_.wait = !told_.wait;
        return;
      case StepKind::toggle_later:
        host_.directory.later = !host_.directory.later;
        return;
      case StepKind::toggle_hold:
        told_.hold = !told_.hold;
        if (!told_.hold) release();
        return;
      case StepKind::toggle_reading:
        client_.reads = !client_.reads;
        return;
      case StepKind::toggle_failure:
        told_.fail = !told_.fail;
        return;
      case StepKind::end_sending:
        return end_sending();
      case StepKind::stop_serving:
        return stop_serving();
      case StepKind::disconnect:
        how_.stopped = true;
        for (auto& device : devices_) reactor().disconnect(device.get(), [] {});
        return;
    }
  }

  void complete(size_t most) {
    for (auto& device : devices_) {
      for (size_t n = 0; n < most && device->complete_first(); n++) {
      }
    }
  }

  void release() {
    for (auto& device : devices_) reactor().device_released(device.get());
  }

  void end_sending() {
    if (!sending_ended_) client_.half_close();
    sending_ended_ = true;
  }

  void stop_serving() {
    constexpr uint64_t kNever = 3'600'000;
    if (std::exchange(server_stopped_, true)) return;
    how_.stopped = true;
    reactor().stop_serving(kNever,
                           [](size_t abandoned) { expect(abandoned == 0, "requests were abandoned"); });
  }

  // Everything that was kept back is let go, and the client leaves: then all has to come to its end.
  void end() {
    told_.hold = told_.wait = host_.directory.later = false;
    client_.reads = true;
    release();
    size_t before;
    do {
      before = how_.sent;
      settle();
      push();
    } while (how_.sent > before);
    end_sending();
    settle();
    expect(client_.ended, "the server did not close a connection that is over");
  }

  void settle() {
    bool answered;
    do {
      pump();
      answered = host_.directory.answer();
      for (auto& device : devices_) answered |= device->complete_first();
    } while (answered);
  }

  void another_is_served() {
    std::string bytes = test::client_flags() + test::go("disk") +
                        test::request(nbd::CommandType::read, 1, 4096, 512) +
                        test::request(nbd::CommandType::disc, 2, 0, 0);
    const Conversation said = read_conversation(bytes, exports());
    told_ = Told{};
    told_.conversation = &said;
    told_.stream = bytes;
    told_.outcomes.resize(1);
    told_.submitted.resize(1);
    test::Client other(host_);
    other.talk(bytes);
    expect(other.ended, "another client's connection does not end");
    judge(said, told_, other.got, {.sent = bytes.size(), .stopped = false, .refused = false});
  }

  const Session& session_;
  std::string stream_;
  const Conversation said_;
  Told told_;
  std::vector<std::unique_ptr<PatternDevice>> devices_;
  test::Host host_;
  test::Client client_;
  Circumstances how_;
  size_t due_ = 0;  // bytes of the stream that the steps so far want sent
  bool sending_ended_ = false;
  bool server_stopped_ = false;
};

}  // namespace
}  // namespace cellblock::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const cellblock::fuzz::Session session = cellblock::fuzz::read_session({data, size});
  cellblock::fuzz::Run(session).run();
  return 0;
}

// Half of the changes are those of any bytes, with the dictionary; the other half know what a session is.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  if (seed % 2) return LLVMFuzzerMutate(data, size, max_size);
  cellblock::fuzz::Session session = cellblock::fuzz::read_session({data, size});
  for (unsigned n = 0; n <= seed / 2 % 3; n++) cellblock::fuzz::mutate(session, seed / 6 + n);
  const std::vector<uint8_t> changed = cellblock::fuzz::write_session(session);
  const size_t bytes = std::min(changed.size(), max_size);
  std::copy_n(changed.begin(), bytes, data);
  return bytes;
}
