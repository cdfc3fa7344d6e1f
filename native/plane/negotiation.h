// A client in the handshake: carries bytes between its socket and nbd::Handshake, asks the directory what the
// handshake asks, does the handshake of TLS in between where the client begins one, and hands the socket on
// to the device's home reactor when transmission begins.
//
// Nothing a client sent in clear is ever taken for something it sent in TLS: bytes that wait behind STARTTLS
// when it is answered, which somebody in between may have put there, end the connection.
//
// Invariant: a lease the directory gave is handed on or closed, also when the client is gone by then.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nbd/handshake.h"
#include "plane/channel.h"
#include "plane/directory.h"
#include "plane/loop.h"
#include "plane/wire.h"

namespace cellblock::plane {

class Reactor;
struct Arrival;
struct Companion;

class Negotiation final : public Watcher, public std::enable_shared_from_this<Negotiation> {
 public:
  // `context`: what TLS is begun with; null when the options do not offer it.
  Negotiation(Reactor& reactor, Arrival arrival, nbd::HandshakeOptions options,
              std::shared_ptr<const tls::Context> context);
  ~Negotiation() = default;

  void start();
  void ready(uint32_t events) override;
  void stop();  // answers what has come, then closes
  void close();
  bool is_open() const { return channel_.is_open(); }
  const Peer& peer() const { return peer_; }

  size_t index = 0;  // the reactor's: place in its list

 private:
  void receive();
  void advance();
  bool step_once();  // false: nothing more can be done now
  void send();
  bool start_tls();
  bool shake_hands();
  void log(LogLevel level, const std::string& message) const;
  void ask();
  void answered();
  void took_lease(Lease lease);
  void hand_over();
  void update_interest();

  Reactor& reactor_;
  Channel channel_;
  Peer peer_;
  std::shared_ptr<Companion> companion_;
  std::shared_ptr<const tls::Context> context_;
  nbd::Handshake handshake_;
  Timer deadline_;
  std::vector<std::byte> input_;  // received, not yet consumed
  size_t input_at_ = 0;
  size_t output_at_ = 0;  // bytes of the handshake's output already sent
  Lease lease_;
  uint32_t watched_ = 0;
  bool in_epoll_ = false;
  bool in_tls_handshake_ = false;
  bool asked_ = false;  // a question is with the directory
  bool advancing_ = false;
  bool input_ended_ = false;
  bool stopping_ = false;
};

}  // namespace cellblock::plane
