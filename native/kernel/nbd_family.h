// The messages of the kernel's nbd driver: what a device is made of, and what the driver answers and reports.
// Bytes only, see netlink.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernel/netlink.h"

namespace cellblock::kernel {

// Where the driver is to be found. It gets another number each time it is loaded.
struct Family {
  uint16_t id = 0;
  std::optional<uint32_t> events;  // the multicast group that tells of dead links
};

struct ConnectOptions {
  std::optional<uint32_t> index;  // N of /dev/nbdN; none: the kernel takes a free one
  uint64_t size_bytes = 0;
  uint64_t block_bytes = 512;
  uint64_t server_flags = 0;  // transmission flags of NBD
  uint64_t client_flags = 0;  // NBD_CFLAG_...
  uint64_t io_timeout_s = 0;  // 0: a request is waited for without limit
  // How long requests wait for a new connection when none is left; 0: they fail at once.
  uint64_t dead_timeout_s = 0;
  std::string identifier;  // whose device it is; whoever reconfigures it has to know
  std::vector<int> sockets;
};

// Of a device that is connected; what is not given stays.
struct ReconfigureOptions {
  uint32_t index = 0;
  std::string identifier;
  std::optional<uint64_t> size_bytes;
  std::optional<uint64_t> block_bytes;  // goes with a size
  std::optional<uint64_t> io_timeout_s;
  std::optional<uint64_t> dead_timeout_s;
  std::vector<int> sockets;  // each takes the place of one that is dead; what finds none is let go
};

struct DeviceStatus {
  uint32_t index = 0;
  bool connected = false;
};

std::string family_request(uint32_t sequence);
std::string connect_request(const Family& family, uint32_t sequence, const ConnectOptions& options);
std::string reconfigure_request(const Family& family, uint32_t sequence, const ReconfigureOptions& options);
std::string disconnect_request(const Family& family, uint32_t sequence, uint32_t index);
// Of every device.
std::string status_request(const Family& family, uint32_t sequence);

// Nothing when the answer is not what it ought to be.
std::optional<Family> parse_family(const Message& message);
// N of the device that was connected.
std::optional<uint32_t> parse_connected(const Message& message);
std::optional<std::vector<DeviceStatus>> parse_status(const Message& message);
// N of the device one of whose connections has died; nothing when the message tells of something else.
std::optional<uint32_t> parse_link_dead(const Family& family, const Message& message);

}  // namespace cellblock::kernel
