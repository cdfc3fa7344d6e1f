// A server on a loop that the test drives itself, and clients on socket pairs: nothing happens but in pump(),
// so every outcome is the same in each run.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "plane/connection.h"
#include "plane/reactor.h"
#include "test/fake_device.h"
#include "test/tap.h"
#include "test/tls_peer.h"
#include "test/wire_bytes.h"

namespace cellblock::test {

// How long things take here decides nothing: nobody has to wait at the door for it.
inline plane::WireOptions unhurried(plane::WireOptions options) {
  options.lobby_burst_ns = uint64_t{1} << 60;
  return options;
}

struct Host {
  explicit Host(plane::WireOptions options = {}, unsigned reactors = 1, uint64_t disk_bytes = 4 << 20)
      : disk(disk_bytes),
        wire(unhurried(options), directory,
             [this](plane::LogLevel, const std::string& message, auto) { log.push_back(message); }) {
    for (unsigned i = 0; i < reactors; i++) {
      all.push_back(std::make_unique<plane::Reactor>(i, wire, nullptr));
      wire.reactors.push_back(all.back().get());
    }
    directory.table["disk"] = {&disk, "a disk", false, {"mon", "tue"}, 0};
  }

  plane::Reactor& reactor() { return *all[0]; }

  size_t turn() {
    size_t events = 0;
    for (auto& one : all) events += one->loop().run_once(0);
    return events;
  }

  std::vector<std::string> log;
  FakeDevice disk;
  TableDirectory directory;
  plane::Wire wire;
  std::vector<std::unique_ptr<plane::Reactor>> all;
};

class Client {
 public:
  // `room`: what the server's socket holds of what it sends, as the system counts it; 0: as usual.
  explicit Client(Host& host, size_t room = 0) : host_(&host) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0) std::abort();
    const int bytes = static_cast<int>(room);
    if (room > 0) setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    fd_ = ends[0];
    host.reactor().adopt(ends[1]);
  }
  ~Client() { close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // STARTTLS, and what is sent and received from then on is in TLS. False: it did not come about.
  bool begin_tls(const TlsPeerOptions& options) {
    talk(client_flags() + option(nbd::Option::starttls));
    const auto all = answers(got);
    if (all.empty() || all.back().type != nbd::OptionReply::ack) return false;
    got.clear();
    tls_ = std::make_unique<TlsPeer>(options);
    talk("");
    in_tls_ = tls_->established();
    return in_tls_ && !ended;
  }
  TlsPeer& tls() { return *tls_; }

  // Sends everything, running the loop while the socket is full.
  void send(std::string_view bytes) {
    if (!tls_) return send_raw(bytes);
    tls_->write(bytes);
    send_raw(tls_->output());
  }

  void send_raw(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n > 0) {
        bytes.remove_prefix(static_cast<size_t>(n));
      } else if (errno != EAGAIN || host_->turn() + take() == 0) {
        if (errno != EAGAIN) return;
      }
    }
  }

  // Sends what the socket takes now; returns how much.
  size_t send_some(std::string_view bytes) {
    if (bytes.empty() || fd_ < 0) return 0;
    return static_cast<size_t>(std::max<ssize_t>(::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL), 0));
  }

  // The socket holds as much as the system lets it.
  void enlarge() {
    const int bytes = 8 << 20;
    if (setsockopt(fd_, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) < 0)
      setsockopt(fd_, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  }

  // Runs the loop until nothing happens any more.
  void pump() {
    for (int idle = 0; idle < 4;) {
      const size_t happened = host_->turn() + (reads ? take() : 0);
      idle = happened ? 0 : idle + 1;
    }
  }

  void talk(std::string_view bytes) {
    send(bytes);
    pump();
  }

  // Through the handshake into transmission; what it answered is dropped.
  void enter(bool structured = true, const std::vector<std::string>& contexts = {},
             std::string_view name = "disk") {
    enter(structured ? option(nbd::Option::structured_reply) : std::string(), contexts, name);
  }
  void enter_extended(const std::vector<std::string>& contexts = {}, std::string_view name = "disk") {
    enter(option(nbd::Option::extended_headers), contexts, name);
  }
  void enter(const std::string& options, const std::vector<std::string>& contexts, std::string_view name) {
    std::string bytes = (in_tls_ ? std::string() : client_flags()) + options;
    if (!contexts.empty()) bytes += meta(nbd::Option::set_meta_context, name, contexts);
    talk(bytes + go(name));
    const auto all = answers(got, !in_tls_);
    TAP_OK(!all.empty() && all.back().type == nbd::OptionReply::ack, "in transmission");
    got.clear();
  }

  std::vector<Reply> replies(uint32_t data_bytes = 0) {
    return replies([=](uint64_t) { return data_bytes; });
  }
  template <typename DataBytes>
  std::vector<Reply> replies(DataBytes data_bytes) requires std::is_invocable_v<DataBytes, uint64_t> {
    std::vector<Reply> all;
    Reader reader(got);
    for (Reply reply; next_reply(reader, reply, data_bytes);) all.push_back(reply);
    TAP_OK(reader.left() == 0 && !reader.was_short(), "whole replies only");
    got.clear();
    return all;
  }

  // The one reply to one request.
  Reply ask(std::string_view bytes, uint32_t data_bytes = 0) {
    talk(bytes);
    const auto all = replies(data_bytes);
    TAP_EQ(all.size(), 1u, "one reply");
    return all.empty() ? Reply{} : all[0];
  }

  size_t take() {
    char buffer[65536];
    size_t total = 0;
    while (fd_ >= 0) {
      const ssize_t n = recv(fd_, buffer, sizeof buffer, 0);
      if (n > 0) {
        total += static_cast<size_t>(n);
        keep({buffer, static_cast<size_t>(n)});
        continue;
      }
      if ((n == 0 || errno != EAGAIN) && !ended) {
        ended = true;
        total++;
      }
      break;
    }
    return total;
  }

  // What serves it from now on.
  void meet(Host& host) { host_ = &host; }
  void half_close() { shutdown(fd_, SHUT_WR); }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

  std::string got;     // received
  bool ended = false;  // the server closed
  bool reads = true;   // false: does not receive in pump()

 private:
  void keep(std::string_view bytes) {
    if (!tls_) {
      got += bytes;
      return;
    }
    tls_->feed(bytes);
    got += tls_->take_plain();
    if (const std::string answer = tls_->output(); !answer.empty()) send_raw(answer);
  }

  Host* host_;
  int fd_ = -1;
  std::unique_ptr<TlsPeer> tls_;
  bool in_tls_ = false;
};

inline std::string pattern(size_t bytes, uint64_t from) {
  Random random(from);
  std::string text(bytes, '\0');
  for (char& c : text) c = static_cast<char>(random.next());
  return text;
}

inline std::string on_disk(FakeDevice& disk, uint64_t offset, size_t bytes) {
  return std::string(reinterpret_cast<const char*>(disk.bytes().data()) + offset, bytes);
}

}  // namespace cellblock::test
