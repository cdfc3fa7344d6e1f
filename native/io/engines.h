// The two engines of the real disk. Both keep io.h's invariant: every request taken is completed exactly
// once, on the thread that reaps.
#pragma once

#include <memory>

#include "io/io.h"

namespace cellblock::io {

// Null where io_uring cannot be set up. May be made on one thread and used on another; from the first flush()
// on, it belongs to the thread that called it.
std::unique_ptr<Engine> make_uring_engine();

// A few threads that do ordinary system calls. Null where threads or an eventfd cannot be had.
std::unique_ptr<Engine> make_worker_engine(unsigned threads);

constexpr unsigned kWorkerThreads = 4;  // per engine: one may sit in a sync, the others go on

// Does a request with plain, blocking system calls: what a worker runs. Gives bytes moved, 0, or -errno.
int64_t perform(const Request& request);

// fallocate on a descriptor; 0 or -errno. zero_range writes zeros where the file system has no such call.
int punch_descriptor(int descriptor, uint64_t offset, uint64_t bytes);
int zero_descriptor(int descriptor, uint64_t offset, uint64_t bytes);
int sync_descriptor(int descriptor);

// A few pages of zeros, for those file systems.
constexpr size_t kZeroBytes = 1 << 20;
const void* zero_bytes();

// One system call moves at most this much; the rest is the submitter's next request.
constexpr uint64_t kMaxTransferBytes = 1 << 30;

}  // namespace cellblock::io
