// A directory of a test's own, removed with everything in it at the end. Under CELLBLOCK_TEST_DIR, else
// TMPDIR or /tmp.
#pragma once

#include <stdlib.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>

namespace cellblock::test {

class TemporaryDirectory {
 public:
  TemporaryDirectory() : TemporaryDirectory(parent()) {}
  explicit TemporaryDirectory(const std::string& parent) : path_(parent + "/cellblock-test-XXXXXX") {
    if (!mkdtemp(path_.data())) {
      std::perror(path_.c_str());
      std::abort();
    }
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  static std::string parent() {
    for (const char* name : {"CELLBLOCK_TEST_DIR", "TMPDIR"}) {
      if (const char* value = std::getenv(name)) return value;
    }
    return "/tmp";
  }

  std::string path_;
};

}  // namespace cellblock::test
