// A minimal TAP harness: every case is one test point, and prints only what failed in it.
//
//   TAP_TEST("a sync copies what was written") { TAP_EQ(n, 4096, "bytes"); }
//   int main() { return cellblock::test::run(); }
//
// `program NAME` runs the cases whose name contains NAME, `program --list` prints the names. Random cases
// draw from seed(), taken from CELLBLOCK_SEED or else from the system and always printed; a failure prints
// the command that runs that one case again. Checks may be made from any thread of a case.
#pragma once

#include <atomic>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <mutex>
#include <random>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

namespace cellblock::test {

struct Case {
  const char* name;
  void (*body)();
};

// What run() and the checks share; one per program.
struct State {
  std::vector<Case> cases;
  uint64_t seed = 0;
  std::string program;
  std::mutex output;
  std::atomic<unsigned> failures{0};  // in the running case
  std::atomic<unsigned> checks{0};
  std::string skipped;  // why, when the running case was
};

inline State& state() {
  static State shared;
  return shared;
}

inline uint64_t seed() { return state().seed; }

// Small, fast, the same everywhere (splitmix64).
class Random {
 public:
  explicit Random(uint64_t from = seed()) : state_(from) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  uint64_t below(uint64_t bound) { return bound ? next() % bound : 0; }
  uint64_t between(uint64_t low, uint64_t high) { return low + below(high - low + 1); }  // both included
  bool chance(unsigned percent) { return below(100) < percent; }

 private:
  uint64_t state_;
};

template <typename T>
std::string show(const T& value) {
  if constexpr (std::is_same_v<T, std::nullptr_t>) {
    return "null";
  } else if constexpr (std::is_enum_v<T>) {
    return std::to_string(static_cast<long long>(value));
  } else if constexpr (std::is_same_v<T, std::byte>) {
    return std::to_string(static_cast<unsigned>(value));
  } else if constexpr (std::is_same_v<T, bool>) {
    return value ? "true" : "false";
  } else if constexpr (std::is_integral_v<T>) {
    return std::to_string(value);
  } else if constexpr (requires(std::ostringstream & out) { out << value; }) {
    std::ostringstream out;
    out << value;
    return out.str();
  } else {
    return "(a value that cannot be shown)";
  }
}

inline bool check(bool holds, const std::string& what, const char* file, int line,
                  const std::string& more = "") {
  constexpr unsigned kMostShown = 20;  // of one case
  state().checks++;
  if (holds) return true;
  if (state().failures++ < kMostShown) {
    std::lock_guard<std::mutex> hold(state().output);
    std::printf("# failed: %s%s%s\n#   at %s:%d\n", what.c_str(), more.empty() ? "" : ": ", more.c_str(),
                file, line);
    std::fflush(stdout);
  }
  return false;
}

template <typename A, typename B>
bool same(const A& a, const B& b) {
  if constexpr (std::is_integral_v<A> && std::is_integral_v<B> && !std::is_same_v<A, bool> &&
                !std::is_same_v<B, bool>) {
    return static_cast<__int128>(a) == static_cast<__int128>(b);  // so that -1 is no huge unsigned number
  } else {
    return a == b;
  }
}

template <typename A, typename B>
bool check_equal(const A& got, const B& wanted, const std::string& what, const char* file, int line) {
  if (same(got, wanted)) return check(true, what, file, line);
  return check(false, what, file, line, "got " + show(got) + ", wanted " + show(wanted));
}

inline void skip(const std::string& why) { state().skipped = why; }

inline bool register_case(const char* name, void (*body)()) {
  state().cases.push_back({name, body});
  return true;
}

inline uint64_t choose_seed() {
  if (const char* given = std::getenv("CELLBLOCK_SEED")) return std::strtoull(given, nullptr, 0);
  std::random_device device;
  return device() | 1;
}

inline bool run_case(const Case& one, unsigned number) {
  State& s = state();
  s.failures = 0;
  s.checks = 0;
  s.skipped.clear();
  one.body();
  if (s.failures == 0 && s.skipped.empty() && s.checks == 0) {
    std::printf("# failed: the case checked nothing\n");
    s.failures = 1;
  }
  const bool ok = s.failures == 0;
  std::printf("%s %u - %s", ok ? "ok" : "not ok", number, one.name);
  if (ok && !s.skipped.empty()) std::printf(" # SKIP %s", s.skipped.c_str());
  std::printf("\n");
  if (!ok) {
    std::printf("# run it again: CELLBLOCK_SEED=%" PRIu64 " %s '%s'\n", s.seed, s.program.c_str(), one.name);
  }
  std::fflush(stdout);
  return ok;
}

// The program's own command line, so that main() need not pass it on.
inline std::vector<std::string> command_line() {
  std::ifstream from("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> words;
  for (std::string word; std::getline(from, word, '\0');) words.push_back(word);
  return words;
}

inline int run() {
  State& s = state();
  const std::vector<std::string> words = command_line();
  s.program = words.empty() ? "this program" : words[0];
  s.seed = choose_seed();
  const std::string filter = words.size() > 1 ? words[1] : "";
  if (filter == "--list") {
    for (const Case& one : s.cases) std::printf("%s\n", one.name);
    return 0;
  }
  std::vector<Case> chosen;
  for (const Case& one : s.cases) {
    if (std::strstr(one.name, filter.c_str())) chosen.push_back(one);
  }
  std::printf("TAP version 14\n1..%zu\n# CELLBLOCK_SEED=%" PRIu64 "\n", chosen.size(), s.seed);
  unsigned failed = 0;
  unsigned number = 0;
  for (const Case& one : chosen) {
    std::printf("# case: %s\n", one.name);  // so that a crash or a hang says where
    std::fflush(stdout);
    if (!run_case(one, ++number)) failed++;
  }
  if (chosen.empty()) std::printf("# no case has a name with '%s'\n", filter.c_str());
  return failed || chosen.empty() ? 1 : 0;
}

}  // namespace cellblock::test

#define TAP_JOIN_(a, b) a##b
#define TAP_JOIN(a, b) TAP_JOIN_(a, b)
#define TAP_TEST_(name, id)                                            \
  static void TAP_JOIN(tap_case_, id)();                               \
  [[maybe_unused]] static const bool TAP_JOIN(tap_known_, id) =        \
      ::cellblock::test::register_case(name, TAP_JOIN(tap_case_, id)); \
  static void TAP_JOIN(tap_case_, id)()

// Defines a case.
#define TAP_TEST(name) TAP_TEST_(name, __COUNTER__)
// Checks; the case goes on after a failure. They give whether it held.
#define TAP_OK(condition, what) \
  ::cellblock::test::check(static_cast<bool>(condition), what, __FILE__, __LINE__)
#define TAP_EQ(got, wanted, what) ::cellblock::test::check_equal(got, wanted, what, __FILE__, __LINE__)
// As TAP_OK, but leaves the function (which returns nothing) when it does not hold.
#define TAP_NEED(condition, what)         \
  do {                                    \
    if (!TAP_OK(condition, what)) return; \
  } while (0)
// Leaves the case as skipped; `why` says what is missing.
#define TAP_SKIP(why)             \
  do {                            \
    ::cellblock::test::skip(why); \
    return;                       \
  } while (0)
