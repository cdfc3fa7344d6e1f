// A connected stream socket of a client. The one place
// where its bytes are received and sent: TLS will stand here.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <string>

namespace cellblock::plane {

class Channel {
 public:
  Channel() = default;
  explicit Channel(int fd) : fd_(fd) {}
  Channel(Channel&& other) noexcept : fd_(other.release()) {}
  Channel& operator=(Channel&& other) noexcept;
  ~Channel() { close(); }

  // Bytes, 0 at the end of the stream, or -errno (-EAGAIN: none now).
  ssize_t receive(const iovec* to, int count);
  ssize_t send(const iovec* from, int count);

  void shut_sending();
  void close();
  int release();
  int fd() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// Non-blocking, no delay, keep-alive: as far as the socket knows these.
void prepare_socket(int fd);

// "unix:uid=0", "tcp:127.0.0.1:1234", "tcp:[::1]:1234" or "unknown".
std::string peer_of(int fd);

}  // namespace cellblock::plane
