// The other end of TLS for tests: certificates made on the spot, and a client over memory, so that a test
// decides when which byte arrives.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "tls/openssl.h"

namespace cellblock::test {

struct Certificate {
  std::string pem;
  std::string key;
};

struct CertificateRequest {
  std::string name = {};              // common name; empty: none
  std::string alternative_name = {};  // "DNS:one", say
  long valid_from_s = -3600;          // from now
  long valid_to_s = 86400;
};

// Signs certificates; its own is what trusts them.
class Authority {
 public:
  explicit Authority(const std::string& name);
  Certificate issue(const CertificateRequest& request) const;
  const std::string& pem() const { return own_.pem; }

 private:
  tls::OwnedKey key_;
  tls::OwnedCertificate certificate_;
  Certificate own_;
};

struct TlsPeerOptions {
  int version = TLS1_3_VERSION;  // exactly this one
  std::string ca = {};           // empty: the server is not checked
  Certificate certificate = {};  // of the client; empty: none
  std::string psk_name = {};
  std::string psk_key = {};     // in bytes; empty: none
  std::string ciphers = "ALL";  // of TLS 1.2 and older
};

class TlsPeer {
 public:
  explicit TlsPeer(const TlsPeerOptions& options);

  // Ciphertext from the server; goes on with the handshake, then collects plaintext.
  void feed(std::string_view bytes);
  // Ciphertext for the server.
  std::string output();
  bool write(std::string_view plain);  // false: OpenSSL did not take it
  std::string take_plain() { return std::exchange(plain_, {}); }
  void shut_down() { SSL_shutdown(ssl_.get()); }
  bool established() const { return SSL_is_init_finished(ssl_.get()); }
  bool failed() const { return failed_; }
  bool ended() const { return ended_; }  // the server said farewell
  SSL* ssl() { return ssl_.get(); }

 private:
  void go_on();
  static unsigned give_key(SSL* ssl, const char*, char* name, unsigned name_room, unsigned char* key,
                           unsigned room);

  TlsPeerOptions options_;
  tls::OwnedContext context_;
  tls::OwnedConnection ssl_;
  std::string plain_;
  bool failed_ = false;
  bool ended_ = false;
};

}  // namespace cellblock::test
