// The transaction log of a volume: what stands in it, that it never grows in memory, and how it ends. Its
// disk writes when the test says so. That nbd-server's tools read it is tested in test/clients.
#include "plane/transaction_log.h"

#include <sys/eventfd.h>

#include "nbd/log_record.h"
#include "test/wire_client.h"

using namespace cellblock;
using namespace cellblock::nbd;
using namespace cellblock::test;
using C = CommandType;

namespace {

class MemoryFile final : public io::File {
 public:
  explicit MemoryFile(std::string& bytes) : bytes_(bytes) {}
  ssize_t try_read(void*, size_t, uint64_t) override { return -EAGAIN; }
  ssize_t try_write(const void*, size_t, uint64_t) override { return -EAGAIN; }
  int punch(uint64_t, uint64_t) override { return -EOPNOTSUPP; }
  int64_t size() const override { return static_cast<int64_t>(bytes_.size()); }
  int descriptor() const override { return -1; }
  void put(const io::Request& request, size_t bytes) {
    if (bytes_.size() < request.offset + bytes) bytes_.resize(request.offset + bytes);
    std::memcpy(bytes_.data() + request.offset, request.data, bytes);
  }

 private:
  std::string& bytes_;
};

// Writes when told to.
class SlowEngine final : public io::Engine {
 public:
  SlowEngine() : event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  ~SlowEngine() override { close(event_); }
  void submit(io::Request& request) override {
    taken.push_back(&request);
    most_at_once = std::max(most_at_once, taken.size());
  }
  void flush() override {}
  size_t reap() override { return 0; }
  int event_descriptor() const override { return event_; }
  size_t in_flight() const override { return taken.size(); }
  const char* name() const override { return "slow"; }

  // The oldest, of at most `most` bytes, or with an error. False: there is none.
  bool finish(uint64_t most = UINT64_MAX, int error = 0) {
    if (taken.empty()) return false;
    io::Request& request = *taken.front();
    taken.pop_front();
    const uint64_t bytes = std::min(request.length, most);
    if (!error) static_cast<MemoryFile*>(request.file)->put(request, bytes);
    request.result = error ? -error : static_cast<int64_t>(bytes);
    request.done(request);
    return true;
  }

  std::deque<io::Request*> taken;
  size_t most_at_once = 0;

 private:
  const int event_;
};

struct LoggedHost : Host {
  LoggedHost() {
    auto made = std::make_unique<SlowEngine>();
    engine = made.get();
    all[0] = std::make_unique<plane::Reactor>(0, wire, std::move(made));
    wire.reactors[0] = all[0].get();
  }
  void start(bool with_data) {
    reactor().start_log(disk, std::make_unique<MemoryFile>(file), file.size(), with_data,
                        [this](int error) { lost = error; });
  }
  // Until nothing is left to be written.
  void write_all() {
    do {
      for (int i = 0; i < 3; i++) turn();
    } while (engine->finish());
  }

  SlowEngine* engine;
  std::string file;
  int lost = 0;
};

std::string mark(bool with_data) {
  std::string record(kLogRequestBytes, '\0');
  log_mark(reinterpret_cast<std::byte*>(record.data()), with_data);
  return record;
}

std::string answer(uint64_t cookie, WireError error = WireError::none) {
  return be(kSimpleReplyMagic) + be(static_cast<uint32_t>(error)) + be(cookie);
}

}  // namespace

TAP_TEST(
    "the log holds headers as they came, and simple replies, also where the client gets structured ones") {
  LoggedHost host;
  Client client(host);
  client.enter(true);
  host.start(false);
  const std::string flush = request(C::flush, 1, 0, 0);
  const std::string write = request(C::write, 2, 4096, 5, kCommandFua);
  const std::string nothing = request(C::write, 3, 0, 0);
  const std::string read = request(C::read, 4, 0, 8192);
  const std::string cache = request(C::cache, 5, 0, 8192);
  client.talk(flush + write + "hello" + nothing + read + cache);
  host.disk.fail_with = EIO;
  const std::string trim = request(C::trim, 6, 0, 4096);
  client.talk(trim);
  client.talk(request(C::read, 7, 1 << 30, 1));
  const std::string disc = request(C::disc, 8, 0, 0);
  client.talk(disc);
  host.write_all();
  TAP_EQ(host.file,
         mark(false) + flush + answer(1) + write + answer(2) + nothing + answer(3) + read + answer(4) +
             cache + answer(5) + trim + answer(6, WireError::eio) + disc,
         "what the volume had, in order; what was refused is not in it");
}

TAP_TEST("with data: payloads stand behind their headers, what cannot be played back is left out") {
  LoggedHost host;
  Client client(host);
  client.enter(true, {"base:allocation"});
  host.start(true);
  const std::string data = pattern(300'000, 1);
  const std::string write = request(C::write, 1, 512, static_cast<uint32_t>(data.size()));
  const std::string zero = request(C::write_zeroes, 4, 0, 4096);
  client.talk(write + data + request(C::cache, 2, 0, 4096) + request(C::block_status, 3, 0, 4096) + zero);
  host.write_all();
  TAP_OK(host.file == mark(true) + write + data + answer(1) + zero + answer(4), "as it should be");
}

TAP_TEST("a request that is answered late has its reply behind those that were faster") {
  LoggedHost host;
  Client client(host);
  client.enter();
  host.start(false);
  host.disk.wait = true;
  const std::string one = request(C::read, 1, 0, 512), two = request(C::read, 2, 0, 512);
  client.talk(one + two);
  host.disk.complete_last();
  host.disk.complete_last();
  host.write_all();
  TAP_EQ(host.file, mark(false) + one + two + answer(2) + answer(1), "by time");
}

TAP_TEST("a request longer than a record can say is several records") {
  std::string file;
  SlowEngine engine;
  plane::TransactionLog log(std::make_unique<MemoryFile>(file), 0, true, engine, {});
  RequestHeader header;
  header.type = C::write_zeroes;
  header.cookie = 9;
  header.offset = 1 << 20;
  header.length = kMostLoggedLength * 2 + 512;
  log.request(header, nullptr);
  log.write();
  engine.finish();
  const auto part = [](uint64_t offset, uint64_t bytes) {
    return request(C::write_zeroes, 9, offset, static_cast<uint32_t>(bytes));
  };
  TAP_EQ(file,
         mark(true) + part(1 << 20, kMostLoggedLength) +
             part((1 << 20) + kMostLoggedLength, kMostLoggedLength) +
             part((1 << 20) + 2 * kMostLoggedLength, 512),
         "that say the same");
}

TAP_TEST("a log that is slower than its clients slows them: memory is bounded, and nothing is missing") {
  LoggedHost host;
  Client client(host);
  client.enter();
  host.start(true);
  host.write_all();
  const uint32_t bytes = 1 << 20;
  const std::string data = pattern(bytes, 2);
  std::string sent;
  for (uint64_t i = 0; i < 40; i++) sent += request(C::write, i, 0, bytes) + data;
  size_t at = 0;
  const auto push = [&] {
    for (int idle = 0; idle < 4;) {
      const size_t before = at + host.disk.moved_bytes;
      const ssize_t n = client.send_some(std::string_view(sent).substr(at));
      if (n > 0) at += static_cast<size_t>(n);
      host.turn();
      idle = at + host.disk.moved_bytes == before ? idle + 1 : 0;
    }
  };
  push();
  // One collection is being written, the other is full.
  const uint64_t most = 2 * (plane::TransactionLog::kRoomBytes + bytes + 4096);
  TAP_OK(host.disk.moved_bytes <= most, "the volume waits: " + std::to_string(host.disk.moved_bytes));
  TAP_OK(host.disk.moved_bytes >= plane::TransactionLog::kRoomBytes, "when there is no room");
  TAP_EQ(host.engine->most_at_once, 1u, "one write at a time");
  for (int i = 0; i < 200 && host.disk.moved_bytes < 40ull * bytes; i++) {
    host.engine->finish(1'000'000);
    push();
  }
  host.write_all();
  client.pump();
  TAP_EQ(client.replies().size(), 40u, "everything is answered in the end");
  std::string wanted = mark(true);
  TAP_EQ(host.file.size(), wanted.size() + 40 * (kLogRequestBytes + bytes + kLogReplyBytes),
         "and is in the log");
}

TAP_TEST(
    "a log that cannot be written ends, is told once, and the volume goes on, also who waited for room") {
  LoggedHost host;
  Client client(host);
  client.enter();
  host.start(true);
  host.turn();
  const std::string data = pattern(5 << 19, 3);
  std::string sent;
  for (uint64_t i = 0; i < 2; i++) sent += request(C::write, i, 0, 5 << 19) + data;
  client.talk(sent + request(C::write, 2, 0, 5) + "hello");
  TAP_EQ(client.replies().size(), 2u, "the third waits");
  TAP_OK(host.engine->finish(UINT64_MAX, ENOSPC), "it was being written");
  client.pump();
  TAP_EQ(host.lost, ENOSPC, "told");
  TAP_EQ(client.replies().size(), 1u, "and goes on");
  client.ask(request(C::flush, 9, 0, 0));
  TAP_EQ(host.engine->in_flight(), 0u, "nothing is written any more");
}

TAP_TEST("a log that is ended is written first; another begins behind it") {
  LoggedHost host;
  Client client(host);
  client.enter();
  host.start(false);
  const std::string one = request(C::flush, 1, 0, 0), two = request(C::flush, 2, 0, 0);
  client.ask(one);
  bool ended = false;
  host.reactor().end_log(&host.disk, [&] { ended = true; });
  client.ask(request(C::flush, 7, 0, 0));
  TAP_OK(!ended, "not before it is written");
  host.engine->finish(10);
  TAP_OK(!ended, "wholly");
  host.write_all();
  TAP_OK(ended, "then");
  TAP_EQ(host.file, mark(false) + one + answer(1), "without what came after it");
  host.start(true);
  client.talk(two);
  host.write_all();
  TAP_EQ(host.file, mark(false) + one + answer(1) + mark(true) + two + answer(2), "appended");
  host.reactor().end_log(&host.disk, [] {});
  host.write_all();
}

int main() { return cellblock::test::run(); }
