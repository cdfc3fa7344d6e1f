#include "tls/identity.h"

#include <openssl/x509v3.h>

#include <memory>

#include "tls/openssl.h"

namespace cellblock::tls {
namespace {

constexpr size_t kMaxNameBytes = 1024;

// UTF-8, or empty when it has anything in it that could make two names look like one.
std::string text_of(const ASN1_STRING* string) {
  unsigned char* bytes = nullptr;
  const int length = ASN1_STRING_to_UTF8(&bytes, string);
  if (length < 0) return {};
  const std::string text(reinterpret_cast<char*>(bytes), static_cast<size_t>(length));
  OPENSSL_free(bytes);
  if (text.size() > kMaxNameBytes) return {};
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return {};
  }
  return text;
}

std::string common_name(const X509* certificate) {
  const X509_NAME* subject = X509_get_subject_name(certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at < 0) return {};
  return text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
}

using Names = std::unique_ptr<GENERAL_NAMES, Release<GENERAL_NAMES_free>>;

Names names_in(const X509* certificate) {
  return Names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
}

std::string alternative_name(const X509* certificate) {
  const Names names = names_in(certificate);
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); i++) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_DNS && name->type != GEN_URI && name->type != GEN_EMAIL) continue;
    const std::string text = text_of(name->d.ia5);
    if (!text.empty()) return text;
  }
  return {};
}

}  // namespace

std::string subject_of(const X509* certificate) {
  const OwnedBio to(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(to.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
  char* text = nullptr;
  const long length = BIO_get_mem_data(to.get(), &text);
  return length > 0 ? std::string(text, static_cast<size_t>(length)) : std::string();
}

std::string host_in(const X509* certificate) {
  const Names names = names_in(certificate);
  std::string host;
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); i++) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_URI) continue;
    const std::string uri = text_of(name->d.ia5);
    if (!uri.starts_with("cellblock://")) continue;
    if (!host.empty()) return {};
    host = uri;
  }
  return host;
}

std::string name_in(const X509* certificate) {
  std::string name = common_name(certificate);
  if (name.empty()) name = alternative_name(certificate);
  return name.empty() ? subject_of(certificate) : name;
}

}  // namespace cellblock::tls
