// A thread of the data plane: one loop, one disk engine, and the connections of the devices that live here,
// with the pools they share. Connections of one device all live on its home reactor.
//
// Everything not said to be thread-safe belongs to the loop's thread. Without start() a test drives loop()
// itself.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "nbd/handshake.h"
#include "plane/buffer_pool.h"
#include "plane/channel.h"
#include "plane/counters.h"
#include "plane/lobby.h"
#include "plane/loop.h"
#include "plane/operation.h"
#include "plane/record.h"
#include "plane/throttle.h"
#include "plane/transaction_log.h"
#include "plane/turns.h"
#include "plane/wire.h"

namespace cellblock::plane {

class Connection;
class Handover;
class Negotiation;
class Resumption;

// A descriptor that is open as long as a connection is: whoever handed that over sees when it ends.
struct Companion {
  explicit Companion(int fd) : fd(fd) {}
  ~Companion() { ::close(fd); }
  Companion(const Companion&) = delete;
  Companion& operator=(const Companion&) = delete;
  const int fd;
};

// A client that comes in.
struct Arrival {
  int fd = -1;
  Peer peer;
  std::string only;  // the one export it may have; empty: any
  std::shared_ptr<Companion> companion;
};

// A connection between handshake and transmission, or handed over by an earlier process: a socket at a
// message boundary and what was negotiated on it. Plain data but for the socket, which close() or its user
// ends, and for what TLS knows of it.
struct Settled {
  int fd = -1;
  std::unique_ptr<tls::Session> tls;  // null: in clear
  Peer peer;
  std::shared_ptr<Companion> companion;
  nbd::Negotiated negotiated;
  Lease lease;
  std::vector<std::byte> input;  // received behind the handshake
  std::string output;            // not sent yet
  bool resends = false;          // see Connection: what is not answered here is asked for again elsewhere
};

// A device with connections here.
struct ServedDevice {
  explicit ServedDevice(volume::Device& served) : device(served) {}
  volume::Device& device;
  DeviceCounters counters;
  std::vector<Connection*> connections;
  std::vector<std::function<void()>> when_unused;
  std::unique_ptr<Throttle> throttle;  // null: never had limits
  std::unique_ptr<TransactionLog> log;
  bool log_to_write = false;
  // Connections whose input has ended, of a client that resends, with requests the device still works on.
  unsigned unsettled = 0;

  // see turns.h
  std::deque<Connection*> runnable;
  int64_t credit = 0;
  bool has_turn = false;
};

class Reactor final : TurnHook {
 public:
  Reactor(unsigned index, Wire& wire, std::unique_ptr<io::Engine> engine);
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  void start();  // runs the loop on a thread of its own
  void join();   // thread-safe; stops the loop and waits for the thread. Idempotent

  unsigned index() const { return index_; }
  Loop& loop() { return loop_; }
  Lobby& lobby() { return lobby_; }
  io::Engine* engine() { return engine_.get(); }
  Wire& wire() { return wire_; }

  // Takes a connected socket and begins the handshake; over the limit it is refused in so many words.
  void adopt(int fd);
  void adopt(Arrival arrival);
  // Takes the connection of a program that hands a client over.
  void receive_handover(int fd);
  // Goes on with a client of an earlier process.
  void resume(KeptClient client);
  // Takes a connection up in transmission; its device's home is here.
  void serve(Settled settled);

  // Of all connections of the device together, from now on.
  void limit(volume::Device& device, const Limits& limits);
  // What clients of the device do is logged from now on, in place of an earlier log. `lost`: the log could
  // not be written and has ended.
  void start_log(volume::Device& device, std::unique_ptr<io::File> file, uint64_t position, bool with_data,
                 std::function<void(int error)> lost);
  // `done` when what was logged is written.
  void end_log(volume::Device* device, std::function<void()> done);
  // The device is no longer held: its sockets are read again.
  void device_released(volume::Device* device) { retry(device); }
  // Ends every connection of the device as at shutdown; then `done`.
  void disconnect(volume::Device* device, std::function<void()> done);
  // Before the device goes away; nothing is connected to it.
  void forget(volume::Device* device);
  // No new connection; in-flight requests finish, later ones get ESHUTDOWN, sockets close, at the latest
  // after deadline_ms. `done` gets the number of requests the devices still have then (their connections are
  // closed).
  enum class Clients : uint8_t { end, keep };
  void stop_serving(uint64_t deadline_ms, std::function<void(size_t)> done, Clients what = Clients::end);
  // With Clients::keep those in clear are left as they are, once what is in flight is answered: these, when
  // it is done.
  std::vector<KeptClient> take_kept() { return std::exchange(kept_, {}); }

  std::vector<DeviceSnapshot> counters() const;  // thread-safe

  // For connections and what they wait in.
  void run_soon(Connection* connection);
  void flush_soon(Connection* connection);
  void write_log_soon(ServedDevice& device);
  bool shared() const { return devices_with_connections_ > 1; }

 private:
  friend class Connection;
  friend class Handover;
  friend class Negotiation;
  friend class Resumption;

  bool end_of_turn() override;
  bool after_flush() override;

  // For connections and negotiations.
  BufferRef& receive_block();  // kReceiveBytes that nobody else refers to; empty where memory is short
  void retry_when_budget_allows();
  void retire(Connection* connection);
  void end_negotiation(Negotiation* negotiation);
  void end_handover(Handover* handover);
  void end_resumption(Resumption* resumption);
  void hand_over(Settled settled);
  void socket_closed(const Peer& peer);
  void log(LogLevel level, const std::string& message, const Peer& peer) const;

  ServedDevice& served(volume::Device& device);
  void retry(volume::Device* device);
  void check_stopped();
  void trim_soon();

  const unsigned index_;
  Wire& wire_;
  std::unique_ptr<io::Engine> engine_;
  Loop loop_;
  Lobby lobby_;
  std::thread thread_;
  std::mutex join_lock_;

  BufferPool buffers_;
  OperationPool operations_;
  BufferRef receive_block_;
  unsigned pinned_inputs_ = 0;  // operations whose data lies in a receive block

  std::vector<std::unique_ptr<Handover>> handovers_;
  std::vector<std::unique_ptr<Handover>> ended_handovers_;  // destroyed at the end of the turn
  std::vector<std::shared_ptr<Negotiation>> negotiations_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<std::unique_ptr<Connection>> retired_;  // destroyed at the end of the turn
  std::vector<std::shared_ptr<Negotiation>> ended_;   // likewise
  std::vector<std::shared_ptr<Resumption>> resumptions_, ended_resumptions_;
  Turns turns_;
  std::vector<ServedDevice*> logs_to_write_;
  std::vector<std::unique_ptr<TransactionLog>> ending_logs_;
  std::vector<std::unique_ptr<TransactionLog>> ended_logs_;  // destroyed at the end of the turn
  std::vector<Connection*> to_flush_, flushing_;
  mutable std::mutex served_lock_;  // of the table, for counters()
  std::unordered_map<volume::Device*, std::unique_ptr<ServedDevice>> served_;
  size_t devices_with_connections_ = 0;

  Timer budget_timer_;
  Timer trim_timer_;
  Timer stop_timer_;
  bool stopping_ = false;
  std::vector<KeptClient> kept_;  // by a stop
  std::function<void(size_t)> stopped_;
};

}  // namespace cellblock::plane
