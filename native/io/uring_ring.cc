// See the header. Flags and structures are those of linux/io_uring.h.
#include "io/uring_ring.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

// Newer than some kernel headers we build with; the number is the kernel's interface.
#ifndef IORING_SETUP_SINGLE_ISSUER
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif

namespace cellblock::io {
namespace {

// Best first. COOP_TASKRUN spares a busy thread the interrupts; TASKRUN_FLAG says when enter() is worth it.
// SINGLE_ISSUER needs one submitting thread, which R_DISABLED lets us name later than set-up. Not
// DEFER_TASKRUN: with it a thread that sleeps in poll or epoll on the ring's descriptor is not woken (seen on
// Linux 6.18).
constexpr unsigned kCooperative =
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
constexpr unsigned kFlagChoices[] = {
    kCooperative | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_R_DISABLED,
    kCooperative,
    0,
};

int sys_setup(unsigned entries, io_uring_params* params) {
  const long result = syscall(__NR_io_uring_setup, entries, params);
  return result < 0 ? -errno : static_cast<int>(result);
}

int sys_enter(int descriptor, unsigned submit, unsigned wait, unsigned flags) {
  const long result = syscall(__NR_io_uring_enter, descriptor, submit, wait, flags, nullptr, size_t{0});
  return result < 0 ? -errno : static_cast<int>(result);
}

int sys_register(int descriptor, unsigned operation, void* argument, unsigned count) {
  const long result = syscall(__NR_io_uring_register, descriptor, operation, argument, count);
  return result < 0 ? -errno : static_cast<int>(result);
}

template <typename T>
T* at(void* base, uint32_t offset) {
  return reinterpret_cast<T*>(static_cast<char*>(base) + offset);
}

unsigned load_acquire(const unsigned* from) { return __atomic_load_n(from, __ATOMIC_ACQUIRE); }
void store_release(unsigned* to, unsigned value) { __atomic_store_n(to, value, __ATOMIC_RELEASE); }

}  // namespace

std::unique_ptr<UringRing> UringRing::make(unsigned entries, unsigned completions) {
  for (const unsigned flags : kFlagChoices) {
    std::unique_ptr<UringRing> ring(new UringRing);
    if (ring->set_up(entries, completions, flags)) return ring;
  }
  return nullptr;
}

UringRing::~UringRing() {
  if (entries_) munmap(entries_, entries_bytes_);
  if (rings_) munmap(rings_, rings_bytes_);
  if (descriptor_ >= 0) close(descriptor_);
}

bool UringRing::set_up(unsigned entries, unsigned completions, unsigned flags) {
  io_uring_params params{};
  params.flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
  params.cq_entries = completions;
  descriptor_ = sys_setup(entries, &params);
  if (descriptor_ < 0) return false;
  disabled_ = flags & IORING_SETUP_R_DISABLED;
  constexpr unsigned kNeeded = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP;
  return (params.features & kNeeded) == kNeeded && map(params);
}

bool UringRing::map(const io_uring_params& p) {
  const size_t sq_bytes = p.sq_off.array + p.sq_entries * sizeof(unsigned);
  const size_t cq_bytes = p.cq_off.cqes + p.cq_entries * sizeof(io_uring_cqe);
  rings_bytes_ = sq_bytes > cq_bytes ? sq_bytes : cq_bytes;
  entries_bytes_ = p.sq_entries * sizeof(io_uring_sqe);
  const int protection = PROT_READ | PROT_WRITE;
  const int flags = MAP_SHARED | MAP_POPULATE;
  void* rings = mmap(nullptr, rings_bytes_, protection, flags, descriptor_, IORING_OFF_SQ_RING);
  if (rings == MAP_FAILED) return false;
  rings_ = rings;
  void* entries = mmap(nullptr, entries_bytes_, protection, flags, descriptor_, IORING_OFF_SQES);
  if (entries == MAP_FAILED) return false;
  entries_ = static_cast<io_uring_sqe*>(entries);

  sq_head_ = at<unsigned>(rings_, p.sq_off.head);
  sq_tail_ = at<unsigned>(rings_, p.sq_off.tail);
  sq_flags_ = at<unsigned>(rings_, p.sq_off.flags);
  sq_array_ = at<unsigned>(rings_, p.sq_off.array);
  sq_entries_ = p.sq_entries;
  cq_head_ = at<unsigned>(rings_, p.cq_off.head);
  cq_tail_ = at<unsigned>(rings_, p.cq_off.tail);
  cq_ = at<io_uring_cqe>(rings_, p.cq_off.cqes);
  cq_entries_ = p.cq_entries;
  for (unsigned i = 0; i < sq_entries_; i++) sq_array_[i] = i;  // entry i always sits at place i
  return true;
}

bool UringRing::enable() {
  if (disabled_ && sys_register(descriptor_, IORING_REGISTER_ENABLE_RINGS, nullptr, 0) == 0)
    disabled_ = false;
  return !disabled_;
}

io_uring_sqe* UringRing::next_entry() {
  if (unsubmitted() == sq_entries_) return nullptr;
  io_uring_sqe* entry = &entries_[sq_local_tail_ & (sq_entries_ - 1)];
  std::memset(entry, 0, sizeof *entry);
  sq_local_tail_++;
  return entry;
}

unsigned UringRing::unsubmitted() const { return sq_local_tail_ - load_acquire(sq_head_); }

int UringRing::enter(unsigned wait) {
  if (!enable()) return -EBADFD;
  store_release(sq_tail_, sq_local_tail_);
  return sys_enter(descriptor_, unsubmitted(), wait, wait ? IORING_ENTER_GETEVENTS : 0);
}

bool UringRing::needs_enter() const {
  return load_acquire(sq_flags_) & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN);
}

void UringRing::collect() {
  if (!disabled_) sys_enter(descriptor_, 0, 0, IORING_ENTER_GETEVENTS);
}

const io_uring_cqe* UringRing::peek() const {
  const unsigned head = *cq_head_;
  if (head == load_acquire(cq_tail_)) return nullptr;
  return &cq_[head & (cq_entries_ - 1)];
}

void UringRing::advance() { store_release(cq_head_, *cq_head_ + 1); }

bool UringRing::supports(const uint8_t* operations, size_t count) const {
  constexpr unsigned kMost = 256;
  std::vector<std::byte> room(sizeof(io_uring_probe) + kMost * sizeof(io_uring_probe_op));
  auto* probe = reinterpret_cast<io_uring_probe*>(room.data());
  if (sys_register(descriptor_, IORING_REGISTER_PROBE, probe, kMost) < 0) return false;
  for (size_t i = 0; i < count; i++) {
    const unsigned operation = operations[i];
    if (operation >= probe->ops_len || !(probe->ops[operation].flags & IO_URING_OP_SUPPORTED)) return false;
  }
  return true;
}

}  // namespace cellblock::io
