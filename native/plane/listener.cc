#include "plane/listener.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "plane/channel.h"
#include "plane/reactor.h"

namespace cellblock::plane {
namespace {

constexpr int kBacklog = 1024;
constexpr int kAcceptsInTurn = 16;
constexpr uint64_t kPauseMs = 100;  // when descriptors have run out

Bound refused(int error, std::string sentence) {
  Bound bound;
  bound.error = error;
  bound.sentence = std::move(sentence);
  return bound;
}

Bound failed(const std::string& what, int error) {
  return refused(error, what + ": " + std::strerror(error));
}

// 0: somebody answers (or may); ECONNREFUSED: nobody.
int probe(const sockaddr_un& address) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return errno;
  const int error = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0 ? errno : 0;
  close(fd);
  return error == EAGAIN ? 0 : error;
}

// Makes way for a new socket file where the old one is stale. 0 or an errno value.
int remove_stale(const std::string& path, const sockaddr_un& address) {
  struct stat there;
  if (lstat(path.c_str(), &there) < 0) return errno == ENOENT ? 0 : errno;
  if (!S_ISSOCK(there.st_mode)) return EEXIST;
  const int answer = probe(address);
  if (answer == 0) return EADDRINUSE;
  if (answer != ECONNREFUSED) return answer;
  return unlink(path.c_str()) < 0 && errno != ENOENT ? errno : 0;
}

Bound listen_unix(const std::string& path, const ListenOptions& options) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return refused(EINVAL, "the path of a unix socket has 1 to 107 bytes: '" + path + "'");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const int stale = remove_stale(path, address);
  if (stale == EADDRINUSE)
    return refused(stale, "somebody answers on " + path + ": stop that server or choose another path");
  if (stale == EEXIST) return refused(stale, path + " exists and is no socket: choose another path");
  if (stale != 0) return failed("cannot use " + path, stale);

  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return failed("cannot make a socket", errno);
  // The mode of the socket is the one its file is made with, so nobody gets in between bind and chmod.
  fchmod(fd, options.mode);
  struct stat made {};
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0 ||
      chmod(path.c_str(), options.mode) < 0 || stat(path.c_str(), &made) < 0 || listen(fd, kBacklog) < 0) {
    const int error = errno;
    close(fd);
    return failed("cannot listen on " + path, error);
  }
  Bound bound;
  bound.address = "unix:" + path;
  bound.fd = fd;
  bound.path = path;
  bound.device = made.st_dev;
  bound.inode = made.st_ino;
  return bound;
}

bool is_loopback(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    return (ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr) >> 24) == 127;
  }
  if (address->sa_family != AF_INET6) return false;
  const in6_addr& six = reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
  return IN6_IS_ADDR_LOOPBACK(&six) || (IN6_IS_ADDR_V4MAPPED(&six) && six.s6_addr[12] == 127);
}

std::string name_of(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) < 0) return "unknown";
  if (address.ss_family == AF_UNIX) {
    const auto* un = reinterpret_cast<const sockaddr_un*>(&address);
    const size_t bytes =
        length > offsetof(sockaddr_un, sun_path) ? length - offsetof(sockaddr_un, sun_path) : 0;
    return "unix:" + std::string(un->sun_path, strnlen(un->sun_path, bytes));
  }
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  if (getnameinfo(reinterpret_cast<sockaddr*>(&address), length, host, sizeof host, port, sizeof port,
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "unknown";
  }
  return address.ss_family == AF_INET6 ? "tcp:[" + std::string(host) + "]:" + port
                                       : "tcp:" + std::string(host) + ":" + port;
}

Bound bind_tcp(const addrinfo& to) {
  const int fd = socket(to.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return failed("cannot make a socket", errno);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, to.ai_addr, to.ai_addrlen) < 0 || listen(fd, kBacklog) < 0) {
    const int error = errno;
    close(fd);
    return failed("cannot listen", error);
  }
  Bound bound;
  bound.fd = fd;
  bound.address = name_of(fd);
  return bound;
}

std::string remote_refusal(const std::string& address) {
  return address +
         " is reachable from other machines, and nothing is encrypted there: require TLS of every " +
         "client, or allow it without TLS in so many words";
}

Bound listen_tcp(const std::string& place, const ListenOptions& options) {
  const size_t colon = place.rfind(':');
  if (colon == std::string::npos || colon + 1 == place.size()) {
    return refused(EINVAL, "a TCP address is tcp:HOST:PORT, not 'tcp:" + place + "'");
  }
  std::string host = place.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  const std::string port = place.substr(colon + 1);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const char* node = host.empty() || host == "*" ? nullptr : host.c_str();
  const int error = getaddrinfo(node, port.c_str(), &hints, &found);
  if (error != 0) return refused(EINVAL, "cannot use 'tcp:" + place + "': " + gai_strerror(error));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(found, freeaddrinfo);
  Bound last = refused(EADDRNOTAVAIL, "cannot use 'tcp:" + place + "'");
  for (const addrinfo* one = found; one; one = one->ai_next) {
    if (!options.allow_remote && !is_loopback(one->ai_addr)) {
      return refused(EACCES, remote_refusal("tcp:" + place));
    }
    last = bind_tcp(*one);
    if (last.error == 0) return last;
    last.sentence = "tcp:" + place + ": " + last.sentence;
  }
  return last;
}

}  // namespace

Bound listen_on(const std::string& address, const ListenOptions& options) {
  if (address.starts_with("unix:")) return listen_unix(address.substr(5), options);
  if (address.starts_with("tcp:")) return listen_tcp(address.substr(4), options);
  return refused(EINVAL, "an address is unix:PATH or tcp:HOST:PORT, not '" + address + "'");
}

Bound adopt_listening(int fd, const ListenOptions& options) {
  const std::string what = "descriptor " + std::to_string(fd);
  int accepting = 0;
  int type = 0;
  socklen_t length = sizeof accepting;
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0) {
    return refused(errno == EBADF ? EBADF : ENOTSOCK,
                   what + (errno == EBADF ? " is not open" : " is no socket"));
  }
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &length) < 0 || !accepting ||
      type != SOCK_STREAM) {
    return refused(EINVAL, what + " is no listening stream socket");
  }
  sockaddr_storage address{};
  length = sizeof address;
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  const sa_family_t family = address.ss_family;
  if (family != AF_UNIX && family != AF_INET && family != AF_INET6) {
    return refused(EAFNOSUPPORT, what + " is neither a unix nor a TCP socket");
  }
  if (family != AF_UNIX && !options.allow_remote && !is_loopback(reinterpret_cast<sockaddr*>(&address))) {
    return refused(EACCES, remote_refusal(name_of(fd)));
  }
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  prepare_socket(fd);
  Bound bound;
  bound.fd = fd;
  bound.address = name_of(fd);
  return bound;
}

Listener::Listener(Reactor& reactor, Bound bound, Visitors visitors)
    : reactor_(reactor),
      bound_(std::move(bound)),
      visitors_(visitors),
      resume_([this] { reactor_.lobby().rewatch(bound_.fd, EPOLLIN, this); }) {
  reactor_.lobby().watch(bound_.fd, EPOLLIN, this);
}

Listener::~Listener() {
  reactor_.lobby().unwatch(bound_.fd, this);
  close(bound_.fd);
  struct stat there;
  if (!bound_.path.empty() && lstat(bound_.path.c_str(), &there) == 0 && there.st_ino == bound_.inode &&
      there.st_dev == bound_.device) {
    unlink(bound_.path.c_str());
  }
}

void Listener::ready(uint32_t) {
  for (int i = 0; i < kAcceptsInTurn; i++) {
    const int fd = accept4(bound_.fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      if (visitors_ == Visitors::clients) {
        reactor_.adopt(fd);
      } else {
        reactor_.receive_handover(fd);
      }
      continue;
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) pause();
    if (errno == ECONNABORTED || errno == EINTR) continue;
    return;
  }
}

// Descriptors have run out: the ones that wait are taken when some are free again.
void Listener::pause() {
  const int error = errno;
  const Wire& wire = reactor_.wire();
  if (wire.log) {
    wire.log(LogLevel::error, "connections wait: " + std::string(std::strerror(error)),
             {{"address", bound_.address}});
  }
  reactor_.lobby().rewatch(bound_.fd, 0, this);
  resume_.arm(reactor_.loop(), kPauseMs);
  errno = error;
}

}  // namespace cellblock::plane
