// Bytes to and from a server: over a unix socket or TCP on loopback, in clear or in TLS.
//
// TLS is 1.3 with one suite, the same whatever the server prefers: servers are compared, not ciphers. The
// client shows a certificate and checks the server's. What the system's OpenSSL costs is the same for all.
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <memory>
#include <string>

namespace cellblock::bench {

[[noreturn]] inline void die(const std::string& what) {
  fprintf(stderr, "nbd_client: %s\n", what.c_str());
  exit(1);
}

[[noreturn]] inline void die_errno(const std::string& what) { die(what + ": " + strerror(errno)); }

enum class Wait { no, yes };

class Stream {
 public:
  // Takes the socket over.
  explicit Stream(int fd) : fd_(fd) {}
  ~Stream() { close(fd_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  int fd() const { return fd_; }

  // The files of `directory` are named as QEMU and libnbd want them; the server is "localhost".
  void begin_tls(const std::string& directory) {
    context_.reset(SSL_CTX_new(TLS_client_method()));
    SSL_CTX* context = context_.get();
    const auto file = [&](const char* name) { return directory + "/" + name; };
    if (!context || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") != 1 ||
        SSL_CTX_load_verify_locations(context, file("ca-cert.pem").c_str(), nullptr) != 1 ||
        SSL_CTX_use_certificate_chain_file(context, file("client-cert.pem").c_str()) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, file("client-key.pem").c_str(), SSL_FILETYPE_PEM) != 1)
      die_tls("the certificates of " + directory);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    // Many records in one system call, as servers do it.
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, kReadAhead);
    connection_.reset(SSL_new(context));
    SSL* connection = connection_.get();
    if (!connection || SSL_set1_host(connection, "localhost") != 1 ||
        SSL_set_tlsext_host_name(connection, "localhost") != 1)
      die_tls("a TLS connection");
    BIO* socket = BIO_new(socket_method());
    BIO_set_data(socket, this);
    SSL_set_bio(connection, socket, socket);
    flags_ = 0;
    if (SSL_connect(connection) != 1) die_tls("the TLS handshake");
  }

  std::string tls_parameters() const {
    if (!connection_) return "";
    return std::string(SSL_get_version(connection_.get())) + " " + SSL_get_cipher_name(connection_.get());
  }

  // Both as the socket's own calls: bytes, 0 at the end of the stream, or -1 with errno. With Wait::yes they
  // block until something was moved.
  ssize_t send(const void* data, size_t bytes, Wait wait) {
    const int flags = MSG_NOSIGNAL | (wait == Wait::yes ? 0 : MSG_DONTWAIT);
    if (!connection_) return ::send(fd_, data, bytes, flags);
    flags_ = flags;
    size_t sent = 0;
    if (SSL_write_ex(connection_.get(), data, bytes, &sent) == 1) return static_cast<ssize_t>(sent);
    return again_or_die("send");
  }

  ssize_t receive(void* data, size_t room, Wait wait) {
    flags_ = wait == Wait::yes ? 0 : MSG_DONTWAIT;
    if (!connection_) return recv(fd_, data, room, flags_);
    size_t total = 0;
    while (total < room) {
      size_t got = 0;
      if (SSL_read_ex(connection_.get(), static_cast<char*>(data) + total, room - total, &got) != 1) {
        if (total > 0 || SSL_get_error(connection_.get(), 0) == SSL_ERROR_ZERO_RETURN) break;
        return again_or_die("receive");
      }
      total += got;
      // What has come already is taken with it; for more nobody waits.
      flags_ = MSG_DONTWAIT;
      if (!SSL_has_pending(connection_.get())) break;
    }
    return static_cast<ssize_t>(total);
  }

  void send_all(const std::string& data) {
    for (size_t at = 0; at < data.size();) {
      const ssize_t sent = send(data.data() + at, data.size() - at, Wait::yes);
      if (sent <= 0) die_errno("send");
      at += static_cast<size_t>(sent);
    }
  }

  // False: the stream ended before.
  bool receive_all(uint8_t* data, size_t bytes) {
    for (size_t at = 0; at < bytes;) {
      const ssize_t got = receive(data + at, bytes - at, Wait::yes);
      if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return false;
      if (got > 0) at += static_cast<size_t>(got);
    }
    return true;
  }

 private:
  static constexpr size_t kReadAhead = 128 << 10;

  template <auto release>
  struct Release {
    template <typename T>
    void operator()(T* object) const {
      release(object);
    }
  };

  [[noreturn]] static void die_tls(const std::string& what) {
    const char* reason = ERR_reason_error_string(ERR_peek_error());
    die(what + ": " + (reason ? reason : "the connection was closed"));
  }

  ssize_t again_or_die(const char* what) {
    const int error = SSL_get_error(connection_.get(), 0);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) die_tls(what);
    errno = EAGAIN;
    return -1;
  }

  // OpenSSL's view of the socket: it blocks or not as the call says that OpenSSL works for.
  static BIO_METHOD* socket_method() {
    BIO_METHOD* method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket");
    BIO_meth_set_create(method, [](BIO* bio) {
      BIO_set_init(bio, 1);
      return 1;
    });
    BIO_meth_set_read(method, [](BIO* bio, char* to, int room) {
      Stream* stream = static_cast<Stream*>(BIO_get_data(bio));
      const ssize_t got = recv(stream->fd_, to, static_cast<size_t>(room), stream->flags_);
      BIO_clear_retry_flags(bio);
      if (would_block(got)) BIO_set_retry_read(bio);
      return static_cast<int>(got);
    });
    BIO_meth_set_write(method, [](BIO* bio, const char* from, int bytes) {
      Stream* stream = static_cast<Stream*>(BIO_get_data(bio));
      const ssize_t sent =
          ::send(stream->fd_, from, static_cast<size_t>(bytes), stream->flags_ | MSG_NOSIGNAL);
      BIO_clear_retry_flags(bio);
      if (would_block(sent)) BIO_set_retry_write(bio);
      return static_cast<int>(sent);
    });
    BIO_meth_set_ctrl(method,
                      [](BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1L : 0L; });
    return method;
  }

  static bool would_block(ssize_t moved) { return moved < 0 && (errno == EAGAIN || errno == EINTR); }

  const int fd_;
  int flags_ = 0;  // of the socket calls that OpenSSL makes for the present call
  std::unique_ptr<SSL_CTX, Release<SSL_CTX_free>> context_;
  std::unique_ptr<SSL, Release<SSL_free>> connection_;
};

// One try. -1: nobody listens, errno says why.
inline int connect_to(const sockaddr* address, socklen_t bytes) {
  const int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) die_errno("socket");
  if (connect(fd, address, bytes) < 0) {
    const int error = errno;
    close(fd);
    errno = error;
    return -1;
  }
  const int on = 1;
  if (address->sa_family == AF_INET) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

inline int connect_unix(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) die("a socket path has at most 107 bytes: " + path);
  memcpy(address.sun_path, path.data(), path.size());
  return connect_to(reinterpret_cast<sockaddr*>(&address), sizeof address);
}

inline int connect_loopback(uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return connect_to(reinterpret_cast<sockaddr*>(&address), sizeof address);
}

}  // namespace cellblock::bench
