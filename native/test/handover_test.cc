// Clients that a program hands over: whose connection it becomes, what it may have, and everything such a
// program can send that is wrong.
#include "plane/handover.h"

#include <sys/un.h>

#include <cstring>

#include "plane/listener.h"
#include "test/wire_client.h"

using namespace cellblock;
using namespace cellblock::nbd;
using namespace cellblock::test;
using C = CommandType;

namespace {

// A server that listens for programs.
struct Door {
  explicit Door(plane::WireOptions options = {}) : host(options) {
    char name[] = "/tmp/cellblock-handover-XXXXXX";
    directory = mkdtemp(name);
    path = directory + "/s";
    listener = std::make_unique<plane::Listener>(host.reactor(), plane::listen_on("unix:" + path, {}),
                                                 plane::Visitors::handovers);
  }
  ~Door() {
    listener.reset();
    rmdir(directory.c_str());
  }
  void turns() {
    for (int i = 0; i < 6; i++) host.turn();
  }

  Host host;
  std::string directory, path;
  std::unique_ptr<plane::Listener> listener;
};

int connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  return connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 ? fd : -1;
}

std::string message(std::string_view name) {
  return "CBSTDIO1" + be(static_cast<uint16_t>(name.size())) + std::string(name);
}

void put(int fd, std::string_view bytes) {
  TAP_EQ(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()), "sent");
}

std::string get(int fd) {
  std::string bytes(65536, '\0');
  const ssize_t got = recv(fd, bytes.data(), bytes.size(), MSG_DONTWAIT);
  bytes.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
  return bytes;
}

bool has_ended(int fd) {
  char byte;
  return recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

// Sends `bytes` with descriptors.
void put_with(int to, std::string_view bytes, const std::vector<int>& fds) {
  std::vector<char> control(CMSG_SPACE(sizeof(int) * fds.size()));
  iovec from{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr header{};
  header.msg_iov = &from;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  cmsghdr* one = CMSG_FIRSTHDR(&header);
  one->cmsg_level = SOL_SOCKET;
  one->cmsg_type = SCM_RIGHTS;
  one->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
  std::memcpy(CMSG_DATA(one), fds.data(), sizeof(int) * fds.size());
  TAP_EQ(sendmsg(to, &header, MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()), "sent");
}

struct Pair {
  Pair() {
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) std::abort();
  }
  ~Pair() { shut(); }
  void shut() {
    for (int& fd : ends) {
      if (fd >= 0) close(fd);
      fd = -1;
    }
  }
  int ends[2];
};

}  // namespace

TAP_TEST("a socket handed over becomes the client's, and the program's connection ends with it") {
  Door door;
  Pair pair;
  const int program = plane::hand_over(door.path, "disk", pair.ends[1]);
  TAP_NEED(program >= 0, "handed over");
  close(std::exchange(pair.ends[1], -1));
  door.turns();
  Reader greeting(get(pair.ends[0]));
  put(pair.ends[0],
      client_flags() + go("") + request(C::write, 1, 0, 5) + "hello" + request(C::read, 2, 0, 5));
  door.turns();
  const std::string got = get(pair.ends[0]);
  TAP_OK(got.size() > 5 && got.ends_with("hello"), "served, by the empty name");
  TAP_EQ(door.host.directory.last_peer.uid, static_cast<int64_t>(getuid()), "as the program's user");
  TAP_EQ(door.host.directory.last_peer.name, "stdio:uid=" + std::to_string(getuid()), "by name");
  TAP_EQ(door.host.wire.connections.load(), 1u, "one connection");
  TAP_OK(!has_ended(program), "the program's goes on");
  pair.shut();
  door.turns();
  TAP_OK(has_ended(program), "until the client's ends");
  TAP_EQ(door.host.directory.leases_open, 0u, "the lease is given back");
  close(program);
}

TAP_TEST(
    "without a socket the program's own connection is the client's, from the first byte behind the name") {
  Door door;
  const int fd = connect_to(door.path);
  put(fd, message("disk") + client_flags() + option(Option::list) + go("other") + go("disk"));
  door.turns();
  const std::string got = get(fd);
  const auto all = answers(got);
  TAP_NEED(all.size() == 5, "LIST, two answers; one refusal; GO, two answers");
  TAP_EQ(all[0].data, sized("disk") + "a disk", "lists the one");
  TAP_OK(all[2].type == OptionReply::err_unknown, "another one is not to be had");
  TAP_OK(all[4].type == OptionReply::ack, "its own is");
  close(fd);
}

TAP_TEST("in pieces of one byte it is the same") {
  Door door;
  Pair pair;
  const int program = connect_to(door.path);
  const std::string bytes = message("disk");
  put_with(program, bytes.substr(0, 1), {pair.ends[1]});
  for (size_t at = 1; at < bytes.size(); at++) {
    door.turns();
    put(program, bytes.substr(at, 1));
  }
  door.turns();
  std::string got = get(pair.ends[0]);
  TAP_EQ(got.size(), 18u, "greeted");
  close(program);
}

TAP_TEST("a client that is there already when the descriptor comes, and what it has sent, are taken") {
  Door door;
  Pair pair;
  put(pair.ends[0], client_flags() + option(Option::abort));
  const int program = plane::hand_over(door.path, "disk", pair.ends[1]);
  close(std::exchange(pair.ends[1], -1));
  door.turns();
  TAP_EQ(answers(get(pair.ends[0])).size(), 1u, "ABORT is acknowledged");
  TAP_OK(has_ended(program), "over");
  close(program);
}

TAP_TEST("whatever hands nothing over is closed and said in the log") {
  const std::vector<std::pair<std::string, const char*>> wrong = {
      {"GET / HTTP/1.1\r\n\r\n", "another protocol"},
      {"CBSTDIO2" + be<uint16_t>(4) + "disk", "another version"},
      {message(""), "no name"},
      {"CBSTDIO1" + be<uint16_t>(4097), "too long a name"},
  };
  for (const auto& [bytes, what] : wrong) {
    Door door;
    Pair pair;
    const int program = connect_to(door.path);
    put_with(program, bytes, {pair.ends[1]});
    close(std::exchange(pair.ends[1], -1));
    door.turns();
    const bool closed = has_ended(program) || errno == ECONNRESET;
    TAP_OK(closed, std::string(what) + ": closed");
    TAP_OK(has_ended(pair.ends[0]), std::string(what) + ": the descriptor too");
    TAP_EQ(door.host.log.size(), 1u, std::string(what) + ": said");
    TAP_EQ(door.host.wire.connections.load(), 0u, "no connection");
    close(program);
  }
}

TAP_TEST("a descriptor that is no connected stream socket is refused") {
  Door door;
  int pipes[2];
  TAP_NEED(pipe(pipes) == 0, "pipe");
  const int unconnected = socket(AF_UNIX, SOCK_STREAM, 0);
  int datagrams[2];
  TAP_NEED(socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams) == 0, "datagrams");
  for (int fd : {pipes[0], unconnected, datagrams[0]}) {
    const int program = plane::hand_over(door.path, "disk", fd);
    door.turns();
    TAP_OK(has_ended(program), "closed");
    close(program);
  }
  for (int fd : {pipes[0], pipes[1], unconnected, datagrams[0], datagrams[1]}) close(fd);
  TAP_EQ(door.host.log.size(), 3u, "each is said");
}

TAP_TEST("more descriptors than one: one is kept, the others are closed") {
  Door door;
  Pair first, second, third;
  const int program = connect_to(door.path);
  const std::string bytes = message("disk");
  put_with(program, bytes.substr(0, 4), {first.ends[1], second.ends[1]});
  door.turns();
  put_with(program, bytes.substr(4), {third.ends[1]});
  for (Pair* pair : {&first, &second, &third}) close(std::exchange(pair->ends[1], -1));
  door.turns();
  const int served = (get(first.ends[0]).size() == 18) + (get(second.ends[0]).size() == 18) +
                     (get(third.ends[0]).size() == 18);
  const int ended = has_ended(first.ends[0]) + has_ended(second.ends[0]) + has_ended(third.ends[0]);
  TAP_EQ(served, 1, "one is served");
  TAP_EQ(ended, 2, "nobody holds the others");
  close(program);
}

TAP_TEST("who never says what it wants is dropped in time, and at the stop") {
  plane::WireOptions options;
  options.handshake_timeout_ms = 1;
  Door door(options);
  const int slow = connect_to(door.path);
  put(slow, "CBST");
  door.turns();
  for (int i = 0; i < 1000 && door.host.log.empty(); i++) door.host.all[0]->loop().run_once(10);
  door.turns();
  TAP_OK(has_ended(slow), "dropped");
  TAP_EQ(door.host.log.size(), 1u, "said");
  close(slow);

  Door stopping;
  const int waiting = connect_to(stopping.path);
  put(waiting, "CBST");
  stopping.turns();
  size_t abandoned = 1;
  stopping.host.reactor().stop_serving(1'000'000, [&](size_t n) { abandoned = n; });
  stopping.turns();
  TAP_EQ(abandoned, 0u, "the stop does not wait for it");
  TAP_OK(has_ended(waiting), "closed");
  close(waiting);
}

TAP_TEST("a limit of connections is told to the client, through the socket handed over") {
  plane::WireOptions options;
  options.max_connections = 0;
  Door door(options);
  Pair pair;
  const int program = plane::hand_over(door.path, "disk", pair.ends[1]);
  close(std::exchange(pair.ends[1], -1));
  put(pair.ends[0], client_flags() + go("disk"));
  door.turns();
  const auto all = answers(get(pair.ends[0]));
  TAP_OK(all.size() == 1 && all[0].type == OptionReply::err_policy, "ERR_POLICY");
  close(program);
}

TAP_TEST("for the program: what cannot be handed over says why") {
  Door door;
  TAP_EQ(plane::hand_over(door.path, "", -1), -EINVAL, "no name");
  TAP_EQ(plane::hand_over(door.path, std::string(4097, 'n'), -1), -EINVAL, "too long a name");
  TAP_EQ(plane::hand_over(door.path + "x", "disk", -1), -ENOENT, "nobody is there");
  TAP_EQ(plane::hand_over(std::string(200, 'p'), "disk", -1), -ENAMETOOLONG, "too long a path");
  TAP_EQ(plane::hand_over(door.path, "disk", 9999), -EBADF, "no descriptor");
}

int main() { return cellblock::test::run(); }
