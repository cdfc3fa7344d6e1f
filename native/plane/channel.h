// A connected stream socket of a client. The one place where its bytes are received and sent, in clear or,
// after start_tls() and the handshake, in TLS.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <memory>

#include "plane/peer.h"
#include "tls/session.h"

namespace cellblock::plane {

class Channel {
 public:
  Channel() = default;
  explicit Channel(int fd, std::unique_ptr<tls::Session> session = nullptr)
      : fd_(fd), session_(std::move(session)) {}
  Channel(Channel&& other) noexcept : fd_(other.release()), session_(std::move(other.session_)) {}
  Channel& operator=(Channel&& other) noexcept;
  ~Channel() { close(); }

  // From here on nothing is sent or received in clear; before the handshake is done, nothing at all.
  void start_tls(std::shared_ptr<const tls::Context> context);
  tls::Progress shake_hands() { return session_->shake_hands(); }

  // Bytes, 0 at the end of the stream, or -errno (-EAGAIN: none now).
  ssize_t receive(const iovec* to, int count);
  // Bytes taken over, or -errno. In TLS some of them may still be unsent() here.
  ssize_t send(const iovec* from, int count);
  // 0 when nothing is unsent any more, or -errno.
  int flush() { return session_ ? session_->flush() : 0; }
  size_t unsent() const { return session_ ? session_->unsent() : 0; }
  // The next receive() has something to say though epoll may not tell.
  bool has_input() const { return session_ && session_->has_input(); }

  void shut_sending();
  // In TLS says farewell, if the socket takes it at once.
  void close();
  // The socket without what TLS knows of it, which is take_session().
  int release();
  std::unique_ptr<tls::Session> take_session() { return std::move(session_); }
  int fd() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  const tls::Session* session() const { return session_.get(); }  // null: in clear

 private:
  int fd_ = -1;
  std::unique_ptr<tls::Session> session_;
};

// Non-blocking, no delay, keep-alive: as far as the socket knows these.
void prepare_socket(int fd);

// What the kernel knows of the other end.
Peer peer_of(int fd);

}  // namespace cellblock::plane
