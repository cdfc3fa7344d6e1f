// Random histories of clients, agent and crashes against bytes in an array, through the native core alone.
// Short by default, shorter where CELLBLOCK_TEST_EFFORT=quick (under sanitizers); CELLBLOCK_LONG=1 for many
// more seeds, CELLBLOCK_HISTORY=n for that one, with everything it does printed.
#include "test/core_model.h"

#include <cstdlib>
#include <cstring>

using namespace cellblock::test;

namespace {

void histories(HistoryOptions options, unsigned count) {
  if (const char* one = std::getenv("CELLBLOCK_HISTORY")) {
    options.seed = options.world.seed = std::strtoull(one, nullptr, 0);
    options.verbose = true;
    TAP_OK(run_history(options), "agrees with the model");
    return;
  }
  const char* effort = std::getenv("CELLBLOCK_TEST_EFFORT");
  if (effort && std::strcmp(effort, "quick") == 0) count = (count + 3) / 4;
  if (std::getenv("CELLBLOCK_LONG")) count *= 60;
  for (unsigned i = 0; i < count; i++) {
    options.seed = options.world.seed = seed() % 1'000'000'000 + i;
    if (TAP_OK(run_history(options), "history " + std::to_string(options.seed) + " agrees with the model"))
      continue;
    std::printf("# the history alone: CELLBLOCK_HISTORY=%llu\n",
                static_cast<unsigned long long>(options.seed));
    return;
  }
}

HistoryOptions small_windows() {
  HistoryOptions options;
  options.world.shuffled = true;
  return options;
}

TAP_TEST("histories: buffered, everything in the page cache") { histories(small_windows(), 8); }

TAP_TEST("histories: buffered, some reads miss the page cache, requests end in any order") {
  HistoryOptions options = small_windows();
  options.world.held = true;
  options.world.cached_percent = 50;
  histories(options, 12);
}

TAP_TEST("histories: direct I/O, requests end in any order") {
  HistoryOptions options = small_windows();
  options.world.direct = options.world.held = true;
  histories(options, 10);
}

TAP_TEST("histories: a cache that holds next to nothing, small rounds, a small journal") {
  HistoryOptions options = small_windows();
  options.world.held = true;
  options.world.cached_percent = 80;
  options.world.cache_bytes = 1;
  options.world.records_a_batch = 2;
  options.world.journal_cells = 256;
  histories(options, 10);
}

TAP_TEST("histories: windows of 2 MiB") {
  HistoryOptions options = small_windows();
  options.world.window_bytes = 2 << 20;
  options.world.held = true;
  options.world.cached_percent = 70;
  options.volume_bytes = (5 << 20) + 5000;
  histories(options, 8);
}

TAP_TEST("histories: direct I/O in windows of 2 MiB, a small cache") {
  HistoryOptions options = small_windows();
  options.world.window_bytes = 2 << 20;
  options.world.direct = options.world.held = true;
  options.world.cache_bytes = 1;
  options.volume_bytes = (5 << 20) + 5000;
  histories(options, 6);
}

}  // namespace

int main() { return cellblock::test::run(); }
