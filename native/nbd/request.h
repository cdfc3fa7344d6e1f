// A request as it stands on the wire, and the one function that admits it or names its error.
// Behind validate() nobody checks a request again.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "nbd/constants.h"

namespace cellblock::nbd {

constexpr size_t kRequestHeaderBytes = 28;

struct RequestHeader {
  uint16_t flags = 0;
  CommandType type = CommandType::read;
  uint64_t cookie = 0;
  uint64_t offset = 0;  // bytes
  uint64_t length = 0;  // bytes; 32 bits on the wire without extended headers
};

// What is known of the connection and its export when a request comes in.
struct Terms {
  uint64_t size = 0;  // bytes
  bool read_only = false;
  bool structured = false;
  bool contexts = false;  // at least one metadata context is selected
};

// Reads kRequestHeaderBytes; false where the magic is wrong, which no reply can mend.
inline bool parse_request(const std::byte* from, RequestHeader& header) {
  header.flags = load_be<uint16_t>(from + 4);
  header.type = static_cast<CommandType>(load_be<uint16_t>(from + 6));
  header.cookie = load_be<uint64_t>(from + 8);
  header.offset = load_be<uint64_t>(from + 16);
  header.length = load_be<uint32_t>(from + 24);
  return load_be<uint32_t>(from) == kRequestMagic;
}

// Bytes that follow the header whether or not the request is admitted.
inline uint64_t payload_bytes(const RequestHeader& header) {
  return header.type == CommandType::write ? header.length : 0;
}

// Not for DISC, which has no reply.
WireError validate(const RequestHeader& header, const Terms& terms);

// Maps an errno value of the system to one that may stand in a reply.
WireError wire_error(int error);

// A sentence for people, for error chunks.
const char* describe(WireError error);

}  // namespace cellblock::nbd
