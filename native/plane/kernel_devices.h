// Volumes as block devices of the kernel: sockets are made in pairs, one end goes to the driver, the other is
// a connection of the data plane already in transmission. No handshake: both ends are ours.
//
// Invariants: a lease handed in is a connection's or is told of as closed, whatever fails; no descriptor of
// the kernel's ends stays here; what may wait for a device never keeps other devices from new connections.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernel/block_device.h"
#include "kernel/control.h"
#include "kernel/worker.h"
#include "plane/record.h"

namespace cellblock::plane {

class Plane;

// What the connections of a device are to.
struct KernelBackend {
  uint64_t handle = 0;  // of the open volume
  bool read_only = false;
  std::vector<uint64_t> leases;  // one for each connection
};

class KernelDevices {
 public:
  KernelDevices(Plane& plane, RecordSink& sink);
  ~KernelDevices() { stop(); }

  // All are answered by KernelAnswer, status() by KernelStatus. Sockets and flags of the options are made
  // here.
  void connect(uint64_t ticket, kernel::ConnectOptions options, KernelBackend backend);
  void reconfigure(uint64_t ticket, kernel::ReconfigureOptions options, KernelBackend backend);
  void disconnect(uint64_t ticket, uint32_t index);
  void status(uint64_t ticket);

  // Takes a device node so that nobody else can have it, writes back and forgets what the kernel keeps of it
  // and of its partitions. EBUSY: somebody has it, or one of them.
  void claim(uint64_t ticket, const std::string& path);
  // The kernel forgets what it keeps of a device, claimed or not, and looks for partitions anew.
  void reread(uint64_t ticket, const std::string& path);
  void unclaim(uint64_t ticket, const std::string& path);

  void stop();

 private:
  using Claims = std::map<std::string, kernel::BlockDevice>;
  using Work = std::function<int(Claims&)>;

  std::vector<int> make_connections(const KernelBackend& backend, const std::string& identifier);
  void on_device(uint64_t ticket, Work work);

  Plane& plane_;
  RecordSink& sink_;
  kernel::Control control_;
  const std::shared_ptr<Claims> claims_;  // the worker's
  kernel::Worker worker_;
};

}  // namespace cellblock::plane
