// Descriptors that go from one process to another: for `cellblock serve-stdio`, which hands the socket on its
// standard input and output to the agent, and for listening sockets the agent was started with.
#pragma once

#include <napi.h>

namespace cellblock::binding {

// (path, name, fd): the descriptor of the connection that ends when the client's does. `fd` stays open here.
// Throws with the errno.
Napi::Value hand_over(const Napi::CallbackInfo& info);

// (fd): ends both directions of a socket, for everybody who has it.
void shut_down(const Napi::CallbackInfo& info);

// (fd): the address of a listening stream socket, "unix:PATH" or "tcp:HOST:PORT". Throws with the errno and a
// sentence.
Napi::Value listening_address(const Napi::CallbackInfo& info);

}  // namespace cellblock::binding
