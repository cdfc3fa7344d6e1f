// The client's side of a connection as the protocol document reads it: where its messages begin and end, and
// which of them ask for an answer. Written apart from the server's own reading, so that the two can disagree.
//
// It also numbers the requests: each gets a cookie of its own, so that an answer says whose it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "nbd/constants.h"
#include "nbd/handshake.h"

namespace cellblock::fuzz {

struct KnownExport {
  std::string_view name;
  uint64_t size = 0;
  bool read_only = false;
  bool tls_only = false;
};

struct SentOption {
  nbd::Option number;
  size_t end = 0;         // place in the stream behind it
  bool enters = false;    // a server that is willing goes into transmission
  bool no_reply = false;  // EXPORT_NAME: its answer has another form
  bool in_tls = false;
  bool forbidden = false;           // in clear, where TLS is required
  const KnownExport* of = nullptr;  // whose it is, as far as it names one that this client may know
};

struct SentRequest {
  nbd::CommandType type;
  uint16_t flags = 0;
  uint64_t offset = 0;
  uint64_t length = 0;  // of the effect: that of a filtered BLOCK_STATUS stands in its payload
  size_t payload = 0;   // place in the stream
  size_t end = 0;       // behind the payload
  const KnownExport* of = nullptr;
  bool filtered = false;      // a BLOCK_STATUS with a payload
  std::vector<uint32_t> ids;  // of contexts, as the payload names them
};

struct Conversation {
  const std::vector<KnownExport>* exports = nullptr;
  std::vector<SentOption> options;
  std::vector<SentRequest> requests;  // cookies are places in here, from 1
  bool no_zeroes = false;
  bool extended = false;  // headers of the requests
  size_t tls_at = 0;      // place in the stream where TLS begins; 0: it does not

  const SentRequest* find(uint64_t cookie) const {
    return cookie >= 1 && cookie <= requests.size() ? &requests[cookie - 1] : nullptr;
  }
};

// Reads the stream, whose part in TLS is here without it, and writes the cookies into it.
Conversation read_conversation(std::string& stream, const std::vector<KnownExport>& exports,
                               nbd::TlsPolicy policy = nbd::TlsPolicy::none);

}  // namespace cellblock::fuzz
