// What TLS handshakes are made with: certificate chain, key, CA of the clients, pre-shared keys. Immutable
// once it is made: another set takes its place while connections go on with the one they began with.
//
// Fixed here: TLS 1.2 and 1.3 with forward secrecy and authenticated encryption only; no compression, no
// renegotiation, no session is resumed (so no ticket keys to keep and to change), no early data.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tls/openssl.h"
#include "tls/psk.h"

namespace cellblock::tls {

enum class ClientCertificates : uint8_t { none, optional, required };

struct ContextOptions {
  std::string certificate;  // PEM: the server's own, then those that lead to the root. Empty: keys only
  std::string key;          // PEM, of that certificate, not encrypted
  std::string client_ca;    // PEM: who may have signed the certificates of clients
  std::string host_ca;      // PEM: whose word it is that a client is a host of a cell. Empty: nobody's
  ClientCertificates clients = ClientCertificates::none;
  std::string keys;  // as PskTable reads them; empty: none
  // New keys are made after so many records with the same ones (TLS 1.3). AES-GCM allows 2^24.5.
  uint64_t records_per_key = uint64_t{1} << 23;
};

class Context {
 public:
  // Null: `sentence` says what is wrong with the options. Nothing of a key stands in it.
  static std::shared_ptr<const Context> make(const ContextOptions& options, std::string& sentence);

  SSL_CTX* get() const { return context_.get(); }
  const PskTable& keys() const { return keys_; }
  uint64_t records_per_key() const { return records_per_key_; }
  // Whether the chain that a client's certificate was verified by has one of those who name hosts in it.
  bool names_hosts(const STACK_OF(X509) * chain) const;

  Context() = default;
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

 private:
  bool set_up(const ContextOptions& options, std::string& sentence);
  bool use_certificate(const ContextOptions& options, std::string& sentence);
  bool use_client_ca(const ContextOptions& options, std::string& sentence);
  bool use_host_ca(const ContextOptions& options, std::string& sentence);
  bool use_keys(const ContextOptions& options, std::string& sentence);

  OwnedContext context_;
  PskTable keys_;
  std::vector<OwnedCertificate> host_cas_;
  uint64_t records_per_key_ = 0;
};

}  // namespace cellblock::tls
