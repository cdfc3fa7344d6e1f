// Who is at the other end of a connection: a name for people and logs, what the socket says, and what TLS
// proved: what access is decided by.
#pragma once

#include <cstdint>
#include <string>

namespace cellblock::plane {

struct Peer {
  std::string name;      // "unix:uid=0", "tcp:127.0.0.1:1234", "tcp:[::1]:1234", "stdio:uid=0" or "unknown"
  int64_t uid = -1;      // of the process that connected over a unix socket; -1: nobody knows
  std::string identity;  // "x509:NAME", "psk:NAME"; empty: none was proved
  bool tls = false;
  std::string host;  // of a cell: "cellblock://cell/CELL/host/HOST", as TLS proved it; empty: it is none
};

// Whom connections are counted for: the uid, else the address without its port.
inline std::string client_of(const Peer& peer) {
  if (peer.uid >= 0) return "uid " + std::to_string(peer.uid);
  if (!peer.name.starts_with("tcp:")) return peer.name;
  return peer.name.substr(4, peer.name.rfind(':') - 4);
}

}  // namespace cellblock::plane
