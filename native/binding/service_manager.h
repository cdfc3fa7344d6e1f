// What the programs tell the service manager that started them, and give it to keep: host/service_manager.h.
#pragma once

#include <napi.h>

namespace cellblock::binding {

// (address, message, descriptors): descriptors stay open here. Throws with the errno.
void notify_service_manager(const Napi::CallbackInfo& info);

// (name, bytes): the descriptor of a file in memory that nobody can change. Throws with the errno.
Napi::Value sealed_file(const Napi::CallbackInfo& info);

// (descriptor): a bigint that names a socket as long as it lives; 0n: it is none.
Napi::Value socket_cookie(const Napi::CallbackInfo& info);

}  // namespace cellblock::binding
