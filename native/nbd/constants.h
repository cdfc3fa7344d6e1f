// Every number of the NBD protocol this server knows, as the protocol document (doc/proto.md) names them.
// Append-only: a number is never given another meaning; what is not served is listed so that it stays
// reserved.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cellblock::nbd {

constexpr uint64_t kInitMagic = 0x4e42444d41474943;    // "NBDMAGIC"
constexpr uint64_t kOptionMagic = 0x49484156454f5054;  // "IHAVEOPT"
constexpr uint64_t kOptionReplyMagic = 0x0003e889045565a9;
constexpr uint32_t kRequestMagic = 0x25609513;
constexpr uint32_t kSimpleReplyMagic = 0x67446698;
constexpr uint32_t kChunkMagic = 0x668e33ef;  // structured reply chunk
constexpr uint32_t kExtendedRequestMagic = 0x21e41c71;
constexpr uint32_t kExtendedReplyMagic = 0x6e8a278c;

constexpr size_t kMaxNameBytes = 4096;  // of every string of the protocol
constexpr uint32_t kMinimumBlockBytes = 1;
constexpr uint32_t kPreferredBlockBytes = 4096;
constexpr size_t kExportNameZeroes = 124;
constexpr uint32_t kMaxExtentsInChunk = 1 << 20;

// Handshake flags (server) and client flags.
enum HandshakeFlag : uint16_t { kFixedNewstyle = 1 << 0, kNoZeroes = 1 << 1 };
enum ClientFlag : uint32_t { kClientFixedNewstyle = 1 << 0, kClientNoZeroes = 1 << 1 };

enum TransmissionFlag : uint16_t {
  kHasFlags = 1 << 0,
  kReadOnly = 1 << 1,
  kSendFlush = 1 << 2,
  kSendFua = 1 << 3,
  kRotational = 1 << 4,
  kSendTrim = 1 << 5,
  kSendWriteZeroes = 1 << 6,
  kSendDf = 1 << 7,
  kCanMultiConn = 1 << 8,
  kSendResize = 1 << 9,  // experimental, not served
  kSendCache = 1 << 10,
  kSendFastZero = 1 << 11,
  kBlockStatusPayload = 1 << 12,  // needs extended headers and selected contexts
};

enum class Option : uint32_t {
  export_name = 1,
  abort = 2,
  list = 3,
  peek_export = 4,  // withdrawn
  starttls = 5,
  info = 6,
  go = 7,
  structured_reply = 8,
  list_meta_context = 9,
  set_meta_context = 10,
  extended_headers = 11,
};

enum class OptionReply : uint32_t {
  ack = 1,
  server = 2,
  info = 3,
  meta_context = 4,
  err_unsup = 0x80000001,
  err_policy = 0x80000002,
  err_invalid = 0x80000003,
  err_platform = 0x80000004,
  err_tls_reqd = 0x80000005,
  err_unknown = 0x80000006,
  err_shutdown = 0x80000007,
  err_block_size_reqd = 0x80000008,
  err_too_big = 0x80000009,
  err_ext_header_reqd = 0x8000000a,
};

enum class Info : uint16_t { export_ = 0, name = 1, description = 2, block_size = 3 };

enum class CommandType : uint16_t {
  read = 0,
  write = 1,
  disc = 2,
  flush = 3,
  trim = 4,
  cache = 5,
  write_zeroes = 6,
  block_status = 7,
  resize = 8,  // experimental, not served
};

enum CommandFlag : uint16_t {
  kCommandFua = 1 << 0,
  kCommandNoHole = 1 << 1,
  kCommandDf = 1 << 2,
  kCommandReqOne = 1 << 3,
  kCommandFastZero = 1 << 4,
  kCommandPayloadLen = 1 << 5,  // needs extended headers
};

enum ChunkFlag : uint16_t { kChunkDone = 1 << 0 };

enum class ChunkType : uint16_t {
  none = 0,
  offset_data = 1,
  offset_hole = 2,
  block_status = 5,
  block_status_ext = 6,  // takes the place of 5 with extended headers
  error = 0x8001,
  error_offset = 0x8002,
};

// base:allocation
enum AllocationState : uint32_t { kStateHole = 1 << 0, kStateZero = 1 << 1 };

// The only errors that may stand in a reply.
enum class WireError : uint32_t {
  none = 0,
  eperm = 1,
  eio = 5,
  enomem = 12,
  einval = 22,
  enospc = 28,
  eoverflow = 75,
  enotsup = 95,
  eshutdown = 108,
};

}  // namespace cellblock::nbd
