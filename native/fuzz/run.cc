#include "fuzz/run.h"

#include <algorithm>

#include "fuzz/fail.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace cellblock::fuzz {
namespace {

constexpr uint64_t kDiskBytes = 256 << 20;
constexpr std::string_view kNeighbour = "neighbour";  // of whom sessions do not know
constexpr size_t kNarrowBytes = 4096;

// Named as in the conformance suite, whose sessions are the seeds.
const std::vector<KnownExport>& exports() {
  static const std::vector<KnownExport> all{
      {"", kDiskBytes},
      {"disk", kDiskBytes},
      {"disk@before", kDiskBytes, true},
      {"huge", INT64_MAX},
      {"secret", kDiskBytes, false, true},
      {kNeighbour, kDiskBytes},
  };
  return all;
}

plane::WireOptions options_for(uint8_t settings) {
  plane::WireOptions options;
  options.lobby_burst_ns = uint64_t{1} << 60;  // the clock of the machine decides nothing
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

}  // namespace

Run::Run(const Session& session, Access access)
    : session_(session),
      access_(std::move(access)),
      stream_(stream_of(session)),
      said_(read_conversation(stream_, exports(), access_.tls.policy)),
      host_(options_for(session.settings), 1, 0) {
  tell(said_, stream_);
  told_.wait = session.settings & kWaiting;
  told_.holes = session.settings & kHoles;
  how_.refused = session.settings & kRefusing;
  host_.wire.set_tls(access_.tls);
  host_.directory.table.clear();
  for (const KnownExport& one : exports()) {
    devices_.push_back(std::make_unique<PatternDevice>(one, told_));
    host_.directory.table[std::string(one.name)] = {
        devices_.back().get(), "for fuzzing", false, {"before"}, 0, one.tls_only};
  }
  if (session.settings & kShared && !how_.refused) take_in_neighbour();
  host_.directory.later = session.settings & kLater;
  line_ = access_.line(host_, said_, session.settings & kNarrow ? kNarrowBytes : 0);
}

void Run::tell(const Conversation& said, std::string_view stream) {
  told_ = Told{};
  told_.conversation = &said;
  told_.stream = stream;
  told_.outcomes.resize(said.requests.size());
  told_.errors.resize(said.requests.size());
  told_.submitted.resize(said.requests.size());
}

// Says nothing, but has the reactor share its turns.
void Run::take_in_neighbour() {
  std::string bytes = entrance(kNeighbour);
  of_neighbour_ = read_conversation(bytes, exports(), access_.tls.policy);
  neighbour_ = access_.another(host_, of_neighbour_, 0);
  while (neighbour_->push(bytes, bytes.size())) pump(*neighbour_);
}

void Run::run() {
  for (const Step& step : session_.steps) {
    take(step);
    turn();
  }
  end();
  how_.sent = line_->sent();
  how_.cut = line_->cut();
  judge(said_, told_, line_->got(), how_);
  line_->check_at_end();
  expect(host_.wire.connections == 0, "a connection is left over");
  expect(host_.directory.leases_open == 0, "a lease is left over");
  expect(host_.wire.budget.used() == 0, "bytes in flight are left over");
  if (!(session_.settings & kRefusing) && !server_stopped_) another_is_served();
}

void Run::turn() {
  host_.turn();
  if (!reads_) return;
  line_->take();
  line_->push(stream_, due_);
}

void Run::pump(Line& line) {
  constexpr int kIdle = 8;
  for (int idle = 0; idle < kIdle;) {
    const size_t events = host_.turn();
    const bool received = reads_ && line.take();
    idle = events > 0 || received ? 0 : idle + 1;
  }
}

// As much as the socket takes; the rest goes ahead of what is sent next.
void Run::send(size_t bytes) {
  due_ = std::min(due_ + bytes, stream_.size());
  line_->push(stream_, due_);
}

void Run::take(const Step& step) {
  switch (step.kind) {
    case StepKind::send:
      return send(step.bytes.size());
    case StepKind::fill:
      return send(step.value * Session::kFillUnit);
    case StepKind::pump:
      pump(*line_);
      return send(0);
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
      reads_ = !reads_;
      return;
    case StepKind::toggle_failure:
      told_.fail = told_.fail ? 0 : kDeviceErrors[step.value % std::size(kDeviceErrors)];
      return;
    case StepKind::end_sending:
      return line_->end_sending();
    case StepKind::hang_up:
      return line_->hang_up();
    case StepKind::stop_serving:
      return stop_serving();
    case StepKind::disconnect:
      how_.stopped = true;
      for (auto& device : devices_) reactor().disconnect(device.get(), [] {});
      return;
    default:
      line_->tamper(step);
      return send(0);
  }
}

void Run::complete(size_t most) {
  for (auto& device : devices_) {
    for (size_t n = 0; n < most && device->complete_first(); n++) {
    }
  }
}

void Run::release() {
  for (auto& device : devices_) reactor().device_released(device.get());
}

void Run::stop_serving() {
  constexpr uint64_t kNever = 3'600'000;
  if (std::exchange(server_stopped_, true)) return;
  how_.stopped = true;
  reactor().stop_serving(kNever, [](size_t abandoned) { expect(abandoned == 0, "requests were abandoned"); });
}

// Everything that was kept back is let go, and the client leaves: then all has to come to its end.
void Run::end() {
  told_.hold = told_.wait = host_.directory.later = false;
  reads_ = true;
  line_->let_go();
  release();
  do settle(*line_);
  while (line_->push(stream_, due_));
  if (!how_.stopped && !how_.refused) line_->check_at_rest();
  line_->end_sending();
  if (neighbour_) neighbour_->hang_up();
  settle(*line_);
  expect(line_->ended(), "the server did not close a connection that is over");
}

void Run::settle(Line& line) {
  bool answered;
  do {
    pump(line);
    answered = host_.directory.answer();
    for (auto& device : devices_) answered |= device->complete_first();
  } while (answered);
}

void Run::another_is_served() {
  std::string bytes = entrance("disk") + test::request(nbd::CommandType::read, 1, 4096, 512) +
                      test::request(nbd::CommandType::disc, 2, 0, 0);
  const Conversation said = read_conversation(bytes, exports(), access_.tls.policy);
  tell(said, bytes);
  const auto other = access_.another(host_, said, 0);
  while (other->push(bytes, bytes.size())) settle(*other);
  expect(other->ended(), "another client's connection does not end");
  expect(other->sent() == bytes.size(), "another client cannot send");
  judge(said, told_, other->got(), {.sent = bytes.size()});
}

std::string Run::entrance(std::string_view name) const {
  const bool in_tls = access_.tls.policy == nbd::TlsPolicy::required;
  return test::client_flags() + (in_tls ? test::option(nbd::Option::starttls) : std::string()) +
         test::go(name);
}

size_t mutate_input(uint8_t* data, size_t size, size_t max_size, unsigned seed, Way way, size_t front) {
  if (seed % 2 || size < front) return LLVMFuzzerMutate(data, size, max_size);
  Session session = read_session({data + front, size - front});
  for (unsigned n = 0; n <= seed / 2 % 3; n++) mutate(session, seed / 6 + n, way);
  const std::vector<uint8_t> changed = write_session(session);
  const size_t bytes = std::min(changed.size(), max_size - front);
  std::copy_n(changed.begin(), bytes, data + front);
  return front + bytes;
}

}  // namespace cellblock::fuzz
