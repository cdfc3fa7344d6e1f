// The limits of one volume, and the line of its connections that wait for them. Who waits does not read its
// socket; what the client sends meanwhile stays there.
//
// Invariants: as long as somebody is in line nobody goes past the line; one connection at a time is called,
// and takes about a quantum before the next is (see turns.h), so none of them starves; whoever is called says
// when its turn has ended.
#pragma once

#include <cstdint>
#include <deque>

#include "plane/loop.h"
#include "plane/token_bucket.h"

namespace cellblock::plane {

class Connection;
class Reactor;
struct DeviceCounters;

// Requests a second and bytes a second of reads and writes; 0: no such limit. Bursts: 0: a tenth of a second.
struct Limits {
  uint64_t iops = 0;
  uint64_t iops_burst = 0;
  uint64_t bandwidth = 0;
  uint64_t bandwidth_burst = 0;
  bool any() const { return iops > 0 || bandwidth > 0; }
};

class Throttle {
 public:
  Throttle(Reactor& reactor, DeviceCounters& counters);

  // From now on; the buckets are full. Without limits everybody in line goes on.
  void set(const Limits& limits);
  bool limits() const { return limits_.any(); }

  // May the connection take a request that moves `bytes`? False: it is in line, and is run when it may.
  bool admits(Connection& connection, uint64_t bytes);
  // What was admitted was taken.
  void take(uint64_t bytes);
  void turn_ended(Connection& connection);
  void forget(Connection& connection);

 private:
  uint64_t wait_ns(uint64_t bytes) const;
  void line_up(Connection& connection, uint64_t bytes, bool first);
  void call_next();

  Reactor& reactor_;
  DeviceCounters& counters_;
  Limits limits_;
  TokenBucket requests_;
  TokenBucket bytes_;
  std::deque<Connection*> line_;
  Connection* called_ = nullptr;
  Timer timer_;
};

}  // namespace cellblock::plane
