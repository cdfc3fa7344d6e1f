// Who knows which exports exist: JavaScript in the agent, a table in tests. Asked during the handshake only.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "plane/peer.h"
#include "volume/device.h"

namespace cellblock::plane {

struct ExportDescription {
  bool exists = false;
  int error = 0;  // errno when it does not exist for this peer: ENOENT, EACCES (not for this one), ENOKEY (in
                  // TLS only)
  std::string refusal;  // why not, one sentence; empty with exists = true
  std::string name;     // canonical; empty: the name asked for (it differs for the default export, "")
  uint64_t size = 0;    // bytes
  bool read_only = false;
  bool rotational = false;
  std::string description;
  std::vector<std::string> snapshots;  // names X for which qemu:dirty-bitmap:X is offered, oldest first
};

struct ExportName {
  std::string name;
  std::string description;
};

// An open export: the device and what the connection's contexts need. Given back by Directory::close, once.
struct Lease {
  int error = 0;  // errno; device is null then. ENOKEY: only in TLS
  std::string refusal;
  volume::Device* device = nullptr;
  uint64_t id = 0;
  // per requested snapshot name of a qemu:dirty-bitmap context, in the order asked
  std::vector<volume::StatusContext> changed_contexts;
};

class Directory {
 public:
  virtual ~Directory() = default;
  // Callbacks run on the calling reactor's thread, later or at once, exactly once; the asker must cope with
  // having been closed meanwhile. `peer` says who asks.
  virtual void list(unsigned reactor, const Peer& peer,
                    std::function<void(std::vector<ExportName>)> reply) = 0;
  virtual void describe(unsigned reactor, const Peer& peer, const std::string& name,
                        std::function<void(ExportDescription)> reply) = 0;
  virtual void open(unsigned reactor, const Peer& peer, const std::string& name,
                    const std::vector<std::string>& changed_since, std::function<void(Lease)> reply) = 0;
  virtual void close(uint64_t lease) = 0;
};

}  // namespace cellblock::plane
