// LevelDB and the agent's decisions as plain data: a second, independent statement of DESIGN sections 4 and 5
// for tests of the native core. Copying a Level is taking a LevelDB snapshot; every call that changes one is
// one batch.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "store/journal.h"
#include "volume/volume.h"

namespace cellblock::test {

using Bytes = std::vector<std::byte>;

struct VersionId {
  uint64_t line = 0;  // 0: none
  uint32_t version = 0;
  auto operator<=>(const VersionId&) const = default;
};

using Layers = std::map<VersionId, uint32_t>;

// A record taken apart: what one version says about each block of a window.
struct Says {
  static constexpr store::Slot kSilent = UINT64_MAX;
  store::Slot own = store::kNoSlot;
  std::vector<store::Slot> blocks;  // slot, kNoSlot (zero) or kSilent

  static Says from(const Bytes& record, uint32_t blocks);
  Bytes record() const;  // empty when it says nothing
};

struct Level {
  struct CutOff {
    uint64_t first = 0;
    uint64_t end = 0;
    uint32_t version = 0;
  };
  struct Line {
    uint64_t container = 0;
    VersionId base;
    std::set<uint32_t> live{1};  // the last one is the current one
    std::set<uint32_t> deleted;  // of these: still to be merged or freed
    std::vector<CutOff> cut_offs;
    uint64_t applied = 0;
    std::map<std::pair<uint64_t, uint32_t>, Bytes> records;  // by window and version
    uint32_t current() const { return *live.rbegin(); }
  };
  struct Container {
    uint64_t size = 0;
    uint64_t line = 0;
    std::vector<uint64_t> files;
    bool failed = false;
    bool deleted = false;  // its files stay as long as anybody names them
    std::optional<uint64_t> shrinking_to;
  };
  struct Snapshot {
    uint64_t container = 0;
    VersionId at;
    uint64_t size = 0;
  };
  struct Punch {
    store::Slot slot = 0;
    uint32_t start = 0;
    uint32_t count = 0;
  };

  explicit Level(uint32_t blocks) : blocks(blocks) {}

  // Line and version of what (line, version) continues, newest line first, itself included.
  std::vector<VersionId> chain(VersionId at) const;
  Layers layers(VersionId at) const;
  bool empty(VersionId at) const;
  bool has_below(VersionId at) const;
  std::vector<VersionId> dependents(VersionId at) const;

  uint64_t add_container(uint64_t size, VersionId base);
  void add_file(uint64_t container);
  void end_version(uint64_t line, const std::string& snapshot, bool listed);

  // A round: everything but the records, then one call per record; `applied` last.
  void put_cut_off(uint64_t line, const volume::RoundCutOff& cut,
                   const std::vector<volume::RoundRecord>& in_round);
  void put_record(uint64_t line, const volume::RoundRecord& record, bool cut);

  // Deletion of `at` into its one dependent (line 0: nobody reads it). One window, then the version itself.
  void merge(VersionId at, VersionId into, uint64_t window);
  // The dependent's data plane has taken over what it wanted of `window`; its new record, if any, is stored
  // already.
  void drop_adopted(VersionId at, VersionId into, uint64_t window);
  void leave(VersionId at, VersionId into);

  // What a volume that failed in memory hands over, or a scan at start: what counts goes in. Answers files to
  // sync first.
  std::set<uint64_t> files_named(const std::vector<store::Entry>& entries) const;
  void replay(const std::vector<store::Entry>& entries, bool power_loss);

  uint32_t blocks;
  uint64_t next_id = 1;
  std::map<uint64_t, Container> containers;
  std::map<uint64_t, Line> lines;
  std::map<std::string, Snapshot> snapshots;
  std::vector<Punch> punches;

 private:
  void punch_dropped(const Says& old, const Says& now, const std::set<store::Slot>& kept);
  void replay_change(Line& line, const store::Entry& entry, uint32_t version);
};

// What LevelDB says about `count` windows from `first`, as a fault wants it; `storage` keeps the bytes.
struct FaultAnswer {
  std::vector<volume::FaultRecord> records;
  std::vector<std::unique_ptr<Bytes>> storage;
};
FaultAnswer answer_fault(const Level& level, VersionId at, const Layers& layers, uint64_t first,
                         uint32_t count);

}  // namespace cellblock::test
