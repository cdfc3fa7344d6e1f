// Sockets that are listened on: addresses are checked and bound here, accepted sockets go to the reactor.
#pragma once

#include <sys/stat.h>

#include <memory>
#include <string>

#include "plane/loop.h"

namespace cellblock::plane {

class Reactor;

// Who comes to a listener: clients, or programs that hand a client over (handover.h).
enum class Visitors : uint8_t { clients, handovers };

struct ListenOptions {
  unsigned mode = 0660;       // of a unix socket's file
  bool allow_remote = false;  // TCP on more than loopback: without TLS that is for the operator to say
  Visitors visitors = Visitors::clients;
};

struct Bound {
  int error = 0;         // errno
  std::string sentence;  // what is wrong and what to do
  std::string address;   // "unix:PATH" or "tcp:HOST:PORT" with the port bound
  int fd = -1;
  // unix: the file made, removed at the end if it still is this one
  std::string path;
  dev_t device = 0;
  ino_t inode = 0;
};

// Binds and listens: "unix:PATH", "tcp:HOST:PORT" (IPv6 in brackets, "*" for all addresses). A socket file
// nobody answers on is replaced. May look a host name up.
Bound listen_on(const std::string& address, const ListenOptions& options);

// A listening socket that was handed to us (LISTEN_FDS); its file is not ours to remove. What is refused
// stays open.
Bound adopt_listening(int fd, const ListenOptions& options);

// Accepts on a reactor's loop. Created and destroyed on the loop's thread (or while it does not run).
class Listener final : public Watcher {
 public:
  Listener(Reactor& reactor, Bound bound, Visitors visitors = Visitors::clients);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  void ready(uint32_t events) override;
  const std::string& address() const { return bound_.address; }

 private:
  void pause();

  Reactor& reactor_;
  Bound bound_;
  const Visitors visitors_;
  Timer resume_;
};

}  // namespace cellblock::plane
