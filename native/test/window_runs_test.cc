// Runs of a window against the plainest thing that could be them: an array with one entry a block.
#include <vector>

#include "test/tap.h"
#include "volume/window.h"

using cellblock::test::Random;
using namespace cellblock::volume;

namespace {

Run block_of(Random& random) {
  Run run;
  run.kind = static_cast<RunKind>(random.below(3));
  run.layer = run.kind == RunKind::hole ? 0 : static_cast<uint32_t>(1 + random.below(3));
  run.slot = run.kind == RunKind::data ? 1 + random.below(3) : cellblock::store::kNoSlot;
  return run;
}

// Sorted, without gaps, no two neighbours that could be one, and the same as the array.
bool agrees(const Runs& runs, const std::vector<Run>& blocks) {
  const uint16_t count = static_cast<uint16_t>(blocks.size());
  if (runs[0].start != 0) return false;
  for (uint16_t i = 0; i < runs.count(); i++) {
    if (i > 0 && runs[i].start <= runs[static_cast<uint16_t>(i - 1)].start) return false;
    if (i > 0 && runs[i].continues(runs[static_cast<uint16_t>(i - 1)])) return false;
    const uint16_t end = runs.end(i, count);
    if (end <= runs[i].start || end > count) return false;
    for (uint16_t block = runs[i].start; block < end; block++) {
      if (!runs[i].continues(blocks[block]) || runs.find(block) != i) return false;
    }
  }
  return runs.end(static_cast<uint16_t>(runs.count() - 1), count) == count;
}

TAP_TEST("set agrees with an array of blocks, at every window size") {
  Random random;
  for (uint16_t blocks : {16, 512, 1024}) {
    for (int history = 0; history < 20; history++) {
      Runs runs;
      std::vector<Run> naive(blocks);
      for (int change = 0; change < 400; change++) {
        const uint16_t start = static_cast<uint16_t>(random.below(blocks));
        const uint16_t longest = random.chance(70) ? 4 : blocks;
        const uint16_t end =
            static_cast<uint16_t>(start + 1 + random.below(std::min<uint64_t>(longest, blocks - start)));
        const Run to = block_of(random);
        runs.set(start, end, to, blocks);
        for (uint16_t block = start; block < end; block++) naive[block] = to;
        if (!TAP_OK(agrees(runs, naive), "after change " + std::to_string(change))) return;
      }
    }
  }
}

TAP_TEST("update changes runs in place and joins what has become one") {
  Random random;
  for (int history = 0; history < 300; history++) {
    constexpr uint16_t kBlocks = 64;
    Runs runs;
    std::vector<Run> naive(kBlocks);
    for (int change = 0; change < 40; change++) {
      const uint16_t start = static_cast<uint16_t>(random.below(kBlocks));
      const Run to = block_of(random);
      runs.set(start, static_cast<uint16_t>(start + 1), to, kBlocks);
      naive[start] = to;
    }
    const uint32_t from = static_cast<uint32_t>(1 + random.below(3));
    const auto raise = [from](Run& run) {
      if (run.layer != from) return false;
      run.layer = 9;
      return true;
    };
    bool expected = false;
    for (Run& block : naive) expected |= raise(block);
    TAP_EQ(runs.update(raise), expected, "whether anything changed");
    if (!TAP_OK(agrees(runs, naive), "the same afterwards")) return;
  }
}

TAP_TEST("assign takes whole lists and single runs, and a run that fills the window needs no memory") {
  const Run list[] = {{0, RunKind::hole, 0, 0}, {3, RunKind::data, 1, 5}, {9, RunKind::zero, 2, 0}};
  Runs runs;
  runs.assign(list, 3);
  TAP_EQ(runs.count(), 3, "all of them");
  TAP_OK(runs.heap_bytes() > 0, "in memory of their own");
  runs.assign(list[1]);
  TAP_EQ(runs.count(), 1, "one");
  TAP_EQ(runs[0].start, 0, "from the first block on");
  TAP_EQ(runs.heap_bytes(), 0, "inline again");
  runs.set(0, 16, Run{0, RunKind::data, 1, 5}, 16);
  TAP_EQ(runs.heap_bytes(), 0, "setting what is there takes nothing");
}

}  // namespace

int main() { return cellblock::test::run(); }
