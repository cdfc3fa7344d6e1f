// The journal alone: what of its ring is found again at the next start, and what is not.
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <tuple>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "io/simulated_disk.h"
#include "store/extents.h"
#include "store/journal.h"
#include "test/tap.h"

using namespace cellblock;
using namespace cellblock::store;
using cellblock::io::CrashKind;
using cellblock::io::SimulatedDisk;

namespace {

constexpr uint64_t kCells = 1024;
constexpr char kPath[] = "/store/journal";

Incarnation named(const std::string& boot = "boot 1", uint8_t store = 7) {
  Incarnation incarnation;
  incarnation.store_id.fill(store);
  incarnation.boot_id = boot;
  return incarnation;
}

struct Opened {
  int result = 0;
  Scan scan;
  std::unique_ptr<Journal> journal;
};

Opened open_journal(SimulatedDisk& disk, const Incarnation& incarnation = named(), uint64_t cells = kCells) {
  Opened opened;
  opened.result = Journal::open(disk, kPath, cells, incarnation, opened.journal, opened.scan);
  return opened;
}

// Made and started, as at the first start of a store.
std::unique_ptr<Journal> fresh(SimulatedDisk& disk, uint64_t cells = kCells) {
  Opened opened = open_journal(disk, named(), cells);
  opened.journal->start(opened.scan.next_position);
  return std::move(opened.journal);
}

std::unique_ptr<SimulatedDisk> after(SimulatedDisk& disk, CrashKind kind, uint64_t seed = 1) {
  return std::make_unique<SimulatedDisk>(disk.crash(kind, seed), SimulatedDisk::Options{.seed = seed});
}

Entry own(uint64_t window, uint64_t line = 5) {
  Entry entry;
  entry.type = EntryType::own;
  entry.line = line;
  entry.version = 3;
  entry.start = 4;
  entry.count = 5;
  entry.window = window;
  entry.argument = make_slot(9, window);
  return entry;
}

Entry cut(size_t members, size_t name_length) {
  Entry entry;
  entry.type = EntryType::cut;
  for (size_t i = 0; i < members; i++) {
    CutMember member;
    member.line = 100 + i;
    member.version = static_cast<uint32_t>(7 + i);
    member.up_to = 1000 + i;
    member.snapshot.fill(static_cast<uint8_t>(i));
    member.name.assign(name_length, static_cast<char>('a' + i % 26));
    entry.members.push_back(std::move(member));
  }
  return entry;
}

uint64_t append(Journal& journal, const Entry& entry) {
  journal.reserve(1);
  return journal.append(entry);
}

// The journal file of a crashed store, to be damaged: the bytes of its mapping.
std::byte* mapping_of(SimulatedDisk& disk) {
  static std::vector<std::unique_ptr<io::File>> files;
  files.emplace_back();
  disk.open(kPath, {}, files.back());
  io::Mapping mapping;
  disk.map(*files.back(), static_cast<size_t>(files.back()->size()), mapping);
  return mapping.bytes;
}

std::byte* cell_of(SimulatedDisk& disk, uint64_t position) {
  return mapping_of(disk) + kJournalHeaderBytes + position % kCells * kCellBytes;
}

TAP_TEST("every kind of entry is found again, in order, after the death of the process") {
  SimulatedDisk disk({});
  auto journal = fresh(disk);
  append(*journal, own(11));
  Entry zero = own(12);
  zero.type = EntryType::zero;
  zero.argument = 0;
  append(*journal, zero);
  Entry cut_off = own(13);
  cut_off.type = EntryType::cut_off;
  cut_off.argument = kOpenEnd;
  append(*journal, cut_off);
  Entry commit;
  commit.type = EntryType::commit;
  commit.line = 5;
  commit.argument = 3;
  uint64_t position = 0;
  TAP_OK(journal->append_kept(commit, position), "commit");
  TAP_OK(journal->append_kept(cut(3, 40), position), "cut");
  Entry failed = commit;
  failed.type = EntryType::failed;
  uint64_t last = 0;
  TAP_OK(journal->append_kept(failed, last), "failed");
  auto next = after(disk, CrashKind::process_death);
  const Opened opened = open_journal(*next);
  TAP_NEED(opened.result == 0 && opened.scan.entries.size() == 6, "six entries");
  const auto& entries = opened.scan.entries;
  TAP_OK(opened.scan.same_incarnation && !opened.scan.clean && !opened.scan.created, "the same incarnation");
  TAP_EQ(entries[0].type, EntryType::own, "own");
  TAP_EQ(entries[0].line, 5, "line");
  TAP_EQ(entries[0].version, 3, "version");
  TAP_EQ(entries[0].start, 4, "start");
  TAP_EQ(entries[0].count, 5, "count");
  TAP_EQ(entries[0].window, 11, "window");
  TAP_EQ(entries[0].argument, make_slot(9, 11), "slot");
  TAP_EQ(entries[1].type, EntryType::zero, "zero");
  TAP_EQ(entries[2].argument, kOpenEnd, "open end");
  TAP_EQ(entries[3].argument, 3, "up to");
  TAP_EQ(entries[4].position, position, "position");
  TAP_NEED(entries[4].members.size() == 3, "members");
  TAP_EQ(entries[4].members[2].line, 102, "member's line");
  TAP_EQ(entries[4].members[2].version, 9, "member's version");
  TAP_EQ(entries[4].members[2].up_to, 1002, "member's position");
  TAP_EQ(entries[4].members[2].name, std::string(40, 'c'), "name");
  TAP_EQ(entries[5].type, EntryType::failed, "failed");
  TAP_EQ(opened.scan.next_position, last + 1, "where to go on");
}

TAP_TEST("a ring that was run through many times holds its last entries, whatever its tail") {
  SimulatedDisk disk({});
  auto journal = fresh(disk);
  uint64_t last = 0;
  for (uint64_t i = 0; i < 5 * kCells; i++) {
    TAP_NEED(journal->reserve(1), "room");
    last = journal->append(own(i));
    if (journal->used() > kCells / 2) journal->set_tail(journal->next() - 10);
  }
  auto next = after(disk, CrashKind::process_death);
  const Opened opened = open_journal(*next);
  TAP_EQ(opened.scan.entries.size(), kCells, "one lap");
  TAP_EQ(opened.scan.entries.back().position, last, "to the end");
  TAP_EQ(opened.scan.entries.front().position, last - kCells + 1, "from a lap before");
  for (size_t i = 1; i < opened.scan.entries.size(); i++) {
    if (!TAP_EQ(opened.scan.entries[i].window, opened.scan.entries[i - 1].window + 1, "in order")) return;
  }
}

TAP_TEST("a cut of many cells is read over the end of the ring, at every place") {
  for (uint64_t before = kCells - 14; before < kCells + 2; before++) {
    SimulatedDisk disk({});
    auto journal = fresh(disk);
    for (uint64_t i = 1; i < before; i++) {
      append(*journal, own(i));
      journal->set_tail(journal->next());
    }
    uint64_t position = 0;
    TAP_OK(journal->append_kept(cut(8, 60), position), "room");
    TAP_EQ(position, before, "there");
    auto next = after(disk, CrashKind::process_death);
    const Opened opened = open_journal(*next);
    TAP_NEED(!opened.scan.entries.empty() && opened.scan.entries.back().type == EntryType::cut, "the cut");
    TAP_EQ(opened.scan.entries.back().members.size(), 8, "members");
    TAP_EQ(opened.scan.entries.back().members[7].name, std::string(60, 'h'), "whole to the last name");
    TAP_EQ(opened.scan.next_position, journal->next(), "the next entry goes behind all its cells");
  }
}

TAP_TEST("a cut of the most cells an entry may have is read back; a longer one is refused, not appended") {
  constexpr uint64_t kManyCells = 4 * 65536;  // so that the kept quarter would hold it
  constexpr size_t kMembers = 4096;
  constexpr size_t kFixed = 40;
  const size_t name = (kMaxEntryCells - 1) * kCellBytes / kMembers - kFixed;
  Entry entry = cut(kMembers, name);
  const size_t room = (kMaxEntryCells - 1) * kCellBytes - kMembers * (kFixed + name);
  entry.members[0].name.append(room, 'z');
  SimulatedDisk disk({});
  auto journal = fresh(disk, kManyCells);
  uint64_t position = 0;
  TAP_OK(journal->append_kept(entry, position), "the most");
  TAP_EQ(journal->used(), kMaxEntryCells, "all its cells");
  entry.members[0].name += 'z';
  uint64_t refused = 0;
  TAP_OK(!journal->append_kept(entry, refused), "one byte more");
  Entry wrapping = cut(35'000, 80);  // of more cells than a u16 can say
  TAP_OK(!journal->append_kept(wrapping, refused), "far more");
  TAP_EQ(journal->used(), kMaxEntryCells, "nothing was appended");
  auto next = after(disk, CrashKind::process_death);
  Opened opened = open_journal(*next);
  TAP_NEED(opened.scan.entries.size() == 1, "the one");
  TAP_EQ(opened.scan.entries[0].members.size(), kMembers, "whole");
  TAP_EQ(opened.scan.entries[0].members[0].name, entry.members[0].name.substr(0, name + room),
         "to the last byte");
}

TAP_TEST("J5 gaps: a cell that is missing, torn or garbage hides nothing behind it") {
  SimulatedDisk disk({});
  auto journal = fresh(disk);
  for (uint64_t i = 1; i <= 40; i++) append(*journal, own(i));
  auto next = after(disk, CrashKind::process_death);
  std::memset(cell_of(*next, 3), 0, kCellBytes);                    // reserved, never written
  cell_of(*next, 7)[20] ^= std::byte{1};                            // a torn write
  std::memset(cell_of(*next, 9), 0xff, kCellBytes);                 // garbage
  store_le<uint16_t>(cell_of(*next, 11) + 6, 500);                  // claims to be 500 cells long
  std::memcpy(cell_of(*next, 13), cell_of(*next, 14), kCellBytes);  // a valid cell in a wrong place
  const Opened opened = open_journal(*next);
  TAP_EQ(opened.scan.entries.size(), 35, "all others");
  TAP_EQ(opened.scan.entries.back().window, 40, "to the end");
  for (const Entry& entry : opened.scan.entries) {
    TAP_OK(entry.window != 3 && entry.window != 7 && entry.window != 9 && entry.window != 11 &&
               entry.window != 13,
           "none of the five");
  }
}

TAP_TEST("a cut with any cell of it torn is no cut, for none of its members") {
  for (uint64_t torn = 0; torn < 12; torn++) {
    SimulatedDisk disk({});
    auto journal = fresh(disk);
    uint64_t position = 0;
    journal->append_kept(cut(8, 60), position);
    append(*journal, own(77));
    auto next = after(disk, CrashKind::process_death);
    TAP_NEED(journal->next() > position + torn, "a cell of the cut");
    if (position + torn + 1 >= journal->next()) break;
    std::memset(cell_of(*next, position + torn) + 32, 0x5a, 32);
    const Opened opened = open_journal(*next);
    TAP_EQ(opened.scan.entries.size(), 1, "the cut is not there");
    TAP_EQ(opened.scan.entries[0].window, 77, "the other entry is");
  }
}

TAP_TEST("no bit of a cell may change") {
  SimulatedDisk disk({});
  auto journal = fresh(disk);
  append(*journal, own(1));
  auto next = after(disk, CrashKind::process_death);
  std::byte* cell = cell_of(*next, 1);
  for (size_t bit = 0; bit < kCellBytes * 8; bit++) {
    cell[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    const Opened opened = open_journal(*next);
    TAP_EQ(opened.scan.entries.size(), 0, "bit " + std::to_string(bit));
    cell[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
  }
  TAP_EQ(open_journal(*next).scan.entries.size(), 1, "and whole it counts");
}

TAP_TEST("a length that no ring of this size can hold is refused before it is read") {
  SimulatedDisk disk({});
  auto journal = fresh(disk, 64);
  append(*journal, own(1));
  auto next = after(disk, CrashKind::process_death);
  std::byte* cell = mapping_of(*next) + kJournalHeaderBytes + kCellBytes;
  store_le<uint16_t>(cell + 6, 8000);
  TAP_EQ(open_journal(*next).scan.entries.size(), 0, "no entry, and no read behind the ring");
}

TAP_TEST("J1b a new incarnation hides every entry of the one before") {
  SimulatedDisk disk({});
  auto journal = fresh(disk);
  for (uint64_t i = 1; i <= 30; i++) append(*journal, own(i));
  auto second = after(disk, CrashKind::process_death);
  Opened opened = open_journal(*second);
  TAP_EQ(opened.journal->start(opened.scan.next_position), 0, "start");
  const uint64_t position = append(*opened.journal, own(1000));
  TAP_EQ(position, 31, "positions go on");
  auto third = after(*second, CrashKind::process_death);
  const Opened last = open_journal(*third);
  TAP_EQ(last.scan.entries.size(), 1, "only the new one");
  TAP_EQ(last.scan.entries[0].window, 1000, "that is it");
}

TAP_TEST("J1b an incarnation that begins at an earlier position hides old entries too") {
  SimulatedDisk disk({});
  auto journal = fresh(disk);
  for (uint64_t i = 1; i <= 30; i++) append(*journal, own(i));
  auto second = after(disk, CrashKind::process_death);
  Opened opened = open_journal(*second);
  TAP_EQ(opened.journal->start(5), 0, "start");
  append(*opened.journal, own(1000));
  auto third = after(*second, CrashKind::process_death);
  TAP_EQ(open_journal(*third).scan.entries.size(), 1,
         "only the new one: the checksum is seeded with the incarnation");
}

TAP_TEST("J15 another boot, device or inode is another incarnation; a clean stop leaves nothing to count") {
  SimulatedDisk disk({});
  auto journal = fresh(disk);
  append(*journal, own(1));
  auto next = after(disk, CrashKind::process_death);
  TAP_OK(open_journal(*next).scan.same_incarnation, "the same");
  TAP_OK(!open_journal(*next, named("boot 2")).scan.same_incarnation, "another boot");
  Incarnation moved = named();
  moved.device = 1;
  TAP_OK(!open_journal(*next, moved).scan.same_incarnation, "another device");
  moved = named();
  moved.inode = 1;
  TAP_OK(!open_journal(*next, moved).scan.same_incarnation, "another inode");
  Opened opened = open_journal(*next);
  opened.journal->start(opened.scan.next_position);
  append(*opened.journal, own(2));
  TAP_EQ(opened.journal->finish(), 0, "clean stop");
  auto stopped = after(*next, CrashKind::power_loss);
  const Opened clean = open_journal(*stopped, named("boot 3"));
  TAP_OK(clean.scan.clean && clean.scan.entries.empty(), "nothing counts");
  TAP_EQ(clean.scan.next_position, opened.journal->next(), "positions go on");
}

TAP_TEST("a ring of another store, of a newer format, or damaged is refused") {
  SimulatedDisk disk({});
  fresh(disk);
  auto next = after(disk, CrashKind::process_death);
  TAP_EQ(open_journal(*next, named("boot 1", 8)).result, -ESTALE, "another store's");
  std::byte* header = mapping_of(*next);
  const auto damage = [&](size_t at) {
    for (const size_t copy : {0, 512}) header[copy + at] ^= std::byte{1};
  };
  damage(60);
  TAP_EQ(open_journal(*next).result, -EUCLEAN, "damaged");
  damage(60);
  damage(0);
  TAP_EQ(open_journal(*next).result, -EUCLEAN, "not a journal");
  damage(0);
  for (const size_t copy : {512, 0}) {
    store_le<uint32_t>(header + copy + 8, 2);
    TAP_EQ(open_journal(*next).result, copy ? 0 : -EPROTONOSUPPORT, "newer");
  }
}

TAP_TEST("a header whose count of cells does not fit the file is refused, whole as it may be") {
  SimulatedDisk disk({.seed = 1});
  fresh(disk);
  const auto next = after(disk, CrashKind::process_death);
  std::byte* header = mapping_of(*next);
  // 2^58 cells have 2^64 bytes, which 64 bits take for none.
  for (const uint64_t cells :
       {uint64_t{0}, kCells + 1, uint64_t{1} << 58, (uint64_t{1} << 58) + 1, UINT64_MAX}) {
    for (const size_t copy : {0, 512}) {
      store_le<uint64_t>(header + copy + 16, cells);
      store_le<uint32_t>(header + copy + 12, 0);
      store_le<uint32_t>(header + copy + 12, crc32c(0, header + copy, 256));
    }
    TAP_EQ(open_journal(*next).result, -EUCLEAN, std::to_string(cells));
  }
}

TAP_TEST(
    "a header torn at any byte, at a start, a stop or the making of the ring, is the old one or the new "
    "one") {
  constexpr size_t kHeader = 256, kSecond = 512;
  using Headers = std::array<std::byte, 1024>;
  SimulatedDisk disk({});
  const auto look = [](SimulatedDisk& at) {
    Headers headers;
    std::memcpy(headers.data(), mapping_of(at), headers.size());
    return headers;
  };
  Headers steps[4] = {};  // never written, made, started, stopped
  Opened opened = open_journal(disk);
  steps[1] = look(disk);
  opened.journal->start(5);
  steps[2] = look(disk);
  append(*opened.journal, own(1));
  opened.journal->finish();
  steps[3] = look(disk);
  auto next = after(disk, CrashKind::process_death);
  std::byte* header = mapping_of(*next);
  // What a start finds: whether the stop was clean, and where to go on.
  const auto found = [&](const Headers& headers) {
    std::memcpy(header, headers.data(), headers.size());
    const Opened got = open_journal(*next);
    return std::tuple(got.result, got.scan.created, got.scan.clean, got.scan.entries.size(),
                      got.scan.next_position);
  };
  for (int step = 3; step > 0; step--) {  // the making last: it clears the ring
    const Headers& was = steps[step - 1];
    const Headers& is = steps[step];
    const auto old = found(was);
    const auto made = found(is);
    TAP_OK(step == 1 || old != made, "they differ");
    for (const size_t copy : {size_t{0}, kSecond}) {
      for (size_t torn = 0; torn <= kHeader; torn++) {
        for (const bool from_the_end : {false, true}) {
          Headers between = was;
          if (copy == kSecond) std::copy_n(is.begin(), kHeader, between.begin());
          const size_t first = copy + (from_the_end ? kHeader - torn : 0);
          std::copy_n(is.begin() + first, torn, between.begin() + first);
          const auto got = found(between);
          if (!TAP_OK(got == old || got == made, "step " + std::to_string(step) + ", copy at " +
                                                     std::to_string(copy) + ", byte " + std::to_string(torn)))
            return;
        }
      }
    }
  }
}

TAP_TEST("damage to one copy of the header loses nothing") {
  for (const size_t copy : {0, 512}) {
    SimulatedDisk disk({});
    auto journal = fresh(disk);
    append(*journal, own(1));
    auto next = after(disk, CrashKind::power_loss);
    mapping_of(*next)[copy + 60] ^= std::byte{1};
    auto whole = open_journal(*next);
    TAP_EQ(whole.result, 0, "opens");
    TAP_OK(whole.scan.same_incarnation && !whole.scan.clean, "the same incarnation, not a clean stop");
    TAP_EQ(whole.journal->start(9), 0, "start");
    TAP_EQ(whole.journal->finish(), 0, "stop");
    TAP_OK(std::memcmp(mapping_of(*next), mapping_of(*next) + 512, 256) == 0, "and both are whole again");
  }
}

TAP_TEST("a ring whose making was cut short at any point is made again, and one that is made stays") {
  for (CrashKind kind : {CrashKind::process_death, CrashKind::power_loss}) {
    for (uint64_t change = 1;; change++) {
      SimulatedDisk disk({.seed = change});
      disk.crash_at(change);
      const Opened first = open_journal(disk);
      if (first.result == 0) first.journal->start(1);
      const bool whole = !disk.crashed();
      auto next = after(disk, kind, change);
      Opened opened = open_journal(*next);
      TAP_EQ(opened.result, 0, "opens after a crash at change " + std::to_string(change));
      TAP_EQ(opened.scan.entries.size(), 0, "empty");
      TAP_EQ(opened.journal->cells(), kCells, "of the right size");
      if (whole) break;
    }
  }
}

TAP_TEST("a ring that does not fit leaves nothing behind; one that has to be there is not made") {
  SimulatedDisk disk({});
  std::unique_ptr<io::File> file;
  TAP_EQ(open_journal(disk, named(), 0).result, -ENOENT, "not there");
  TAP_EQ(disk.open(kPath, {}, file), -ENOENT, "and not made");
  disk.faults().add({.actions = io::only(io::Action::write), .path = kPath, .error = ENOSPC});
  TAP_EQ(open_journal(disk).result, -ENOSPC, "no room");
  TAP_EQ(disk.open(kPath, {}, file), -ENOENT, "removed again");
  disk.faults().clear();
  fresh(disk);
  TAP_EQ(open_journal(disk, named(), 0).result, 0, "there");
}

TAP_TEST("an existing ring keeps its size, whatever size is asked for") {
  SimulatedDisk disk({});
  fresh(disk, 256);
  auto next = after(disk, CrashKind::process_death);
  TAP_EQ(open_journal(*next, named(), 4096).journal->cells(), 256, "cells");
}

TAP_TEST(
    "J11 ordinary entries stop at three quarters; commits, cuts and FAILED have the rest, reservations "
    "stand") {
  SimulatedDisk disk({});
  auto journal = fresh(disk);
  TAP_OK(journal->reserve(10), "ten requests under way");
  uint32_t taken = 10;
  while (journal->reserve(1)) taken++;
  TAP_EQ(taken, kCells * 3 / 4, "three quarters");
  uint64_t position = 0;
  Entry commit;
  commit.type = EntryType::commit;
  uint64_t kept = 0;
  while (journal->append_kept(commit, position)) kept++;
  TAP_EQ(kept, kCells / 4, "one quarter");
  for (uint32_t i = 0; i < taken; i++) journal->append(own(i));
  TAP_EQ(journal->used(), kCells, "every admitted request found its room");
  journal->set_tail(journal->next() - 5);
  TAP_OK(journal->reserve(1), "freed");
  journal->unreserve(1);
  journal->set_tail(2);
  TAP_EQ(journal->used(), 5, "the tail never moves back");
}

TAP_TEST("above half, what room is left is spread over as long again as the tail has not moved") {
  constexpr uint64_t kMs = 1'000'000, kLarge = 1 << 16;
  SimulatedDisk disk({});
  const auto journal = fresh(disk, kLarge);
  while (!journal->crowded()) append(*journal, own(1));
  TAP_OK(journal->used() <= kLarge / 2 + 1, "below half nobody asks");
  // A writer that asks every millisecond for all it can get, while a round takes two minutes.
  uint64_t now = 1000 * kMs, last = now, longest_gap = 0, in_first_second = 0, in_last_second = 0;
  for (uint64_t ms = 0; ms < 120'000; ms++, now += kMs) {
    while (journal->pace(now)) {
      if (!TAP_OK(journal->reserve(1), "there is room for whoever is let in")) return;
      journal->append(own(2));
      longest_gap = std::max(longest_gap, now - last);
      last = now;
      if (ms < 1000) in_first_second++;
      if (ms >= 119'000) in_last_second++;
    }
  }
  TAP_OK(in_first_second > kLarge / 16, "fast at first");
  TAP_OK(in_last_second > 0 && in_last_second < in_first_second / 100, "slowly at the end");
  TAP_OK(longest_gap < 3000 * kMs, "but nobody waits for long");
  journal->set_tail(journal->next() - kLarge / 2 - 1);
  uint64_t admitted = 0;
  for (unsigned ms = 0; ms < 100; ms++, now += kMs) {
    while (journal->pace(now)) admitted++;
  }
  TAP_OK(admitted > 200, "and fast again when a round has passed");
}

TAP_TEST("entries of one line in a range of positions, for a container that failed") {
  SimulatedDisk disk({});
  auto journal = fresh(disk);
  for (uint64_t i = 1; i <= 20; i++) append(*journal, own(i, i % 2 ? 5 : 6));
  uint64_t at = 0;
  Entry shared = cut(2, 10);
  shared.members[1].line = 5;
  journal->append_kept(shared, at);
  const auto found = journal->entries_of(5, 5, at);
  TAP_EQ(found.size(), 9, "eight entries and the cut");
  TAP_EQ(found.front().window, 5, "from there");
  TAP_EQ(found.back().type, EntryType::cut, "a cut that names the line is one of its entries");
}

// ---- sharing of syncs ----

struct Queue final : Poster {
  void post(std::function<void()> run) override { waiting.push_back(std::move(run)); }
  void drain() {
    while (!waiting.empty()) {
      const auto run = std::move(waiting.front());
      waiting.pop_front();
      run();
    }
  }
  std::deque<std::function<void()>> waiting;
};

struct Syncs {
  Syncs() : disk({.hold = true}), engine(disk.make_engine()), journal(fresh(disk)) {}
  void ask() {
    answers.push_back(-1);
    journal->sync(*engine, queue, [this, i = answers.size() - 1](int error) { answers[i] = error; });
    engine->flush();
  }
  void finish_one() {
    disk.deliver(0);
    engine->reap();
    queue.drain();
    engine->flush();
  }
  SimulatedDisk disk;
  std::unique_ptr<io::Engine> engine;
  std::unique_ptr<Journal> journal;
  Queue queue;
  std::vector<int> answers;
};

TAP_TEST("one sync in flight: who comes after its start waits for the next, and all of those share it") {
  Syncs world;
  world.ask();
  world.ask();
  world.ask();
  TAP_EQ(world.disk.pending().size(), 1, "one at the disk");
  world.finish_one();
  TAP_OK(world.answers == std::vector<int>({0, -1, -1}), "the first is answered alone");
  TAP_EQ(world.disk.pending().size(), 1, "the next began");
  world.ask();
  world.finish_one();
  TAP_OK(world.answers == std::vector<int>({0, 0, 0, -1}), "two share the second");
  world.finish_one();
  TAP_EQ(world.answers[3], 0, "and the last has its own");
  TAP_EQ(world.journal->syncs(), 3, "three syncs for four");
}

TAP_TEST("J9 after a failed sync of the journal nobody is told that anything is stable, waiting or new") {
  Syncs world;
  world.ask();
  world.ask();
  world.disk.faults().add({.actions = io::only(io::Action::journal_sync), .error = EIO});
  world.finish_one();
  world.finish_one();
  world.ask();
  world.queue.drain();
  TAP_EQ(world.answers[0], EIO, "the one that failed");
  TAP_EQ(world.answers[1], EIO, "who had waited: the next sync would succeed, and say nothing");
  TAP_EQ(world.answers[2], EIO, "who comes later");
  TAP_OK(world.journal->broken(), "broken");
}

TAP_TEST("nobody's commit overtakes the sync of the directory that holds its new file") {
  SimulatedDisk disk({});
  ExtentsTable table(disk, {"/store", 64 << 10, 0, false});
  table.know(1, "extents/1");
  int error = 0;
  TAP_OK(table.open(1, true, error) != nullptr, "made");
  std::thread other;
  std::atomic<bool> overtaken{false};
  std::atomic<bool> under_way{false};
  disk.before([&](const io::Event& event) {
    if (event.action != io::Action::sync_directory || under_way.exchange(true)) return io::Order::proceed;
    std::atomic<bool> began{false};
    other = std::thread([&] {
      began = true;
      table.sync_created();
      overtaken = !disk.paths().empty() && under_way.load();
    });
    // The other thread must block; giving it time can only make a wrong table fail.
    while (!began) std::this_thread::yield();
    for (int i = 0; i < 2000 && !overtaken; i++) std::this_thread::yield();
    under_way = false;
    return io::Order::proceed;
  });
  table.sync_created();
  other.join();
  TAP_OK(!overtaken, "the second caller waited for the sync that covers its file");
}

TAP_TEST("nobody waits for the unlinking of another file") {
  SimulatedDisk disk({});
  ExtentsTable table(disk, {"/store", 64 << 10, 0, false});
  table.know(1, "extents/1");
  table.know(2, "extents/2");
  int error = 0;
  TAP_OK(table.open(1, true, error) != nullptr, "made");
  std::thread other;
  std::atomic<bool> opened{false};
  disk.before([&](const io::Event& event) {
    if (event.action != io::Action::unlink) return io::Order::proceed;
    other = std::thread([&] {
      int ignored = 0;
      table.open(2, true, ignored);
      opened = true;
    });
    for (int i = 0; i < 1000 && !opened; i++) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    TAP_OK(opened, "another file is opened meanwhile");
    return io::Order::proceed;
  });
  TAP_EQ(table.drop(1), 0, "dropped");
  other.join();
  TAP_EQ(table.open(1, true, error), nullptr, "not known any more");
  TAP_OK(disk.paths() == std::vector<std::string>{"/store/extents/2"}, "unlinked");
}

}  // namespace

int main() { return cellblock::test::run(); }
