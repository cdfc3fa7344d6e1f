#include "binding/hand_over.h"

#include <sys/socket.h>

#include "binding/convert.h"
#include "plane/handover.h"
#include "plane/listener.h"

namespace cellblock::binding {

Napi::Value hand_over(const Napi::CallbackInfo& info) {
  const std::string path = string_of(info[0]);
  const int connection = plane::hand_over(path, string_of(info[1]), static_cast<int>(number_of(info[2])));
  if (connection < 0) {
    throw_errno(info.Env(), -connection, path);
    return info.Env().Undefined();
  }
  return Napi::Number::New(info.Env(), connection);
}

void shut_down(const Napi::CallbackInfo& info) { shutdown(static_cast<int>(number_of(info[0])), SHUT_RDWR); }

Napi::Value listening_address(const Napi::CallbackInfo& info) {
  const plane::Bound bound =
      plane::adopt_listening(static_cast<int>(number_of(info[0])), {.allow_remote = true});
  if (bound.error) {
    throw_errno(info.Env(), bound.error, bound.sentence);
    return info.Env().Undefined();
  }
  return Napi::String::New(info.Env(), bound.address);
}

}  // namespace cellblock::binding
