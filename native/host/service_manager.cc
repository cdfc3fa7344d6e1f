#include "host/service_manager.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace cellblock::host {
namespace {

constexpr timeval kPatience{5, 0};

// Closes what it has at the end of the scope.
struct Descriptor {
  explicit Descriptor(int fd) : fd(fd) {}
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int release() {
    const int out = fd;
    fd = -1;
    return out;
  }
  int fd;
};

// Its length, or 0 where it is no address a manager can have.
socklen_t address_of(const std::string& text, sockaddr_un& address) {
  if (text.size() < 2 || text.size() >= sizeof address.sun_path || (text[0] != '/' && text[0] != '@'))
    return 0;
  address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, text.data(), text.size());
  const size_t bytes = offsetof(sockaddr_un, sun_path) + text.size();
  if (text[0] != '@') return static_cast<socklen_t>(bytes + 1);
  address.sun_path[0] = '\0';  // an abstract name, which ends with the address
  return static_cast<socklen_t>(bytes);
}

}  // namespace

int notify(const std::string& address, std::string_view message, const std::vector<int>& descriptors) {
  sockaddr_un to;
  const socklen_t length = address_of(address, to);
  if (length == 0 || message.empty() || descriptors.size() > kDescriptorsAtOnce) return -EINVAL;
  Descriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (socket.fd < 0) return -errno;
  setsockopt(socket.fd, SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);

  iovec line{const_cast<char*>(message.data()), message.size()};
  msghdr header{};
  header.msg_name = &to;
  header.msg_namelen = length;
  header.msg_iov = &line;
  header.msg_iovlen = 1;
  const size_t bytes = descriptors.size() * sizeof(int);
  std::vector<std::byte> control(descriptors.empty() ? 0 : CMSG_SPACE(bytes));
  if (!control.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* one = CMSG_FIRSTHDR(&header);
    one->cmsg_level = SOL_SOCKET;
    one->cmsg_type = SCM_RIGHTS;
    one->cmsg_len = CMSG_LEN(bytes);
    std::memcpy(CMSG_DATA(one), descriptors.data(), bytes);
  }
  for (;;) {
    const ssize_t sent = sendmsg(socket.fd, &header, MSG_NOSIGNAL);
    if (sent >= 0) return 0;
    if (errno != EINTR) return -errno;
  }
}

int sealed_file(const char* name, std::string_view content) {
  Descriptor file(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (file.fd < 0) return -errno;
  for (size_t at = 0; at < content.size();) {
    const ssize_t put = pwrite(file.fd, content.data() + at, content.size() - at, static_cast<off_t>(at));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return put < 0 ? -errno : -EIO;
    at += static_cast<size_t>(put);
  }
  if (fcntl(file.fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
    return -errno;
  return file.release();
}

uint64_t socket_cookie(int descriptor) {
  uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  return getsockopt(descriptor, SOL_SOCKET, SO_COOKIE, &cookie, &length) < 0 ? 0 : cookie;
}

}  // namespace cellblock::host
