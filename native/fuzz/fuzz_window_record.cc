// A window record from a damaged or malicious store: it is refused, or it is within its window and says the
// same when it is written and read again. The checksum is put right, as whoever can write the record can.
#include <cstring>
#include <vector>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "fuzz/fail.h"
#include "store/window_record.h"

namespace cellblock::fuzz {
namespace {

using store::WindowRecord;

void check(const WindowRecord& record, uint32_t blocks) {
  uint32_t end = 0;
  for (const store::RecordRun& run : record.runs) {
    expect(run.count > 0 && run.start >= end, "runs overlap or are empty");
    end = uint32_t{run.start} + run.count;
    expect(end <= blocks, "a run reaches behind the window");
  }
}

void check_again(const WindowRecord& record, uint32_t blocks) {
  std::vector<std::byte> bytes;
  store::encode_window_record(record, bytes);
  if (record.runs.empty()) return expect(bytes.empty(), "a record without runs is something");
  WindowRecord again;
  expect(store::decode_window_record(bytes, blocks, again), "a record is refused when it is written again");
  expect(record.runs.size() == again.runs.size(), "another number of runs when it is written again");
  for (size_t i = 0; i < record.runs.size(); i++) {
    const store::RecordRun& a = record.runs[i];
    const store::RecordRun& b = again.runs[i];
    expect(a.start == b.start && a.count == b.count && a.slot == b.slot,
           "another run when it is written again");
  }
}

void run(uint32_t blocks, std::vector<std::byte> bytes) {
  if (bytes.size() >= sizeof(uint32_t)) {
    const size_t body = bytes.size() - sizeof(uint32_t);
    store_le<uint32_t>(bytes.data() + body, crc32c(0, bytes.data(), body));
  }
  WindowRecord record;
  if (!store::decode_window_record(bytes, blocks, record)) return;
  check(record, blocks);
  check_again(record, blocks);
}

}  // namespace
}  // namespace cellblock::fuzz

// The first byte says how large the window is: 64 KiB to 4 MiB.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::vector<std::byte> bytes(size - 1);
  if (size > 1) std::memcpy(bytes.data(), data + 1, size - 1);
  cellblock::fuzz::run(16u << (data[0] % 7), std::move(bytes));
  return 0;
}
