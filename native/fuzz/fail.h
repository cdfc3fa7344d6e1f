// How a target says that something is wrong: one sentence, then the end, which the fuzzer takes for a find.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

namespace cellblock::fuzz {

[[noreturn]] inline void fail(const std::string& sentence) {
  std::fprintf(stderr, "wrong: %s\n", sentence.c_str());
  std::abort();
}

inline void expect(bool holds, const char* sentence) {
  if (!holds) fail(sentence);
}

}  // namespace cellblock::fuzz
