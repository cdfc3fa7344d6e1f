// One resident window: which block lies where, and in which layer that was found. A view of the whole chain,
// kept as runs.
//
// Invariant: runs are sorted, cover the window without gaps, and no two neighbours could be one. A block is
// *mine* when its run's layer is the volume's current layer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "store/slot.h"

namespace cellblock::volume {

enum class RunKind : uint8_t { hole, zero, data };

struct Run {
  uint16_t start = 0;  // block in the window; the run ends where the next one starts
  RunKind kind = RunKind::hole;
  uint32_t layer = 0;  // 0 for holes: nobody says anything
  store::Slot slot = store::kNoSlot;

  bool continues(const Run& other) const {
    return kind == other.kind && layer == other.layer && slot == other.slot;
  }
};
static_assert(sizeof(Run) == 16);

// Runs of a window. One run, by far the most common, needs no memory of its own.
class Runs {
 public:
  Runs() : count_(1), capacity_(1) { inline_ = {}; }
  ~Runs() { release(); }
  Runs(const Runs&) = delete;
  Runs& operator=(const Runs&) = delete;

  uint16_t count() const { return count_; }
  const Run* data() const { return capacity_ == 1 ? &inline_ : heap_; }
  Run* data() { return capacity_ == 1 ? &inline_ : heap_; }
  const Run& operator[](uint16_t i) const { return data()[i]; }

  // Index of the run that holds `block`.
  uint16_t find(uint16_t block) const {
    const Run* runs = data();
    uint16_t low = 0, high = count_;
    while (high - low > 1) {
      const uint16_t middle = static_cast<uint16_t>((low + high) / 2);
      if (runs[middle].start <= block)
        low = middle;
      else
        high = middle;
    }
    return low;
  }

  // One past the last block of run `i`; `blocks` is blocks per window.
  uint16_t end(uint16_t i, uint16_t blocks) const { return i + 1 < count_ ? data()[i + 1].start : blocks; }

  void assign(const Run& whole) {
    release();
    capacity_ = 1;
    count_ = 1;
    inline_ = whole;
    inline_.start = 0;
  }

  void assign(const Run* runs, uint16_t count);

  // Blocks [start, end) become `to` (its start is ignored); neighbours that continue each other are joined.
  void set(uint16_t start, uint16_t end, Run to, uint16_t blocks);

  // Every run for which `change` returns true was changed in place; joins neighbours afterwards.
  template <typename Change>
  bool update(Change change) {
    bool any = false;
    Run* runs = data();
    for (uint16_t i = 0; i < count_; i++) any |= change(runs[i]);
    if (any) join();
    return any;
  }

  size_t heap_bytes() const { return capacity_ == 1 ? 0 : capacity_ * sizeof(Run); }

 private:
  void release() {
    if (capacity_ > 1) std::free(heap_);
  }
  void reserve(uint16_t capacity);
  void join();

  union {
    Run inline_;
    Run* heap_;
  };
  uint16_t count_;
  uint16_t capacity_;
};

struct Window {
  Runs runs;
  store::Slot own_slot = store::kNoSlot;  // where new blocks of own_layer go
  uint64_t last_position = 0;  // of the newest journal entry about this window; 0: none since it was faulted
  uint32_t own_layer = 0;      // the layer dirty, own_slot and last_position are about
  bool dirty = false;          // what own_layer says is not (all) in LevelDB
  bool taken = false;          // ... and was handed to the round under way, unchanged since
  bool compare = false;        // the stored record names, or named, places other than the own slot
  bool damaged = false;        // its stored record cannot be read: every request gets EIO
  bool busy = false;           // has entries in the volume's table of holds
};

}  // namespace cellblock::volume
