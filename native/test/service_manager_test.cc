// The service manager's side is a datagram socket of the test's own.
#include "host/service_manager.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "test/tap.h"
#include "test/temporary_directory.h"

namespace cellblock::host {
namespace {

// What came in one datagram.
struct Heard {
  std::string message;
  std::vector<int> descriptors;
  ~Heard() {
    for (int fd : descriptors) close(fd);
  }
};

class Manager {
 public:
  explicit Manager(const std::string& address) : fd_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un at{};
    at.sun_family = AF_UNIX;
    std::memcpy(at.sun_path, address.data(), address.size());
    if (at.sun_path[0] == '@') at.sun_path[0] = '\0';
    const size_t length = offsetof(sockaddr_un, sun_path) + address.size() + (address[0] == '@' ? 0 : 1);
    TAP_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&at), static_cast<socklen_t>(length)), 0, "bound");
  }
  ~Manager() { close(fd_); }

  void hear(Heard& heard) {
    char text[4096];
    std::vector<std::byte> control(CMSG_SPACE(kDescriptorsAtOnce * sizeof(int)));
    iovec to{text, sizeof text};
    msghdr header{};
    header.msg_iov = &to;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    const ssize_t got = recvmsg(fd_, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got < 0) return;
    heard.message.assign(text, static_cast<size_t>(got));
    const cmsghdr* one = CMSG_FIRSTHDR(&header);
    if (!one) return;
    heard.descriptors.resize((one->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    std::memcpy(heard.descriptors.data(), CMSG_DATA(one), heard.descriptors.size() * sizeof(int));
  }

 private:
  int fd_;
};

TAP_TEST("a message comes as it was sent, at a path") {
  test::TemporaryDirectory directory;
  Manager manager(directory.file("notify"));
  TAP_EQ(notify(directory.file("notify"), "READY=1\nSTATUS=Serving", {}), 0, "sent");
  Heard heard;
  manager.hear(heard);
  TAP_EQ(heard.message, std::string("READY=1\nSTATUS=Serving"), "heard");
  TAP_EQ(heard.descriptors.size(), size_t{0}, "no descriptors");
}

TAP_TEST("and at an abstract name") {
  const std::string name = "@cellblock-test-" + std::to_string(getpid());
  Manager manager(name);
  TAP_EQ(notify(name, "WATCHDOG=1", {}), 0, "sent");
  Heard heard;
  manager.hear(heard);
  TAP_EQ(heard.message, std::string("WATCHDOG=1"), "heard");
}

TAP_TEST("descriptors come with it, as many as the kernel lets pass at once; here they stay open") {
  test::TemporaryDirectory directory;
  Manager manager(directory.file("notify"));
  int pair[2];
  TAP_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0, "a pair");
  const std::vector<int> many(kDescriptorsAtOnce, pair[0]);
  TAP_EQ(notify(directory.file("notify"), "FDSTORE=1", many), 0, "sent");
  Heard heard;
  manager.hear(heard);
  TAP_EQ(heard.descriptors.size(), kDescriptorsAtOnce, "all of them");
  TAP_EQ(socket_cookie(heard.descriptors.back()), socket_cookie(pair[0]), "the same socket");
  TAP_EQ(send(pair[0], "x", 1, MSG_NOSIGNAL), ssize_t{1}, "the own one is open");
  TAP_EQ(notify(directory.file("notify"), "FDSTORE=1", std::vector<int>(kDescriptorsAtOnce + 1, pair[0])),
         -EINVAL, "one more is refused before the kernel would");
  close(pair[0]);
  close(pair[1]);
}

TAP_TEST("a socket has another cookie than every other one, and what is no socket has none") {
  int pair[2];
  TAP_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0, "a pair");
  TAP_OK(socket_cookie(pair[0]) != 0, "one");
  TAP_OK(socket_cookie(pair[0]) != socket_cookie(pair[1]), "another");
  const int copy = dup(pair[0]);
  TAP_EQ(socket_cookie(copy), socket_cookie(pair[0]), "a copy of the descriptor is the same socket");
  for (int fd : {copy, pair[0], pair[1]}) close(fd);
  const int file = sealed_file("x", "x");
  TAP_EQ(socket_cookie(file), uint64_t{0}, "a file");
  close(file);
  TAP_EQ(socket_cookie(-1), uint64_t{0}, "nothing");
}

TAP_TEST("a manager that is not there, and what is no address, are errors") {
  test::TemporaryDirectory directory;
  TAP_EQ(notify(directory.file("nobody"), "READY=1", {}), -ENOENT, "nobody");
  for (const std::string& wrong : {std::string(), std::string("/"), std::string("relative/path"),
                                   std::string("vsock:1:2"), "/" + std::string(200, 'x')})
    TAP_EQ(notify(wrong, "READY=1", {}), -EINVAL, wrong.c_str());
  TAP_EQ(notify(directory.file("nobody"), "", {}), -EINVAL, "an empty message");
}

TAP_TEST("a sealed file holds what it was given, and nobody changes it") {
  const std::string content(100'000, 'y');
  const int fd = sealed_file("state", content);
  TAP_OK(fd >= 0, "made");
  std::string read(content.size() + 1, '\0');
  TAP_EQ(pread(fd, read.data(), read.size(), 0), static_cast<ssize_t>(content.size()), "its length");
  read.resize(content.size());
  TAP_OK(read == content, "its content");
  TAP_EQ(pwrite(fd, "z", 1, 0), ssize_t{-1}, "a write is refused");
  TAP_EQ(ftruncate(fd, 0), -1, "so is a cut");
  close(fd);
}

}  // namespace
}  // namespace cellblock::host

int main() { return cellblock::test::run(); }
