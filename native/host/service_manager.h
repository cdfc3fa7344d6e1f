// What a service tells the manager that started it (sd_notify(3), systemd's protocol): datagrams of lines,
// with descriptors for it to keep. Without libsystemd: one system call, and a machine without it needs none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cellblock::host {

constexpr size_t kDescriptorsAtOnce = 253;  // the kernel's SCM_MAX_FD

// `address` as NOTIFY_SOCKET has it: a path, or "@" and an abstract name. Descriptors stay open here; at most
// kDescriptorsAtOnce. Waits a few seconds when the manager's queue is full. 0 or -errno.
int notify(const std::string& address, std::string_view message, const std::vector<int>& descriptors);

// A file in memory with this content, which nobody can change any more: what is handed on beside sockets. The
// descriptor, or -errno.
int sealed_file(const char* name, std::string_view content);

// What the kernel calls a socket as long as it lives, whoever has it; 0: it is none.
uint64_t socket_cookie(int descriptor);

}  // namespace cellblock::host
