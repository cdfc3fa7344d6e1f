#include "store/window_record.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/crc32c.h"

namespace cellblock::store {
namespace {

constexpr uint8_t kFormat = 1;
constexpr uint8_t kOwnFirst = 1;
constexpr uint16_t kZeroPiece = 0xffff;
constexpr size_t kHeaderBytes = 8;
constexpr size_t kRunBytes = 6;
constexpr size_t kChecksumBytes = 4;

}  // namespace

void encode_window_record(const WindowRecord& record, std::vector<std::byte>& out) {
  if (record.runs.empty()) return;
  std::vector<Slot> pieces;
  // An own slot that holds nothing is not named: it may never have been written, and then the length of its
  // file, which is the high-water mark of places, does not cover it.
  const bool own = record.own_slot != kNoSlot &&
                   std::any_of(record.runs.begin(), record.runs.end(),
                               [&](const RecordRun& run) { return run.slot == record.own_slot; });
  if (own) pieces.push_back(record.own_slot);
  for (const RecordRun& run : record.runs) {
    if (run.slot != kNoSlot && std::find(pieces.begin(), pieces.end(), run.slot) == pieces.end()) {
      pieces.push_back(run.slot);
    }
  }
  const size_t at = out.size();
  const size_t bytes = kHeaderBytes + pieces.size() * sizeof(Slot) + record.runs.size() * kRunBytes;
  out.resize(at + bytes + kChecksumBytes);
  std::byte* to = out.data() + at;
  store_le<uint8_t>(to, kFormat);
  store_le<uint8_t>(to + 1, own ? kOwnFirst : 0);
  store_le<uint16_t>(to + 2, static_cast<uint16_t>(pieces.size()));
  store_le<uint16_t>(to + 4, static_cast<uint16_t>(record.runs.size()));
  store_le<uint16_t>(to + 6, 0);
  std::byte* cursor = to + kHeaderBytes;
  for (Slot piece : pieces) {
    store_le<uint64_t>(cursor, piece);
    cursor += sizeof(Slot);
  }
  for (const RecordRun& run : record.runs) {
    uint16_t piece = kZeroPiece;
    if (run.slot != kNoSlot) {
      piece = static_cast<uint16_t>(std::find(pieces.begin(), pieces.end(), run.slot) - pieces.begin());
    }
    store_le<uint16_t>(cursor, run.start);
    store_le<uint16_t>(cursor + 2, run.count);
    store_le<uint16_t>(cursor + 4, piece);
    cursor += kRunBytes;
  }
  store_le<uint32_t>(cursor, crc32c(0, to, bytes));
}

bool decode_window_record(std::span<const std::byte> bytes, uint32_t blocks, WindowRecord& record) {
  record.own_slot = kNoSlot;
  record.runs.clear();
  if (bytes.size() < kHeaderBytes + kChecksumBytes) return false;
  const std::byte* from = bytes.data();
  const size_t body = bytes.size() - kChecksumBytes;
  if (load_le<uint8_t>(from) != kFormat) return false;
  if (crc32c(0, from, body) != load_le<uint32_t>(from + body)) return false;
  const uint8_t flags = load_le<uint8_t>(from + 1);
  const uint16_t pieces = load_le<uint16_t>(from + 2);
  const uint16_t runs = load_le<uint16_t>(from + 4);
  if (body != kHeaderBytes + pieces * sizeof(Slot) + runs * kRunBytes) return false;
  const std::byte* piece_at = from + kHeaderBytes;
  const std::byte* run_at = piece_at + pieces * sizeof(Slot);
  if (flags & kOwnFirst) {
    if (pieces == 0) return false;
    record.own_slot = load_le<uint64_t>(piece_at);
  }
  record.runs.reserve(runs);
  uint32_t end = 0;
  for (uint16_t i = 0; i < runs; i++, run_at += kRunBytes) {
    const uint16_t start = load_le<uint16_t>(run_at);
    const uint16_t count = load_le<uint16_t>(run_at + 2);
    const uint16_t piece = load_le<uint16_t>(run_at + 4);
    if (start < end || count == 0 || uint32_t{start} + count > blocks) return false;
    if (piece != kZeroPiece && piece >= pieces) return false;
    end = uint32_t{start} + count;
    const Slot slot = piece == kZeroPiece ? kNoSlot : load_le<uint64_t>(piece_at + piece * sizeof(Slot));
    record.runs.push_back({start, count, slot});
  }
  return true;
}

}  // namespace cellblock::store
