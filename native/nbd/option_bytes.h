// The data of options and of their replies, field by field.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace cellblock::nbd {

template <typename T>
void append_be(std::string& to, T value) {
  char bytes[sizeof(T)];
  store_be<T>(bytes, value);
  to.append(bytes, sizeof bytes);
}

// Reads the fields of an option's data in order; once something is missing everything after it is, too.
class Fields {
 public:
  explicit Fields(std::string_view data) : rest_(data) {}

  template <typename T>
  T integer() {
    const std::string_view bytes = string(sizeof(T));
    return bytes.size() == sizeof(T) ? load_be<T>(bytes.data()) : T{0};
  }

  std::string_view string(size_t bytes) {
    if (bytes > rest_.size()) {
      ok_ = false;
      rest_ = {};
      return {};
    }
    const std::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return taken;
  }

  size_t left() const { return rest_.size(); }
  bool complete() const { return ok_ && rest_.empty(); }
  bool ok() const { return ok_; }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace cellblock::nbd
