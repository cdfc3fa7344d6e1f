// The journal of a damaged or malicious store: whatever the file says, opening it ends, reads nothing outside
// the file, and gives entries that lie within the ring. Checksums are put right, as whoever can write the
// file can: without that hardly any input would come behind them.
//
// The input: bytes of the header (the first copy), then bytes of the cells.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "fuzz/fail.h"
#include "io/simulated_disk.h"
#include "store/journal.h"

namespace cellblock::fuzz {
namespace {

using store::kCellBytes;
using store::kJournalHeaderBytes;

// As docs/architecture.md has them.
constexpr size_t kHeaderUsed = 256, kAtMagic = 0, kAtFormat = 8, kAtCrc = 12, kAtCells = 16, kAtStore = 24,
                 kAtSeed = 48, kAtClean = 80;
constexpr size_t kHeaderSaid = 96;  // bytes of the input that make the header
constexpr uint64_t kMagic = 0x4c4a4b434c4c4543;
constexpr size_t kCellCells = 6;
constexpr uint64_t kFileCells = 64;
constexpr char kPath[] = "/store/journal";

void seal_header(std::byte* header) {
  // A foreign magic, format or store is refused at once: that is for the other copy to try.
  store_le<uint64_t>(header + kAtMagic, kMagic);
  store_le<uint32_t>(header + kAtFormat, 1);
  std::memset(header + kAtStore, 0, 16);
  header[kAtClean] = std::byte{};
  store_le<uint32_t>(header + kAtCrc, 0);
  store_le<uint32_t>(header + kAtCrc, crc32c(0, header, kHeaderUsed));
}

// Each cell as the beginning of an entry that goes round the ring.
void seal_cells(std::byte* ring, uint64_t seed, uint64_t cells) {
  std::vector<std::byte> entry;
  for (uint64_t cell = 0; cell < cells; cell++) {
    std::byte* const at = ring + cell * kCellBytes;
    const uint64_t count = load_le<uint16_t>(at + kCellCells);
    if (count == 0 || count > cells) continue;
    entry.clear();
    for (uint64_t i = 0; i < count; i++) {
      const std::byte* from = ring + (cell + i) % cells * kCellBytes;
      entry.insert(entry.end(), from, from + kCellBytes);
    }
    const uint32_t crc = crc32c(0, &seed, sizeof seed);
    store_le<uint32_t>(at, crc32c(crc, entry.data() + 4, entry.size() - 4));
  }
}

std::vector<std::byte> file_of(const uint8_t* data, size_t size) {
  std::vector<std::byte> file(kJournalHeaderBytes + kFileCells * kCellBytes);
  const size_t head = std::min(size, kHeaderSaid);
  std::memcpy(file.data(), data, head);
  std::byte* const ring = file.data() + kJournalHeaderBytes;
  std::memcpy(ring, data + head, std::min(size - head, kFileCells * kCellBytes));
  seal_header(file.data());
  const uint64_t cells = load_le<uint64_t>(file.data() + kAtCells);
  seal_cells(ring, load_le<uint64_t>(file.data() + kAtSeed), std::min(cells, kFileCells));
  return file;
}

void check(const store::Scan& scan, const store::Journal& journal) {
  expect(journal.cells() > 0 && journal.cells() <= kFileCells, "the ring is larger than its file");
  expect(scan.entries.size() <= journal.cells(), "more entries than cells");
  for (const store::Entry& entry : scan.entries) {
    expect(entry.position <= scan.next_position, "the next position is not behind every entry");
    expect(entry.type == store::EntryType::cut || entry.members.empty(),
           "members in something else than a cut");
  }
}

}  // namespace
}  // namespace cellblock::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cellblock;
  using namespace cellblock::fuzz;
  if (size == 0) return 0;
  const std::vector<std::byte> bytes = file_of(data, size);
  io::SimulatedDisk disk(io::SimulatedOptions{});
  std::unique_ptr<io::File> file;
  io::OpenOptions options;
  options.create = true;
  expect(disk.open(kPath, options, file) == 0, "the file could not be made");
  expect(file->try_write(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()), "nor written");
  store::Scan scan;
  std::unique_ptr<store::Journal> journal;
  if (store::Journal::open(disk, kPath, 0, store::Incarnation{}, journal, scan) == 0) check(scan, *journal);
  return 0;
}
