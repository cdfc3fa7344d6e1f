#include "kernel/block_device.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace cellblock::kernel {

BlockDevice::BlockDevice(BlockDevice&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

BlockDevice& BlockDevice::operator=(BlockDevice&& other) noexcept {
  close();
  fd_ = std::exchange(other.fd_, -1);
  return *this;
}

int BlockDevice::open(const std::string& path, bool exclusive) {
  close();
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | (exclusive ? O_EXCL : 0));
  if (fd < 0) return errno;
  struct stat what {};
  if (fstat(fd, &what) < 0 || !S_ISBLK(what.st_mode)) {
    ::close(fd);
    return ENOTBLK;
  }
  fd_ = fd;
  return 0;
}

int BlockDevice::flush_and_forget() { return ioctl(fd_, BLKFLSBUF, 0) < 0 ? errno : 0; }

int BlockDevice::scan_partitions() { return ioctl(fd_, BLKRRPART, 0) < 0 ? errno : 0; }

void BlockDevice::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

}  // namespace cellblock::kernel
