#include "plane/reactor.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <ctime>

#include "plane/connection.h"
#include "plane/handover.h"
#include "plane/negotiation.h"
#include "plane/resumption.h"

namespace cellblock::plane {
namespace {

constexpr size_t kReceiveBytes = 256 << 10;
constexpr uint64_t kBudgetRetryMs = 5;
constexpr uint64_t kTrimAfterMs = 5'000;
constexpr size_t kIdleBufferBytes = 2 << 20;  // kept when a reactor has been trimmed
constexpr unsigned kRefusedAtOnce = 64;       // connections over the limit that are told why
constexpr size_t kHandoversAtOnce = 256;      // that have not said yet what they want

// Takes the element at `index` out of a list whose elements know their index.
template <typename T>
T take_out(std::vector<T>& list, size_t index) {
  T taken = std::move(list[index]);
  if (index + 1 != list.size()) {
    list[index] = std::move(list.back());
    list[index]->index = index;
  }
  list.pop_back();
  return taken;
}

// A few hundred nanoseconds for each hundred threads.
uint64_t worked_ns() {
  timespec worked{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &worked);
  return static_cast<uint64_t>(worked.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(worked.tv_nsec);
}

}  // namespace

Reactor::Reactor(unsigned index, Wire& wire, std::unique_ptr<io::Engine> engine)
    : index_(index),
      wire_(wire),
      engine_(std::move(engine)),
      loop_(engine_.get()),
      lobby_(loop_, wire.options.lobby_burst_ns, worked_ns),
      budget_timer_([this] {
        for (const auto& connection : connections_) connection->retry();
      }),
      trim_timer_([this] { buffers_.trim(kIdleBufferBytes); }),
      stop_timer_([this] {
        for (size_t i = negotiations_.size(); i-- > 0;) negotiations_[i]->close();
        for (size_t i = connections_.size(); i-- > 0;) connections_[i]->abort();
        check_stopped();
      }) {
  loop_.add_hook(this);
}

Reactor::~Reactor() {
  join();
  // Before the memory its requests are in.
  engine_.reset();
}

void Reactor::start() {
  thread_ = std::thread([this] {
    // Signals are for the main thread.
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    pthread_setname_np(pthread_self(), ("reactor-" + std::to_string(index_)).c_str());
    loop_.run();
  });
}

void Reactor::join() {
  std::lock_guard<std::mutex> hold(join_lock_);
  if (!thread_.joinable()) return;
  loop_.stop();
  thread_.join();
}

// ---- connections come and go ----

void Reactor::adopt(int fd) { adopt(Arrival{fd, peer_of(fd), {}, nullptr}); }

void Reactor::adopt(Arrival arrival) {
  prepare_socket(arrival.fd);
  const unsigned limit = wire_.options.max_connections;
  const unsigned now = wire_.connections.fetch_add(1) + 1;
  const unsigned own_limit = wire_.options.max_connections_per_client;
  const unsigned of_client = wire_.clients.enter(arrival.peer);
  nbd::HandshakeOptions options;
  options.only = std::move(arrival.only);
  if (stopping_) {
    options.refusal = "the server is shutting down";
  } else if (now > limit) {
    options.refusal = "too many connections, the limit is " + std::to_string(limit);
  } else if (own_limit > 0 && of_client > own_limit) {
    options.refusal = "too many connections of " + client_of(arrival.peer) + ", the limit for each is " +
                      std::to_string(own_limit);
  }
  if (!options.refusal.empty()) {
    log(LogLevel::warn, "connection refused: " + options.refusal, arrival.peer);
    std::atomic<uint64_t>& count = now > limit || stopping_ ? wire_.refused : wire_.refused_per_client;
    count.fetch_add(1);
    const bool crowd =
        now > limit + kRefusedAtOnce || (own_limit > 0 && of_client > own_limit + kRefusedAtOnce);
    if (stopping_ || crowd) {
      Channel(arrival.fd).close();
      return socket_closed(arrival.peer);
    }
  }
  TlsSetting tls = wire_.tls();
  options.tls = tls.policy;
  auto negotiation =
      std::make_shared<Negotiation>(*this, std::move(arrival), std::move(options), std::move(tls.context));
  negotiation->index = negotiations_.size();
  negotiations_.push_back(negotiation);
  negotiation->start();
}

void Reactor::receive_handover(int fd) {
  if (stopping_ || handovers_.size() >= kHandoversAtOnce) return Channel(fd).close();
  handovers_.push_back(std::make_unique<Handover>(*this, fd));
  handovers_.back()->index = handovers_.size() - 1;
  handovers_.back()->start();
}

void Reactor::resume(KeptClient client) {
  auto resumption = std::make_shared<Resumption>(*this, std::move(client));
  resumption->index = resumptions_.size();
  resumptions_.push_back(resumption);
  resumption->start();
  if (stopping_) resumption->close();
}

void Reactor::end_resumption(Resumption* resumption) {
  ended_resumptions_.push_back(take_out(resumptions_, resumption->index));
  check_stopped();
}

void Reactor::end_handover(Handover* handover) {
  ended_handovers_.push_back(take_out(handovers_, handover->index));
}

void Reactor::end_negotiation(Negotiation* negotiation) {
  ended_.push_back(take_out(negotiations_, negotiation->index));
  check_stopped();
}

void Reactor::hand_over(Settled settled) {
  const unsigned home = settled.lease.device->home();
  if (home == index_) return serve(std::move(settled));
  Reactor& there = *wire_.reactors[home];
  // A closure has to be copyable, a Settled should not be copied: shared it is.
  auto shared = std::make_shared<Settled>(std::move(settled));
  there.loop_.post([&there, shared] { there.serve(std::move(*shared)); });
}

void Reactor::serve(Settled settled) {
  ServedDevice& device = served(*settled.lease.device);
  auto owned = std::make_unique<Connection>(*this, device, std::move(settled));
  Connection* connection = owned.get();
  connection->index = connections_.size();
  connections_.push_back(std::move(owned));
  if (device.connections.empty()) devices_with_connections_++;
  device.connections.push_back(connection);
  device.counters.opened.add(1);
  connection->start();
  if (stopping_) connection->stop();
}

void Reactor::retire(Connection* connection) {
  ServedDevice& device = connection->served();
  std::erase(device.connections, connection);
  device.counters.closed.add(1);
  turns_.remove(*connection);
  if (device.throttle) device.throttle->forget(*connection);
  std::erase(to_flush_, connection);
  std::replace(flushing_.begin(), flushing_.end(), connection, static_cast<Connection*>(nullptr));
  retired_.push_back(take_out(connections_, connection->index));
  wire_.directory.close(connection->lease());
  if (connection->is_unsettled() && --device.unsettled == 0) retry(&device.device);
  if (device.connections.empty()) {
    devices_with_connections_--;
    for (auto& done : std::exchange(device.when_unused, {})) done();
  }
  check_stopped();
}

void Reactor::socket_closed(const Peer& peer) {
  wire_.connections.fetch_sub(1);
  wire_.clients.leave(peer);
}

void Reactor::log(LogLevel level, const std::string& message, const Peer& peer) const {
  if (wire_.log) wire_.log(level, message, {{"peer", peer.name}});
}

// ---- devices ----

ServedDevice& Reactor::served(volume::Device& device) {
  std::lock_guard<std::mutex> hold(served_lock_);
  std::unique_ptr<ServedDevice>& place = served_[&device];
  if (!place) place = std::make_unique<ServedDevice>(device);
  return *place;
}

void Reactor::retry(volume::Device* device) {
  const auto found = served_.find(device);
  if (found == served_.end()) return;
  for (Connection* connection : found->second->connections) connection->retry();
}

void Reactor::disconnect(volume::Device* device, std::function<void()> done) {
  const auto found = served_.find(device);
  if (found == served_.end() || found->second->connections.empty()) return done();
  found->second->when_unused.push_back(std::move(done));
  const std::vector<Connection*> now = found->second->connections;
  for (Connection* connection : now) connection->stop();
}

void Reactor::forget(volume::Device* device) {
  std::lock_guard<std::mutex> hold(served_lock_);
  const auto found = served_.find(device);
  if (found == served_.end()) return;
  turns_.forget(*found->second);
  std::erase(logs_to_write_, found->second.get());
  served_.erase(found);
}

void Reactor::limit(volume::Device& device, const Limits& limits) {
  ServedDevice& limited = served(device);
  if (!limited.throttle) {
    if (!limits.any()) return;
    limited.throttle = std::make_unique<Throttle>(*this, limited.counters);
  }
  limited.throttle->set(limits);
}

void Reactor::start_log(volume::Device& device, std::unique_ptr<io::File> file, uint64_t position,
                        bool with_data, std::function<void(int)> lost) {
  end_log(&device, [] {});
  ServedDevice& logged = served(device);
  TransactionLog::Hooks hooks{[this, &device] { retry(&device); }, std::move(lost)};
  logged.log =
      std::make_unique<TransactionLog>(std::move(file), position, with_data, *engine_, std::move(hooks));
  write_log_soon(logged);
}

void Reactor::end_log(volume::Device* device, std::function<void()> done) {
  const auto found = served_.find(device);
  if (found == served_.end() || !found->second->log) return done();
  ending_logs_.push_back(std::move(found->second->log));
  TransactionLog* const log = ending_logs_.back().get();
  retry(device);
  log->finish([this, log, done = std::move(done)] {
    const auto is_it = [log](const auto& one) { return one.get() == log; };
    const auto place = std::find_if(ending_logs_.begin(), ending_logs_.end(), is_it);
    ended_logs_.push_back(std::move(*place));
    ending_logs_.erase(place);
    done();
  });
}

void Reactor::write_log_soon(ServedDevice& device) {
  if (!std::exchange(device.log_to_write, true)) logs_to_write_.push_back(&device);
}

std::vector<DeviceSnapshot> Reactor::counters() const {
  std::lock_guard<std::mutex> hold(served_lock_);
  std::vector<DeviceSnapshot> all;
  for (const auto& [device, served] : served_) {
    DeviceSnapshot one;
    one.device = device;
    const uint64_t closed = served->counters.closed.get();
    one.connections = served->counters.opened.get() - closed;
    one.throttled = served->counters.throttled.get();
    one.throttled_microseconds = served->counters.throttled_microseconds.get();
    for (unsigned kind = 0; kind < kKinds; kind++) {
      const KindCounters& from = served->counters.kinds[kind];
      one.kinds[kind] = {
          from.requests.get(), from.bytes.get(), from.errors.get(), from.microseconds.get(), {}};
      for (unsigned b = 0; b < kBuckets; b++) one.kinds[kind].buckets[b] = from.buckets[b].get();
    }
    all.push_back(one);
  }
  return all;
}

// ---- the stop ----

void Reactor::stop_serving(uint64_t deadline_ms, std::function<void(size_t)> done, Clients what) {
  stopping_ = true;
  stopped_ = std::move(done);
  stop_timer_.arm(loop_, deadline_ms);
  while (!handovers_.empty()) handovers_.back()->close();
  while (!resumptions_.empty()) resumptions_.back()->close();
  const std::vector<std::shared_ptr<Negotiation>> handshakes = negotiations_;
  for (const auto& negotiation : handshakes) negotiation->stop();
  for (size_t i = connections_.size(); i-- > 0;)
    what == Clients::keep ? connections_[i]->keep() : connections_[i]->stop();
  check_stopped();
}

// Once every socket is closed. Requests a device still has keep their connections in the list.
void Reactor::check_stopped() {
  if (!stopped_ || !negotiations_.empty()) return;
  size_t abandoned = 0;
  for (const auto& connection : connections_) {
    if (connection->is_open()) return;
    abandoned += connection->in_flight();
  }
  if (abandoned > 0 && stop_timer_.armed()) return;  // there is time to wait for them
  stop_timer_.disarm();
  std::exchange(stopped_, nullptr)(abandoned);
}

// ---- turns ----

BufferRef& Reactor::receive_block() {
  if (!receive_block_ || !receive_block_.sole()) receive_block_ = buffers_.take(kReceiveBytes);
  return receive_block_;
}

void Reactor::run_soon(Connection* connection) {
  connection->input_due = true;
  turns_.add(*connection);
}

void Reactor::flush_soon(Connection* connection) {
  // Sending costs as much as reading: it is a turn, too.
  if (shared()) return turns_.add(*connection);
  if (std::exchange(connection->in_flush_queue, true)) return;
  to_flush_.push_back(connection);
}

void Reactor::retry_when_budget_allows() {
  if (!budget_timer_.armed()) budget_timer_.arm(loop_, kBudgetRetryMs);
}

bool Reactor::end_of_turn() {
  const bool more = turns_.run(shared());
  for (ServedDevice* device : std::exchange(logs_to_write_, {})) {
    device->log_to_write = false;
    if (device->log) device->log->write();
  }
  return more;
}

bool Reactor::after_flush() {
  flushing_.swap(to_flush_);
  for (size_t i = 0; i < flushing_.size(); i++) {
    if (!flushing_[i]) continue;
    flushing_[i]->in_flush_queue = false;
    flushing_[i]->flush();
  }
  flushing_.clear();
  retired_.clear();
  ended_.clear();
  ended_handovers_.clear();
  ended_resumptions_.clear();
  ended_logs_.clear();
  trim_soon();
  return turns_.any();
}

// The timer runs off once after load and is not armed again while nothing is to be given back.
void Reactor::trim_soon() {
  if (buffers_.idle_bytes() <= kIdleBufferBytes || trim_timer_.armed()) return;
  trim_timer_.arm(loop_, kTrimAfterMs);
}

}  // namespace cellblock::plane
