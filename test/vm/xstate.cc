// Preloaded into user-mode Linux, which keeps the processor state of its guests' processes in a buffer made for processors without AMX
// and hands it to the host's kernel, which takes the state whole or not at all: on a processor with AMX the guest dies at its first
// process. What the buffer lacks is the state of AMX tiles, which no guest can have begun to use; so it is completed from what the host has.
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace {

constexpr long kPeekText = 1, kPeekData = 2, kPeekUser = 3;
constexpr long kGetRegisterSet = 0x4204, kSetRegisterSet = 0x4205;
constexpr unsigned long kExtendedState = 0x202;

alignas(64) unsigned char state[64 << 10];

long host_ptrace(long request, long process, unsigned long address, void* data) {
  return syscall(SYS_ptrace, request, process, address, data);
}

long set_extended_state(long process, const iovec& given) {
  iovec whole{state, sizeof state};
  if (host_ptrace(kGetRegisterSet, process, kExtendedState, &whole) < 0) return -1;
  if (given.iov_len >= whole.iov_len)
    return host_ptrace(kSetRegisterSet, process, kExtendedState, const_cast<iovec*>(&given));
  memcpy(state, given.iov_base, given.iov_len);
  return host_ptrace(kSetRegisterSet, process, kExtendedState, &whole);
}

}  // namespace

extern "C" long ptrace(int request, ...) {
  va_list arguments;
  va_start(arguments, request);
  const long process = va_arg(arguments, int);
  const unsigned long address = va_arg(arguments, unsigned long);
  void* const data = va_arg(arguments, void*);
  va_end(arguments);
  if (request == kSetRegisterSet && address == kExtendedState)
    return set_extended_state(process, *static_cast<const iovec*>(data));
  if (request != kPeekText && request != kPeekData && request != kPeekUser)
    return host_ptrace(request, process, address, data);
  // The library's function answers the word that the system call puts where `data` points to.
  long word = 0;
  errno = 0;
  return host_ptrace(request, process, address, &word) < 0 ? -1 : word;
}
