// Who is at the other end of a connection: what the socket says, and what TLS proved.
#pragma once

#include <cstdint>
#include <string>

namespace cellblock::plane {

struct Peer {
  std::string name;      // "unix:uid=0", "tcp:127.0.0.1:1234", "tcp:[::1]:1234" or "unknown"
  int64_t uid = -1;      // of a unix socket's peer; -1: not known
  std::string identity;  // "x509:NAME", "psk:NAME"; empty: none was proved
  bool tls = false;
};

}  // namespace cellblock::plane
