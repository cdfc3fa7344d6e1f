// The redo log of ownership changes that are not yet in LevelDB: a ring of 64-byte cells in a preallocated
// file, mapped into memory. See docs/architecture.md, "Journal".
//
// Invariants: an entry is in the page cache before the request that made it is answered (D10); what a commit
// record or a cut covers was stable before it was appended (D2); at start every cell is looked at, a bad one
// hides nothing behind it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "io/io.h"
#include "store/slot.h"

namespace cellblock::store {

constexpr size_t kCellBytes = 64;
constexpr size_t kJournalHeaderBytes = 4096;
constexpr size_t kMaxEntryCells = 8192;  // longer ones are not appended and not read back
constexpr uint64_t kOpenEnd = UINT64_MAX;

enum class EntryType : uint8_t { own = 1, zero = 2, cut_off = 3, commit = 4, cut = 5, failed = 6 };

using SnapshotId = std::array<uint8_t, 16>;

struct CutMember {
  uint64_t line = 0;
  uint32_t version = 0;  // ended here
  uint64_t up_to = 0;    // position: what the line's snapshot may contain, all of it stable
  SnapshotId snapshot{};
  std::string name;
};

struct Entry {
  EntryType type = EntryType::own;
  uint64_t position = 0;  // set by append and by the scan
  uint64_t line = 0;
  uint32_t version = 0;
  uint16_t start = 0;  // blocks
  uint16_t count = 0;
  uint64_t window = 0;             // cut_off: first window
  uint64_t argument = 0;           // own: slot; cut_off: end window; commit: up to; failed: after
  std::vector<CutMember> members;  // cut
};

// What makes two starts the same: see DESIGN D10 and HAZARDS J15.
struct Incarnation {
  std::array<uint8_t, 16> store_id{};
  std::string boot_id;  // at most 63 bytes
  uint64_t device = 0;
  uint64_t inode = 0;
};

struct Scan {
  bool created = false;
  bool clean = false;
  bool same_incarnation = false;
  std::vector<Entry> entries;  // by position
  uint64_t next_position = 0;
};

// A reactor's way to run things on itself from another thread's completion.
class Poster {
 public:
  virtual ~Poster() = default;
  virtual void post(std::function<void()> run) = 0;
};

class Journal {
 public:
  // Opens or makes `path` with `cells` cells (an existing ring keeps its size; the count is a power of two)
  // and scans it. `cells` 0: it has to be there; -ENOENT or -ENODATA when it is not, and nothing is touched.
  // One that could not be made whole is removed again. 0 or -errno; -EUCLEAN for a header that is not ours,
  // -EPROTONOSUPPORT for a newer format, -ESTALE for another store's.
  static int open(io::Disk& disk, const std::string& path, uint64_t cells, const Incarnation& incarnation,
                  std::unique_ptr<Journal>& journal, Scan& scan);

  // Empties the ring under a new incarnation, starting at `position`. Blocking; start only. 0 or -errno.
  int start(uint64_t position);
  // Marks a clean stop: nothing in the ring counts. Blocking. 0 or -errno.
  int finish();

  uint64_t cells() const { return cells_; }
  uint64_t used() const { return next_.load() - tail_.load(); }
  uint64_t next() const { return next_.load(); }
  uint64_t syncs() const { return syncs_.load(std::memory_order_relaxed); }

  // More than half full: from here on requests that need room ask pace() first.
  bool crowded() const { return used() > cells_ / 2; }
  // Whether one more ordinary entry may be made now. What room is left is spread over the time the rounds
  // under way may still take (as long again as the tail has not moved), so that a writer faster than the disk
  // is slowed down early instead of stopped later for as long as the disk needs. Thread-safe.
  bool pace(uint64_t now_ns);

  // Takes room for ordinary entries; false when only the quarter kept for commits, cuts and recovery is left.
  bool reserve(uint32_t cells);
  // The same out of the kept quarter, for the entries of a control operation: it may stand in the way of the
  // rounds that would make room.
  bool reserve_kept(uint32_t cells);
  void unreserve(uint32_t cells) { reserved_.fetch_sub(cells); }

  // Appends an entry of one cell whose room was reserved (own, zero, cut_off). Returns its position.
  // Thread-safe.
  uint64_t append(const Entry& entry);
  // Appends a commit, cut or failed entry from the kept quarter. False when even that is full, or the entry
  // is longer than any may be.
  bool append_kept(const Entry& entry, uint64_t& position);

  // Entries of `line` still in the ring with positions in [from, to], for a container that failed. Slow.
  std::vector<Entry> entries_of(uint64_t line, uint64_t from, uint64_t to) const;

  // Everything below `position` is in LevelDB. Never moves back.
  void set_tail(uint64_t position);

  // Makes what this thread has appended stable and calls `done(errno)` on `poster`'s thread. One sync in
  // flight; who comes while one runs waits for the next. After a failed sync every later one fails.
  void sync(io::Engine& engine, Poster& poster, std::function<void(int)> done);

  bool broken() const { return broken_.load(std::memory_order_relaxed); }

 private:
  struct Waiter {
    Poster* poster;
    io::Engine* engine;
    std::function<void(int)> done;
  };
  struct SyncRun;

  Journal(io::Disk& disk, std::unique_ptr<io::File> file, Incarnation incarnation)
      : disk_(disk), file_(std::move(file)), incarnation_(std::move(incarnation)) {}

  bool reserve_below(uint64_t limit, uint32_t cells);
  int create(uint64_t cells);
  int read_header(Scan& scan);
  int write_header(bool clean, uint64_t position, bool new_seed);
  void scan_cells(Scan& scan) const;
  void put(const Entry& entry, uint64_t position, uint16_t cells);
  bool read_entry(uint64_t cell, Entry& entry, uint16_t& cells) const;
  void copy_in(uint64_t position, std::span<const std::byte> bytes);
  void copy_out(uint64_t position, std::span<std::byte> bytes) const;
  void start_sync(io::Engine& engine);
  static void sync_done(io::Request& request);

  io::Disk& disk_;
  std::unique_ptr<io::File> file_;
  Incarnation incarnation_;
  std::byte* ring_ = nullptr;
  std::byte* header_ = nullptr;
  uint64_t cells_ = 0;
  uint64_t seed_ = 0;
  uint64_t number_ = 0;  // of the incarnation
  uint64_t start_position_ = 0;

  std::atomic<uint64_t> next_{0};
  std::atomic<uint64_t> tail_{0};
  std::atomic<uint64_t> reserved_{0};
  std::atomic<uint64_t> syncs_{0};
  std::atomic<bool> broken_{false};

  struct Pace {
    std::mutex mutex;
    uint64_t tail = UINT64_MAX;  // when last asked
    uint64_t since_ns = 0;       // it has been there
    uint64_t last_ns = 0;        // asked
    double entries = 0;          // saved up
  } pace_;

  std::mutex mutex_;
  bool syncing_ = false;
  std::vector<Waiter> waiting_;
  std::vector<Waiter> covered_;
  io::Request sync_request_;
};

}  // namespace cellblock::store
