#include "plane/handover.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/bytes.h"
#include "nbd/constants.h"
#include "plane/reactor.h"

namespace cellblock::plane {
namespace {

int option_of(int fd, int option) {
  int value = -1;
  socklen_t length = sizeof value;
  return getsockopt(fd, SOL_SOCKET, option, &value, &length) < 0 ? -1 : value;
}

bool is_connected_stream(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  return option_of(fd, SO_TYPE) == SOCK_STREAM && option_of(fd, SO_ACCEPTCONN) == 0 &&
         getpeername(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0;
}

// Room for one descriptor: the kernel closes those that do not fit.
union ControlRoom {
  cmsghdr align;
  char bytes[CMSG_SPACE(sizeof(int))];
};

}  // namespace

Handover::Handover(Reactor& reactor, int fd)
    : reactor_(reactor),
      channel_(fd),
      peer_(peer_of(fd)),
      deadline_([this] { refuse("it did not say in time which export is wanted"); }) {
  if (peer_.name.starts_with("unix:")) peer_.name = "stdio:" + peer_.name.substr(5);
}

Handover::~Handover() {
  if (client_ >= 0) ::close(client_);
}

void Handover::start() {
  prepare_socket(channel_.fd());
  deadline_.arm(reactor_.loop_, reactor_.wire_.options.handshake_timeout_ms);
  if (reactor_.loop_.watch(channel_.fd(), EPOLLIN, this) < 0) return close();
  watched_ = true;
}

void Handover::ready(uint32_t) {
  if (!channel_.is_open()) return;
  while (message_.size() < wanted()) {
    if (!receive()) return;
  }
  admit();
}

size_t Handover::wanted() const {
  if (message_.size() < kHandoverHeaderBytes) return kHandoverHeaderBytes;
  return kHandoverHeaderBytes + load_be<uint16_t>(message_.data() + 8);
}

bool Handover::receive() {
  std::array<char, nbd::kMaxNameBytes> room;
  iovec to{room.data(), std::min(wanted() - message_.size(), room.size())};
  ControlRoom control{};
  msghdr header{};
  header.msg_iov = &to;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes;
  header.msg_controllen = sizeof control.bytes;
  const ssize_t got = recvmsg(channel_.fd(), &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  for (cmsghdr* one = got < 0 ? nullptr : CMSG_FIRSTHDR(&header); one; one = CMSG_NXTHDR(&header, one)) {
    if (one->cmsg_level != SOL_SOCKET || one->cmsg_type != SCM_RIGHTS) continue;
    // Padding may have room for more than was meant.
    const size_t count = (one->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(one) + i * sizeof fd, sizeof fd);
      keep_descriptor(fd);
    }
  }
  if (got <= 0) {
    close();
    return false;
  }
  message_.append(room.data(), static_cast<size_t>(got));
  const size_t magic = std::min<size_t>(message_.size(), 8);
  if (message_.compare(0, magic, kHandoverMagic, magic) == 0 &&
      wanted() <= kHandoverHeaderBytes + nbd::kMaxNameBytes)
    return true;
  refuse("what it sent hands nothing over");
  return false;
}

void Handover::keep_descriptor(int fd) {
  if (client_ >= 0) ::close(client_);
  client_ = fd;
}

void Handover::refuse(const std::string& why) {
  reactor_.log(LogLevel::warn, "a handed-over client was refused: " + why, peer_);
  close();
}

void Handover::admit() {
  Arrival arrival;
  arrival.peer = peer_;
  arrival.only = message_.substr(kHandoverHeaderBytes);
  if (arrival.only.empty()) return refuse("it names no export");
  if (client_ >= 0 && !is_connected_stream(client_))
    return refuse("its descriptor is no connected stream socket");
  reactor_.loop_.unwatch(channel_.fd(), this);
  watched_ = false;
  const int own = channel_.release();
  if (client_ >= 0) arrival.companion = std::make_shared<Companion>(own);
  arrival.fd = client_ >= 0 ? std::exchange(client_, -1) : own;
  deadline_.disarm();
  Reactor& reactor = reactor_;
  reactor.end_handover(this);
  reactor.adopt(std::move(arrival));
}

void Handover::close() {
  if (!channel_.is_open()) return;
  if (watched_) reactor_.loop_.unwatch(channel_.fd(), this);
  watched_ = false;
  deadline_.disarm();
  channel_.close();
  reactor_.end_handover(this);
}

int hand_over(const std::string& path, const std::string& name, int fd) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) return -ENAMETOOLONG;
  if (name.empty() || name.size() > nbd::kMaxNameBytes) return -EINVAL;
  std::memcpy(address.sun_path, path.data(), path.size());
  Channel channel(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!channel.is_open()) return -errno;
  if (connect(channel.fd(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) return -errno;

  std::string message(kHandoverMagic, 8);
  char length[2];
  store_be<uint16_t>(length, static_cast<uint16_t>(name.size()));
  message.append(length, sizeof length);
  message += name;
  iovec from{message.data(), message.size()};
  ControlRoom control{};
  msghdr header{};
  header.msg_iov = &from;
  header.msg_iovlen = 1;
  if (fd >= 0) {
    header.msg_control = control.bytes;
    header.msg_controllen = sizeof control.bytes;
    cmsghdr* one = CMSG_FIRSTHDR(&header);
    one->cmsg_level = SOL_SOCKET;
    one->cmsg_type = SCM_RIGHTS;
    one->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(one), &fd, sizeof fd);
  }
  // A few hundred bytes at the beginning of a connection: the kernel takes them all.
  const ssize_t sent = sendmsg(channel.fd(), &header, MSG_NOSIGNAL);
  if (sent < 0) return -errno;
  if (static_cast<size_t>(sent) != message.size()) return -EIO;
  return channel.release();
}

}  // namespace cellblock::plane
