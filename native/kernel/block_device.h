// A block device of the kernel, seen from outside: whether anybody has it, and what the kernel keeps of it.
//
// Opening, flushing and scanning read and write the device, so they wait as long as whoever serves it does:
// never on a thread that serves, or that gives devices new connections.
#pragma once

#include <string>

namespace cellblock::kernel {

class BlockDevice {
 public:
  BlockDevice() = default;
  BlockDevice(BlockDevice&& other) noexcept;
  BlockDevice& operator=(BlockDevice&& other) noexcept;
  ~BlockDevice() { close(); }

  // Opens it for reading. `exclusive`: nobody can mount it, or use it for swap or a mapping, while it is
  // open. 0 or an errno value; EBUSY: somebody has it, in whatever namespace, or one of its partitions.
  int open(const std::string& path, bool exclusive);
  // What was written to it is with whoever serves it; nothing of it is remembered.
  int flush_and_forget();
  // Looks for partitions anew. EINVAL: it is none that can have some.
  int scan_partitions();
  void close();
  bool is_open() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

}  // namespace cellblock::kernel
