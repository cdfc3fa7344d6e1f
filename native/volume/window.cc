#include "volume/window.h"

#include <algorithm>
#include <cassert>
#include <new>

namespace cellblock::volume {

void Runs::reserve(uint16_t capacity) {
  if (capacity <= capacity_) return;
  const uint16_t grown = std::max<uint16_t>(capacity, static_cast<uint16_t>(std::min(1024, capacity_ * 2)));
  Run* memory = static_cast<Run*>(std::malloc(grown * sizeof(Run)));
  if (!memory) std::abort();  // as operator new would without exceptions
  std::memcpy(static_cast<void*>(memory), data(), count_ * sizeof(Run));
  release();
  heap_ = memory;
  capacity_ = grown;
}

void Runs::assign(const Run* runs, uint16_t count) {
  assert(count > 0 && runs[0].start == 0);
  if (count == 1) {
    assign(runs[0]);
    return;
  }
  count_ = 0;
  reserve(count);
  std::memcpy(static_cast<void*>(data()), runs, count * sizeof(Run));
  count_ = count;
}

void Runs::set(uint16_t start, uint16_t end, Run to, uint16_t blocks) {
  assert(start < end && end <= blocks);
  const uint16_t first = find(start);
  const uint16_t last = find(static_cast<uint16_t>(end - 1));
  {
    const Run& old = (*this)[first];
    if (first == last && old.continues(to)) return;
  }
  // What replaces runs [first, last]: the rest of first before start, the new one, the rest of last behind
  // end.
  Run middle[3];
  uint16_t pieces = 0;
  const Run head = (*this)[first];
  Run tail = (*this)[last];
  const uint16_t tail_end = this->end(last, blocks);
  uint16_t from = first;
  to.start = start;
  if (head.start < start) {
    if (head.continues(to))
      to.start = head.start;
    else
      middle[pieces++] = head;
  } else if (first > 0 && (*this)[static_cast<uint16_t>(first - 1)].continues(to)) {
    from = static_cast<uint16_t>(first - 1);
    to.start = (*this)[from].start;
  }
  uint16_t until = static_cast<uint16_t>(last + 1);
  middle[pieces++] = to;
  if (end < tail_end) {
    if (!tail.continues(to)) {
      tail.start = end;
      middle[pieces++] = tail;
    }
  } else if (until < count_ && (*this)[until].continues(to)) {
    until++;
  }
  const int grow = pieces - (until - from);
  if (grow > 0) reserve(static_cast<uint16_t>(count_ + grow));
  Run* runs = data();
  std::memmove(static_cast<void*>(runs + from + pieces), runs + until, (count_ - until) * sizeof(Run));
  std::memcpy(static_cast<void*>(runs + from), middle, pieces * sizeof(Run));
  count_ = static_cast<uint16_t>(count_ + grow);
}

void Runs::join() {
  Run* runs = data();
  uint16_t kept = 1;
  for (uint16_t i = 1; i < count_; i++) {
    if (!runs[kept - 1].continues(runs[i])) runs[kept++] = runs[i];
  }
  count_ = kept;
}

}  // namespace cellblock::volume
