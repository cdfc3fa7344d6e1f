// Faults injected over real files: the operation chosen fails, its neighbours do not.
#include <poll.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "io/fault_disk.h"
#include "test/tap.h"
#include "test/temporary_directory.h"

using namespace cellblock::io;

namespace {

struct Fixture {
  explicit Fixture(EngineChoice choice = EngineChoice::automatic) : below(make_real_disk(choice)) {
    disk = make_fault_disk(*below, plan);
    engine = disk->make_engine();
    disk->open(directory.file("data"), {.create = true}, file);
  }
  cellblock::test::TemporaryDirectory directory;
  FaultPlan plan;
  std::unique_ptr<Disk> below;
  std::unique_ptr<Disk> disk;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<File> file;
};

struct Counted : Request {
  int completions = 0;
};

bool drain(Engine& engine) {
  engine.flush();
  while (engine.in_flight() > 0) {
    pollfd wanted{engine.event_descriptor(), POLLIN, 0};
    int ready;
    do {
      ready = poll(&wanted, 1, 60'000);
    } while (ready < 0 && errno == EINTR);
    if (ready != 1) return false;
    engine.reap();
    engine.flush();
  }
  return true;
}

TAP_TEST("the n-th matching call fails, in its own way only") {
  Fixture f;
  char bytes[4096] = {1};
  f.plan.add({.actions = only(Action::write), .skip = 1, .error = ENOSPC});
  f.plan.add({.actions = only(Action::read), .path = "data", .error = EIO});
  f.plan.add({.actions = only(Action::punch), .error = EOPNOTSUPP});
  TAP_EQ(f.file->try_write(bytes, sizeof bytes, 0), 4096, "first write");
  TAP_EQ(f.file->try_write(bytes, sizeof bytes, 4096), -ENOSPC, "second write");
  TAP_EQ(f.file->size(), 4096, "which did nothing");
  TAP_EQ(f.file->try_write(bytes, sizeof bytes, 4096), 4096, "third write");
  TAP_EQ(f.file->try_read(bytes, sizeof bytes, 0), -EIO, "read");
  TAP_EQ(f.file->try_read(bytes, sizeof bytes, 0), 4096, "next read");
  TAP_EQ(f.file->punch(0, 4096), -EOPNOTSUPP, "punch");
  TAP_EQ(f.plan.left(), 0, "every fault has happened");
}

TAP_TEST("calls on the disk fail too") {
  Fixture f;
  f.plan.add({.actions = Action::open | Action::unlink | Action::map | Action::sync_directory | Action::sync,
              .times = 5,
              .error = EIO});
  std::unique_ptr<File> none;
  Mapping mapping;
  TAP_EQ(f.disk->open(f.directory.file("other"), {.create = true}, none), -EIO, "open");
  TAP_EQ(f.disk->unlink(f.directory.file("data")), -EIO, "unlink");
  TAP_EQ(f.disk->sync_directory(f.directory.path()), -EIO, "sync of the directory");
  TAP_EQ(f.disk->sync(*f.file), -EIO, "sync");
  TAP_EQ(f.disk->map(*f.file, 4096, mapping), -EIO, "map");
  TAP_EQ(f.disk->sync(*f.file), 0, "and work again");
  TAP_EQ(f.disk->unlink(f.directory.file("other")), -ENOENT, "nothing was created");
}

void check_engine(EngineChoice choice) {
  Fixture f(choice);
  constexpr int kRequests = 100;
  std::vector<Counted> all(kRequests);
  std::vector<char> bytes(512, 'x');
  f.plan.add({.actions = only(Action::write), .skip = 10, .times = 5, .error = EIO});
  f.plan.add({.actions = only(Action::write), .skip = 20, .times = 1});
  f.plan.add({.actions = only(Action::journal_sync), .error = EIO});
  for (int i = 0; i < kRequests; i++) {
    Counted& one = all[i];
    one.operation = i == 50 ? Operation::sync : i == 51 ? Operation::journal_sync : Operation::write;
    one.file = f.file.get();
    one.offset = uint64_t{512} * i;
    one.length = 512;
    one.data = bytes.data();
    one.done = [](Request& request) { static_cast<Counted&>(request).completions++; };
    f.engine->submit(one);
  }
  TAP_EQ(f.engine->in_flight(), kRequests, "in flight");
  TAP_OK(drain(*f.engine), "all end");
  for (int i = 0; i < kRequests; i++) {
    TAP_EQ(all[i].completions, 1, "completed once");
    const int64_t result = all[i].result;
    if (i == 51 || (i >= 10 && i < 15)) {
      TAP_EQ(result, -EIO, "failed");
    } else if (i == 20) {
      TAP_OK(result > 0 && result < 512, "shortened");
    } else {
      TAP_EQ(result, i == 50 ? 0 : 512, "went well");
    }
  }
  TAP_EQ(f.plan.left(), 0, "every fault has happened");
}

TAP_TEST("an engine's requests fail or are shortened, each completed once") {
  if (io_uring_available()) check_engine(EngineChoice::io_uring);
  check_engine(EngineChoice::workers);
}

TAP_TEST("an engine may end with requests in flight") {
  Fixture f;
  std::vector<char> bytes(4096);
  Counted good, bad;
  f.plan.add({.actions = only(Action::sync), .error = EIO});
  for (Counted* one : {&good, &bad}) {
    one->operation = one == &good ? Operation::write : Operation::sync;
    one->file = f.file.get();
    one->length = 4096;
    one->data = bytes.data();
    one->done = [](Request& request) { static_cast<Counted&>(request).completions++; };
    f.engine->submit(*one);
  }
  f.engine->flush();
  f.engine.reset();
  TAP_EQ(good.completions + bad.completions, 0, "nothing is completed behind its owner's back");
}

}  // namespace

int main() { return cellblock::test::run(); }
