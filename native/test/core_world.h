// A whole native core in one thread, on a simulated disk, with a small agent that plays what TypeScript does:
// everything that happens is a step, taken in an order that a seed chooses or the test itself. A crash
// forgets all but disk and Level.
//
// Calls of the agent drive the world until they are done and give 0, an errno, or kCrashed when the disk died
// on the way.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/random.h"
#include "io/simulated_disk.h"
#include "store/extents.h"
#include "store/journal.h"
#include "test/core_level.h"
#include "volume/volume.h"

namespace cellblock::test {

constexpr int kCrashed = 1000;
constexpr int kStuck = 1001;  // nothing moves any more and the call is not done

struct WorldOptions {
  uint64_t seed = 1;
  uint32_t window_bytes = 64 << 10;
  bool direct = false;
  bool held = false;      // engines' requests wait: step() delivers one in any order, or the test does
  bool shuffled = false;  // what can happen next happens in any order
  unsigned cached_percent = 100;
  unsigned write_back_percent = 10;
  uint64_t journal_cells = 1024;
  uint64_t cache_bytes = 64 << 20;
  uint64_t reserve_bytes = 0;
  size_t records_a_batch = 1000;  // of a round
};

// A request of a client, with its buffer.
struct Io : volume::Request {
  Bytes bytes;
  std::vector<volume::StatusContext> asked;
  const io::SimulatedDisk* disk = nullptr;
  bool answered = false;  // by a process that was alive
};

class World : public volume::Keeper {
 public:
  explicit World(const WorldOptions& options);
  ~World() override;

  // ---- life ----
  int start();                                    // the normal start: recovery, then every container is open
  int stop();                                     // cleanly
  void crash(io::CrashKind kind, uint64_t seed);  // everything in memory is gone; start() goes on
  void boot_elsewhere() { boot_++; }              // the next start sees another boot id

  // ---- clients ----
  std::shared_ptr<Io> submit(volume::Volume& volume, volume::Command command, uint64_t offset,
                             uint64_t length, uint16_t flags = 0, const Bytes* payload = nullptr);
  void submit(volume::Volume& volume, Io& io);
  std::shared_ptr<Io> write(uint64_t container, uint64_t offset, const Bytes& payload, uint16_t flags = 0);
  std::shared_ptr<Io> fill(uint64_t container, uint64_t offset, uint64_t bytes, int value,
                           uint16_t flags = 0);
  std::shared_ptr<Io> ask(uint64_t container, volume::Command command, uint64_t offset = 0,
                          uint64_t length = 0, uint16_t flags = 0);
  int wait(const std::shared_ptr<Io>& io);                               // errno of the answer
  Bytes read(volume::Volume& volume, uint64_t offset, uint64_t length);  // empty: an error
  Bytes read(uint64_t container, uint64_t offset, uint64_t length) {
    return read(volume(container), offset, length);
  }
  Bytes read_snapshot(const std::string& name, uint64_t offset, uint64_t length);
  int flush(uint64_t container) { return wait(ask(container, volume::Command::flush)); }

  // ---- the agent ----
  uint64_t create(uint64_t size);  // 0: crashed
  int round(uint64_t container);
  int snapshot(const std::vector<std::pair<uint64_t, std::string>>& members);
  uint64_t clone(const std::string& snapshot);  // 0: crashed
  int remove_snapshot(const std::string& name);
  int remove_volume(uint64_t container);  // with its snapshots; clones stay
  int reclaim();                          // whatever of deleted versions can be merged or freed now
  int resize(uint64_t container, uint64_t size);
  int punch_pending();
  void evict(uint64_t container) { volume(container).evict_clean(); }

  // ---- time ----
  bool step();                       // false: nothing can move
  void pass(uint64_t milliseconds);  // of the clock all volumes read
  int run_until(const std::function<bool()>& done);
  void settle() {
    while (step()) {
    }
  }
  bool chores() { return background(); }  // what the agent does when nothing else moves; false: nothing
  void drop_questions() { questions_.clear(); }  // of faults a test has answered itself

  volume::Volume& volume(uint64_t container) { return *open_.at(container).volume; }
  bool is_open(uint64_t container) const { return open_.contains(container); }
  volume::Volume& view(const std::string& snapshot);  // opened until the next snapshot is deleted, or the end
  uint32_t layer_of(uint64_t container, VersionId at) const { return open_.at(container).layers.at(at); }
  io::SimulatedDisk& disk() { return *disk_; }
  store::Journal& journal() { return *journal_; }
  io::Engine& engine() { return *engine_; }
  store::ExtentsTable& extents() { return *extents_; }
  volume::CacheBudget& budget() { return budget_; }
  bool crashed() const { return disk_->crashed(); }
  std::string path_of(uint64_t file) const { return "/store/extents/" + std::to_string(file); }

  // Levers of a test.
  bool deliver = true;            // step() lets held requests finish
  bool answer_faults = true;      // step() reads for faults and answers them
  bool read_faults = true;        // ... the first of the two
  std::function<void()> between;  // called before every step of a call of the agent
  std::function<bool()> idle;     // when nothing can move any more; true: something can now
  std::function<void(volume::Volume& volume)> let_go;  // a hold has ended
  std::function<void(uint64_t container)> raised;      // a version has just ended
  std::function<void(const std::string& what)>
      at;  // "cut written", "round taken": named points of calls of the agent
  Level level;
  unsigned starts = 0;
  uint64_t faults = 0;  // asked
  int last_error = 0;   // of read()

 private:
  struct Open {
    std::unique_ptr<volume::Volume> volume;
    VersionId at;
    Layers layers;
  };
  struct Question {  // a fault
    volume::Volume* volume;
    uint64_t first;
    uint32_t count;
    bool read = false;
    FaultAnswer answer;
  };
  struct Queue final : store::Poster {
    void post(std::function<void()> run) override { waiting.push_back(std::move(run)); }
    std::deque<std::function<void()>> waiting;
  };

  // Keeper
  void fault(volume::Volume& volume, uint64_t first, uint32_t count) override;
  void round_wanted(volume::Volume& volume, bool urgent) override;
  void file_wanted(volume::Volume& volume) override;
  void released(volume::Volume& volume) override {
    if (let_go) let_go(volume);
  }
  void failed(volume::Volume& volume, int error, uint64_t after, std::vector<store::Entry> entries) override;

  int recover(const store::Scan& scan);
  int commit(const std::function<void(Level&)>& batch);
  int commit_alone(const std::function<void(Level&)>& batch);
  Open open(VersionId at, uint64_t handle, bool read_only, bool unclean);
  Open* opened(const volume::Volume& volume);
  int store_round(uint64_t container, const volume::Round& round,
                  const std::function<void(Level&)>& with_last);
  int reclaim_one(VersionId at, VersionId into);
  int adopt(VersionId at, VersionId into);
  void trim_journal();
  bool background();
  bool step_of(unsigned kind);
  void forget();

  WorldOptions options_;
  Random random_;
  uint64_t boot_ = 1;
  uint64_t crashes_ = 0;
  std::unique_ptr<io::SimulatedDisk> disk_;
  std::unique_ptr<io::File> level_file_;
  std::unique_ptr<store::Journal> journal_;
  std::unique_ptr<store::ExtentsTable> extents_;
  volume::CacheBudget budget_;
  std::map<uint64_t, Open> open_;  // by container
  std::map<std::string, Open> views_;
  std::unique_ptr<io::Engine> engine_;
  Queue queue_;
  std::deque<Question> questions_;
  std::deque<std::function<void(Level&)>> owed_;  // batches of cuts that were answered: before any other
  std::deque<std::function<int()>> chores_;       // of the keeper: a failed volume, a file wanted
  std::set<uint64_t> rounds_wanted_;              // containers
  std::set<uint64_t> busy_;                       // containers with a call of the agent under way
  std::set<uint64_t> clean_since_;                // flushed since an unclean start
  std::vector<std::shared_ptr<Io>> asked_;
  bool in_background_ = false;
};

}  // namespace cellblock::test
