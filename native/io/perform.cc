// The blocking form of every operation, used by worker threads and by the real disk's own calls.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "io/engines.h"

namespace cellblock::io {
namespace {

// Repeats a system call that a signal interrupted before it did anything.
template <typename Call>
int64_t retried(Call call) {
  for (;;) {
    const int64_t result = call();
    if (result >= 0) return result;
    if (errno != EINTR) return -errno;
  }
}

int write_zeros(int descriptor, uint64_t offset, uint64_t bytes) {
  while (bytes > 0) {
    const size_t part = std::min<uint64_t>(bytes, kZeroBytes);
    const int64_t done =
        retried([&] { return pwrite(descriptor, zero_bytes(), part, static_cast<off_t>(offset)); });
    if (done < 0) return static_cast<int>(done);
    if (done == 0) return -EIO;
    offset += static_cast<uint64_t>(done);
    bytes -= static_cast<uint64_t>(done);
  }
  return 0;
}

int64_t transfer(const Request& r) {
  iovec part{r.data, std::min(r.length, kMaxTransferBytes)};
  const int descriptor = r.file->descriptor();
  const auto offset = static_cast<off_t>(r.offset);
  switch (r.operation) {
    case Operation::read:
      return retried([&] { return preadv2(descriptor, &part, 1, offset, 0); });
    case Operation::write:
      return retried([&] { return pwritev2(descriptor, &part, 1, offset, 0); });
    default:
      return retried([&] { return pwritev2(descriptor, &part, 1, offset, RWF_DSYNC); });
  }
}

}  // namespace

const void* zero_bytes() {
  // Anonymous memory that is only read costs one shared page of zeros.
  static const void* zeros = mmap(nullptr, kZeroBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return zeros;
}

int punch_descriptor(int descriptor, uint64_t offset, uint64_t bytes) {
  if (bytes == 0) return 0;
  return static_cast<int>(retried([&] {
    return fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                     static_cast<off_t>(bytes));
  }));
}

int zero_descriptor(int descriptor, uint64_t offset, uint64_t bytes) {
  if (bytes == 0) return 0;
  const auto result = static_cast<int>(retried([&] {
    return fallocate(descriptor, FALLOC_FL_ZERO_RANGE, static_cast<off_t>(offset), static_cast<off_t>(bytes));
  }));
  return result == -EOPNOTSUPP ? write_zeros(descriptor, offset, bytes) : result;
}

int sync_descriptor(int descriptor) {
  return static_cast<int>(retried([&] { return fdatasync(descriptor); }));
}

int64_t perform(const Request& r) {
  switch (r.operation) {
    case Operation::read:
    case Operation::write:
    case Operation::write_dsync:
      return transfer(r);
    case Operation::sync:
    case Operation::journal_sync:
      return sync_descriptor(r.file->descriptor());
    case Operation::punch:
      return punch_descriptor(r.file->descriptor(), r.offset, r.length);
    case Operation::zero_range:
      return zero_descriptor(r.file->descriptor(), r.offset, r.length);
  }
  return -EINVAL;
}

}  // namespace cellblock::io
