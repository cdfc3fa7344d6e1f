// One io_uring by raw system calls: set-up, the two rings in shared memory, enter. No policy.
//
// The kernel reads the submission queue up to `tail` and writes the completion queue up to its tail; both
// sides order their stores with release and their loads with acquire, and nothing else in the mapping is
// shared.
#pragma once

#include <linux/io_uring.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace cellblock::io {

class UringRing {
 public:
  // Null where the kernel, or a policy, does not let us. The flags asked for shrink until the kernel knows
  // them all.
  static std::unique_ptr<UringRing> make(unsigned entries, unsigned completions);
  ~UringRing();
  UringRing(const UringRing&) = delete;
  UringRing& operator=(const UringRing&) = delete;

  int descriptor() const { return descriptor_; }
  unsigned completion_entries() const { return cq_entries_; }

  // A cleared entry to fill in, or null when the queue is full until the next enter().
  io_uring_sqe* next_entry();
  // Entries filled in that the kernel has not taken.
  unsigned unsubmitted() const;

  // Shows the kernel what was filled in; waits for `wait` completions. Entries taken, or -errno.
  int enter(unsigned wait);
  // True where completions are held back until enter().
  bool needs_enter() const;
  // Lets the kernel post completions it holds back; waits for none.
  void collect();

  // The oldest completion, or null. Stays valid until advance().
  const io_uring_cqe* peek() const;
  void advance();

  // True when every operation in `operations` is known to the kernel.
  bool supports(const uint8_t* operations, size_t count) const;

 private:
  UringRing() = default;
  bool set_up(unsigned entries, unsigned completions, unsigned flags);
  bool map(const io_uring_params& params);
  bool enable();

  int descriptor_ = -1;
  bool disabled_ = false;  // until the thread that will submit comes by
  void* rings_ = nullptr;
  size_t rings_bytes_ = 0;
  io_uring_sqe* entries_ = nullptr;
  size_t entries_bytes_ = 0;

  unsigned* sq_head_ = nullptr;
  unsigned* sq_tail_ = nullptr;
  unsigned* sq_flags_ = nullptr;
  unsigned* sq_array_ = nullptr;
  unsigned sq_entries_ = 0;
  unsigned sq_local_tail_ = 0;
  unsigned* cq_head_ = nullptr;
  unsigned* cq_tail_ = nullptr;
  io_uring_cqe* cq_ = nullptr;
  unsigned cq_entries_ = 0;
};

}  // namespace cellblock::io
