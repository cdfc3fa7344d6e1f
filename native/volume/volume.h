// A volume: the current map of one container (or a frozen one, read-only) as a block device. Everything here
// runs on the thread of its home reactor, so what happens without waiting is atomic.
//
// Invariants: a block found in the current layer in the window's own slot is overwritten in place, anything
// else is first written whole to the own slot (rule of ownership); who changes the state of a block, or reads
// it in order to write it, holds it alone (D11); an entry is in the journal before its request is answered
// (D10).
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "io/io.h"
#include "store/extents.h"
#include "store/journal.h"
#include "store/window_record.h"
#include "volume/device.h"
#include "volume/region.h"

namespace cellblock::volume {

class Volume;
struct Part;

// What a volume asks of whoever keeps LevelDB. Called on the home reactor; answered there, later.
class Keeper {
 public:
  virtual ~Keeper() = default;
  // Answer with fault_reply for the same first window.
  virtual void fault(Volume& volume, uint64_t first, uint32_t count) = 0;
  virtual void round_wanted(Volume& volume, bool urgent) = 0;
  virtual void file_wanted(Volume& volume) = 0;
  // A hold has ended: who stopped reading the sockets of the volume reads them again.
  virtual void released(Volume&) {}
  // The container failed (D8). `entries` are those of its line still in the journal that count; when LevelDB
  // has them, reopen() is called.
  virtual void failed(Volume& volume, int error, uint64_t after, std::vector<store::Entry> entries) = 0;
};

// What a volume uses of its reactor and its store.
struct Home {
  unsigned index = 0;
  io::Engine* engine = nullptr;
  store::Poster* poster = nullptr;
  store::Journal* journal = nullptr;
  store::ExtentsTable* extents = nullptr;
  CacheBudget* budget = nullptr;
  Keeper* keeper = nullptr;
  uint64_t (*now_ns)() = nullptr;  // monotonic
};

struct VolumeOptions {
  uint64_t handle = 0;
  uint64_t container = 0;
  uint64_t line = 0;
  uint32_t version = 0;
  uint64_t size_bytes = 0;
  bool read_only = false;
  bool empty = false;            // nothing in LevelDB or below
  bool unclean = false;          // every file counts as written
  std::vector<uint32_t> layers;  // ascending; the last is this version's
  std::vector<uint64_t> files;   // own ones
  uint64_t round_after_ns = 5'000'000'000;
};

// One stored record of a fault's answer; newest first within a window.
struct FaultRecord {
  uint64_t window;
  uint32_t layer;
  bool cut_off;  // no record: nothing older is asked
  std::span<const std::byte> bytes;
};

struct RoundRecord {
  uint32_t version;
  uint64_t window;
  bool compare;
  std::vector<std::byte> bytes;
};

struct RoundCutOff {
  uint32_t version;
  uint64_t first;
  uint64_t end;  // store::kOpenEnd: open
};

// The map a held volume continues with: another line of the same container.
struct Rebase {
  uint64_t line = 0;
  uint32_t version = 0;
  uint64_t size_bytes = 0;
  bool empty = false;            // nothing in LevelDB or below
  bool discard = false;          // what LevelDB lacks of the old one is of no use any more
  std::vector<uint32_t> layers;  // as of an open, but above every one there was
};

// A record of a version that is being deleted below the current one.
struct AdoptedRecord {
  uint64_t window;
  std::vector<std::byte> bytes;
};

struct Round {
  int error = 0;
  uint64_t position = 0;
  std::vector<RoundRecord> records;  // in order of versions
  std::vector<RoundCutOff> cut_offs;
};

class Volume final : public Device {
 public:
  Volume(VolumeOptions options, Home home);
  ~Volume() override;

  // Device
  Submitted submit(Request& request) override;
  uint64_t size() const override { return size_.load(std::memory_order_relaxed); }
  bool read_only() const override { return read_only_.load(std::memory_order_relaxed); }
  bool held() const override { return held_.load(std::memory_order_relaxed); }
  unsigned home() const override { return home_.index; }

  uint64_t handle() const { return options_.handle; }
  uint64_t line() const { return options_.line; }
  uint32_t version() const { return options_.version; }
  uint32_t current_layer() const { return layers_.back(); }
  uint64_t resident_bytes() const { return regions_.bytes(); }
  size_t dirty_windows() const { return dirty_windows_.load(std::memory_order_relaxed); }
  uint64_t last_position() const { return last_position_; }
  // Where the journal may not be trimmed past; any thread.
  uint64_t oldest_unapplied() const { return oldest_unapplied_.load(); }
  bool idle() const { return requests_ == 0 && faults_.empty() && !flush_running_; }

  void set_read_only(bool read_only) { read_only_.store(read_only); }
  void add_file(uint64_t number) {
    options_.files.push_back(number);
    next_place_ = -1;
    file_wanted_ = file_late_ = false;
    retry_space_waiters();
  }
  void remove_layer(uint32_t layer);

  // Faults.
  void fault_reply(uint64_t first, std::span<const FaultRecord> records, int error);
  // Drops what is clean and resident.
  void evict_clean() { regions_.clear(false); }

  // Makes stable all that was answered before this call and commits it.
  void flush(std::function<void(int)> done);

  // Rounds.
  void take_round(std::function<void(Round)> done);
  void round_done(uint64_t position);
  void round_failed();
  // While rounds fail, writes that wait for the journal get ENOSPC.
  void set_rounds_failing(bool failing);
  // Called now and then: asks for a round when the oldest change is old, again for a file that did not come,
  // and gives up cache that others want.
  void tick(uint64_t now_ns);
  // The journal has room again.
  void journal_freed();

  // Snapshots. hold stops admission; `held` is called at once (what is under way goes on).
  void hold() { held_.store(true); }
  void release();
  // Ends the current version: from here on requests belong to the next one.
  void raise();
  // Calls when every write admitted before the last raise() has ended, then flushes: done(error, position).
  void settle_raised(std::function<void(int, uint64_t)> done);
  // The cut at `position` is durable and committed everything at or below `up_to`.
  void cut_committed(uint64_t position, uint64_t up_to);
  // A cut names this container: the journal may not be trimmed past it before a round has passed.
  void about_to_append();

  // Calls when nothing at all is in flight; admission must be held. What waits for something may be halfway.
  void drained(std::function<void()> done);
  // Calls when, besides, no request is begun and unanswered (quiesce): ECANCELED when the hold ends first.
  void quiesced(std::function<void(int)> done);
  // Swaps the map of a quiesced volume of which LevelDB has everything. 0, EBUSY (it is not), EIO (failed).
  // Whoever asks what changed since before it is told that everything did.
  int rebase(const Rebase& to);
  // Calls when every part and fault begun before has ended.
  void grace(std::function<void()> done);

  // What these records of the version right below say becomes the current version's where that is silent; see
  // DESIGN "Deleting a snapshot". `below`: something lies below them, so their zeros count too.
  void adopt(bool below, std::vector<AdoptedRecord> records, std::function<void(int)> done);
  void resize(uint64_t size_bytes, std::function<void(int)> done);

  bool failed() const { return failed_; }
  // A failed container's counting entries are in LevelDB: reads go on.
  void reopen(uint64_t position);
  // They cannot be brought there: what waits to read, and what comes until reopen(), gets EIO.
  void refuse_reads();

 private:
  friend struct Part;
  static constexpr size_t kDirtyWindowsLimit =
      4096;  // bounds the bytes of one round, and the time to encode them
  enum class Walk : uint8_t { finished, waiting };
  // In Request::cells.
  static constexpr uint32_t kFlushAtEnd = 1;  // FUA that touched what is not committed
  static constexpr uint32_t kPaused = 2;      // its walk goes on when few of its parts are left

  // Of one request: a WRITE_ZEROES of terabytes costs no more memory than one of a few windows.
  static constexpr uint32_t kMostParts = 64;
  static constexpr uint32_t kFewParts = 16;
  struct Span {
    uint64_t window;
    uint32_t offset;
    uint32_t bytes;
  };  // of a window, bytes

  struct RequestList {
    Request* head = nullptr;
    Request* tail = nullptr;
    void push(Request& request);
    Request* take_all();
    bool empty() const { return !head; }
  };
  struct Fault {
    bool stale = false;
    uint32_t epoch = 0;
    RequestList waiters;
    std::vector<std::function<void()>> callbacks;
  };
  struct Holds {
    Part* head = nullptr;
    RequestList waiters;
  };
  struct Blocks {  // blocks [start, end) of windows [first, last)
    uint64_t first;
    uint64_t last;
    uint16_t start;
    uint16_t end;
    bool meets(const Blocks& other) const {
      return first < other.last && other.first < last && start < other.end && other.start < end;
    }
  };
  // The one who has waited longest for blocks to itself: who comes later and wants any of them queues behind,
  // or those who share them would keep them for ever.
  struct Turn {
    Request* owner = nullptr;
    Blocks blocks;
    RequestList behind;
  };
  struct Frozen {  // what an ended version said about a window that changed under a later one
    uint32_t version;
    uint64_t window;
    bool compare;
    bool taken;
    Region* region;
    std::vector<std::byte> bytes;
  };
  struct PendingCutOff {
    uint64_t first;
    uint64_t end;
    uint32_t version;
    uint32_t layer;
    uint64_t position;
    bool taken;
  };

  // volume.cc: admission and waiting
  int refusal() const;
  // Opened read-only and still so: nothing of it was ever written here.
  bool frozen() const { return options_.read_only && read_only(); }
  Walk advance(Request& request);
  void resume_all(Request* list);
  void resume(Request& request);
  bool finish_walk(Request& request);
  void part_finished(Request& request);
  void complete(Request& request);
  Span span_at(const Request& request, uint64_t end) const;
  uint16_t blocks() const { return static_cast<uint16_t>(blocks_); }
  Window& window_of(Region& region, uint64_t window) { return region.windows[window % kRegionWindows]; }
  bool conflicts(uint64_t window, const Window& w, uint16_t start, uint16_t end, bool exclusive) const;
  bool older_change_held(uint64_t window, const Window& w) const;
  void add_hold(Part& part);
  void drop_hold(Part& part);
  void wait_for_hold(Request& request, uint64_t window);
  bool behind_turn(Request& request, const Blocks& wanted);
  void take_turn(Request& request, const Blocks& wanted);
  void end_turn();
  Part& new_part(Request* request);
  void end_part(Part& part);
  void submit_part(Part& part);
  uint32_t version_of(uint32_t layer) const;
  io::File* file_of(store::Slot slot, int& error);
  uint64_t byte_of(store::Slot slot, uint64_t offset) const {
    return store::slot_place(slot) * window_bytes_ + offset;
  }

  // volume_fault.cc
  Region* resident(uint64_t window, Request* request);
  void ask(uint64_t region_index);
  bool empty_locally(uint64_t region_index, Region*& region);
  void apply_pending_cut_offs(Region& region);
  void mark_stale(uint64_t first, uint64_t end);
  void install(Region& region, std::span<const FaultRecord> records);
  bool install_window(Window& w, std::span<const FaultRecord> records);
  void maybe_evict();
  void give_room();

  // volume_read.cc
  Walk advance_read(Request& request);
  void read_run(Request& request, const Run& run, uint64_t in_window, uint32_t bytes, std::byte* to);
  void add_segment(Request& request, uint32_t bytes, bool hole);
  static void read_part_done(io::Request& io);

  // volume_write.cc
  enum class Step : uint8_t { next, wait };
  Walk advance_write(Request& request);
  Step write_span(Request& request, const Span& span, const std::byte* data);
  Step begin_change(Request& request, Region& region, Window& w, uint64_t window, bool allocate);
  Step reserve_cell(Request& request);
  void convert(Region& region, Window& w, uint64_t window);
  bool allocate_slot(Request& request, Window& w, Step& step);
  io::File* own_file_of(store::Slot slot);
  bool owned(const Window& w, uint16_t start, uint16_t end) const;
  bool inline_write(io::File& file, const std::byte* data, uint32_t bytes, uint64_t offset, ssize_t& result);
  bool compose_inline(Window& w, const Span& span, const std::byte* data, std::byte* buffer);
  ssize_t read_block_inline(const Window& w, uint16_t block, std::byte* to);
  void compose_async(Part& part, const std::byte* data);
  void compose_step(Part& part);
  static void compose_read_done(io::Request& io);
  static void write_part_done(io::Request& io);
  void finish_write(Part& part, int error);
  void record_own(Region& region, Window& w, uint64_t window, uint16_t start, uint16_t end, uint32_t layer,
                  store::Slot slot);
  void note_change(Region& region, Window& w, uint32_t layer, uint64_t position);
  uint64_t append(store::Entry entry);
  void retry_space_waiters();
  void want_file(uint64_t now_ns);

  // volume_zero.cc
  Walk advance_zero(Request& request);
  Step zero_span(Request& request, const Span& span);
  Step zero_blocks(Request& request, const Span& span);
  Step allocate_zeros(Request& request, const Span& span);
  Step cut_off(Request& request, uint64_t first, uint64_t end);
  void apply_cut_off(uint64_t first, uint64_t end, uint64_t position);
  Request* held_in(uint64_t first, uint64_t end, uint64_t& window);
  void punch_next(Part& part);
  void punch_abandoned(Part& part);
  static void punch_part_done(io::Request& io);
  static void zero_range_done(io::Request& io);
  void finish_zero(Part& part);
  Run silent_run() const;

  // volume_status.cc
  Walk advance_status(Request& request);
  Walk advance_cache(Request& request);
  uint32_t depth_of(uint32_t layer) const;

  // volume_flush.cc
  void start_flush();
  void sync_files();
  static void file_synced(io::Request& io);
  void files_synced();
  void commit(uint64_t position);
  void flush_finished(int error);
  void fail(int error, std::function<void()> then);
  void forget_uncommitted(int error);

  void refuse_reopen_waiters();

  // volume_round.cc
  bool encode(const Window& w, std::vector<std::byte>& out) const;
  void want_round(bool urgent);
  void shrink_tail(uint64_t first, std::function<void(int)> done);
  void shrunk(int error);
  void adopt_step(std::shared_ptr<struct Adoption> adoption);
  bool adopt_record(Window& w, const store::WindowRecord& record, bool below);
  void mark_written(uint64_t file);
  void check_drained();
  bool quiet() const { return requests_ == held_count_; }
  void keep_held(Request& request);

  VolumeOptions options_;
  Home home_;
  const uint32_t window_bytes_;
  const unsigned window_shift_;
  const uint32_t blocks_;
  const bool direct_;

  std::atomic<uint64_t> size_;
  std::atomic<bool> read_only_;
  std::atomic<bool> held_{false};
  bool failed_ = false;
  bool failed_durable_ = false;
  bool reopening_ = false;
  bool reads_refused_ = false;  // while reopening_
  std::vector<std::function<void()>> failure_waiters_;
  bool rounds_failing_ = false;

  std::vector<uint32_t> layers_;
  std::vector<std::pair<uint32_t, uint32_t>>
      versions_;  // {layer, version} of this line since opened, ascending

  RegionTable regions_;
  uint64_t squeezes_seen_ = 0;                  // of the budget
  std::unordered_set<uint64_t> touched_;        // regions that may have records, while options_.empty
  std::unordered_map<uint64_t, Fault> faults_;  // by region
  std::unordered_map<uint64_t, Holds> holds_;   // by window
  Turn turn_;
  std::vector<Frozen> frozen_;
  std::vector<PendingCutOff> pending_cut_offs_;
  RequestList held_requests_;
  uint64_t held_count_ = 0;     // in that list
  uint32_t rebased_layer_ = 0;  // the lowest since the last rebase
  RequestList journal_waiters_;
  RequestList space_waiters_;
  RequestList reopen_waiters_;

  uint64_t requests_ = 0;            // taken and not answered
  uint64_t parts_by_layer_[2] = {};  // writing parts in flight, by parity of their layer
  uint64_t parts_by_epoch_[2] = {};  // all parts and faults in flight
  uint32_t epoch_ = 0;
  std::deque<std::function<void()>> grace_waiters_;
  bool grace_running_ = false;
  std::function<void()> raised_waiter_;
  std::vector<std::function<void()>> drain_waiters_;
  std::vector<std::function<void(int)>> quiet_waiters_;

  // positions in the journal
  uint64_t last_position_ = 0;  // of this line's newest entry
  uint64_t committed_ = 0;
  uint64_t round_position_ = 0;
  std::atomic<uint64_t> oldest_unapplied_{UINT64_MAX};

  // dirt
  std::atomic<size_t> dirty_windows_{0};  // written by the home thread, read by metrics
  uint64_t oldest_dirty_ns_ = 0;
  bool round_asked_ = false;
  bool round_urgent_ = false;
  bool round_running_ = false;

  std::shared_ptr<struct Shrink> shrink_;  // the one under way

  // flush
  bool flush_running_ = false;
  uint64_t flush_position_ = 0;
  int flush_error_ = 0;       // of writing back: the container fails
  int flush_open_error_ = 0;  // of opening what is to be synced: this flush fails
  uint32_t syncs_running_ = 0;
  std::vector<std::function<void(int)>> flush_next_;
  std::vector<std::function<void(int)>> flush_current_;
  RequestList flush_requests_next_;
  RequestList flush_requests_current_;
  std::vector<uint64_t> written_files_;
  std::vector<std::unique_ptr<io::Request>> sync_requests_;

  // space
  std::vector<store::Slot> abandoned_;  // by cut-offs, to be punched
  bool abandoning_ = false;
  int64_t next_place_ = -1;
  bool file_wanted_ = false;
  bool file_late_ = false;  // it did not come in time: who needs a place gets ENOSPC
  uint64_t file_asked_ns_ = 0;
  io::File* own_file_ = nullptr;
  uint64_t own_file_number_ = 0;
  io::File* read_file_ = nullptr;
  uint64_t read_file_number_ = 0;

  // inline writes
  uint32_t write_samples_ = 0;
  uint64_t slow_until_ns_ = 0;

  std::vector<std::unique_ptr<Part>> all_parts_;
  Part* free_parts_ = nullptr;
};

// One window's share of a request while it waits for the disk.
struct Part {
  io::Request io;
  Volume* volume = nullptr;
  Request* request = nullptr;
  Region* region = nullptr;
  uint64_t window = 0;
  uint16_t start = 0;  // blocks [start, end)
  uint16_t end = 0;
  uint32_t layer = 0;
  uint32_t epoch = 0;
  store::Slot slot = store::kNoSlot;
  bool holds = false;
  bool exclusive = false;
  bool changes = false;  // ownership: has a cell reserved
  bool writes = false;   // counted for its layer
  bool doubtful =
      false;            // a stable write got ENOSPC, its own or of an earlier write-back: tried again, plain
  uint32_t offset = 0;  // composed write: bytes into the first block where the payload goes
  uint32_t bytes = 0;
  uint32_t skip = 0;  // direct read: bytes of the bounce buffer before what was asked
  const std::byte* payload = nullptr;
  std::byte* bounce = nullptr;
  std::byte* to = nullptr;
  uint8_t stage = 0;
  std::vector<std::pair<uint16_t, uint16_t>> punches;  // blocks [first, end)
  Part* next_hold = nullptr;
  Part* next_free = nullptr;
};

}  // namespace cellblock::volume
