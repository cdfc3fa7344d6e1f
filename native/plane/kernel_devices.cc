#include "plane/kernel_devices.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "nbd/constants.h"
#include "plane/plane.h"

namespace cellblock::plane {
namespace {

// A socket of the kernel's end holds a whole request of the largest kind, so that writers do not wait for the
// turn of a reactor in the middle of one.
constexpr int kSocketBytes = 4 << 20;

void enlarge(int fd) {
  for (const auto& [force, plain] :
       {std::pair{SO_SNDBUFFORCE, SO_SNDBUF}, std::pair{SO_RCVBUFFORCE, SO_RCVBUF}}) {
    if (setsockopt(fd, SOL_SOCKET, force, &kSocketBytes, sizeof kSocketBytes) < 0)
      setsockopt(fd, SOL_SOCKET, plain, &kSocketBytes, sizeof kSocketBytes);
  }
}

uint16_t flags_of(bool read_only) {
  const unsigned flags = nbd::kHasFlags | nbd::kSendFlush | nbd::kSendFua | nbd::kCanMultiConn;
  return static_cast<uint16_t>(flags | (read_only ? nbd::kReadOnly : nbd::kSendTrim | nbd::kSendWriteZeroes));
}

// The calling thread writes back what others have dirtied on a device of the kernel: memory it needs for that
// must not be waited for until that is written back. Without the privilege it is as with any other server.
void become_flusher() {
  thread_local const int done = prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
  static_cast<void>(done);
}

// Partitions have caches of their own, which go with them when they are looked for anew.
int forget(kernel::BlockDevice& device) {
  if (const int error = device.flush_and_forget()) return error;
  const int error = device.scan_partitions();
  return error == EINVAL ? 0 : error;
}

void close_all(const std::vector<int>& fds) {
  for (const int fd : fds) close(fd);
}

}  // namespace

KernelDevices::KernelDevices(Plane& plane, RecordSink& sink)
    : plane_(plane),
      sink_(sink),
      control_({[this](std::optional<uint32_t> index) { sink_.push(LinkDead{index}); }}),
      claims_(std::make_shared<Claims>()) {}

void KernelDevices::connect(uint64_t ticket, kernel::ConnectOptions options, KernelBackend backend) {
  options.server_flags = flags_of(backend.read_only);
  control_.post([this, ticket, options = std::move(options), backend = std::move(backend)](
                    kernel::Driver* driver, int error) mutable {
    KernelAnswer answer{ticket, error, 0, {}};
    options.sockets = make_connections(backend, options.identifier);
    if (driver) {
      const kernel::Outcome outcome = driver->connect(options, answer.index);
      answer.error = outcome.error;
      answer.sentence = outcome.sentence;
    }
    close_all(options.sockets);
    sink_.push(std::move(answer));
  });
}

void KernelDevices::reconfigure(uint64_t ticket, kernel::ReconfigureOptions options, KernelBackend backend) {
  control_.post([this, ticket, options = std::move(options), backend = std::move(backend)](
                    kernel::Driver* driver, int error) mutable {
    KernelAnswer answer{ticket, error, options.index, {}};
    options.sockets = make_connections(backend, options.identifier);
    if (driver) {
      const kernel::Outcome outcome = driver->reconfigure(options);
      answer.error = outcome.error;
      answer.sentence = outcome.sentence;
    }
    close_all(options.sockets);
    sink_.push(std::move(answer));
  });
}

void KernelDevices::disconnect(uint64_t ticket, uint32_t index) {
  control_.post([this, ticket, index](kernel::Driver* driver, int error) {
    const kernel::Outcome outcome = driver ? driver->disconnect(index) : kernel::Outcome{error, {}};
    sink_.push(KernelAnswer{ticket, outcome.error, index, outcome.sentence});
  });
}

void KernelDevices::status(uint64_t ticket) {
  control_.post([this, ticket](kernel::Driver* driver, int error) {
    std::vector<kernel::DeviceStatus> devices;
    if (driver) error = driver->status(devices).error;
    KernelStatus answer{ticket, error, {}};
    for (const kernel::DeviceStatus& device : devices) {
      if (device.connected) answer.connected.push_back(device.index);
    }
    sink_.push(std::move(answer));
  });
}

void Plane::serve_kernel(int fd, uint64_t handle, uint64_t lease, nbd::Negotiated negotiated,
                         std::vector<std::byte> input) {
  auto settled = std::make_shared<Settled>();
  settled->fd = fd;
  settled->peer.name = "kernel";
  settled->negotiated = std::move(negotiated);
  settled->input = std::move(input);
  settled->lease.id = lease;
  settled->resends = true;
  wire_->connections.fetch_add(1);
  wire_->clients.enter(settled->peer);
  const bool open = at_home(handle, [this, settled](volume::Volume& volume) {
    become_flusher();
    prepare_socket(settled->fd);
    settled->lease.device = &volume;
    seats_[volume.home()].reactor->serve(std::move(*settled));
  });
  if (open) return;
  ::close(fd);
  wire_->connections.fetch_sub(1);
  wire_->clients.leave(settled->peer);
  close(lease);
}

void Plane::resume_kernel(KeptClient client, uint64_t handle, uint64_t lease) {
  // It came through an exec, and no child of ours shall hold it open.
  fcntl(client.fd, F_SETFD, FD_CLOEXEC);
  // Shut: the kernel waited too long, and asks again elsewhere for what may be in it.
  pollfd socket{client.fd, 0, 0};
  if (poll(&socket, 1, 0) > 0) {
    ::close(client.fd);
    return close(lease);
  }
  serve_kernel(client.fd, handle, lease, std::move(client.negotiated), std::move(client.input));
}

// The kernel's ends; a pair that cannot be made is a connection less, and its lease is closed.
std::vector<int> KernelDevices::make_connections(const KernelBackend& backend,
                                                 const std::string& identifier) {
  std::vector<int> ends;
  for (const uint64_t lease : backend.leases) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
      sink_.push(LeaseClosed{lease});
      continue;
    }
    enlarge(pair[0]);
    enlarge(pair[1]);
    nbd::Negotiated negotiated;
    negotiated.transmission_flags = flags_of(backend.read_only);
    negotiated.name = identifier;
    plane_.serve_kernel(pair[1], backend.handle, lease, std::move(negotiated));
    ends.push_back(pair[0]);
  }
  return ends;
}

void KernelDevices::claim(uint64_t ticket, const std::string& path) {
  on_device(ticket, [path](Claims& claims) {
    kernel::BlockDevice device;
    if (const int error = device.open(path, true)) return error;
    if (const int error = forget(device)) return error;
    claims[path] = std::move(device);
    return 0;
  });
}

void KernelDevices::reread(uint64_t ticket, const std::string& path) {
  on_device(ticket, [path](Claims& claims) {
    const auto claimed = claims.find(path);
    if (claimed != claims.end()) return forget(claimed->second);
    kernel::BlockDevice device;
    if (const int error = device.open(path, false)) return error;
    return forget(device);
  });
}

void KernelDevices::unclaim(uint64_t ticket, const std::string& path) {
  on_device(ticket, [path](Claims& claims) {
    claims.erase(path);
    return 0;
  });
}

void KernelDevices::on_device(uint64_t ticket, Work work) {
  worker_.post([claims = claims_, report = worker_.finish(), sink = &sink_, ticket, work = std::move(work)] {
    const int error = work(*claims);
    report([=] { sink->push(KernelAnswer{ticket, error, 0, {}}); });
  });
}

void KernelDevices::stop() {
  worker_.stop();
  control_.stop();
}

}  // namespace cellblock::plane
