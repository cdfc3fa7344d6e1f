// The name by which access lists know the owner of a certificate.
#pragma once

#include <openssl/x509.h>

#include <string>

namespace cellblock::tls {

// The common name; where there is none (or one that cannot be printed), the first DNS name, URI or mail
// address it was issued for; where there is none either, the whole subject as in RFC 2253.
std::string name_in(const X509* certificate);
// The name of a host of a cell, `cellblock://cell/CELL/host/HOST`, among the URIs it was issued for. Empty:
// there is none, or more than one.
std::string host_in(const X509* certificate);
// The whole subject as in RFC 2253, for logs.
std::string subject_of(const X509* certificate);

}  // namespace cellblock::tls
