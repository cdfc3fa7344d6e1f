// Records of a transaction log as nbd-server writes it and nbd-trdump and nbd-trplay read it: headers of
// requests and simple replies as they stand on the wire, and a mark that says whether the data of writes
// follows their headers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "nbd/constants.h"
#include "nbd/reply.h"
#include "nbd/request.h"

namespace cellblock::nbd {

constexpr size_t kLogRequestBytes = kRequestHeaderBytes;
constexpr size_t kLogReplyBytes = kSimpleReplyBytes;
constexpr uint32_t kLogMarkMagic = 0x25609514;
constexpr uint32_t kLogMarkData = 1;  // the mark's type: the length says whether data follows from here on
constexpr uint64_t kLogMarkFrom = 0x4A93BA39A54F31B6;

// The length of a record has 32 bits: a longer request is several records of the same cookie, each of a
// multiple of any size of block.
constexpr uint64_t kMostLoggedLength = 0xFFFF0000;

inline void log_record(std::byte* to, uint32_t magic, uint32_t type, uint64_t cookie, uint64_t from,
                       uint32_t length) {
  store_be<uint32_t>(to, magic);
  store_be<uint32_t>(to + 4, type);
  store_be<uint64_t>(to + 8, cookie);
  store_be<uint64_t>(to + 16, from);
  store_be<uint32_t>(to + 24, length);
}

// `header` with another offset and length.
inline void log_request(std::byte* to, const RequestHeader& header, uint64_t offset, uint32_t length) {
  const uint32_t type = static_cast<uint32_t>(header.flags) << 16 | static_cast<uint16_t>(header.type);
  log_record(to, kRequestMagic, type, header.cookie, offset, length);
}

inline void log_mark(std::byte* to, bool with_data) {
  log_record(to, kLogMarkMagic, kLogMarkData, 0, kLogMarkFrom, with_data ? 1 : 0);
}

}  // namespace cellblock::nbd
