#include "tls/openssl.h"

#include <openssl/err.h>

namespace cellblock::tls {

std::string take_error(unsigned long* code) {
  const unsigned long first = ERR_peek_error();
  ERR_clear_error();
  if (code) *code = first;
  if (first == 0) return {};
  const char* reason = ERR_reason_error_string(first);
  return reason ? reason : "error " + std::to_string(first);
}

}  // namespace cellblock::tls
