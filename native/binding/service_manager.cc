#include "binding/service_manager.h"

#include <string>
#include <string_view>
#include <vector>

#include "binding/convert.h"
#include "host/service_manager.h"

namespace cellblock::binding {

void notify_service_manager(const Napi::CallbackInfo& info) {
  std::vector<int> descriptors;
  for (const uint64_t one : numbers_of(info[2])) descriptors.push_back(static_cast<int>(one));
  const int error = host::notify(string_of(info[0]), string_of(info[1]), descriptors);
  if (error < 0) throw_errno(info.Env(), -error, "the service manager");
}

Napi::Value sealed_file(const Napi::CallbackInfo& info) {
  const Napi::Uint8Array bytes = info[1].As<Napi::Uint8Array>();
  const std::string_view content(reinterpret_cast<const char*>(bytes.Data()), bytes.ByteLength());
  const int fd = host::sealed_file(string_of(info[0]).c_str(), content);
  if (fd >= 0) return Napi::Number::New(info.Env(), fd);
  throw_errno(info.Env(), -fd, "a file in memory");
  return info.Env().Undefined();
}

Napi::Value socket_cookie(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), host::socket_cookie(static_cast<int>(number_of(info[0]))));
}

}  // namespace cellblock::binding
