#include "plane/channel.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace cellblock::plane {

Channel& Channel::operator=(Channel&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = other.release();
    session_ = std::move(other.session_);
  }
  return *this;
}

void Channel::start_tls(std::shared_ptr<const tls::Context> context) {
  session_ = std::make_unique<tls::Session>(std::move(context), fd_);
}

ssize_t Channel::receive(const iovec* to, int count) {
  if (session_) return session_->receive(to, count);
  ssize_t bytes;
  do {
    bytes = readv(fd_, to, count);
  } while (bytes < 0 && errno == EINTR);
  return bytes < 0 ? -errno : bytes;
}

ssize_t Channel::send(const iovec* from, int count) {
  if (session_) return session_->send(from, count);
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(from);
  message.msg_iovlen = static_cast<size_t>(count);
  ssize_t bytes;
  do {
    bytes = sendmsg(fd_, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (bytes < 0 && errno == EINTR);
  return bytes < 0 ? -errno : bytes;
}

void Channel::shut_sending() {
  if (session_) session_->shut_sending();
  shutdown(fd_, SHUT_WR);
}

void Channel::close() {
  if (fd_ < 0) return;
  if (session_) session_->shut_sending();
  session_.reset();
  ::close(fd_);
  fd_ = -1;
}

int Channel::release() { return std::exchange(fd_, -1); }

void prepare_socket(int fd) {
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

namespace {

Peer named(std::string name, int64_t uid = -1) {
  Peer peer;
  peer.name = std::move(name);
  peer.uid = uid;
  return peer;
}

Peer unix_peer(int fd) {
  ucred who{};
  socklen_t bytes = sizeof who;
  // The kernel says -1 of a process in another user namespace that has no uid here.
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &bytes) < 0 || who.uid == static_cast<uid_t>(-1))
    return named("unix:unknown");
  return named("unix:uid=" + std::to_string(who.uid), who.uid);
}

}  // namespace

Peer peer_of(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &length) < 0) return named("unknown");
  if (address.ss_family == AF_UNIX) return unix_peer(fd);
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  if (getnameinfo(reinterpret_cast<sockaddr*>(&address), length, host, sizeof host, port, sizeof port,
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return named("unknown");
  }
  const std::string name = address.ss_family == AF_INET6 ? "[" + std::string(host) + "]" : host;
  return named("tcp:" + name + ":" + port);
}

}  // namespace cellblock::plane
