// Files of the machine's own file systems.
//
// try_read and try_write are plain system calls on the caller's thread. RWF_NOWAIT is used for reads only:
// ext4 and others do not take it for buffered writes, and a buffered write waits for the device only when
// throttled.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

#include "io/engines.h"

namespace cellblock::io {
namespace {

class RealFile final : public File {
 public:
  RealFile(int descriptor, bool direct) : descriptor_(descriptor), direct_(direct), nowait_(!direct) {}
  ~RealFile() override { close(descriptor_); }

  ssize_t try_read(void* to, size_t bytes, uint64_t offset) override {
    if (!nowait_.load(std::memory_order_relaxed)) return -EAGAIN;
    const iovec part{to, bytes};
    const ssize_t got = preadv2(descriptor_, &part, 1, static_cast<off_t>(offset), RWF_NOWAIT);
    if (got >= 0) return got;
    if (errno == EINTR) return -EAGAIN;
    if (errno != EOPNOTSUPP) return -errno;
    nowait_.store(false, std::memory_order_relaxed);  // this file system cannot say whether it would wait
    return -EAGAIN;
  }

  ssize_t try_write(const void* from, size_t bytes, uint64_t offset) override {
    if (direct_) return -EAGAIN;
    ssize_t put;
    do {
      put = pwrite(descriptor_, from, bytes, static_cast<off_t>(offset));
    } while (put < 0 && errno == EINTR);
    return put < 0 ? -errno : put;
  }

  int punch(uint64_t offset, uint64_t bytes) override { return punch_descriptor(descriptor_, offset, bytes); }

  int64_t size() const override {
    struct stat facts;
    return fstat(descriptor_, &facts) < 0 ? -errno : facts.st_size;
  }

  int descriptor() const override { return descriptor_; }

 private:
  const int descriptor_;
  const bool direct_;
  std::atomic<bool> nowait_;
};

class RealDirectory final : public Directory {
 public:
  explicit RealDirectory(int descriptor) : descriptor_(descriptor) {}
  ~RealDirectory() override { close(descriptor_); }
  int sync() override { return fsync(descriptor_) < 0 ? -errno : 0; }

 private:
  const int descriptor_;
};

// Only an empty file can be told; a file system that does not know the flag is one that needs none.
void ask_no_cow(int descriptor) {
  int flags = 0;
  if (ioctl(descriptor, FS_IOC_GETFLAGS, &flags) < 0) return;
  flags |= FS_NOCOW_FL;
  ioctl(descriptor, FS_IOC_SETFLAGS, &flags);
}

// A store through a mapping makes the whole folio dirty, and a sync writes all of it: up to 1 MiB for one
// cell of a journal where the page cache holds the file in large folios. They are made by long writes and by
// read-ahead; what is asked for without read-ahead comes in single pages.
void read_in_single_pages(int descriptor, size_t length) {
  constexpr size_t kStep = 256 << 10;  // more than a device takes at once would be read only in part
  posix_fadvise(descriptor, 0, 0, POSIX_FADV_RANDOM);
  for (size_t at = 0; at < length; at += kStep) {
    posix_fadvise(descriptor, static_cast<off_t>(at), static_cast<off_t>(std::min(kStep, length - at)),
                  POSIX_FADV_WILLNEED);
  }
}

int open_flags(const OpenOptions& options) {
  int flags = O_CLOEXEC | O_NOCTTY | (options.read_only ? O_RDONLY : O_RDWR);
  if (options.create) flags |= O_CREAT;
  if (options.create && options.exclusive) flags |= O_EXCL;
  if (options.direct) flags |= O_DIRECT;
  return flags;
}

class RealDisk final : public Disk {
 public:
  explicit RealDisk(EngineChoice choice) : choice_(choice) {}

  ~RealDisk() override {
    for (const Mapping& mapping : mappings_) munmap(mapping.bytes, mapping.length);
  }

  int open(const std::string& path, const OpenOptions& options, std::unique_ptr<File>& file) override {
    constexpr mode_t kMode = 0600;  // guests' data
    int descriptor;
    do {
      descriptor = ::open(path.c_str(), open_flags(options), kMode);
    } while (descriptor < 0 && errno == EINTR);
    if (descriptor < 0) return -errno;
    auto opened = std::make_unique<RealFile>(descriptor, options.direct);
    struct stat facts;
    if (fstat(descriptor, &facts) < 0) return -errno;
    if (S_ISDIR(facts.st_mode)) return -EISDIR;
    if (options.no_cow && facts.st_size == 0) ask_no_cow(descriptor);
    file = std::move(opened);
    return 0;
  }

  int unlink(const std::string& path) override { return ::unlink(path.c_str()) < 0 ? -errno : 0; }

  int sync_directory(const std::string& path) override {
    std::unique_ptr<Directory> directory;
    const int result = open_directory(path, directory);
    return result < 0 ? result : directory->sync();
  }

  int open_directory(const std::string& path, std::unique_ptr<Directory>& directory) override {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return -errno;
    directory = std::make_unique<RealDirectory>(descriptor);
    return 0;
  }

  int map(File& file, size_t length, Mapping& mapping) override {
    read_in_single_pages(file.descriptor(), length);
    void* bytes = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, file.descriptor(), 0);
    if (bytes == MAP_FAILED) return -errno;
    madvise(bytes, length, MADV_RANDOM);
    mapping = {static_cast<std::byte*>(bytes), length};
    std::lock_guard hold(lock_);
    mappings_.push_back(mapping);
    return 0;
  }

  int sync(File& file) override { return sync_descriptor(file.descriptor()); }

  int64_t free_bytes(const std::string& path) override {
    struct statvfs facts;
    if (statvfs(path.c_str(), &facts) < 0) return -errno;
    return static_cast<int64_t>(facts.f_bavail) * static_cast<int64_t>(facts.f_frsize);
  }

  std::unique_ptr<Engine> make_engine() override {
    if (choice_ != EngineChoice::workers) {
      std::unique_ptr<Engine> engine = make_uring_engine();
      if (engine || choice_ == EngineChoice::io_uring) return engine;
    }
    return make_worker_engine(kWorkerThreads);
  }

 private:
  const EngineChoice choice_;
  std::mutex lock_;
  std::vector<Mapping> mappings_;  // under lock_
};

// CELLBLOCK_IO_ENGINE=workers|io_uring decides for those who leave the choice to us.
EngineChoice from_environment() {
  const char* wanted = std::getenv("CELLBLOCK_IO_ENGINE");
  if (wanted && std::strcmp(wanted, "workers") == 0) return EngineChoice::workers;
  if (wanted && std::strcmp(wanted, "io_uring") == 0) return EngineChoice::io_uring;
  return EngineChoice::automatic;
}

}  // namespace

std::unique_ptr<Disk> make_real_disk(EngineChoice choice) {
  if (choice == EngineChoice::automatic) choice = from_environment();
  if (choice == EngineChoice::io_uring && !io_uring_available()) return nullptr;
  if (choice == EngineChoice::automatic && !io_uring_available()) choice = EngineChoice::workers;
  return std::make_unique<RealDisk>(choice);
}

}  // namespace cellblock::io
