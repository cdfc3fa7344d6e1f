// A slot is a window-sized place in an extents file: the file's store-wide number and the index of the place
// in it. Slot numbers are never reused, so a slot names the same bytes for ever.
#pragma once

#include <cstdint>

namespace cellblock::store {

using Slot = uint64_t;
constexpr Slot kNoSlot = 0;  // file numbers start at 1
constexpr unsigned kPlaceBits = 24;
constexpr uint64_t kMaxPlaces = uint64_t{1} << kPlaceBits;
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 40;  // 1 TiB of places a file

inline Slot make_slot(uint64_t file, uint64_t place) { return file << kPlaceBits | place; }
inline uint64_t slot_file(Slot slot) { return slot >> kPlaceBits; }
inline uint64_t slot_place(Slot slot) { return slot & (kMaxPlaces - 1); }

}  // namespace cellblock::store
