// Window records: what is written is read again, and nothing else passes for a record.
#include "store/window_record.h"
#include "test/tap.h"

using cellblock::test::Random;
using namespace cellblock::store;

namespace {

WindowRecord random_record(Random& random, uint32_t blocks) {
  WindowRecord record;
  if (random.chance(60)) record.own_slot = make_slot(3, random.below(1000));
  uint32_t at = static_cast<uint32_t>(random.below(3));
  while (at < blocks && record.runs.size() < 40) {
    const uint32_t count = static_cast<uint32_t>(1 + random.below(std::min<uint64_t>(blocks - at, 20)));
    Slot slot = kNoSlot;
    if (random.chance(70))
      slot = record.own_slot && random.chance(50) ? record.own_slot
                                                  : make_slot(1 + random.below(4), random.below(4));
    record.runs.push_back({static_cast<uint16_t>(at), static_cast<uint16_t>(count), slot});
    at += count + static_cast<uint32_t>(random.below(4));
  }
  return record;
}

bool names_own(const WindowRecord& record) {
  for (const RecordRun& run : record.runs) {
    if (record.own_slot != kNoSlot && run.slot == record.own_slot) return true;
  }
  return false;
}

bool same(const WindowRecord& a, const WindowRecord& b) {
  if (a.runs.size() != b.runs.size()) return false;
  for (size_t i = 0; i < a.runs.size(); i++) {
    if (a.runs[i].start != b.runs[i].start || a.runs[i].count != b.runs[i].count ||
        a.runs[i].slot != b.runs[i].slot)
      return false;
  }
  return true;
}

TAP_TEST("a record is read as it was written, its own slot only when a block lies there") {
  Random random;
  for (int i = 0; i < 2000; i++) {
    const uint32_t blocks = i % 2 ? 512 : 1024;
    const WindowRecord record = random_record(random, blocks);
    std::vector<std::byte> bytes;
    encode_window_record(record, bytes);
    if (record.runs.empty()) {
      TAP_OK(bytes.empty(), "a record without runs is nothing");
      continue;
    }
    WindowRecord read;
    TAP_OK(decode_window_record(bytes, blocks, read), "it is a record");
    TAP_OK(same(record, read), "the same runs");
    TAP_EQ(read.own_slot, names_own(record) ? record.own_slot : kNoSlot, "own slot");
  }
}

TAP_TEST("no truncation, no extension and no flipped bit of a record is a record") {
  Random random;
  for (int i = 0; i < 40; i++) {
    std::vector<std::byte> bytes;
    WindowRecord record;
    while (bytes.empty()) encode_window_record(record = random_record(random, 512), bytes);
    WindowRecord read;
    for (size_t length = 0; length < bytes.size(); length++) {
      TAP_OK(!decode_window_record(std::span(bytes).first(length), 512, read),
             "cut to " + std::to_string(length));
    }
    std::vector<std::byte> longer = bytes;
    longer.push_back(std::byte{0});
    TAP_OK(!decode_window_record(longer, 512, read), "one byte more");
    for (size_t bit = 0; bit < bytes.size() * 8; bit++) {
      std::vector<std::byte> flipped = bytes;
      flipped[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
      TAP_OK(!decode_window_record(flipped, 512, read), "bit " + std::to_string(bit));
    }
  }
}

TAP_TEST("a record that reaches behind its window or is out of order is refused") {
  const auto refused = [](std::vector<RecordRun> runs, uint32_t blocks) {
    WindowRecord record{make_slot(1, 0), std::move(runs)};
    std::vector<std::byte> bytes;
    encode_window_record(record, bytes);
    return !decode_window_record(bytes, blocks, record);
  };
  TAP_OK(refused({{500, 13, kNoSlot}}, 512), "one block too far");
  TAP_OK(refused({{0, 17, kNoSlot}}, 16), "too long for a small window");
  TAP_OK(refused({{4, 2, kNoSlot}, {5, 2, kNoSlot}}, 512), "overlap");
  TAP_OK(refused({{8, 1, kNoSlot}, {2, 1, kNoSlot}}, 512), "order");
  TAP_OK(refused({{8, 0, kNoSlot}}, 512), "empty run");
  TAP_OK(!refused({{500, 12, kNoSlot}}, 512), "up to the last block");
}

}  // namespace

int main() { return cellblock::test::run(); }
