// The engine on io_uring: the reactor's epoll watches the ring's descriptor.
//
// Never more requests are in the kernel than the completion queue has room for, so it cannot overflow; what
// is above that, or does not fit the submission queue, waits in backlog_ in order. Invariant: a request is
// either in backlog_ or counted in in_kernel_.
#include <fcntl.h>
#include <linux/falloc.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/intrusive_list.h"
#include "io/engines.h"
#include "io/uring_ring.h"

#ifndef RWF_DSYNC
#define RWF_DSYNC 2
#endif

namespace cellblock::io {
namespace {

constexpr unsigned kEntries = 256;
constexpr unsigned kCompletions = 1024;
constexpr uint8_t kOperations[] = {IORING_OP_NOP, IORING_OP_READ, IORING_OP_WRITE, IORING_OP_FSYNC,
                                   IORING_OP_FALLOCATE};

// Low bit of user_data: this zero_range is being done by writing zeros, `result` says how far it is.
constexpr uint64_t kWritingZeros = 1;
static_assert(alignof(Request) > kWritingZeros);

uint64_t tag_of(Request& request, uint64_t mode) { return reinterpret_cast<uintptr_t>(&request) | mode; }

void fill_transfer(const Request& r, io_uring_sqe& entry) {
  entry.opcode = r.operation == Operation::read ? IORING_OP_READ : IORING_OP_WRITE;
  entry.off = r.offset;
  entry.addr = reinterpret_cast<uintptr_t>(r.data);
  entry.len = static_cast<uint32_t>(std::min(r.length, kMaxTransferBytes));
  if (r.operation != Operation::write_dsync) return;
  entry.rw_flags = RWF_DSYNC;
  // Some file systems would take the write without waiting and then sync it inside our system call.
  entry.flags |= IOSQE_ASYNC;
}

void fill_fallocate(const Request& r, io_uring_sqe& entry, uint32_t mode) {
  if (r.length == 0) {
    entry.opcode = IORING_OP_NOP;  // the system call refuses nothing; the workers do nothing
    return;
  }
  entry.opcode = IORING_OP_FALLOCATE;
  entry.off = r.offset;
  entry.addr = r.length;
  entry.len = mode;
}

void fill_zero_write(const Request& r, io_uring_sqe& entry) {
  const auto done = static_cast<uint64_t>(r.result);
  entry.opcode = IORING_OP_WRITE;
  entry.off = r.offset + done;
  entry.addr = reinterpret_cast<uintptr_t>(zero_bytes());
  entry.len = static_cast<uint32_t>(std::min<uint64_t>(r.length - done, kZeroBytes));
}

void fill(const Request& r, io_uring_sqe& entry) {
  switch (r.operation) {
    case Operation::read:
    case Operation::write:
    case Operation::write_dsync:
      fill_transfer(r, entry);
      break;
    case Operation::sync:
    case Operation::journal_sync:
      entry.opcode = IORING_OP_FSYNC;
      entry.fsync_flags = IORING_FSYNC_DATASYNC;
      break;
    case Operation::punch:
      fill_fallocate(r, entry, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
      break;
    case Operation::zero_range:
      fill_fallocate(r, entry, FALLOC_FL_ZERO_RANGE);
      break;
  }
}

class UringEngine final : public Engine {
 public:
  explicit UringEngine(std::unique_ptr<UringRing> ring) : ring_(std::move(ring)) {}

  // Waits for what the kernel has, so that no buffer is touched afterwards; nothing is completed. On the
  // thread that flushed, else the kernel cancels what it has in its own time.
  ~UringEngine() override {
    while (in_kernel_ > ring_->unsubmitted()) {
      while (ring_->peek()) {
        ring_->advance();
        in_kernel_--;
      }
      if (in_kernel_ <= ring_->unsubmitted()) break;
      const int result = ring_->enter(1);
      if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY) break;
    }
  }

  void submit(Request& request) override {
    in_flight_++;
    request.result = 0;
    if (!backlog_.empty() || !place(request, 0)) backlog_.push(request);
  }

  void flush() override {
    do {
      place_backlog();
      if (!enter()) return;
    } while (!backlog_.empty() && in_kernel_ < ring_->completion_entries());
  }

  size_t reap() override {
    if (ring_->needs_enter()) ring_->collect();
    size_t reaped = 0;
    while (const io_uring_cqe* completion = ring_->peek()) {
      const uint64_t tag = completion->user_data;
      const int32_t result = completion->res;
      ring_->advance();
      in_kernel_--;
      auto* request = reinterpret_cast<Request*>(tag & ~kWritingZeros);
      if (!settle(*request, tag & kWritingZeros, result)) continue;
      in_flight_--;
      reaped++;
      request->done(*request);
    }
    // Their turn came with this reap; there may be no other reason for a flush.
    if (!backlog_.empty() || ring_->unsubmitted() > 0) flush();
    return reaped;
  }

  int event_descriptor() const override { return ring_->descriptor(); }
  size_t in_flight() const override { return in_flight_; }
  const char* name() const override { return "io_uring"; }

 private:
  bool place(Request& request, uint64_t mode) {
    if (in_kernel_ >= ring_->completion_entries()) return false;
    io_uring_sqe* entry = ring_->next_entry();
    if (!entry) return false;
    if (mode == kWritingZeros) {
      fill_zero_write(request, *entry);
    } else {
      fill(request, *entry);
    }
    entry->fd = request.file->descriptor();
    entry->user_data = tag_of(request, mode);
    in_kernel_++;
    return true;
  }

  // What waits there with progress made is a zero_range in the middle of its zeros.
  void place_backlog() {
    while (Request* request = backlog_.front()) {
      const bool zeros = request->operation == Operation::zero_range && request->result != 0;
      if (!place(*request, zeros ? kWritingZeros : 0)) return;
      backlog_.pop();
    }
  }

  // Hands over what is placed. False when the kernel has no memory for it now: a completion will bring us
  // back.
  bool enter() {
    while (ring_->unsubmitted() > 0) {
      const int result = ring_->enter(0);
      if (result >= 0 || result == -EINTR) continue;
      if (result != -EAGAIN && result != -EBUSY) give_up(result);
      if (in_kernel_ > ring_->unsubmitted()) return false;
      const timespec pause{0, 1'000'000};  // nothing of ours will end and wake us
      nanosleep(&pause, nullptr);
    }
    return true;
  }

  // True when the request is finished; else it goes on.
  bool settle(Request& request, bool writing_zeros, int32_t result) {
    if (result == -EINTR) return again(request, writing_zeros ? kWritingZeros : 0);
    if (request.operation != Operation::zero_range) {
      request.result = result;
      return true;
    }
    if (!writing_zeros && result == -EOPNOTSUPP) return again(request, kWritingZeros);
    if (!writing_zeros || result < 0) {
      request.result = result;
      return true;
    }
    if (result == 0) {
      request.result = -EIO;
      return true;
    }
    request.result += result;
    if (static_cast<uint64_t>(request.result) < request.length) return again(request, kWritingZeros);
    request.result = 0;
    return true;
  }

  bool again(Request& request, uint64_t mode) {
    // From the backlog a zero_range without progress would only ask for the call that is missing once more.
    if (!place(request, mode)) backlog_.push(request);
    return false;
  }

  [[noreturn]] static void give_up(int error) {
    // A descriptor of ours that the kernel does not take, or another thread's: nothing could be completed any
    // more.
    std::fprintf(stderr, "cellblock: io_uring_enter: %s\n", std::strerror(-error));
    std::abort();
  }

  std::unique_ptr<UringRing> ring_;
  IntrusiveList<Request> backlog_;
  size_t in_flight_ = 0;
  unsigned in_kernel_ = 0;  // placed in the ring and not yet seen completed
};

}  // namespace

std::unique_ptr<Engine> make_uring_engine() {
  std::unique_ptr<UringRing> ring = UringRing::make(kEntries, kCompletions);
  if (!ring || !ring->supports(kOperations, sizeof kOperations)) return nullptr;
  return std::make_unique<UringEngine>(std::move(ring));
}

bool io_uring_available() {
  static const bool available = make_uring_engine() != nullptr;
  return available;
}

}  // namespace cellblock::io
