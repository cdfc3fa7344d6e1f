// A program that hands a client over: `cellblock serve-stdio NAME` sends the name of the one export the
// client may have and, with it, the socket the client is at the other end of (SCM_RIGHTS); without a socket
// the connection itself becomes the client's. The program is the peer, whoever the client is.
//
// The message: 8 bytes kHandoverMagic, a big-endian 16-bit length, the name. Nothing is answered but by NBD
// itself; the program's connection ends when the client's does.
//
// Invariant: not one byte behind the message is taken, and a descriptor that is not wanted is closed.
#pragma once

#include <array>
#include <string>

#include "plane/channel.h"
#include "plane/loop.h"

namespace cellblock::plane {

class Reactor;

constexpr char kHandoverMagic[] = "CBSTDIO1";
constexpr size_t kHandoverHeaderBytes = 10;

class Handover final : public Watcher {
 public:
  Handover(Reactor& reactor, int fd);
  ~Handover();
  Handover(const Handover&) = delete;
  Handover& operator=(const Handover&) = delete;

  void start();
  void ready(uint32_t events) override;
  void close();

  size_t index = 0;  // the reactor's: place in its list

 private:
  size_t wanted() const;  // bytes of the message, as far as is known
  bool receive();         // false: nothing more now, or it has ended
  void keep_descriptor(int fd);
  void refuse(const std::string& why);
  void admit();

  Reactor& reactor_;
  Channel channel_;
  Peer peer_;
  Timer deadline_;
  std::string message_;
  int client_ = -1;  // the socket handed over
  bool watched_ = false;
};

// For the program: connects to `path` and hands `fd` over (-1: none). The connection, or -errno. Blocks
// shortly.
int hand_over(const std::string& path, const std::string& name, int fd);

}  // namespace cellblock::plane
