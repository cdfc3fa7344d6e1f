// The client's side of a connection as the protocol document reads it: where its messages begin and end, and
// which of them ask for an answer. Written apart from the server's own reading, so that the two can disagree.
//
// It also numbers the requests: each gets a cookie of its own, so that an answer says whose it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nbd/constants.h"

namespace cellblock::fuzz {

struct KnownExport {
  std::string_view name;
  uint64_t size = 0;
  bool read_only = false;
};

struct SentOption {
  nbd::Option number;
  size_t end = 0;         // place in the stream behind it
  bool enters = false;    // a server that is willing goes into transmission
  bool no_reply = false;  // EXPORT_NAME: its answer has another form
};

struct SentRequest {
  nbd::CommandType type;
  uint16_t flags = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
  size_t payload = 0;  // place in the stream
  size_t end = 0;      // behind the payload
  const KnownExport* of = nullptr;
};

struct Conversation {
  std::vector<SentOption> options;
  std::vector<SentRequest> requests;  // cookies are places in here, from 1
  bool no_zeroes = false;

  const SentRequest* find(uint64_t cookie) const {
    return cookie >= 1 && cookie <= requests.size() ? &requests[cookie - 1] : nullptr;
  }
};

// Reads the stream and writes the cookies into it.
Conversation read_conversation(std::string& stream, const std::vector<KnownExport>& exports);

}  // namespace cellblock::fuzz
