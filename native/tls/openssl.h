// OpenSSL's objects as owned pointers, and its errors as text.
#pragma once

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <memory>
#include <string>

namespace cellblock::tls {

template <auto release>
struct Release {
  template <typename T>
  void operator()(T* object) const {
    release(object);
  }
};

using OwnedBio = std::unique_ptr<BIO, Release<BIO_free>>;
using OwnedCertificate = std::unique_ptr<X509, Release<X509_free>>;
using OwnedKey = std::unique_ptr<EVP_PKEY, Release<EVP_PKEY_free>>;
using OwnedContext = std::unique_ptr<SSL_CTX, Release<SSL_CTX_free>>;
using OwnedConnection = std::unique_ptr<SSL, Release<SSL_free>>;

// The reason of the first error in this thread's queue, or an empty string; the queue is empty afterwards.
// `code`: of that error, for ERR_GET_REASON.
std::string take_error(unsigned long* code = nullptr);

}  // namespace cellblock::tls
