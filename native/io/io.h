// The outside world as the data plane sees it: a disk with files, and one engine per reactor that does what
// would block. The real disk, the simulated one and the fault injector are all this interface.
//
// Invariant: a submitted Request is completed exactly once, on the thread that reaps its engine.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace cellblock::io {

class File {
 public:
  virtual ~File() = default;

  // Reads without waiting for a device. Returns bytes read, -EAGAIN if it would block at once, or another
  // -errno. Short at the end of the file and where the cache ends: asked again for the rest it gives 0 or
  // -EAGAIN. Thread-safe.
  virtual ssize_t try_read(void* to, size_t bytes, uint64_t offset) = 0;

  // Writes into the page cache. May wait for write-back throttling; never waits for a device on purpose.
  // Returns bytes written (may be short) or -errno; -EAGAIN where the file is opened for direct I/O.
  // Thread-safe.
  virtual ssize_t try_write(const void* from, size_t bytes, uint64_t offset) = 0;

  // Deallocates; the range reads as zeros afterwards. 0 or -errno. May block shortly (metadata only).
  virtual int punch(uint64_t offset, uint64_t bytes) = 0;

  // Bytes in the file, or -errno.
  virtual int64_t size() const = 0;

  // For engines of the real disk; -1 where there is none.
  virtual int descriptor() const = 0;
};

enum class Operation : uint8_t {
  read,         // into data
  write,        // from data
  write_dsync,  // from data, stable (RWF_DSYNC) when completed
  sync,         // fdatasync; offset, length and data unused
  punch,        // deallocate [offset, offset + length)
  zero_range,   // [offset, offset + length) reads as zeros and is allocated
  journal_sync  // as sync, on the journal's file: fault injectors tell them apart
};

struct Request {
  Operation operation = Operation::read;
  File* file = nullptr;
  uint64_t offset = 0;
  uint64_t length = 0;   // bytes
  void* data = nullptr;  // owned by the submitter until done is called
  int64_t result = 0;    // bytes moved (0 for sync, punch, zero_range) or -errno; may be short
  void (*done)(Request&) = nullptr;
  void* owner = nullptr;    // the submitter's own
  Request* next = nullptr;  // the engine's own
};

class Engine {
 public:
  // With requests in flight: on the thread that flushed; none of them is completed or touched afterwards.
  virtual ~Engine() = default;

  // Takes the request. It is handed to the kernel at the latest by the next flush().
  virtual void submit(Request& request) = 0;

  // Hands everything taken to the kernel or the workers. Called once per turn of the loop.
  virtual void flush() = 0;

  // Calls done of every finished request; returns how many. Called when event_descriptor() is readable. A
  // wait on that descriptor may also end with EINTR: wait again.
  virtual size_t reap() = 0;

  // Readable when reap() has work; watched by the reactor's epoll.
  virtual int event_descriptor() const = 0;

  // Requests taken and not yet reaped.
  virtual size_t in_flight() const = 0;

  virtual const char* name() const = 0;  // "io_uring", "workers", "simulated"
};

struct OpenOptions {
  bool create = false;
  bool exclusive = false;
  bool read_only = false;
  bool direct = false;  // O_DIRECT
  bool no_cow = false;  // ask the file system not to copy on write (btrfs); ignored elsewhere
};

// A file mapped shared into memory: what is stored there survives the process (page cache), and power loss
// after a sync of its file.
struct Mapping {
  std::byte* bytes = nullptr;
  size_t length = 0;
};

// A directory kept open, so that making its entries durable needs no descriptor at that moment.
class Directory {
 public:
  virtual ~Directory() = default;
  // 0 or -errno. Thread-safe.
  virtual int sync() = 0;
};

class Disk {
 public:
  virtual ~Disk() = default;

  // 0 and the file, or -errno.
  virtual int open(const std::string& path, const OpenOptions& options, std::unique_ptr<File>& file) = 0;
  virtual int unlink(const std::string& path) = 0;
  virtual int sync_directory(const std::string& path) = 0;
  virtual int open_directory(const std::string& path, std::unique_ptr<Directory>& directory) = 0;
  // Maps the first `length` bytes, which must exist and be allocated. The mapping lives as long as the disk.
  virtual int map(File& file, size_t length, Mapping& mapping) = 0;
  // Blocking fdatasync, for start and stop only.
  virtual int sync(File& file) = 0;
  // Bytes an unprivileged writer may still take on the file system of `path`, or -errno.
  virtual int64_t free_bytes(const std::string& path) = 0;

  // One per reactor, used by that reactor's thread only.
  virtual std::unique_ptr<Engine> make_engine() = 0;
};

enum class EngineChoice : uint8_t { automatic, io_uring, workers };

// The real one. `automatic` does what CELLBLOCK_IO_ENGINE (workers or io_uring) says, else probes io_uring
// and falls back to workers; asking for io_uring where it is forbidden returns null.
std::unique_ptr<Disk> make_real_disk(EngineChoice choice);

// True where io_uring can be set up and has the operations used here.
bool io_uring_available();

}  // namespace cellblock::io
