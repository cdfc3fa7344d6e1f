// A client that an earlier process left between two messages (Connection::keep): its export is asked for
// anew, as if it came in, but nothing is said to it, and its socket is not read before it has one.
//
// Invariant: the client goes on with the terms it negotiated, or its socket is closed.
#pragma once

#include <memory>

#include "plane/channel.h"
#include "plane/loop.h"
#include "plane/record.h"

namespace cellblock::plane {

class Reactor;
struct Lease;

class Resumption final : public std::enable_shared_from_this<Resumption> {
 public:
  Resumption(Reactor& reactor, KeptClient client);

  void start();
  void close();

  size_t index = 0;  // the reactor's: place in its list

 private:
  void ask();
  void took_lease(Lease lease);
  void serve(Lease lease);

  Reactor& reactor_;
  Channel channel_;
  KeptClient client_;
  uint64_t until_ns_ = 0;
  Timer again_;
};

}  // namespace cellblock::plane
