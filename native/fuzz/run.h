// One session against the real reactor, negotiation and connection over a socket pair, on a loop that turns
// only here, with a device and a directory that answer when the session says so. Nothing depends on time, so
// a session does the same in every run.
//
// What is found wrong: what the sanitizers see, an answer that judge.h does not accept, a connection, lease
// or request that is left over at the end, and a client that comes afterwards and is not served.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fuzz/conversation.h"
#include "fuzz/judge.h"
#include "fuzz/line.h"
#include "fuzz/pattern_device.h"
#include "fuzz/session.h"
#include "plane/wire.h"

namespace cellblock::fuzz {

// How the clients of a run reach the server.
struct Access {
  // `room`: bytes the server's socket holds; 0: as many as it likes.
  using MakeLine = std::function<std::unique_ptr<Line>(test::Host&, const Conversation&, size_t room)>;

  plane::TlsSetting tls;
  MakeLine line;     // of the session
  MakeLine another;  // of a client the server knows
};

class Run {
 public:
  Run(const Session& session, Access access);

  void run();

 private:
  plane::Reactor& reactor() { return host_.reactor(); }
  void tell(const Conversation& said, std::string_view stream);
  void take_in_neighbour();
  void turn();
  void pump(Line& line);
  void send(size_t bytes);
  void take(const Step& step);
  void complete(size_t most);
  void release();
  void stop_serving();
  void end();
  void settle(Line& line);
  void another_is_served();
  std::string entrance(std::string_view name) const;

  const Session& session_;
  const Access access_;
  std::string stream_;
  const Conversation said_;
  Told told_;
  std::vector<std::unique_ptr<PatternDevice>> devices_;
  test::Host host_;
  std::unique_ptr<Line> line_;
  Conversation of_neighbour_;
  std::unique_ptr<Line> neighbour_;
  Circumstances how_;
  size_t due_ = 0;  // bytes of the stream that the steps so far want sent
  bool reads_ = true;
  bool server_stopped_ = false;
};

// For LLVMFuzzerCustomMutator: what came of `data`, which has room for `max_size`, in bytes. Half of the
// changes are those of any bytes, with the dictionary; the other half know what a session is. The first
// `front` bytes are no part of it.
size_t mutate_input(uint8_t* data, size_t size, size_t max_size, unsigned seed, Way way, size_t front);

}  // namespace cellblock::fuzz
