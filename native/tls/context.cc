#include "tls/context.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509err.h>

#include "tls/session.h"

namespace cellblock::tls {
namespace {

// TLS 1.3: the faster AES first; all three are sound. TLS 1.2: ephemeral keys and authenticated encryption
// only; who offers suites of pre-shared keys has one, so these come first.
constexpr const char* kSuites13 =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
constexpr const char* kSuites12 =
    "DHE-PSK-AES128-GCM-SHA256:DHE-PSK-AES256-GCM-SHA384:ECDHE-PSK-CHACHA20-POLY1305:ECDHE+AESGCM:"
    "ECDHE+CHACHA20";
constexpr size_t kReadAhead = 128 << 10;  // ciphertext taken from the socket at once
constexpr int kMaxChain = 8;              // certificates between a client's and the CA's

int refuse_passphrase(char*, int, int, void*) { return -1; }

OwnedBio reader_of(const std::string& text) {
  return OwnedBio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// Every certificate of a PEM file. Empty: there is none, or one is damaged.
std::vector<OwnedCertificate> certificates_in(const std::string& pem) {
  std::vector<OwnedCertificate> all;
  const OwnedBio from = reader_of(pem);
  while (OwnedCertificate one{PEM_read_bio_X509(from.get(), nullptr, refuse_passphrase, nullptr)})
    all.push_back(std::move(one));
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (!at_end) all.clear();
  return all;
}

bool fail(std::string& sentence, const std::string& what) {
  const std::string why = take_error();
  sentence = why.empty() ? what : what + ": " + why;
  return false;
}

}  // namespace

std::shared_ptr<const Context> Context::make(const ContextOptions& options, std::string& sentence) {
  ERR_clear_error();
  auto made = std::make_shared<Context>();
  if (!made->set_up(options, sentence)) return nullptr;
  return made;
}

bool Context::set_up(const ContextOptions& options, std::string& sentence) {
  context_.reset(SSL_CTX_new(TLS_server_method()));
  SSL_CTX* context = context_.get();
  if (!context) return fail(sentence, "TLS is not available");
  records_per_key_ = options.records_per_key;
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_security_level(context, 2);
  SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET |
                                   SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                   SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  // A pre-shared key is a session to OpenSSL, and one is only good in a context with a name.
  constexpr unsigned char kName[] = "cellblock";
  SSL_CTX_set_session_id_context(context, kName, sizeof kName - 1);
  SSL_CTX_set_max_early_data(context, 0);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_read_ahead(context, 1);
  SSL_CTX_set_default_read_buffer_len(context, kReadAhead);
  SSL_CTX_set_dh_auto(context, 1);
  if (SSL_CTX_set_ciphersuites(context, kSuites13) != 1 || SSL_CTX_set_cipher_list(context, kSuites12) != 1)
    return fail(sentence, "this OpenSSL lacks the ciphers that are needed");
  if (options.certificate.empty() && options.keys.empty()) {
    sentence = "TLS needs a certificate or pre-shared keys";
    return false;
  }
  return (options.certificate.empty() || use_certificate(options, sentence)) &&
         (options.clients == ClientCertificates::none || use_client_ca(options, sentence)) &&
         (options.host_ca.empty() || use_host_ca(options, sentence)) &&
         (options.keys.empty() || use_keys(options, sentence));
}

bool Context::use_certificate(const ContextOptions& options, std::string& sentence) {
  std::vector<OwnedCertificate> chain = certificates_in(options.certificate);
  if (chain.empty()) return fail(sentence, "the certificate is no PEM file of certificates");
  const OwnedBio from = reader_of(options.key);
  const OwnedKey key(PEM_read_bio_PrivateKey(from.get(), nullptr, refuse_passphrase, nullptr));
  if (!key) {
    ERR_clear_error();
    sentence = options.key.find("ENCRYPTED") == std::string::npos
                   ? "the key is no PEM file of a private key"
                   : "the key is encrypted, and there is nobody to ask for its passphrase";
    return false;
  }
  if (SSL_CTX_use_certificate(context_.get(), chain[0].get()) != 1)
    return fail(sentence, "the certificate cannot be used");
  for (size_t i = 1; i < chain.size(); i++) {
    if (SSL_CTX_add1_chain_cert(context_.get(), chain[i].get()) != 1)
      return fail(sentence, "the chain of the certificate cannot be used");
  }
  if (X509_check_private_key(chain[0].get(), key.get()) != 1) {
    ERR_clear_error();
    sentence = "the key does not belong to the certificate";
    return false;
  }
  if (SSL_CTX_use_PrivateKey(context_.get(), key.get()) != 1) return fail(sentence, "the key cannot be used");
  return true;
}

bool Context::use_client_ca(const ContextOptions& options, std::string& sentence) {
  const std::vector<OwnedCertificate> all = certificates_in(options.client_ca);
  if (all.empty()) return fail(sentence, "the CA of the clients is no PEM file of certificates");
  X509_STORE* store = SSL_CTX_get_cert_store(context_.get());
  for (const OwnedCertificate& one : all) {
    if (X509_STORE_add_cert(store, one.get()) != 1 || SSL_CTX_add_client_CA(context_.get(), one.get()) != 1)
      return fail(sentence, "the CA of the clients cannot be used");
  }
  const bool required = options.clients == ClientCertificates::required;
  SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                     nullptr);
  SSL_CTX_set_verify_depth(context_.get(), kMaxChain);
  return true;
}

bool Context::use_host_ca(const ContextOptions& options, std::string& sentence) {
  host_cas_ = certificates_in(options.host_ca);
  return !host_cas_.empty() || fail(sentence, "the CA of the hosts is no PEM file of certificates");
}

bool Context::names_hosts(const STACK_OF(X509) * chain) const {
  // The client's own comes first: nobody vouches for himself.
  for (int i = 1; i < sk_X509_num(chain); i++) {
    for (const OwnedCertificate& ca : host_cas_) {
      if (X509_cmp(sk_X509_value(chain, i), ca.get()) == 0) return true;
    }
  }
  return false;
}

// The callback of the old style serves both versions, and has OpenSSL prefer the suites whose hash pre-shared
// keys go with in TLS 1.3.
bool Context::use_keys(const ContextOptions& options, std::string& sentence) {
  if (!keys_.parse(options.keys, sentence)) return false;
  SSL_CTX_set_psk_server_callback(context_.get(), Session::find_key);
  return true;
}

}  // namespace cellblock::tls
