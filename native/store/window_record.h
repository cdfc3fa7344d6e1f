// The stored form of what one version says about one window: pieces of data, and zeros. See
// docs/architecture.md, "Records in LevelDB". Pure over bytes; the TypeScript twin is
// src/model/window-record.ts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "store/slot.h"

namespace cellblock::store {

struct RecordRun {
  uint16_t start;  // block in the window
  uint16_t count;  // blocks
  Slot slot;       // kNoSlot: zero
};

struct WindowRecord {
  Slot own_slot = kNoSlot;
  std::vector<RecordRun> runs;  // sorted by start, not overlapping
};

// Appends the encoded record to `out`; a record without runs encodes to nothing.
void encode_window_record(const WindowRecord& record, std::vector<std::byte>& out);

// False when the bytes are not a record (format, checksum, order, range). `blocks` is blocks per window.
bool decode_window_record(std::span<const std::byte> bytes, uint32_t blocks, WindowRecord& record);

}  // namespace cellblock::store
