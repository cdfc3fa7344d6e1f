// The record stream to JavaScript, as plain data. Each kind has its twin in src/plane/treaty.ts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "nbd/handshake.h"
#include "plane/peer.h"
#include "store/journal.h"
#include "volume/volume.h"

namespace cellblock::plane {

struct FaultAsked {
  uint64_t ticket, handle, first;
  uint32_t count;
};
struct RoundWanted {
  uint64_t handle;
  bool urgent;
};
struct FileWanted {
  uint64_t handle;
};
struct Done {
  uint64_t ticket;
  int error;
};
// A client that was left between two messages, with nothing of its under way: for the next process to go on
// with.
struct KeptClient {
  int fd = -1;  // whoever takes it closes it
  Peer peer;
  nbd::Negotiated negotiated;
  std::vector<std::byte> input;  // received and not looked at
  // The kernel: it has no name to ask for, so the negotiated one is its device's identifier.
  bool resends = false;
};
struct ClientsKept {
  uint64_t ticket;
  std::vector<KeptClient> clients;
};
struct BytesRead {
  uint64_t ticket;
  int error;
  std::vector<std::byte> bytes;
};
struct RoundTaken {
  uint64_t ticket;
  volume::Round round;
};
struct CutDone {
  uint64_t ticket;
  int error;
  uint64_t position;
  std::vector<int> errors;
  std::vector<store::CutMember> members;  // all, in the order asked
};
struct Adopted {
  uint64_t ticket;
  int error;
};
struct ListAsked {
  uint64_t ticket;
  Peer peer;
};
struct DescribeAsked {
  uint64_t ticket;
  Peer peer;
  std::string name;
};
struct OpenAsked {
  uint64_t ticket;
  Peer peer;
  std::string name;
  std::vector<std::string> changed_since;
};
struct LeaseClosed {
  uint64_t lease;
};
struct DeviceFailed {
  uint64_t handle;
  int error;
  uint64_t after;
  uint64_t position;  // of the newest entry of its line, the FAILED one included
  std::vector<store::Entry> entries;
};
struct StoreFailed {
  int error;
};
struct TransactionLogLost {
  uint64_t handle;
  int error;
};
// Of a command on a device of the kernel.
struct KernelAnswer {
  uint64_t ticket;
  int error;             // errno; EPROTONOSUPPORT: there is no nbd driver
  uint32_t index;        // N of /dev/nbdN
  std::string sentence;  // of the kernel, where it says more
};
struct KernelStatus {
  uint64_t ticket;
  int error;
  std::vector<uint32_t> connected;  // N of each /dev/nbdN with a backend, whoever that is
};
// A connection of a device of the kernel has died; none: of one or several that are not known.
struct LinkDead {
  std::optional<uint32_t> index;
};
struct Logged {
  std::string level, message;
  std::vector<std::pair<std::string, std::string>> fields;
};

using Record = std::variant<FaultAsked, RoundWanted, FileWanted, Done, ClientsKept, BytesRead, RoundTaken,
                            CutDone, Adopted, ListAsked, DescribeAsked, OpenAsked, LeaseClosed, DeviceFailed,
                            StoreFailed, TransactionLogLost, KernelAnswer, KernelStatus, LinkDead, Logged>;

// Where records go. push is called from any native thread, in the order of happening of that thread.
class RecordSink {
 public:
  virtual ~RecordSink() = default;
  virtual void push(Record record) = 0;
};

}  // namespace cellblock::plane
