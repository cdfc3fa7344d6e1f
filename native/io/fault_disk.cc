// See the header. An engine's request goes down as a copy, so that the file below and a shortened length can
// be put in; invariant: every copy is in passing_ until the engine below completes it, every failed request
// in failed_ until reaped.
#include "io/fault_disk.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <unordered_map>

#include "base/intrusive_list.h"

namespace cellblock::io {
namespace {

class FaultFile final : public File {
 public:
  FaultFile(std::unique_ptr<File> below, std::string path, FaultPlan& plan)
      : below_(std::move(below)), path_(std::move(path)), plan_(plan) {}

  ssize_t try_read(void* to, size_t bytes, uint64_t offset) override {
    const FaultPlan::Verdict verdict = plan_.next(Action::read, path_, bytes);
    return verdict.error ? -verdict.error : below_->try_read(to, verdict.length, offset);
  }
  ssize_t try_write(const void* from, size_t bytes, uint64_t offset) override {
    const FaultPlan::Verdict verdict = plan_.next(Action::write, path_, bytes);
    return verdict.error ? -verdict.error : below_->try_write(from, verdict.length, offset);
  }
  int punch(uint64_t offset, uint64_t bytes) override {
    const FaultPlan::Verdict verdict = plan_.next(Action::punch, path_, bytes);
    return verdict.error ? -verdict.error : below_->punch(offset, bytes);
  }
  int64_t size() const override { return below_->size(); }
  int descriptor() const override { return below_->descriptor(); }

  File& below() { return *below_; }
  const std::string& path() const { return path_; }

 private:
  std::unique_ptr<File> below_;
  const std::string path_;
  FaultPlan& plan_;
};

class FaultDirectory final : public Directory {
 public:
  FaultDirectory(std::unique_ptr<Directory> below, std::string path, FaultPlan& plan)
      : below_(std::move(below)), path_(std::move(path)), plan_(plan) {}

  int sync() override {
    const int error = plan_.next(Action::sync_directory, path_, 0).error;
    return error ? -error : below_->sync();
  }

 private:
  std::unique_ptr<Directory> below_;
  const std::string path_;
  FaultPlan& plan_;
};

class FaultEngine final : public Engine {
 public:
  FaultEngine(std::unique_ptr<Engine> below, FaultPlan& plan) : below_(std::move(below)), plan_(plan) {
    watch(below_->event_descriptor());
    watch(event_);
  }

  ~FaultEngine() override {
    below_.reset();  // it still points to what is in passing_
    close(event_);
    close(both_);
  }

  void submit(Request& request) override {
    auto& file = static_cast<FaultFile&>(*request.file);
    const FaultPlan::Verdict verdict = plan_.next(action_of(request.operation), file.path(), request.length);
    in_flight_++;
    if (verdict.error) {
      request.result = -verdict.error;
      failed_.push(request);
      unsignalled_ = true;
      return;
    }
    auto copy = std::make_unique<Copy>();
    static_cast<Request&>(*copy) = request;
    copy->file = &file.below();
    copy->length = verdict.length;
    copy->done = completed;
    copy->engine = this;
    copy->original = &request;
    Copy& passed = *copy;
    passing_.emplace(&passed, std::move(copy));
    below_->submit(passed);
  }

  void flush() override {
    below_->flush();
    if (!unsignalled_) return;
    unsignalled_ = false;
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t put = write(event_, &one, sizeof one);
  }

  size_t reap() override {
    size_t reaped = below_->reap();
    if (unsignalled_) return reaped;  // those have not been flushed
    uint64_t count;
    [[maybe_unused]] const ssize_t got = read(event_, &count, sizeof count);
    IntrusiveList<Request> failed;
    failed.append(failed_);
    while (Request* request = failed.pop()) {
      in_flight_--;
      reaped++;
      request->done(*request);
    }
    return reaped;
  }

  int event_descriptor() const override { return both_; }
  size_t in_flight() const override { return in_flight_; }
  const char* name() const override { return below_->name(); }

 private:
  struct Copy : Request {
    FaultEngine* engine = nullptr;
    Request* original = nullptr;
  };

  static void completed(Request& request) {
    auto& copy = static_cast<Copy&>(request);
    FaultEngine& engine = *copy.engine;
    Request& original = *copy.original;
    original.result = copy.result;
    engine.passing_.erase(&copy);
    engine.in_flight_--;
    original.done(original);
  }

  void watch(int descriptor) {
    epoll_event wanted{};
    wanted.events = EPOLLIN;
    epoll_ctl(both_, EPOLL_CTL_ADD, descriptor, &wanted);
  }

  std::unique_ptr<Engine> below_;
  FaultPlan& plan_;
  const int event_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  const int both_ = epoll_create1(EPOLL_CLOEXEC);  // readable when either is
  std::unordered_map<Copy*, std::unique_ptr<Copy>> passing_;
  IntrusiveList<Request> failed_;
  bool unsignalled_ = false;  // failed_ grew since the last flush
  size_t in_flight_ = 0;
};

class FaultDisk final : public Disk {
 public:
  FaultDisk(Disk& below, FaultPlan& plan) : below_(below), plan_(plan) {}

  int open(const std::string& path, const OpenOptions& options, std::unique_ptr<File>& file) override {
    if (const int error = plan_.next(Action::open, path, 0).error) return -error;
    std::unique_ptr<File> opened;
    const int result = below_.open(path, options, opened);
    if (result == 0) file = std::make_unique<FaultFile>(std::move(opened), path, plan_);
    return result;
  }
  int unlink(const std::string& path) override {
    const int error = plan_.next(Action::unlink, path, 0).error;
    return error ? -error : below_.unlink(path);
  }
  int sync_directory(const std::string& path) override {
    const int error = plan_.next(Action::sync_directory, path, 0).error;
    return error ? -error : below_.sync_directory(path);
  }
  int open_directory(const std::string& path, std::unique_ptr<Directory>& directory) override {
    if (const int error = plan_.next(Action::open, path, 0).error) return -error;
    std::unique_ptr<Directory> opened;
    const int result = below_.open_directory(path, opened);
    if (result == 0) directory = std::make_unique<FaultDirectory>(std::move(opened), path, plan_);
    return result;
  }
  int map(File& file, size_t length, Mapping& mapping) override {
    auto& mapped = static_cast<FaultFile&>(file);
    const int error = plan_.next(Action::map, mapped.path(), length).error;
    return error ? -error : below_.map(mapped.below(), length, mapping);
  }
  int sync(File& file) override {
    auto& synced = static_cast<FaultFile&>(file);
    const int error = plan_.next(Action::sync, synced.path(), 0).error;
    return error ? -error : below_.sync(synced.below());
  }
  int64_t free_bytes(const std::string& path) override { return below_.free_bytes(path); }
  std::unique_ptr<Engine> make_engine() override {
    std::unique_ptr<Engine> engine = below_.make_engine();
    return engine ? std::make_unique<FaultEngine>(std::move(engine), plan_) : nullptr;
  }

 private:
  Disk& below_;
  FaultPlan& plan_;
};

}  // namespace

std::unique_ptr<Disk> make_fault_disk(Disk& below, FaultPlan& plan) {
  return std::make_unique<FaultDisk>(below, plan);
}

}  // namespace cellblock::io
