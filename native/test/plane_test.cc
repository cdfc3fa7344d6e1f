// The whole data plane on its own threads: two reactors, files in a directory of the machine, clients that
// load it over a socket, and an agent that keeps a Level in place of LevelDB. What is random here is when
// things happen, so these cases are worth most under tsan and asan.
#include "plane/plane.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "test/core_level.h"
#include "test/tap.h"
#include "test/temporary_directory.h"
#include "test/wire_bytes.h"

using namespace cellblock;
using namespace cellblock::test;

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr uint32_t kBlock = 4096;
constexpr uint32_t kWindow = 64 << 10;
constexpr uint64_t kVolume = 200 * kWindow;
constexpr milliseconds kStuckAfter{30'000};
constexpr uint32_t kGone = UINT32_MAX;  // in place of an errno: the connection has ended
constexpr auto kShutdown = static_cast<uint32_t>(nbd::WireError::eshutdown);

// ---- a client: one connection that waits for every answer ----

class Client {
 public:
  Client(const std::string& path, const std::string& name) : fd_(socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    const timeval patience{kStuckAfter.count() / 1000, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0) return;
    if (!send(client_flags() + go(name)) || receive(18).empty()) return;
    for (;;) {
      const std::string head = receive(20);
      if (head.empty()) return;
      const uint32_t length = load_be<uint32_t>(head.data() + 16);
      if (length && receive(length).empty()) return;
      const auto type = static_cast<nbd::OptionReply>(load_be<uint32_t>(head.data() + 12));
      if (type == nbd::OptionReply::info) continue;
      entered_ = type == nbd::OptionReply::ack;
      return;
    }
  }
  ~Client() { ::close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool entered() const { return entered_; }

  // Each gives 0, an error of the wire, or kGone.
  uint32_t read(uint64_t offset, uint32_t length, std::string& data) {
    const uint32_t error = ask(nbd::CommandType::read, offset, length);
    if (error) return error;
    data = receive(length);
    return data.empty() ? kGone : 0;
  }
  uint32_t write(uint64_t offset, std::string_view data, uint16_t flags = 0) {
    return ask(nbd::CommandType::write, offset, static_cast<uint32_t>(data.size()), flags, data);
  }
  uint32_t ask(nbd::CommandType type, uint64_t offset = 0, uint32_t length = 0, uint16_t flags = 0,
               std::string_view payload = {}) {
    if (!send(request(type, ++cookie_, offset, length, flags) + std::string(payload))) return kGone;
    const std::string reply = receive(16);
    return reply.empty() ? kGone : load_be<uint32_t>(reply.data() + 4);
  }

 private:
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
  // Empty: the connection has ended.
  std::string receive(size_t count) {
    std::string bytes(count, '\0');
    for (size_t at = 0; at < count;) {
      const ssize_t n = recv(fd_, bytes.data() + at, count - at, 0);
      if (n <= 0) return {};
      at += static_cast<size_t>(n);
    }
    return bytes;
  }

  const int fd_;
  uint64_t cookie_ = 0;
  bool entered_ = false;
};

// ---- the agent ----

// Plays TypeScript on the test's own thread: commands go down, records come up and are worked on in pump().
// Rounds of a volume and cuts, resizes and closings of it exclude each other, as there.
class Agent final : plane::RecordSink {
 public:
  Level level;
  store::Scan scan;  // of the last start
  uint64_t rounds = 0, faults = 0;
  int64_t leases = 0;

  explicit Agent(const std::string& directory) : level(kWindow / kBlock), directory_(directory) {
    std::filesystem::create_directory(directory + "/extents");
  }
  ~Agent() override { stop(false); }

  // The normal start: recovery, then every container is open.
  void start() {
    plane::PlaneOptions options;
    options.directory = directory_;
    options.store_id.fill(7);
    options.window_bytes = kWindow;
    options.journal_bytes = 64 << 10;  // so small that it runs over and over
    options.reactors = 2;
    options.cache_bytes = 200'000;
    options.round_after_ms = 50;
    options.boot_id = "boot";
    plane_ = std::make_unique<plane::Plane>(options, io::make_real_disk(io::EngineChoice::workers),
                                            static_cast<plane::RecordSink&>(*this));
    std::string what;
    scan = {};
    const int opened = plane_->open(scan, what);
    if (!TAP_EQ(opened, 0, "open " + what)) std::abort();
    std::vector<plane::FileName> named;
    for (uint64_t file : level.files_named(scan.entries)) named.push_back(name_of(file));
    TAP_EQ(plane_->sync_files(named), 0, "files of the entries");
    level.replay(scan.entries, !scan.same_incarnation);
    uint64_t next = scan.next_position;
    for (auto& [id, line] : level.lines) {
      line.applied = std::max(line.applied, scan.next_position - 1);
      next = std::max(next, line.applied + 1);
    }
    TAP_EQ(plane_->start_journal(next), 0, "journal");
    for (const auto& [id, container] : level.containers) {
      if (!container.deleted) open(id, {container.line, level.lines.at(container.line).current()}, false);
    }
    std::string bound, sentence;
    TAP_EQ(plane_->listen("unix:" + socket_path(), {}, bound, sentence), 0, sentence);
  }

  // `clean`: with last rounds.
  void stop(bool clean) {
    if (!plane_) return;
    if (clean) {
      for (const auto& [handle, one] : std::map(open_)) {
        if (one.container) round(handle);
      }
    }
    plane_->close(clean);
    plane_.reset();
    std::lock_guard lock(mutex_);
    records_.clear();
    open_.clear();
    answers_.clear();
    std::erase_if(exports_, [&](const auto& one) { return !level.containers.contains(one.second); });
  }

  plane::Plane& plane() { return *plane_; }
  std::vector<plane::KeptClient> kept;  // by the last stop
  std::string socket_path() const { return directory_ + "/nbd"; }
  std::string path_of(uint64_t file) const { return directory_ + "/" + name_of(file).path; }

  // ---- the record stream ----

  void pump_until(const std::function<bool()>& done, const char* what) {
    const auto deadline = steady_clock::now() + kStuckAfter;
    while (!done()) {
      if (steady_clock::now() > deadline) {
        TAP_OK(false, std::string("stuck: ") + what);
        std::abort();  // threads wait for what will not come: nothing can be cleaned up
      }
      pump_once();
    }
  }
  void pump_for(milliseconds time) {
    const auto until = steady_clock::now() + time;
    pump_until([&] { return steady_clock::now() >= until; }, "time");
  }
  // Runs `work` on a thread of its own while the agent goes on.
  void beside(const std::function<void()>& work) {
    std::atomic<bool> done{false};
    std::thread thread([&] {
      work();
      done = true;
    });
    pump_until([&] { return done.load(); }, "a thread");
    thread.join();
  }

  // ---- operations ----

  uint64_t create(const std::string& name) {
    const uint64_t id = level.add_container(kVolume, {});
    open(id, {level.containers.at(id).line, 1}, false);
    exports_[name] = id;
    return id;
  }

  // Opens a snapshot under its name.
  uint64_t view(const std::string& snapshot) {
    const Level::Snapshot& stored = level.snapshots.at(snapshot);
    round(stored.container);
    const uint64_t handle = next_handle_++;
    open(handle, stored.at, true);
    exports_[snapshot] = handle;
    return handle;
  }

  // Gives an errno.
  int ask(const std::function<void(uint64_t ticket)>& command, const char* what) {
    const uint64_t ticket = next_ticket_++;
    command(ticket);
    pump_until([&] { return answers_.contains(ticket); }, what);
    const int error = answers_.at(ticket);
    answers_.erase(ticket);
    return error;
  }

  int round(uint64_t handle) {
    occupy(handle);
    start_round(handle);
    pump_until([&] { return !open_.at(handle).round; }, "a round");
    const int error = open_.at(handle).round_error;
    let_go(handle);
    return error;
  }

  int snapshot(const std::vector<uint64_t>& handles, const std::string& suffix) {
    std::vector<plane::Plane::CutRequest> members;
    for (uint64_t handle : handles) {
      occupy(handle);
      members.push_back({handle, {}, std::to_string(handle) + suffix});
    }
    const int error = ask([&](uint64_t ticket) { plane_->cut(ticket, members); }, "a cut");
    for (uint64_t handle : handles) let_go(handle);
    return error;
  }

  int resize(uint64_t handle, uint64_t size) {
    round(handle);
    occupy(handle);
    const int error = ask([&](uint64_t ticket) { plane_->resize(ticket, handle, size); }, "a resize");
    if (!error) level.containers.at(handle).size = size;
    let_go(handle);
    return error;
  }

  // What no map names any more is punched after a grace period.
  size_t punch_pending() {
    const std::vector<Level::Punch> some = level.punches;
    if (some.empty()) return 0;
    TAP_EQ(ask([&](uint64_t ticket) { plane_->grace(ticket); }, "grace"), 0, "grace");
    std::vector<plane::Plane::PunchRange> ranges;
    for (const Level::Punch& punch : some) {
      ranges.push_back({store::slot_file(punch.slot),
                        store::slot_place(punch.slot) * kWindow + uint64_t{punch.start} * kBlock,
                        uint64_t{punch.count} * kBlock});
    }
    TAP_EQ(ask([&](uint64_t ticket) { plane_->punch(ticket, ranges); }, "a punch"), 0, "punch");
    level.punches.erase(level.punches.begin(), level.punches.begin() + static_cast<long>(some.size()));
    return some.size();
  }

  // As `volume delete` does, without its reclaiming: the volume has no snapshots.
  void remove(uint64_t handle, const std::string& name) {
    exports_.erase(name);
    TAP_EQ(ask([&](uint64_t ticket) { plane_->disconnect(ticket, handle); }, "disconnect"), 0, "disconnect");
    int error = EBUSY;
    for (int tries = 0; tries < 100 && error == EBUSY; tries++) {
      round(handle);
      occupy(handle);
      error = ask([&](uint64_t ticket) { plane_->close_device(ticket, handle); }, "close");
      let_go(handle);
    }
    TAP_EQ(error, 0, "closed");
    open_.erase(handle);
    Level::Container& container = level.containers.at(handle);
    container.deleted = true;
    level.lines.at(container.line).records.clear();
    TAP_EQ(ask([&](uint64_t ticket) { plane_->grace(ticket); }, "grace"), 0, "grace");
    for (uint64_t file : container.files)
      TAP_EQ(ask([&](uint64_t ticket) { plane_->drop_file(ticket, file); }, "drop"), 0, "dropped");
  }

 private:
  struct Open {
    uint64_t container = 0;  // 0: a snapshot
    VersionId at;
    Layers layers;
    bool occupied = false;
    bool round = false;  // under way
    bool round_wanted = false;
    int round_error = 0;
  };

  static plane::FileName name_of(uint64_t file) { return {file, "extents/" + std::to_string(file)}; }

  // RecordSink, on any thread
  void push(plane::Record record) override {
    {
      std::lock_guard lock(mutex_);
      records_.push_back(std::move(record));
    }
    arrived_.notify_one();
  }

  void pump_once() {
    std::unique_lock lock(mutex_);
    arrived_.wait_for(lock, milliseconds(5), [&] { return !records_.empty(); });
    if (records_.empty()) return;
    plane::Record record = std::move(records_.front());
    records_.pop_front();
    lock.unlock();
    std::visit([this](auto& one) { take(one); }, record);
  }

  void open(uint64_t handle, VersionId at, bool snapshot) {
    const Level::Container& container = level.containers.at(level.lines.at(at.line).container);
    Open& made = open_[handle];
    made.container = snapshot ? 0 : handle;
    made.at = at;
    made.layers = level.layers(at);
    volume::VolumeOptions options;
    options.handle = handle;
    options.container = level.lines.at(at.line).container;
    options.line = at.line;
    options.version = at.version;
    options.size_bytes = container.size;
    options.read_only = snapshot;
    options.empty = level.empty(at);
    options.unclean = !scan.clean && !snapshot;
    for (uint32_t layer = 1; layer <= made.layers.size(); layer++) options.layers.push_back(layer);
    std::vector<plane::FileName> files;
    for (uint64_t file : container.files) {
      plane_->know_file(name_of(file));
      if (!snapshot) files.push_back(name_of(file));
    }
    plane_->open_device(std::move(options), files);
  }

  // Nobody else works on the volume until let_go().
  void occupy(uint64_t handle) {
    pump_until([&] { return !open_.at(handle).occupied && !open_.at(handle).round; }, "another operation");
    open_.at(handle).occupied = true;
  }
  void let_go(uint64_t handle) {
    Open& one = open_.at(handle);
    one.occupied = false;
    if (std::exchange(one.round_wanted, false)) start_round(handle);
  }
  void start_round(uint64_t handle) {
    open_.at(handle).round = true;
    const uint64_t ticket = next_ticket_++;
    rounding_[ticket] = handle;
    plane_->take_round(ticket, handle);
  }

  void take(plane::FaultAsked& asked) {
    faults++;
    const auto found = open_.find(asked.handle);
    if (found == open_.end()) return;
    const FaultAnswer known =
        answer_fault(level, found->second.at, found->second.layers, asked.first, asked.count);
    plane::FaultAnswer answer;
    for (const volume::FaultRecord& record : known.records) {
      answer.items.push_back(
          {record.window, record.layer, record.cut_off, answer.bytes.size(), record.bytes.size()});
      answer.bytes.insert(answer.bytes.end(), record.bytes.begin(), record.bytes.end());
    }
    plane_->fault_reply(asked.ticket, std::move(answer), 0);
  }
  void take(plane::RoundWanted& wanted) {
    const auto found = open_.find(wanted.handle);
    if (found == open_.end()) return;
    if (found->second.occupied || found->second.round)
      found->second.round_wanted = true;
    else
      start_round(wanted.handle);
  }
  void take(plane::RoundTaken& taken) {
    const uint64_t handle = rounding_.at(taken.ticket);
    rounding_.erase(taken.ticket);
    Open& one = open_.at(handle);
    one.round = false;
    one.round_error = taken.round.error;
    if (!TAP_EQ(taken.round.error, 0, "a round")) {
      plane_->round_failed(handle);
      return;
    }
    rounds++;
    Level::Line& line = level.lines.at(one.at.line);
    for (const auto& cut : taken.round.cut_offs) level.put_cut_off(one.at.line, cut, taken.round.records);
    for (const volume::RoundRecord& record : taken.round.records) {
      const bool cut = std::any_of(
          taken.round.cut_offs.begin(), taken.round.cut_offs.end(), [&](const volume::RoundCutOff& off) {
            return off.version == record.version && off.first <= record.window && record.window < off.end;
          });
      level.put_record(one.at.line, record, cut);
    }
    line.applied = std::max(line.applied, taken.round.position);
    plane_->round_done(handle, taken.round.position);
    if (!one.occupied && std::exchange(one.round_wanted, false)) start_round(handle);
  }
  void take(plane::CutDone& cut) {
    for (size_t i = 0; i < cut.members.size(); i++) {
      const uint64_t line = cut.members[i].line;
      TAP_EQ(cut.errors[i], 0, "a member of a cut");
      level.end_version(line, cut.members[i].name, cut.error == 0);
      for (auto& [handle, one] : open_) {
        if (!one.container || one.at.line != line) continue;
        one.at.version++;
        const auto top = static_cast<uint32_t>(one.layers.size());
        one.layers[one.at] = top + 1;
      }
    }
    answers_[cut.ticket] = cut.error;
  }
  void take(plane::FileWanted& wanted) {
    const uint64_t container = open_.at(wanted.handle).container;
    level.add_file(container);
    plane_->add_file(wanted.handle, name_of(level.containers.at(container).files.back()));
  }
  void take(plane::OpenAsked& asked) {
    const auto found = exports_.find(asked.name);
    plane::LeaseReply reply;
    if (found == exports_.end()) return plane_->open_reply(asked.ticket, reply, ENOENT, "no such export");
    leases++;
    reply.lease = asked.ticket;
    reply.handle = found->second;
    plane_->open_reply(asked.ticket, reply, 0, "");
  }
  void take(plane::DescribeAsked& asked) {
    plane::ExportDescription description;
    const auto found = exports_.find(asked.name);
    description.exists = found != exports_.end();
    if (description.exists) {
      const Open& one = open_.at(found->second);
      description.size = level.containers.at(level.lines.at(one.at.line).container).size;
      description.read_only = one.container == 0;
    } else {
      description.refusal = "no such export";
    }
    plane_->describe_reply(asked.ticket, description);
  }
  void take(plane::ListAsked& asked) { plane_->list_reply(asked.ticket, {}); }
  void take(plane::LeaseClosed&) { leases--; }
  void take(plane::Done& done) { answers_[done.ticket] = done.error; }
  void take(plane::BytesRead& read) { answers_[read.ticket] = read.error; }
  void take(plane::Adopted& adopted) { answers_[adopted.ticket] = adopted.error; }
  void take(plane::DeviceFailed& failed) { TAP_EQ(failed.error, 0, "a device failed"); }
  void take(plane::StoreFailed& failed) { TAP_EQ(failed.error, 0, "the store failed"); }
  void take(plane::TransactionLogLost& lost) { TAP_EQ(lost.error, 0, "a transaction log was lost"); }
  void take(plane::KernelAnswer& answer) { TAP_EQ(answer.error, 0, "asked of the kernel by nobody"); }
  void take(plane::KernelStatus& status) { TAP_EQ(status.error, 0, "asked of the kernel by nobody"); }
  void take(plane::ClientsKept& clients) {
    kept = std::move(clients.clients);
    answers_[clients.ticket] = 0;
  }
  void take(plane::LinkDead&) { TAP_OK(false, "a device of the kernel that nobody made"); }
  void take(plane::Logged&) {}

  const std::string directory_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<plane::Record> records_;  // under mutex_

  std::map<uint64_t, Open> open_;  // by handle; a container's is its id
  std::map<std::string, uint64_t> exports_;
  std::map<uint64_t, uint64_t> rounding_;  // ticket -> handle
  std::map<uint64_t, int> answers_;        // by ticket
  uint64_t next_ticket_ = 1'000'000'000;
  uint64_t next_handle_ = 1'000'000;
  std::unique_ptr<plane::Plane> plane_;
};

// ---- load ----

// Works on bytes [first, first + length) of an export alone and knows what must be in them. Ends when it is
// told to, or when the plane stops serving.
class Worker {
 public:
  Worker(std::string path, std::string name, uint64_t first, uint32_t length, uint64_t seed)
      : name(std::move(name)), first(first), path_(std::move(path)), random_(seed), expected_(length, '\0') {}
  virtual ~Worker() { join(); }

  void start() {
    ended_ = false;
    thread_ = std::thread([this] { run(); });
  }
  void quit() { quit_ = true; }
  bool ended() const { return ended_; }
  void join() {
    if (thread_.joinable()) thread_.join();
  }

  // Everything it was answered is there; what was under way at the end is old or new, so it is left out.
  void verify() {
    Client client(path_, name);
    if (!TAP_OK(client.entered(), "connected to " + name)) return;
    for (uint64_t at = 0; at < expected_.size(); at += kWindow) {
      const auto part = static_cast<uint32_t>(std::min<uint64_t>(kWindow, expected_.size() - at));
      compare(client, at, part, "at the end");
    }
  }

  const std::string name;
  const uint64_t first;
  uint64_t requests = 0;

 protected:
  virtual uint32_t step(Client& client) {
    const auto kind = random_.below(100);
    if (kind < 3) return client.ask(nbd::CommandType::flush);
    if (kind < 30) {
      const auto [at, bytes] = range(1, 40'000);
      compare(client, at, bytes, "under load");
      return 0;
    }
    if (kind < 40) {
      const auto [at, bytes] = range(kBlock, 20 * kBlock);
      return change(client, nbd::CommandType::trim, at, bytes, {});
    }
    if (kind < 45) {
      const auto [at, bytes] = range(1, 20'000);
      return change(client, nbd::CommandType::write_zeroes, at, bytes, {});
    }
    const bool whole = random_.chance(50);
    const auto [at, bytes] = whole ? range(kBlock, 8 * kBlock) : range(1, 6000);
    return change(client, nbd::CommandType::write, at, bytes,
                  std::string(bytes, static_cast<char>('a' + random_.below(26))));
  }

  // In units of `unit`, inside what is its own.
  std::pair<uint64_t, uint32_t> range(uint32_t unit, uint32_t most) {
    const uint64_t units = expected_.size() / unit;
    const uint64_t count = 1 + random_.below(std::min<uint64_t>(units, most / unit));
    return {random_.below(units - count + 1) * unit, static_cast<uint32_t>(count * unit)};
  }

  uint32_t change(Client& client, nbd::CommandType type, uint64_t at, uint32_t bytes,
                  const std::string& data) {
    const uint16_t flags = random_.chance(5) ? nbd::kCommandFua : 0;
    const uint32_t error = client.ask(type, first + at, bytes, flags, data);
    if (error) {
      doubtful_ = {at, at + bytes};
    } else if (data.empty()) {
      std::fill_n(expected_.begin() + static_cast<long>(at), bytes, '\0');
    } else {
      expected_.replace(at, bytes, data);
    }
    return error;
  }

  void compare(Client& client, uint64_t at, uint32_t bytes, const char* when) {
    std::string got;
    const uint32_t error = client.read(first + at, bytes, got);
    if (error == kGone || error == kShutdown) return;
    if (!TAP_EQ(error, 0u, "read")) return;
    for (uint64_t i = 0; i < bytes; i++) {
      if (at + i >= doubtful_.first && at + i < doubtful_.second) continue;
      if (got[i] == expected_[at + i]) continue;
      TAP_OK(false, name + " byte " + std::to_string(first + at + i) + " " + when + ": " +
                        std::to_string(got[i]) + " in place of " + std::to_string(expected_[at + i]));
      return;
    }
  }

  Random& random() { return random_; }

 private:
  void run() {
    Client client(path_, name);
    if (TAP_OK(client.entered(), "connected to " + name)) {
      while (!quit_) {
        const uint32_t error = step(client);
        if (error == kGone || error == kShutdown) break;
        if (!TAP_EQ(error, 0u, "a request to " + name)) break;
        requests++;
      }
    }
    ended_ = true;
  }

  const std::string path_;
  Random random_;
  std::string expected_;
  std::pair<uint64_t, uint64_t> doubtful_{0, 0};
  std::atomic<bool> quit_{false};
  std::atomic<bool> ended_{true};
  std::thread thread_;
};

// Its range is so wide that some of its trims are cut-offs.
class WideWorker final : public Worker {
 public:
  using Worker::Worker;

 private:
  uint32_t step(Client& client) override {
    if (!random().chance(10)) return Worker::step(client);
    const auto [at, bytes] = range(kWindow, 140 * kWindow);
    return change(client, nbd::CommandType::trim, at, bytes, {});
  }
};

// Counts up in a block of one volume, then in one of another.
void count_in_both(const std::string& path, const std::string& one, const std::string& two,
                   const std::atomic<bool>& quit) {
  Client first(path, one);
  Client second(path, two);
  for (uint64_t n = 1; !quit; n++) {
    std::string block(kBlock, '\0');
    std::memcpy(block.data(), &n, sizeof n);
    if (first.write(kVolume / 2, block) || second.write(kVolume / 2, block)) break;
  }
}

uint64_t counter_in(Client& client) {
  std::string block;
  uint64_t n = UINT64_MAX;
  if (client.read(kVolume / 2, kBlock, block) == 0) std::memcpy(&n, block.data(), sizeof n);
  return n;
}

struct Scene {
  Scene() : agent(directory.path()) {
    agent.start();
    for (const char* name : {"a", "b", "c"}) ids.push_back(agent.create(name));  // on reactors 0, 1 and 0
    for (const uint64_t first : {uint64_t{0}, uint64_t{20} * kWindow}) {
      for (const char* name : {"a", "b"}) add<Worker>(name, first, 6 * kWindow);
    }
    add<WideWorker>("c", 0, 150 * kWindow);
  }
  ~Scene() { stop_workers(); }

  template <typename Kind>
  Kind& add(const std::string& name, uint64_t first, uint32_t length) {
    auto made = std::make_unique<Kind>(agent.socket_path(), name, first, length, seed() + workers.size());
    Kind& worker = *made;
    workers.push_back(std::move(made));
    return worker;
  }
  void start_workers() {
    for (auto& worker : workers) worker->start();
  }
  void stop_workers() {
    for (auto& worker : workers) worker->quit();
    wait_for_workers();
  }
  void wait_for_workers() {
    const auto ended = [](const auto& worker) { return worker->ended(); };
    agent.pump_until([&] { return std::all_of(workers.begin(), workers.end(), ended); }, "workers");
    for (auto& worker : workers) worker->join();
  }
  void verify() {
    agent.beside([&] {
      for (auto& worker : workers) worker->verify();
    });
  }

  TemporaryDirectory directory;
  Agent agent;
  std::vector<uint64_t> ids;
  std::vector<std::unique_ptr<Worker>> workers;
};

TAP_TEST("a cut over volumes of several reactors is one instant, whatever goes on meanwhile") {
  constexpr int kCuts = 12;
  Scene s;
  Agent& agent = s.agent;
  std::atomic<bool> quit{false};
  std::atomic<bool> counted{false};
  s.start_workers();
  std::thread counter([&] {
    count_in_both(agent.socket_path(), "a", "b", quit);
    counted = true;
  });
  size_t punched = 0;
  for (int i = 0; i < kCuts; i++) {
    agent.pump_for(milliseconds(30));
    const std::string suffix = "@" + std::to_string(i);
    const bool all = i % 3 == 0;
    TAP_EQ(agent.snapshot(all ? s.ids : std::vector<uint64_t>{s.ids[1], s.ids[0]}, suffix), 0, "cut");
    const uint64_t one = s.ids[static_cast<size_t>(i) % s.ids.size()];
    agent.plane().evict(one);
    TAP_EQ(agent.ask([&](uint64_t ticket) { agent.plane().flush(ticket, one); }, "flush"), 0, "flush");
    if (i % 4 == 1) {
      TAP_EQ(agent.ask([&](uint64_t ticket) { agent.plane().hold(ticket, one); }, "hold"), 0, "held");
      agent.plane().release(one);
    }
    if (i == 5) TAP_EQ(agent.resize(s.ids[0], kVolume + 10 * kWindow), 0, "grown");
    if (i == 6) TAP_EQ(agent.resize(s.ids[1], kVolume - 10 * kWindow), 0, "shrunk");
    punched += agent.punch_pending();
    TAP_EQ(agent.plane().counters().volumes.size(), s.ids.size(), "counters");
  }
  const auto came_along = [&] {
    for (uint64_t id : s.ids) agent.plane().evict(id);
    return agent.rounds > 0 && agent.faults > 0 && (punched > 0 || !agent.level.punches.empty());
  };
  agent.pump_until(came_along, "rounds, faults and something to punch");
  punched += agent.punch_pending();
  quit = true;
  agent.pump_until([&] { return counted.load(); }, "the counter");
  counter.join();
  s.stop_workers();
  TAP_OK(punched > 0, "punched under load");
  uint64_t last = 0;
  for (int i = 0; i < kCuts; i++) {
    std::string names[2];
    for (size_t v = 0; v < 2; v++) {
      names[v] = std::to_string(s.ids[v]) + "@" + std::to_string(i);
      agent.view(names[v]);
    }
    uint64_t first = 0, second = 0;
    agent.beside([&] {
      Client a(agent.socket_path(), names[0]);
      Client b(agent.socket_path(), names[1]);
      first = counter_in(a);
      second = counter_in(b);
    });
    const std::string found = std::to_string(first) + " and " + std::to_string(second);
    TAP_OK(first == second || first == second + 1, "one instant: " + found);
    TAP_OK(second >= last, "after the one before: " + found);
    last = first > 0 ? first - 1 : 0;
  }
  s.verify();
}

TAP_TEST("a volume that is held stays so over a cut, of itself and with others") {
  Scene s;
  Agent& agent = s.agent;
  const uint64_t held = s.ids[0];
  for (const bool all : {false, true}) {
    TAP_EQ(agent.ask([&](uint64_t ticket) { agent.plane().hold(ticket, held); }, "hold"), 0, "held");
    std::atomic<bool> answered{false};
    std::atomic<bool> ended{false};
    std::thread writer([&] {
      Client client(agent.socket_path(), "a");
      answered = client.write(0, std::string(kBlock, all ? '2' : '1')) == 0;
      ended = true;
    });
    const std::vector<uint64_t> members = all ? s.ids : std::vector<uint64_t>{held};
    TAP_EQ(agent.snapshot(members, all ? "@all" : "@one"), 0, "cut");
    // For a release that should not come; one that does not come cannot be waited for.
    agent.pump_for(milliseconds(100));
    TAP_OK(!answered, "nobody has let its client go");
    agent.plane().release(held);
    agent.pump_until([&] { return ended.load(); }, "the client");
    writer.join();
    TAP_OK(answered, "until who held it has");
  }
}

TAP_TEST("a volume is disconnected, closed and its file dropped while the others work") {
  Scene s;
  Agent& agent = s.agent;
  const uint64_t going = agent.create("d");
  s.add<Worker>("d", 0, 20 * kWindow);
  s.start_workers();
  agent.pump_for(milliseconds(200));
  const std::string path = agent.path_of(agent.level.containers.at(going).files.front());
  TAP_OK(std::filesystem::exists(path), "its file");
  agent.remove(going, "d");
  TAP_OK(!std::filesystem::exists(path), "is gone");
  plane::Plane& plane = agent.plane();
  TAP_EQ(agent.ask([&](uint64_t t) { plane.flush(t, going); }, "flush"), ENOENT, "no flush of it");
  TAP_EQ(agent.ask([&](uint64_t t) { plane.close_device(t, going); }, "close"), ENOENT, "no closing of it");
  TAP_EQ(agent.ask(
             [&](uint64_t t) {
               plane.cut(t, {{s.ids[0], {}, "x"}, {going, {}, "x"}});
             },
             "cut"),
         ENOENT, "no cut with it");
  agent.pump_until([&] { return s.workers.back()->ended(); }, "its client");
  s.workers.back()->join();
  s.workers.pop_back();
  agent.pump_for(milliseconds(100));
  s.stop_workers();
  s.verify();
  agent.pump_until([&] { return agent.leases == 0; }, "leases");
  TAP_EQ(plane.counters().connections, 0u, "every connection and lease was given back");
}

TAP_TEST("a stop under load loses nothing that was answered; after last rounds nothing is replayed") {
  Scene s;
  Agent& agent = s.agent;
  s.start_workers();
  agent.pump_for(milliseconds(150));
  TAP_EQ(agent.snapshot(s.ids, "@1"), 0, "cut");
  agent.pump_for(milliseconds(150));
  TAP_EQ(agent.ask([&](uint64_t ticket) { agent.plane().stop_serving(ticket, 10'000); }, "the stop"), 0,
         "stopped");
  s.wait_for_workers();
  for (const auto& worker : s.workers) TAP_OK(worker->requests > 0, "there was load");
  agent.stop(false);
  agent.start();
  TAP_OK(!agent.scan.clean && agent.scan.same_incarnation && !agent.scan.entries.empty(), "to be replayed");
  s.verify();
  agent.stop(true);
  agent.start();
  TAP_OK(agent.scan.clean && agent.scan.entries.empty(), "nothing to be replayed");
  s.verify();
}

TAP_TEST("clients that are kept go on under another plane as if nothing had been") {
  Scene s;
  Agent& agent = s.agent;
  s.start_workers();
  const size_t clients = s.workers.size();
  for (int round = 0; round < 3; round++) {
    agent.pump_for(milliseconds(150));
    TAP_EQ(agent.ask([&](uint64_t ticket) { agent.plane().keep_clients(ticket, 10'000); }, "the stop"), 0,
           "stopped");
    std::vector<plane::KeptClient> kept = std::move(agent.kept);
    TAP_EQ(kept.size(), clients, "all of them");
    agent.stop(round % 2 == 0);
    agent.start();
    for (plane::KeptClient& client : kept) agent.plane().resume(std::move(client));
  }
  agent.pump_for(milliseconds(150));
  for (const auto& worker : s.workers) TAP_OK(!worker->ended(), "nobody was told of a stop");
  s.stop_workers();
  s.verify();
}

}  // namespace

int main() { return cellblock::test::run(); }
