// The real disk: opening, mapping, and that try_read never waits and try_write reaches the page cache.
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "io/io.h"
#include "store/journal.h"
#include "test/tap.h"
#include "test/temporary_directory.h"

using namespace cellblock::io;
using cellblock::test::TemporaryDirectory;

namespace {

struct Fixture {
  TemporaryDirectory directory;
  std::unique_ptr<Disk> disk = make_real_disk(EngineChoice::automatic);
  std::unique_ptr<File> file;
  int open(const OpenOptions& options, const std::string& name = "data") {
    return disk->open(directory.file(name), options, file);
  }
};

TAP_TEST("open says what is wrong") {
  Fixture f;
  TAP_EQ(f.open({}), -ENOENT, "no such file");
  TAP_EQ(f.open({.create = true}), 0, "created");
  TAP_EQ(f.open({.create = true, .exclusive = true}), -EEXIST, "exists");
  TAP_EQ(f.open({.create = true}), 0, "opened again");
  std::unique_ptr<File> none;
  TAP_EQ(f.disk->open(f.directory.path(), {.read_only = true}, none), -EISDIR, "a directory");
  TAP_OK(!none, "no file with an error");
  TAP_EQ(f.disk->unlink(f.directory.file("data")), 0, "unlinked");
  TAP_EQ(f.disk->unlink(f.directory.file("data")), -ENOENT, "only once");
  TAP_EQ(f.disk->sync_directory(f.directory.path()), 0, "directory synced");
  TAP_EQ(f.disk->sync_directory(f.directory.file("nowhere")), -ENOENT, "no such directory");
}

TAP_TEST("a file asked to be without copy on write works everywhere") {
  Fixture f;
  TAP_EQ(f.open({.create = true, .no_cow = true}), 0, "created");
  TAP_EQ(f.file->try_write("x", 1, 0), 1, "written");
}

TAP_TEST("what is cached is read inline, what is not is refused") {
  Fixture f;
  TAP_EQ(f.open({.create = true}), 0, "created");
  std::vector<char> bytes(1 << 20, 'a');
  TAP_EQ(f.file->try_write(bytes.data(), bytes.size(), 0), bytes.size(), "written");
  std::vector<char> back(bytes.size());
  TAP_EQ(f.file->try_read(back.data(), 4096, 8192), 4096, "cached");
  TAP_EQ(std::memcmp(back.data(), bytes.data(), 4096), 0, "and right");
  TAP_EQ(f.file->try_read(back.data(), 4096, bytes.size()), 0, "at the end");
  TAP_EQ(f.file->try_read(back.data(), 4096, bytes.size() - 100), 100, "across the end");
  TAP_EQ(f.disk->sync(*f.file), 0, "synced");
  posix_fadvise(f.file->descriptor(), 0, 0, POSIX_FADV_DONTNEED);
  const ssize_t got = f.file->try_read(back.data(), 4096, 8192);
  TAP_OK(got == -EAGAIN || got == 4096, "refused, unless the kernel kept it");
  TAP_EQ(pread(f.file->descriptor(), back.data(), 1 << 20, 0), 1 << 20, "brought back");
  TAP_EQ(f.file->try_read(back.data(), 4096, 8192), 4096, "cached again");
}

TAP_TEST("direct files are left to the engine") {
  Fixture f;
  const int error = f.open({.create = true, .direct = true});
  if (error == -EINVAL) TAP_SKIP("the file system of the test directory has no O_DIRECT");
  TAP_EQ(error, 0, "created");
  char bytes[512] = {};
  TAP_EQ(f.file->try_read(bytes, sizeof bytes, 0), -EAGAIN, "read");
  TAP_EQ(f.file->try_write(bytes, sizeof bytes, 0), -EAGAIN, "write");
}

TAP_TEST("a mapping and its file are the same bytes, also after it is closed and opened again") {
  Fixture f;
  TAP_EQ(f.open({.create = true}), 0, "created");
  std::vector<char> zeros(8192);
  f.file->try_write(zeros.data(), zeros.size(), 0);
  Mapping mapping;
  TAP_EQ(f.disk->map(*f.file, 8192, mapping), 0, "mapped");
  TAP_EQ(mapping.length, 8192, "length");
  std::memcpy(mapping.bytes + 5000, "journal", 7);
  TAP_EQ(f.disk->sync(*f.file), 0, "synced");
  TAP_EQ(f.open({}), 0, "opened again");
  char back[7];
  TAP_EQ(pread(f.file->descriptor(), back, 7, 5000), 7, "read");
  TAP_EQ(std::memcmp(back, "journal", 7), 0, "stored bytes");
  TAP_EQ(f.file->try_write("J", 1, 5000), 1, "written through the file");
  TAP_EQ(static_cast<char>(mapping.bytes[5000]), 'J', "seen in memory");
}

// What this process has made dirty so far, in bytes; the kernel counts it folio by folio.
int64_t dirtied() {
  std::ifstream counters("/proc/self/io");
  for (std::string name; counters >> name;) {
    int64_t value = 0;
    counters >> value;
    if (name == "write_bytes:") return value;
  }
  return -1;
}

TAP_TEST("an entry of a new journal makes a page or two dirty, and not a large folio") {
  Fixture f;
  std::unique_ptr<cellblock::store::Journal> journal;
  cellblock::store::Scan scan;
  const std::string path = f.directory.file("journal");
  TAP_EQ(cellblock::store::Journal::open(*f.disk, path, 1 << 16, {}, journal, scan), 0, "made");
  TAP_EQ(journal->start(1), 0, "begun");
  const int64_t before = dirtied();
  if (before < 0) TAP_SKIP("this kernel does not count what a process writes");
  TAP_OK(journal->reserve(1), "room");
  journal->append({});
  TAP_OK(dirtied() - before <= 2 * sysconf(_SC_PAGESIZE), "no more than that");
}

TAP_TEST("free space is known, and of nowhere is an error") {
  Fixture f;
  TAP_OK(f.disk->free_bytes(f.directory.path()) > 0, "some");
  TAP_EQ(f.disk->free_bytes(f.directory.file("nowhere")), -ENOENT, "nowhere");
}

TAP_TEST("the environment can forbid io_uring, asking for an engine by name is obeyed") {
  setenv("CELLBLOCK_IO_ENGINE", "workers", 1);
  TAP_EQ(std::string(make_real_disk(EngineChoice::automatic)->make_engine()->name()), "workers", "forbidden");
  unsetenv("CELLBLOCK_IO_ENGINE");
  TAP_EQ(std::string(make_real_disk(EngineChoice::workers)->make_engine()->name()), "workers", "workers");
  auto uring = make_real_disk(EngineChoice::io_uring);
  TAP_EQ(uring != nullptr, io_uring_available(), "io_uring exactly where it can be had");
  if (uring) TAP_EQ(std::string(uring->make_engine()->name()), "io_uring", "io_uring");
}

}  // namespace

int main() { return cellblock::test::run(); }
