// The contract of io.h's Engine, kept by both engines of the real disk. Every case runs once for each.
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "io/engines.h"
#include "io/io.h"
#include "test/tap.h"
#include "test/temporary_directory.h"

using namespace cellblock::io;
using cellblock::test::TemporaryDirectory;

namespace {

constexpr EngineChoice kChoices[] = {EngineChoice::io_uring, EngineChoice::workers};

struct Issued : Request {
  int completions = 0;
  std::vector<std::byte> buffer;
};

struct Bench {
  explicit Bench(EngineChoice choice, const std::string& parent = "")
      : directory(parent.empty() ? std::make_unique<TemporaryDirectory>()
                                 : std::make_unique<TemporaryDirectory>(parent)),
        disk(make_real_disk(choice)) {
    if (!disk) return;
    engine = disk->make_engine();
    disk->open(directory->file("data"), {.create = true}, file);
  }
  explicit operator bool() const { return disk && engine && file; }

  std::unique_ptr<TemporaryDirectory> directory;
  std::unique_ptr<Disk> disk;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<File> file;
};

bool readable(const Engine& engine, int timeout_ms) {
  pollfd wanted{engine.event_descriptor(), POLLIN, 0};
  int ready;
  do {
    ready = poll(&wanted, 1, timeout_ms);
  } while (ready < 0 && errno == EINTR);  // io_uring may finish its work by interrupting us
  return ready == 1;
}

// Turns the loop until nothing is in flight. The limit only ends a test that would hang.
bool drain(Engine& engine) {
  constexpr int kLimitMs = 60'000;
  engine.flush();
  while (engine.in_flight() > 0) {
    if (!readable(engine, kLimitMs)) return false;
    engine.reap();
    engine.flush();
  }
  return true;
}

void count(Request& request) { static_cast<Issued&>(request).completions++; }

std::unique_ptr<Issued> issue(File& file, Operation operation, uint64_t offset, uint64_t length,
                              int fill = 0) {
  auto request = std::make_unique<Issued>();
  request->operation = operation;
  request->file = &file;
  request->offset = offset;
  request->length = length;
  if (operation <= Operation::write_dsync) {
    request->buffer.assign(length, static_cast<std::byte>(fill));
    request->data = request->buffer.data();
  }
  request->done = count;
  return request;
}

int64_t perform_one(Bench& b, Operation operation, uint64_t offset, uint64_t length, int fill = 0) {
  auto request = issue(*b.file, operation, offset, length, fill);
  b.engine->submit(*request);
  TAP_EQ(request->completions, 0, "not done before flush");
  TAP_OK(drain(*b.engine), "it ends");
  TAP_EQ(request->completions, 1, "done exactly once");
  return request->result;
}

bool reads_as(Bench& b, uint64_t offset, uint64_t length, int value) {
  auto request = issue(*b.file, Operation::read, offset, length, 0xee);
  b.engine->submit(*request);
  drain(*b.engine);
  if (request->result != static_cast<int64_t>(length)) return false;
  for (const std::byte byte : request->buffer) {
    if (byte != static_cast<std::byte>(value)) return false;
  }
  return true;
}

uint64_t allocated_bytes(File& file) {
  struct stat facts {};
  fstat(file.descriptor(), &facts);
  return static_cast<uint64_t>(facts.st_blocks) * 512;
}

template <typename Body>
void for_each_engine(Body body, const std::string& parent = "") {
  for (const EngineChoice choice : kChoices) {
    if (choice == EngineChoice::io_uring && !io_uring_available()) {
      std::printf("# io_uring is not available here: only the workers are tested\n");
      continue;
    }
    Bench b(choice, parent);
    TAP_NEED(b, "a file and an engine");
    std::printf("# %s\n", b.engine->name());
    body(b);
  }
}

TAP_TEST("what was written is read back") {
  for_each_engine([](Bench& b) {
    TAP_EQ(perform_one(b, Operation::write, 4096, 8192, 0x5a), 8192, "write");
    TAP_EQ(perform_one(b, Operation::write_dsync, 12288, 4096, 0x5b), 4096, "stable write");
    TAP_EQ(perform_one(b, Operation::sync, 0, 0), 0, "sync");
    TAP_EQ(perform_one(b, Operation::journal_sync, 0, 0), 0, "sync of a journal");
    TAP_OK(reads_as(b, 0, 4096, 0), "a hole is zero");
    TAP_OK(reads_as(b, 4096, 8192, 0x5a), "written bytes");
    TAP_OK(reads_as(b, 12288, 4096, 0x5b), "stably written bytes");
    TAP_EQ(b.file->size(), 16384, "size");
  });
}

TAP_TEST("a read across the end of the file is short, behind it empty") {
  for_each_engine([](Bench& b) {
    TAP_EQ(perform_one(b, Operation::write, 0, 5000, 1), 5000, "write");
    TAP_EQ(perform_one(b, Operation::read, 4096, 4096), 904, "across");
    TAP_EQ(perform_one(b, Operation::read, 8192, 4096), 0, "behind");
  });
}

TAP_TEST("a punched range is zero and takes no space, the size stays") {
  for_each_engine([](Bench& b) {
    perform_one(b, Operation::write, 0, 1 << 20, 7);
    perform_one(b, Operation::sync, 0, 0);
    const uint64_t before = allocated_bytes(*b.file);
    TAP_EQ(perform_one(b, Operation::punch, 65536, 1 << 20), 0, "punch");
    TAP_OK(reads_as(b, 65536, (1 << 20) - 65536, 0), "zero inside");
    TAP_OK(reads_as(b, 0, 65536, 7), "untouched before");
    TAP_OK(allocated_bytes(*b.file) < before, "space is given back");
    TAP_EQ(b.file->size(), 1 << 20, "size");
    TAP_EQ(perform_one(b, Operation::punch, 0, 0), 0, "nothing to punch");
    TAP_EQ(b.file->punch(0, 4096), 0, "punch without the engine");
    TAP_OK(reads_as(b, 0, 4096, 0), "zero there too");
  });
}

void check_zero_range(Bench& b) {
  constexpr uint64_t kLength = (5 << 20) + 4096;  // several buffers of zeros where they must be written
  perform_one(b, Operation::write, 0, 1 << 20, 9);
  TAP_EQ(perform_one(b, Operation::zero_range, 4096, kLength), 0, "zero");
  TAP_OK(reads_as(b, 0, 4096, 9), "untouched before");
  TAP_OK(reads_as(b, 4096, kLength, 0), "zero inside");
  TAP_EQ(b.file->size(), 4096 + kLength, "the file reaches to its end");
  TAP_OK(allocated_bytes(*b.file) >= kLength, "it is allocated");
  TAP_EQ(perform_one(b, Operation::zero_range, 0, 0), 0, "nothing to zero");
}

TAP_TEST("a zeroed range is zero and allocated") { for_each_engine(check_zero_range); }

TAP_TEST("a range is zeroed by writing where the file system has no call for it") {
  struct statfs facts {};
  if (statfs("/dev/shm", &facts) != 0 || facts.f_type != TMPFS_MAGIC) TAP_SKIP("no tmpfs at /dev/shm");
  for_each_engine(check_zero_range, "/dev/shm");
}

TAP_TEST("an error is the result of its request alone") {
  for_each_engine([](Bench& b) {
    std::unique_ptr<File> read_only;
    TAP_EQ(b.disk->open(b.directory->file("data"), {.read_only = true}, read_only), 0, "open");
    auto bad = issue(*read_only, Operation::write, 0, 4096, 1);
    auto good = issue(*b.file, Operation::write, 0, 4096, 2);
    auto worse = issue(*read_only, Operation::punch, 0, 4096);
    b.engine->submit(*bad);
    b.engine->submit(*good);
    b.engine->submit(*worse);
    TAP_OK(drain(*b.engine), "all end");
    TAP_EQ(bad->result, -EBADF, "write to a file opened for reading");
    TAP_EQ(good->result, 4096, "its neighbour");
    TAP_EQ(worse->result, -EBADF, "punch of a file opened for reading");
  });
}

TAP_TEST("far more requests than any queue holds are each completed once") {
  for_each_engine([](Bench& b) {
    constexpr int kRequests = 5000;
    std::vector<std::unique_ptr<Issued>> all;
    for (int i = 0; i < kRequests; i++) {
      all.push_back(issue(*b.file, Operation::write, uint64_t{512} * i, 512, i));
      b.engine->submit(*all.back());
    }
    TAP_EQ(b.engine->in_flight(), kRequests, "all are in flight");
    TAP_OK(drain(*b.engine), "all end");
    for (const auto& request : all) {
      TAP_EQ(request->completions, 1, "completions");
      TAP_EQ(request->result, 512, "result");
    }
    for (int i = 0; i < kRequests; i += 97) {
      TAP_OK(reads_as(b, uint64_t{512} * i, 512, i & 0xff), "the right bytes at the right place");
    }
  });
}

struct Chain : Issued {
  Engine* engine = nullptr;
  int left = 0;
};

TAP_TEST("a request can be submitted again from its own completion") {
  for_each_engine([](Bench& b) {
    Chain chain;
    chain.operation = Operation::write;
    chain.file = b.file.get();
    chain.length = 4096;
    chain.buffer.resize(4096);
    chain.data = chain.buffer.data();
    chain.engine = b.engine.get();
    chain.left = 300;
    chain.done = [](Request& request) {
      auto& self = static_cast<Chain&>(request);
      self.completions++;
      self.offset += 4096;
      if (--self.left > 0) self.engine->submit(self);
    };
    b.engine->submit(chain);
    TAP_OK(drain(*b.engine), "it ends");
    TAP_EQ(chain.completions, 300, "completions");
    TAP_EQ(b.file->size(), 300 * 4096, "size");
  });
}

TAP_TEST("the descriptor is readable exactly while there is something to reap") {
  for_each_engine([](Bench& b) {
    TAP_OK(!readable(*b.engine, 0), "not when idle");
    auto request = issue(*b.file, Operation::sync, 0, 0);
    b.engine->submit(*request);
    b.engine->flush();
    TAP_OK(readable(*b.engine, 60'000), "when one is finished");
    TAP_EQ(request->completions, 0, "flush does not complete");
    size_t reaped = 0;
    while (b.engine->in_flight() > 0) reaped += b.engine->reap();
    TAP_EQ(reaped, 1, "reaped");
    TAP_OK(!readable(*b.engine, 0), "not afterwards");
    TAP_EQ(b.engine->reap(), 0, "nothing left");
  });
}

TAP_TEST("an engine made on one thread works on another") {
  for_each_engine([](Bench& b) {
    std::thread([&b] {
      TAP_EQ(perform_one(b, Operation::write, 0, 4096, 3), 4096, "write");
      TAP_OK(reads_as(b, 0, 4096, 3), "read");
      b.engine.reset();
    }).join();
  });
}

TAP_TEST("an engine may end with requests in flight") {
  for_each_engine([](Bench& b) {
    std::vector<std::unique_ptr<Issued>> all;
    for (int i = 0; i < 600; i++) {
      all.push_back(issue(*b.file, i % 8 ? Operation::write : Operation::sync, uint64_t{4096} * i,
                          i % 8 ? 4096 : 0, i));
      b.engine->submit(*all.back());
      if (i == 400) b.engine->flush();
    }
    b.engine.reset();
    for (const auto& request : all) TAP_EQ(request->completions, 0, "not completed behind its owner's back");
  });
}

TAP_TEST("long random work on one file agrees with an array") {
  for_each_engine([](Bench& b) {
    constexpr uint64_t kBytes = 256 << 10;
    constexpr uint64_t kUnit = 4096;
    cellblock::test::Random random;
    std::vector<int> model(kBytes / kUnit, 0);
    perform_one(b, Operation::write, 0, kBytes, 0);
    for (int round = 0; round < 60; round++) {
      std::vector<std::unique_ptr<Issued>> all;
      for (uint64_t unit = 0; unit < model.size(); unit++) {  // one request per unit: no order among them
        const int fill = static_cast<int>(random.below(256));
        const uint64_t kind = random.below(6);
        if (kind == 0) continue;
        const Operation operation = kind == 1   ? Operation::punch
                                    : kind == 2 ? Operation::zero_range
                                                : Operation::write;
        all.push_back(issue(*b.file, operation, unit * kUnit, kUnit, fill));
        model[unit] = operation == Operation::write ? fill : 0;
        b.engine->submit(*all.back());
        if (random.chance(20)) b.engine->flush();
        if (random.chance(10)) b.engine->reap();
      }
      if (!TAP_OK(drain(*b.engine), "the round ends")) return;
    }
    for (uint64_t unit = 0; unit < model.size(); unit++) {
      TAP_OK(reads_as(b, unit * kUnit, kUnit, model[unit]), "unit " + std::to_string(unit));
    }
  });
}

}  // namespace

int main() { return cellblock::test::run(); }
