// A request as it stands on the wire, and the one function that admits it or names its error.
// Behind validate() nobody checks a request again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "nbd/constants.h"

namespace cellblock::nbd {

constexpr size_t kRequestHeaderBytes = 28;
constexpr size_t kExtendedRequestHeaderBytes = 32;

struct RequestHeader {
  uint16_t flags = 0;
  CommandType type = CommandType::read;
  uint64_t cookie = 0;
  uint64_t offset = 0;  // bytes
  uint64_t length = 0;  // bytes; 32 bits on the wire without extended headers

  bool has_payload_flag() const { return flags & kCommandPayloadLen; }
};

// What is known of the connection and its export when a request comes in.
struct Terms {
  uint64_t size = 0;  // bytes
  bool read_only = false;
  bool structured = false;
  bool extended = false;
  size_t contexts = 0;  // metadata contexts selected
};

// Reads kRequestHeaderBytes, or kExtendedRequestHeaderBytes where extended headers are negotiated; false
// where the magic is wrong, which no reply can mend.
inline bool parse_request(const std::byte* from, bool extended, RequestHeader& header) {
  header.flags = load_be<uint16_t>(from + 4);
  header.type = static_cast<CommandType>(load_be<uint16_t>(from + 6));
  header.cookie = load_be<uint64_t>(from + 8);
  header.offset = load_be<uint64_t>(from + 16);
  header.length = extended ? load_be<uint64_t>(from + 24) : load_be<uint32_t>(from + 24);
  return load_be<uint32_t>(from) == (extended ? kExtendedRequestMagic : kRequestMagic);
}

// Bytes that follow the header whether or not the request is admitted.
inline uint64_t payload_bytes(const RequestHeader& header, bool extended) {
  return (extended ? header.has_payload_flag() : header.type == CommandType::write) ? header.length : 0;
}

// With extended headers: true where the request, refused in any case, leaves open where the next one begins
// or puts it out of reach. That is a payload beyond the maximum, and a WRITE that does not say whether its
// data follows: who took data for requests would execute what some writer put into it.
bool loses_step(const RequestHeader& header);

// Not for DISC, which has no reply. A BLOCK_STATUS with a payload is admitted as far as its header goes; see
// read_filter().
WireError validate(const RequestHeader& header, const Terms& terms);

// The payload of a BLOCK_STATUS: what is asked about, and which of the selected contexts.
struct StatusFilter {
  uint64_t length = 0;        // bytes
  std::vector<uint32_t> ids;  // of contexts, 1 to `contexts`, each once, in the order asked for
};

constexpr size_t kStatusFilterBytes = 8;  // and 4 for each context

// False where an id is unknown or comes twice. `bytes` are as many as validate() admitted.
bool read_filter(const std::byte* from, size_t bytes, size_t contexts, StatusFilter& filter);

// Maps an errno value of the system to one that may stand in a reply.
WireError wire_error(int error);

// A sentence for people, for error chunks.
const char* describe(WireError error);

}  // namespace cellblock::nbd
