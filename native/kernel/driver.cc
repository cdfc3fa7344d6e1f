#include "kernel/driver.h"

#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>

namespace cellblock::kernel {
namespace {

// Of one datagram: the status of a thousand devices fits.
constexpr size_t kDatagramBytes = 256 << 10;
// The kernel answers before send() returns; what is not there by then does not come.
constexpr timeval kPatience{5, 0};

// What others send to our socket is none of our business.
bool is_of_kernel(const sockaddr_nl& from, socklen_t length) {
  return length < sizeof from || from.nl_family != AF_NETLINK || from.nl_pid == 0;
}

}  // namespace

int open_netlink() {
  const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
  if (fd < 0) return -errno;
  const int on = 1;
  setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
  setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return fd;
  const int error = errno;
  close(fd);
  return -error;
}

Driver::~Driver() { close(fd_); }

Outcome Driver::look_up(Family& family) {
  bool found = false;
  const uint32_t sequence = ++sequence_;
  Outcome outcome = call(family_request(sequence), sequence, [&](const Message& message) {
    const auto answer = parse_family(message);
    if (!answer) return false;
    family = *answer;
    found = true;
    return true;
  });
  if (outcome.error == ENOENT) return {EPROTONOSUPPORT, {}};
  if (outcome.error == 0 && !found) return {EPROTO, "the kernel does not say how to reach its nbd driver"};
  return outcome;
}

Outcome Driver::connect(const ConnectOptions& options, uint32_t& index) {
  Family family;
  Outcome outcome = look_up(family);
  if (outcome.error) return outcome;
  bool told = false;
  const uint32_t sequence = ++sequence_;
  outcome = call(connect_request(family, sequence, options), sequence, [&](const Message& message) {
    const auto answer = parse_connected(message);
    if (!answer) return false;
    index = *answer;
    told = true;
    return true;
  });
  if (outcome.error == 0 && !told) return {EPROTO, "the kernel does not say which device it made"};
  return outcome;
}

Outcome Driver::reconfigure(const ReconfigureOptions& options) {
  Family family;
  const Outcome found = look_up(family);
  if (found.error) return found;
  const uint32_t sequence = ++sequence_;
  return call(reconfigure_request(family, sequence, options), sequence, nullptr);
}

Outcome Driver::disconnect(uint32_t index) {
  Family family;
  const Outcome found = look_up(family);
  if (found.error) return found;
  const uint32_t sequence = ++sequence_;
  return call(disconnect_request(family, sequence, index), sequence, nullptr);
}

Outcome Driver::status(std::vector<DeviceStatus>& devices) {
  Family family;
  const Outcome found = look_up(family);
  if (found.error) return found;
  const uint32_t sequence = ++sequence_;
  return call(status_request(family, sequence), sequence, [&](const Message& message) {
    auto answer = parse_status(message);
    if (!answer) return false;
    devices = std::move(*answer);
    return true;
  });
}

// Until the verdict on this request. What answers an earlier one, which nobody waited for, is passed over.
Outcome Driver::call(const std::string& request, uint32_t sequence, const Parse& parse) {
  if (send(fd_, request.data(), request.size(), MSG_NOSIGNAL) < 0) return {errno, {}};
  std::string room(kDatagramBytes, '\0');
  for (;;) {
    sockaddr_nl from{};
    socklen_t length = sizeof from;
    const ssize_t got =
        recvfrom(fd_, room.data(), room.size(), MSG_TRUNC, reinterpret_cast<sockaddr*>(&from), &length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return {errno == EAGAIN ? ETIMEDOUT : errno, {}};
    if (got == 0) return {EPIPE, {}};
    if (!is_of_kernel(from, length)) continue;
    if (static_cast<size_t>(got) > room.size()) return {EMSGSIZE, {}};
    MessageReader messages({room.data(), static_cast<size_t>(got)});
    for (Message message; messages.next(message);) {
      if (message.sequence != sequence) continue;
      if (message.type == NLMSG_ERROR) {
        const auto verdict = verdict_of(message);
        if (!verdict) return {EPROTO, "the kernel's answer is cut short"};
        return {verdict->error, verdict->sentence};
      }
      if (parse && !parse(message)) return {EPROTO, "the kernel's answer cannot be understood"};
    }
    if (messages.is_malformed()) return {EPROTO, "the kernel's answer is cut short"};
  }
}

}  // namespace cellblock::kernel
