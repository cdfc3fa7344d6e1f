#include "test/tls_peer.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdlib>
#include <cstring>

namespace cellblock::test {
namespace {

void need(bool holds) {
  if (!holds) std::abort();
}

std::string text_in(BIO* bio) {
  char* at = nullptr;
  const long bytes = BIO_get_mem_data(bio, &at);
  return std::string(at, static_cast<size_t>(bytes));
}

std::string pem_of(X509* certificate) {
  const tls::OwnedBio to(BIO_new(BIO_s_mem()));
  need(PEM_write_bio_X509(to.get(), certificate) == 1);
  return text_in(to.get());
}

std::string pem_of(EVP_PKEY* key) {
  const tls::OwnedBio to(BIO_new(BIO_s_mem()));
  need(PEM_write_bio_PrivateKey(to.get(), key, nullptr, nullptr, 0, nullptr, nullptr) == 1);
  return text_in(to.get());
}

void extend(X509* certificate, int what, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, what, value.c_str());
  need(extension && X509_add_ext(certificate, extension, -1) == 1);
  X509_EXTENSION_free(extension);
}

tls::OwnedCertificate make(const CertificateRequest& request, EVP_PKEY* key, X509* issuer, EVP_PKEY* signer) {
  static long serial = 1;
  tls::OwnedCertificate made(X509_new());
  X509* certificate = made.get();
  X509_set_version(certificate, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
  X509_gmtime_adj(X509_getm_notBefore(certificate), request.valid_from_s);
  X509_gmtime_adj(X509_getm_notAfter(certificate), request.valid_to_s);
  X509_set_pubkey(certificate, key);
  X509_NAME* subject = X509_get_subject_name(certificate);
  const auto add = [subject](const char* field, const std::string& value) {
    X509_NAME_add_entry_by_txt(subject, field, MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(value.data()),
                               static_cast<int>(value.size()), -1, 0);
  };
  add("O", "tests");
  if (!request.name.empty()) add("CN", request.name);
  X509_set_issuer_name(certificate, issuer ? X509_get_subject_name(issuer) : subject);
  extend(certificate, NID_basic_constraints, issuer ? "critical,CA:FALSE" : "critical,CA:TRUE");
  if (!request.alternative_name.empty()) extend(certificate, NID_subject_alt_name, request.alternative_name);
  need(X509_sign(certificate, signer, EVP_sha256()) > 0);
  return made;
}

tls::OwnedCertificate certificate_of(const std::string& pem) {
  const tls::OwnedBio from(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return tls::OwnedCertificate(PEM_read_bio_X509(from.get(), nullptr, nullptr, nullptr));
}

}  // namespace

Authority::Authority(const std::string& name)
    : key_(EVP_EC_gen("P-256")), certificate_(make({.name = name}, key_.get(), nullptr, key_.get())) {
  own_ = {pem_of(certificate_.get()), pem_of(key_.get())};
}

Certificate Authority::issue(const CertificateRequest& request) const {
  const tls::OwnedKey key(EVP_EC_gen("P-256"));
  const tls::OwnedCertificate made = make(request, key.get(), certificate_.get(), key_.get());
  return {pem_of(made.get()), pem_of(key.get())};
}

TlsPeer::TlsPeer(const TlsPeerOptions& options)
    : options_(options), context_(SSL_CTX_new(TLS_client_method())) {
  SSL_CTX* context = context_.get();
  SSL_CTX_set_min_proto_version(context, options.version);
  SSL_CTX_set_max_proto_version(context, options.version);
  SSL_CTX_set_cipher_list(context, options.ciphers.c_str());
  if (!options.ca.empty()) {
    const tls::OwnedCertificate ca = certificate_of(options.ca);
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context), ca.get());
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  }
  if (!options.certificate.pem.empty()) {
    const tls::OwnedCertificate own = certificate_of(options.certificate.pem);
    const std::string& pem = options.certificate.key;
    const tls::OwnedBio from(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    const tls::OwnedKey key(PEM_read_bio_PrivateKey(from.get(), nullptr, nullptr, nullptr));
    need(SSL_CTX_use_certificate(context, own.get()) == 1 && SSL_CTX_use_PrivateKey(context, key.get()) == 1);
  }
  if (!options.psk_key.empty()) SSL_CTX_set_psk_client_callback(context, give_key);
  ssl_.reset(SSL_new(context));
  SSL_set_bio(ssl_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  SSL_set_app_data(ssl_.get(), this);
  SSL_set_connect_state(ssl_.get());
  go_on();
}

unsigned TlsPeer::give_key(SSL* ssl, const char*, char* name, unsigned name_room, unsigned char* key,
                           unsigned room) {
  const TlsPeerOptions& options = static_cast<TlsPeer*>(SSL_get_app_data(ssl))->options_;
  need(options.psk_name.size() < name_room && options.psk_key.size() <= room);
  std::memcpy(name, options.psk_name.c_str(), options.psk_name.size() + 1);
  std::memcpy(key, options.psk_key.data(), options.psk_key.size());
  return static_cast<unsigned>(options.psk_key.size());
}

void TlsPeer::feed(std::string_view bytes) {
  if (!bytes.empty()) BIO_write(SSL_get_rbio(ssl_.get()), bytes.data(), static_cast<int>(bytes.size()));
  go_on();
}

void TlsPeer::go_on() {
  ERR_clear_error();
  char buffer[16384];
  while (!failed_ && !ended_) {
    const bool reads = established();
    const int result = reads ? SSL_read(ssl_.get(), buffer, sizeof buffer) : SSL_do_handshake(ssl_.get());
    if (result > 0) {
      if (reads) plain_.append(buffer, static_cast<size_t>(result));
      continue;
    }
    const int kind = SSL_get_error(ssl_.get(), result);
    ended_ = kind == SSL_ERROR_ZERO_RETURN;
    failed_ = kind == SSL_ERROR_SSL || kind == SSL_ERROR_SYSCALL;
    break;
  }
  ERR_clear_error();
}

std::string TlsPeer::output() {
  BIO* bio = SSL_get_wbio(ssl_.get());
  std::string bytes = text_in(bio);
  (void)BIO_reset(bio);
  return bytes;
}

bool TlsPeer::write(std::string_view plain) {
  if (plain.empty()) return true;
  const bool taken = SSL_write(ssl_.get(), plain.data(), static_cast<int>(plain.size())) > 0;
  ERR_clear_error();
  return taken;
}

}  // namespace cellblock::test
