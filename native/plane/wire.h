// What all reactors share of the wire: options, who knows the exports, the budget of bytes in flight, and the
// log.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "nbd/handshake.h"
#include "plane/directory.h"
#include "tls/context.h"

namespace cellblock::plane {

class Reactor;

struct WireOptions {
  uint64_t handshake_timeout_ms = 30'000;
  // Of newcomers together, on each reactor: as long they are looked at before they have to wait for those
  // inside; some two hundred handshakes in clear, or two dozen of TLS.
  uint64_t lobby_burst_ns = 10'000'000;
  unsigned max_connections = 4096;
  unsigned max_connections_per_client = 0;  // of one uid or address; 0: as many as there may be in all
  uint64_t bytes_per_connection = uint64_t{64} << 20;  // in flight: payloads held and results not sent yet
  uint64_t bytes_in_all = uint64_t{512} << 20;
  uint64_t payload_idle_ms = 10'000;  // for more of a large payload to come, while others wait to send theirs
  uint64_t linger_ms = 1'000;         // for clients to read the last replies when we close
};

// Bytes in flight over all connections. What one connection may take shrinks with what is left, so however
// many clients stop reading, something stays for the others; and everybody may always have a little in
// flight. Never more than twice the limit and kAlways for each connection, and as much again as PayloadBudget
// has.
class ByteBudget {
 public:
  static constexpr uint64_t kAlways = 256 << 10;

  explicit ByteBudget(uint64_t limit) : limit_(static_cast<int64_t>(limit)) {}

  // May a connection that holds `held` take `bytes` more?
  bool admits(uint64_t held, uint64_t bytes) const {
    if (held + bytes <= kAlways) return true;
    const int64_t left = limit_ - used_.load(std::memory_order_relaxed);
    if (held == 0) return static_cast<int64_t>(bytes) <= left + limit_;
    return static_cast<int64_t>(held + bytes) <= left;
  }
  void add(int64_t bytes) { used_.fetch_add(bytes, std::memory_order_relaxed); }
  int64_t used() const { return used_.load(std::memory_order_relaxed); }

 private:
  const int64_t limit_;
  alignas(64) std::atomic<int64_t> used_{0};
};

// Large payloads that are still coming, by the bytes they will have. What has come of them is in ByteBudget;
// what has not is only here, so clients that begin large writes and send no more take nothing from anybody
// but each other.
class PayloadBudget {
 public:
  explicit PayloadBudget(uint64_t limit) : limit_(limit) {}

  bool reserve(uint64_t bytes) {
    const uint64_t before = reserved_.fetch_add(bytes, std::memory_order_relaxed);
    if (before == 0 || before + 2 * bytes <= limit_) return true;
    release(bytes);
    return false;
  }
  void somebody_waits() { waits_.fetch_add(1, std::memory_order_relaxed); }
  void release(uint64_t bytes) { reserved_.fetch_sub(bytes, std::memory_order_relaxed); }
  uint64_t reserved() const { return reserved_.load(std::memory_order_relaxed); }
  // Grows while somebody waits for bytes, of payloads or of any.
  uint64_t waits() const { return waits_.load(std::memory_order_relaxed); }

 private:
  const uint64_t limit_;
  alignas(64) std::atomic<uint64_t> reserved_{0};
  std::atomic<uint64_t> waits_{0};
};

// Connections by whom they are of, handshakes included. Costs nothing where nobody limits them.
class ClientCounts {
 public:
  explicit ClientCounts(bool counts) : counts_(counts) {}

  // How many that client has now, this one included; 0 where nobody counts.
  unsigned enter(const Peer& peer) {
    if (!counts_) return 0;
    std::lock_guard<std::mutex> hold(lock_);
    return ++by_client_[client_of(peer)];
  }
  void leave(const Peer& peer) {
    if (!counts_) return;
    std::lock_guard<std::mutex> hold(lock_);
    const auto found = by_client_.find(client_of(peer));
    if (--found->second == 0) by_client_.erase(found);
  }
  // Clients with connections.
  size_t size() const {
    std::lock_guard<std::mutex> hold(lock_);
    return by_client_.size();
  }

 private:
  const bool counts_;
  mutable std::mutex lock_;
  std::unordered_map<std::string, unsigned> by_client_;
};

enum class LogLevel : uint8_t { info, warn, error };

// Called on any reactor's thread; must not block.
using LogHook = std::function<void(LogLevel, const std::string& message,
                                   std::vector<std::pair<std::string, std::string>> fields)>;

// How connections that come now are secured. `context` is null with TlsPolicy::none.
struct TlsSetting {
  nbd::TlsPolicy policy = nbd::TlsPolicy::none;
  std::shared_ptr<const tls::Context> context;
};

struct Wire {
  Wire(WireOptions chosen, Directory& known, LogHook hook)
      : options(chosen),
        directory(known),
        log(std::move(hook)),
        budget(chosen.bytes_in_all),
        payloads(chosen.bytes_in_all),
        clients(chosen.max_connections_per_client > 0) {}

  const WireOptions options;
  Directory& directory;
  const LogHook log;
  ByteBudget budget;
  PayloadBudget payloads;
  std::atomic<unsigned> connections{0};  // sockets, handshakes included
  std::atomic<uint64_t> refused{0};      // for the limit of all
  std::atomic<uint64_t> refused_per_client{0};
  std::atomic<uint64_t> timed_out{0};  // handshakes
  std::atomic<uint64_t> tls_begun{0};  // handshakes of TLS that were completed, and that failed
  std::atomic<uint64_t> tls_failed{0};
  ClientCounts clients;
  std::vector<Reactor*> reactors;  // by index; complete before the first one runs

  // Thread-safe. Connections keep the setting they began with.
  TlsSetting tls() const {
    std::lock_guard<std::mutex> hold(tls_lock_);
    return tls_;
  }
  void set_tls(TlsSetting setting) {
    std::lock_guard<std::mutex> hold(tls_lock_);
    std::swap(tls_, setting);
  }

 private:
  mutable std::mutex tls_lock_;
  TlsSetting tls_;
};

}  // namespace cellblock::plane
