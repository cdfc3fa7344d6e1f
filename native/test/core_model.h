// What a client may expect of the core, as bytes: a volume is an array of pages, a snapshot a copy of it. And
// a driver of random histories that does everything a client, an agent and a power cut can do, and compares.
#pragma once

#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "test/core_world.h"
#include "test/tap.h"

namespace cellblock::test {

// 4 KiB blocks that share their memory with copies; a null one is a hole.
class Content {
 public:
  using Block = std::array<std::byte, 4096>;
  explicit Content(uint64_t size = 0) { resize(size); }
  void resize(uint64_t size);
  uint64_t size() const { return size_; }
  bool is_hole(uint64_t block) const { return !blocks_[block]; }
  void set_hole(uint64_t block) { blocks_[block] = nullptr; }
  void write(uint64_t offset, const std::byte* from, uint64_t bytes);
  void read(uint64_t offset, std::byte* to, uint64_t bytes) const;
  bool is(uint64_t offset, const std::byte* wanted, uint64_t bytes) const;

 private:
  std::vector<std::shared_ptr<const Block>> blocks_;
  uint64_t size_ = 0;
};

constexpr uint64_t kSector = 512;
struct Sector : std::array<std::byte, kSector> {
  bool operator==(const Sector& other) const { return std::memcmp(data(), other.data(), size()) == 0; }
};

// A change a client asked for and has no answer to. Nothing else under way touches the same sectors.
struct Change {
  std::shared_ptr<Io> io;
  uint64_t container = 0;
  bool write = false;  // else zeros
  bool hole = false;   // whole blocks become holes
  uint64_t offset = 0;
  uint64_t length = 0;
  Content before;  // of the whole volume, when it was asked for
};

struct VolumeModel {
  Content now;      // with every answered change
  Content flushed;  // what certainly survives a loss of power
  std::map<uint64_t, std::vector<std::pair<uint64_t, Sector>>>
      later;                      // sector -> {when answered, content} since
  std::vector<uint64_t> touched;  // block -> number of its last change
  std::set<uint64_t> unsure;      // blocks of which it is not known whether they are holes
};

struct SnapshotModel {
  uint64_t container = 0;
  Content content;
  std::map<uint64_t, std::vector<Sector>> either;  // sectors with a change under way at that instant
  uint64_t number = 0;                             // changes asked for before
  bool seen = false;                               // read once: `content` is what it is for ever
};

struct HistoryOptions {
  WorldOptions world;
  uint64_t seed = 1;
  unsigned operations = 120;
  unsigned crashes = 3;  // the last of them before a final comparison
  uint64_t volume_bytes = 80 * (64 << 10) + 10000;
  size_t most_volumes = 3;
  size_t most_under_way = 4;
  bool verbose = false;
};

// One random history; false and a failed check when the core and the model disagree.
bool run_history(const HistoryOptions& options);

}  // namespace cellblock::test
