// What the wire sees of a volume: a device that takes block requests. One object travels, the Request: it is
// answered exactly once, either by submit returning `done` or later by its done callback, on the device's
// home reactor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace cellblock::volume {

enum class Command : uint8_t { read, write, flush, trim, write_zeroes, cache, block_status };

enum RequestFlag : uint16_t {
  kFua = 1 << 0,
  kNoHole = 1 << 1,
  kFastZero = 1 << 2,
  kRequestOne = 1 << 3,  // block_status: one extent per context
};

// A part of a read, in order; lengths add up to the request's length. Bytes of a hole are zero and are *not*
// written to `data` unless Request::fill_holes is set.
struct Segment {
  uint32_t length;
  bool hole;
};

enum class ContextKind : uint8_t { allocation, depth, changed };

// One negotiated meta context of a connection. Plain data owned by the connection.
struct StatusContext {
  uint32_t id = 0;
  ContextKind kind = ContextKind::allocation;
  uint32_t since_layer = 0;  // changed: blocks of layers above this one
  // changed: byte ranges {offset, length} that differ besides those, sorted; for a snapshot that is no
  // ancestor. Shared by copies; null: none.
  std::shared_ptr<const std::vector<std::pair<uint64_t, uint64_t>>> also_changed;
};

struct StatusExtent {
  uint64_t length;  // bytes
  uint32_t flags;   // as NBD encodes them for the context: base:allocation bit 0 hole, bit 1 zero; depth:
                    // number; changed: bit 0
};

struct Request {
  // in
  Command command = Command::read;
  uint16_t flags = 0;
  bool fill_holes = false;  // read: write zeros into data for holes
  bool privileged = false;  // the agent's own: goes on while the device is held
  uint64_t offset = 0;      // bytes, any alignment
  uint64_t length = 0;      // bytes; read and write at most kMaxRequestBytes
  std::byte* data =
      nullptr;  // read: room for length bytes, at natural offsets; write: the payload. Caller's until done
  const std::vector<StatusContext>* contexts = nullptr;  // block_status
  void (*done)(Request&) = nullptr;
  void* owner = nullptr;

  // out
  int error = 0;                  // 0 or an errno value
  std::vector<Segment> segments;  // read; empty means one segment of data
  std::vector<std::vector<StatusExtent>>
      extents;  // block_status, one list per context, each covers from offset on

  // the device's own while it has the request
  uint64_t cursor = 0;
  uint32_t parts = 0;
  uint64_t generation = 0;
  uint64_t started_ns = 0;
  uint32_t cells = 0;
  Request* next = nullptr;
  void* state = nullptr;
};

enum class Submitted : uint8_t { done, pending };

class Device {
 public:
  virtual ~Device() = default;

  // Takes a request already validated against size() and read_only(). `done`: out fields are set and the
  // callback is not called. `pending`: the callback will be called, never before submit has returned.
  virtual Submitted submit(Request& request) = 0;

  virtual uint64_t size() const = 0;   // bytes; changes by resize
  virtual bool read_only() const = 0;  // snapshots, failed containers
  virtual bool held() const = 0;       // quiesced: do not read from the sockets of this device
  virtual unsigned home() const = 0;   // index of the home reactor
};

}  // namespace cellblock::volume
