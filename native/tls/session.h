// The server's side of one TLS connection over a non-blocking socket, which is the caller's.
//
// Plaintext that is handed to send() is encrypted at once, records filled to the brim, and many of them go to
// the socket in one call. What the socket does not take is kept here, so a record once made is never made
// again: no call has to be repeated with the same bytes. Nothing is encrypted while something is kept, so
// that is at most one batch; whatever the client does to make us answer (key updates, alerts) is bounded by
// kMaxAnswers.
//
// Plaintext may lie here without anything in the socket: epoll does not tell of it, has_input() does.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tls/context.h"
#include "tls/openssl.h"

namespace cellblock::tls {

enum class Progress : uint8_t { again, done, failed };

class Session {
 public:
  static constexpr size_t kBatchBytes = 128 << 10;  // of plaintext, encrypted and sent together
  static constexpr size_t kMaxAnswers = 64 << 10;

  Session(std::shared_ptr<const Context> context, int fd);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Goes on with the handshake as far as what has come allows. Failed: error() says why, an alert is on its
  // way.
  Progress shake_hands();

  // As the socket's own: bytes, 0 at the end of the stream, or -errno (-EAGAIN: none now; -EPROTO: what came
  // breaks TLS, see error()).
  ssize_t receive(const iovec* to, int count);
  // Bytes taken over, or -errno (-EAGAIN: none; flush() first).
  ssize_t send(const iovec* from, int count);
  // Hands the socket what is kept. 0, -EAGAIN, or -errno.
  int flush();
  // Ciphertext kept.
  size_t unsent() const { return kept_.size() - kept_at_; }
  // The next receive() has something to say whatever the socket says.
  bool has_input() const { return has_input_; }
  // No more will be sent: says so to the client. What the socket does not take of that is lost.
  void shut_sending();

  const std::string& error() const { return error_; }
  // After the handshake. "x509:NAME", "psk:NAME", or empty.
  const std::string& identity() const { return identity_; }
  // "cellblock://cell/CELL/host/HOST", when those who name hosts say that the client is one; or empty.
  const std::string& host() const { return host_; }
  const std::string& subject() const { return subject_; }  // of the client's certificate, in full
  std::string parameters() const;                          // "TLSv1.3 TLS_AES_128_GCM_SHA256"

  // For the context: the callback that finds pre-shared keys.
  static unsigned find_key(SSL* connection, const char* name, unsigned char* key, unsigned room);

 private:
  struct Transport;  // OpenSSL's view of the socket

  std::string handshake_error(int kind) const;
  void know_client();
  bool read_record(std::byte* to, size_t room, size_t& got);
  bool write_record(const void* from, size_t bytes, size_t& taken);
  void renew_keys();
  ssize_t fail(const char* what);

  const std::shared_ptr<const Context> context_;
  const int fd_;
  OwnedConnection connection_;
  std::string error_;
  std::string identity_;
  std::string host_;
  std::string subject_;
  std::string key_name_;          // of the last pre-shared key found
  bool key_was_unknown_ = false;  // the client named one that is not there
  uint64_t records_ = 0;          // sent with these keys

  std::vector<std::byte>* out_;  // where records that OpenSSL makes go
  std::vector<std::byte> kept_;  // from kept_at_ on: not sent yet
  size_t kept_at_ = 0;
  size_t answers_ = 0;  // bytes of them that OpenSSL answered with, since all was sent
  int socket_error_ = 0;
  bool socket_empty_ = false;  // in this call: the last receive found less than there was room for
  bool socket_ended_ = false;
  bool has_input_ = false;
  bool established_ = false;
  bool ended_ = false;   // nothing more will come
  bool failed_ = false;  // OpenSSL must not be asked again
};

}  // namespace cellblock::tls
