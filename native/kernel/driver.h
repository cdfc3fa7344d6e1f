// Talks to the kernel's nbd driver over a netlink socket, one request at a time. The driver may be loaded,
// unloaded and loaded again at any time, so it is looked up before each request.
//
// Not thread-safe. Blocks as long as the kernel works on the request.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernel/nbd_family.h"

namespace cellblock::kernel {

struct Outcome {
  int error = 0;         // errno; EPROTONOSUPPORT: this kernel has no nbd driver, or it is not loaded
  std::string sentence;  // of the kernel, where it says more
};

class Driver {
 public:
  // `fd`: a netlink socket, or what a test plays the kernel on; closed at the end.
  explicit Driver(int fd) : fd_(fd) {}
  ~Driver();
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  // `index`: N of the device made.
  Outcome connect(const ConnectOptions& options, uint32_t& index);
  Outcome reconfigure(const ReconfigureOptions& options);
  Outcome disconnect(uint32_t index);
  Outcome status(std::vector<DeviceStatus>& devices);
  Outcome look_up(Family& family);

 private:
  using Parse = std::function<bool(const Message&)>;
  Outcome call(const std::string& request, uint32_t sequence, const Parse& parse);

  const int fd_;
  uint32_t sequence_ = 0;
};

// A socket for requests: its descriptor, or -errno.
int open_netlink();

}  // namespace cellblock::kernel
