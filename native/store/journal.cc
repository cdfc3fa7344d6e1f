#include "store/journal.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <random>

#include "base/bytes.h"
#include "base/crc32c.h"

namespace cellblock::store {
namespace {

// Header: two copies, each within a sector of its own. They are written one after the other, each made stable
// before the next is touched, so whatever interrupts that leaves one whole; the first one that is whole
// counts. Afterwards both say the same, so damage to one loses nothing.
constexpr size_t kHeaderCopies[] = {0, 512};
constexpr uint64_t kMagic = 0x4c4a4b434c4c4543;  // "CELLCKJL"
constexpr uint32_t kFormat = 1;
constexpr size_t kHeaderUsed = 256;
constexpr size_t kAtFormat = 8, kAtCrc = 12, kAtCells = 16, kAtStore = 24, kAtNumber = 40, kAtSeed = 48,
                 kAtPosition = 56, kAtDevice = 64, kAtInode = 72, kAtClean = 80, kAtBoot = 96;
constexpr size_t kBootBytes = 64;

// Cell.
constexpr size_t kCellType = 4, kCellCells = 6, kCellPosition = 8, kCellLine = 16, kCellVersion = 24,
                 kCellStart = 28, kCellCount = 30, kCellWindow = 32, kCellArgument = 40;
constexpr size_t kMemberFixedBytes = 8 + 4 + 2 + 2 + 8 + 16;
constexpr uint64_t kFirstPosition = 1;

constexpr double kShortestWaitNs = 2e9;  // a round is expected to take at least so long
constexpr double kBurstNs = 50e6;        // entries saved up are those of so much time

uint64_t random_seed() {
  std::random_device source;
  return uint64_t{source()} << 32 | source();
}

uint32_t seeded_crc(uint64_t seed, std::span<const std::byte> bytes) {
  uint32_t crc = crc32c(0, &seed, sizeof seed);
  return crc32c(crc, bytes.data() + 4, bytes.size() - 4);
}

uint32_t header_crc(const std::byte* header) {
  std::byte copy[kHeaderUsed];
  std::memcpy(copy, header, kHeaderUsed);
  store_le<uint32_t>(copy + kAtCrc, 0);
  return crc32c(0, copy, kHeaderUsed);
}

bool all_zero(const std::byte* bytes, size_t count) {
  return std::all_of(bytes, bytes + count, [](std::byte byte) { return byte == std::byte{}; });
}

// The first header ever was being written: its second copy comes before anything is appended.
bool was_being_made(const std::byte* header) {
  std::byte magic[sizeof kMagic];
  store_le<uint64_t>(magic, kMagic);
  for (size_t i = 0; i < sizeof magic; i++) {
    if (header[i] != magic[i] && header[i] != std::byte{}) return false;
  }
  return all_zero(header + kHeaderCopies[1], kHeaderUsed);
}

size_t cells_of(const Entry& entry) {
  if (entry.type != EntryType::cut) return 1;
  size_t bytes = kCellBytes;
  for (const CutMember& member : entry.members) bytes += kMemberFixedBytes + member.name.size();
  return (bytes + kCellBytes - 1) / kCellBytes;
}

void encode_cell(const Entry& entry, uint64_t position, uint16_t cells, std::byte* to) {
  store_le<uint8_t>(to + kCellType, static_cast<uint8_t>(entry.type));
  store_le<uint8_t>(to + kCellType + 1, 0);
  store_le<uint16_t>(to + kCellCells, cells);
  store_le<uint64_t>(to + kCellPosition, position);
  store_le<uint64_t>(to + kCellLine, entry.line);
  store_le<uint32_t>(to + kCellVersion, entry.version);
  store_le<uint16_t>(to + kCellStart, entry.start);
  store_le<uint16_t>(to + kCellCount, entry.type == EntryType::cut
                                          ? static_cast<uint16_t>(entry.members.size())
                                          : entry.count);
  store_le<uint64_t>(to + kCellWindow, entry.window);
  store_le<uint64_t>(to + kCellArgument, entry.argument);
  std::memset(to + kCellArgument + 8, 0, kCellBytes - kCellArgument - 8);
}

void encode_members(const std::vector<CutMember>& members, std::byte* to) {
  for (const CutMember& member : members) {
    store_le<uint64_t>(to, member.line);
    store_le<uint32_t>(to + 8, member.version);
    store_le<uint16_t>(to + 12, static_cast<uint16_t>(member.name.size()));
    store_le<uint16_t>(to + 14, 0);
    store_le<uint64_t>(to + 16, member.up_to);
    std::memcpy(to + 24, member.snapshot.data(), member.snapshot.size());
    std::memcpy(to + kMemberFixedBytes, member.name.data(), member.name.size());
    to += kMemberFixedBytes + member.name.size();
  }
}

bool decode_members(std::span<const std::byte> bytes, uint16_t count, std::vector<CutMember>& members) {
  for (uint16_t i = 0; i < count; i++) {
    if (bytes.size() < kMemberFixedBytes) return false;
    CutMember member;
    member.line = load_le<uint64_t>(bytes.data());
    member.version = load_le<uint32_t>(bytes.data() + 8);
    const uint16_t length = load_le<uint16_t>(bytes.data() + 12);
    member.up_to = load_le<uint64_t>(bytes.data() + 16);
    std::memcpy(member.snapshot.data(), bytes.data() + 24, member.snapshot.size());
    bytes = bytes.subspan(kMemberFixedBytes);
    if (bytes.size() < length) return false;
    member.name.assign(reinterpret_cast<const char*>(bytes.data()), length);
    bytes = bytes.subspan(length);
    members.push_back(std::move(member));
  }
  return true;
}

}  // namespace

int Journal::open(io::Disk& disk, const std::string& path, uint64_t cells, const Incarnation& incarnation,
                  std::unique_ptr<Journal>& journal, Scan& scan) {
  std::unique_ptr<io::File> file;
  io::OpenOptions options;
  options.no_cow = true;
  int result = disk.open(path, options, file);
  const bool missing = result == -ENOENT;
  if (missing && cells > 0) {
    options.create = true;
    result = disk.open(path, options, file);
  }
  if (result < 0) return result;
  Incarnation named = incarnation;
  struct stat status {};
  if (file->descriptor() >= 0 && fstat(file->descriptor(), &status) == 0) {
    named.device = status.st_dev;
    named.inode = status.st_ino;
  }
  std::unique_ptr<Journal> made(new Journal(disk, std::move(file), std::move(named)));
  // A file without its header is one whose making was cut short; nothing was ever appended to it.
  if (!missing) result = made->read_header(scan);
  if (cells > 0 && (missing || result == -ENODATA)) {
    scan.created = true;
    result = made->create(cells);
    if (result == 0) result = disk.sync_directory(path.substr(0, path.rfind('/')));
    // Half a ring is of no use, and takes the room that was too little.
    if (result < 0) disk.unlink(path);
  }
  if (result < 0) return result;
  if (!scan.created && !scan.clean) made->scan_cells(scan);
  scan.next_position = std::max(scan.next_position, made->start_position_);
  journal = std::move(made);
  return 0;
}

// A header is written last, so a ring that was being made when power went is simply made again.
int Journal::create(uint64_t cells) {
  cells_ = cells;
  // Page by page: the page cache makes folios as large as a write, and a store through the mapping makes the
  // whole folio dirty for the next sync.
  const std::vector<std::byte> zeros(4096);
  const uint64_t total = kJournalHeaderBytes + cells * kCellBytes;
  for (uint64_t offset = 0; offset < total;) {
    const ssize_t written =
        file_->try_write(zeros.data(), std::min<uint64_t>(zeros.size(), total - offset), offset);
    if (written <= 0) return written < 0 ? static_cast<int>(written) : -EIO;
    offset += static_cast<uint64_t>(written);
  }
  int result = disk_.sync(*file_);
  if (result < 0) return result;
  io::Mapping mapping;
  result = disk_.map(*file_, total, mapping);
  if (result < 0) return result;
  header_ = mapping.bytes;
  ring_ = mapping.bytes + kJournalHeaderBytes;
  return write_header(true, kFirstPosition, true);
}

int Journal::read_header(Scan& scan) {
  io::Mapping mapping;
  const int64_t bytes = file_->size();
  if (bytes < 0) return static_cast<int>(bytes);
  if (bytes < static_cast<int64_t>(kJournalHeaderBytes + kCellBytes)) return -ENODATA;
  const int result = disk_.map(*file_, static_cast<size_t>(bytes), mapping);
  if (result < 0) return result;
  header_ = mapping.bytes;
  ring_ = mapping.bytes + kJournalHeaderBytes;
  const std::byte* header = nullptr;
  for (const size_t at : kHeaderCopies) {
    const std::byte* copy = header_ + at;
    if (load_le<uint64_t>(copy) != kMagic) continue;
    if (load_le<uint32_t>(copy + kAtFormat) > kFormat) return -EPROTONOSUPPORT;
    if (load_le<uint32_t>(copy + kAtCrc) != header_crc(copy)) continue;
    header = copy;
    break;
  }
  if (!header) return was_being_made(header_) ? -ENODATA : -EUCLEAN;
  cells_ = load_le<uint64_t>(header + kAtCells);
  if (cells_ == 0 || cells_ > (static_cast<uint64_t>(bytes) - kJournalHeaderBytes) / kCellBytes)
    return -EUCLEAN;
  if (std::memcmp(header + kAtStore, incarnation_.store_id.data(), incarnation_.store_id.size()) != 0)
    return -ESTALE;
  number_ = load_le<uint64_t>(header + kAtNumber);
  seed_ = load_le<uint64_t>(header + kAtSeed);
  start_position_ = load_le<uint64_t>(header + kAtPosition);
  scan.clean = load_le<uint8_t>(header + kAtClean) != 0;
  char boot[kBootBytes + 1] = {};
  std::memcpy(boot, header + kAtBoot, kBootBytes);
  scan.same_incarnation = incarnation_.boot_id == boot &&
                          incarnation_.device == load_le<uint64_t>(header + kAtDevice) &&
                          incarnation_.inode == load_le<uint64_t>(header + kAtInode);
  return 0;
}

int Journal::write_header(bool clean, uint64_t position, bool new_seed) {
  if (new_seed) {
    seed_ = random_seed();
    number_++;
  }
  start_position_ = position;
  std::byte head[kHeaderUsed] = {};
  store_le<uint64_t>(head, kMagic);
  store_le<uint32_t>(head + kAtFormat, kFormat);
  store_le<uint64_t>(head + kAtCells, cells_);
  std::memcpy(head + kAtStore, incarnation_.store_id.data(), incarnation_.store_id.size());
  store_le<uint64_t>(head + kAtNumber, number_);
  store_le<uint64_t>(head + kAtSeed, seed_);
  store_le<uint64_t>(head + kAtPosition, position);
  store_le<uint64_t>(head + kAtDevice, incarnation_.device);
  store_le<uint64_t>(head + kAtInode, incarnation_.inode);
  store_le<uint8_t>(head + kAtClean, clean ? 1 : 0);
  std::memcpy(head + kAtBoot, incarnation_.boot_id.data(),
              std::min(incarnation_.boot_id.size(), kBootBytes - 1));
  store_le<uint32_t>(head + kAtCrc, header_crc(head));
  for (const size_t at : kHeaderCopies) {
    std::memcpy(header_ + at, head, sizeof head);
    if (const int result = disk_.sync(*file_); result < 0) return result;
  }
  return 0;
}

int Journal::start(uint64_t position) {
  const int result = write_header(false, position, true);
  if (result < 0) return result;
  next_.store(position);
  tail_.store(position);
  return 0;
}

int Journal::finish() { return write_header(true, next_.load(), false); }

void Journal::scan_cells(Scan& scan) const {
  for (uint64_t cell = 0; cell < cells_; cell++) {
    Entry entry;
    uint16_t cells = 0;
    if (!read_entry(cell, entry, cells)) continue;
    scan.next_position = std::max(scan.next_position, entry.position + cells);
    scan.entries.push_back(std::move(entry));
  }
  std::sort(scan.entries.begin(), scan.entries.end(),
            [](const Entry& a, const Entry& b) { return a.position < b.position; });
}

bool Journal::read_entry(uint64_t cell, Entry& entry, uint16_t& cells) const {
  const std::byte* at = ring_ + cell * kCellBytes;
  const uint8_t type = load_le<uint8_t>(at + kCellType);
  if (type < static_cast<uint8_t>(EntryType::own) || type > static_cast<uint8_t>(EntryType::failed))
    return false;
  const uint64_t position = load_le<uint64_t>(at + kCellPosition);
  cells = load_le<uint16_t>(at + kCellCells);
  if (position % cells_ != cell || position < start_position_) return false;
  if (cells == 0 || cells > kMaxEntryCells || cells > cells_) return false;
  std::byte one[kCellBytes];
  std::vector<std::byte> several;
  std::span<std::byte> bytes(one);
  if (cells > 1) {
    several.resize(size_t{cells} * kCellBytes);
    bytes = several;
  }
  copy_out(position, bytes);
  if (seeded_crc(seed_, bytes) != load_le<uint32_t>(bytes.data())) return false;
  const std::byte* from = bytes.data();
  entry.type = static_cast<EntryType>(type);
  entry.position = position;
  entry.line = load_le<uint64_t>(from + kCellLine);
  entry.version = load_le<uint32_t>(from + kCellVersion);
  entry.start = load_le<uint16_t>(from + kCellStart);
  entry.count = load_le<uint16_t>(from + kCellCount);
  entry.window = load_le<uint64_t>(from + kCellWindow);
  entry.argument = load_le<uint64_t>(from + kCellArgument);
  return entry.type != EntryType::cut ||
         decode_members(bytes.subspan(kCellBytes), entry.count, entry.members);
}

void Journal::copy_in(uint64_t position, std::span<const std::byte> bytes) {
  const size_t at = (position % cells_) * kCellBytes;
  const size_t first = std::min(bytes.size(), cells_ * kCellBytes - at);
  std::memcpy(ring_ + at, bytes.data(), first);
  std::memcpy(ring_, bytes.data() + first, bytes.size() - first);
}

void Journal::copy_out(uint64_t position, std::span<std::byte> bytes) const {
  const size_t at = (position % cells_) * kCellBytes;
  const size_t first = std::min(bytes.size(), cells_ * kCellBytes - at);
  std::memcpy(bytes.data(), ring_ + at, first);
  std::memcpy(bytes.data() + first, ring_, bytes.size() - first);
}

void Journal::put(const Entry& entry, uint64_t position, uint16_t cells) {
  std::byte one[kCellBytes];
  std::vector<std::byte> several;
  std::span<std::byte> bytes(one);
  if (cells > 1) {
    several.resize(size_t{cells} * kCellBytes);
    bytes = several;
  }
  encode_cell(entry, position, cells, bytes.data());
  if (cells > 1) encode_members(entry.members, bytes.data() + kCellBytes);
  store_le<uint32_t>(bytes.data(), seeded_crc(seed_, bytes));
  copy_in(position, bytes);
}

bool Journal::reserve(uint32_t cells) { return reserve_below(cells_ - cells_ / 4, cells); }

bool Journal::pace(uint64_t now_ns) {
  std::lock_guard lock(pace_.mutex);
  const uint64_t tail = tail_.load();
  if (tail != pace_.tail) {
    pace_.tail = tail;
    pace_.since_ns = pace_.last_ns = now_ns;
    pace_.entries = 1;
  }
  const uint64_t limit = cells_ - cells_ / 4;
  const uint64_t taken = used() + reserved_.load();
  const double room = taken < limit ? static_cast<double>(limit - taken) : 0;
  const double wait_ns = std::max(kShortestWaitNs, static_cast<double>(now_ns - pace_.since_ns));
  const double saved = pace_.entries + room * static_cast<double>(now_ns - pace_.last_ns) / wait_ns;
  pace_.entries = std::min(saved, std::max(1.0, room * kBurstNs / wait_ns));
  pace_.last_ns = now_ns;
  if (pace_.entries < 1) return false;
  pace_.entries -= 1;
  return true;
}

bool Journal::reserve_kept(uint32_t cells) { return reserve_below(cells_, cells); }

bool Journal::reserve_below(uint64_t limit, uint32_t cells) {
  uint64_t reserved = reserved_.load();
  do {
    if (used() + reserved + cells > limit) return false;
  } while (!reserved_.compare_exchange_weak(reserved, reserved + cells));
  return true;
}

uint64_t Journal::append(const Entry& entry) {
  const uint64_t position = next_.fetch_add(1);
  put(entry, position, 1);
  reserved_.fetch_sub(1);
  return position;
}

bool Journal::append_kept(const Entry& entry, uint64_t& position) {
  const size_t cells = cells_of(entry);
  if (cells > kMaxEntryCells) return false;
  uint64_t next = next_.load();
  do {
    if (next - tail_.load() + reserved_.load() + cells > cells_) return false;
  } while (!next_.compare_exchange_weak(next, next + cells));
  position = next;
  put(entry, position, static_cast<uint16_t>(cells));
  return true;
}

std::vector<Entry> Journal::entries_of(uint64_t line, uint64_t from, uint64_t to) const {
  std::vector<Entry> entries;
  const uint64_t first = std::max(from, tail_.load());
  for (uint64_t position = first; position <= to; position++) {
    Entry entry;
    uint16_t cells = 0;
    if (!read_entry(position % cells_, entry, cells) || entry.position != position) continue;
    const bool member = std::any_of(entry.members.begin(), entry.members.end(),
                                    [&](const CutMember& m) { return m.line == line; });
    if (member || (entry.type != EntryType::cut && entry.line == line)) entries.push_back(std::move(entry));
  }
  return entries;
}

void Journal::set_tail(uint64_t position) {
  uint64_t tail = tail_.load();
  while (tail < position && !tail_.compare_exchange_weak(tail, position)) {
  }
}

void Journal::sync(io::Engine& engine, Poster& poster, std::function<void(int)> done) {
  if (broken()) {
    done(EIO);
    return;
  }
  {
    std::lock_guard lock(mutex_);
    waiting_.push_back({&poster, &engine, std::move(done)});
    if (syncing_) return;
    syncing_ = true;
    covered_ = std::move(waiting_);
    waiting_.clear();
  }
  start_sync(engine);
}

void Journal::start_sync(io::Engine& engine) {
  syncs_.fetch_add(1, std::memory_order_relaxed);
  sync_request_ = {};
  sync_request_.operation = io::Operation::journal_sync;
  sync_request_.file = file_.get();
  sync_request_.owner = this;
  sync_request_.done = sync_done;
  engine.submit(sync_request_);
}

void Journal::sync_done(io::Request& request) {
  Journal& journal = *static_cast<Journal*>(request.owner);
  // The kernel tells of an error once: the sync that was waiting behind the one that failed would succeed and
  // say nothing.
  if (request.result < 0) journal.broken_.store(true);
  const int error = request.result < 0 ? static_cast<int>(-request.result) : journal.broken() ? EIO : 0;
  std::vector<Waiter> finished;
  io::Engine* next_engine = nullptr;
  Poster* next_poster = nullptr;
  {
    std::lock_guard lock(journal.mutex_);
    finished = std::move(journal.covered_);
    journal.covered_ = std::move(journal.waiting_);
    journal.waiting_.clear();
    if (journal.covered_.empty()) {
      journal.syncing_ = false;
    } else {
      next_engine = journal.covered_.front().engine;
      next_poster = journal.covered_.front().poster;
    }
  }
  // The engine of the next sync belongs to the thread that asked for it.
  if (next_engine) next_poster->post([&journal, next_engine] { journal.start_sync(*next_engine); });
  for (Waiter& waiter : finished) {
    waiter.poster->post([done = std::move(waiter.done), error] { done(error); });
  }
}

}  // namespace cellblock::store
