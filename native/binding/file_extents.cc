// Invariant: what is not inside an answered extent reads as zero, as long as nobody writes to the file
// meanwhile.
#include "binding/file_extents.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "binding/convert.h"

namespace cellblock::binding {
namespace {

struct Extent {
  uint64_t start;
  uint64_t end;
};

enum class Found { data, nothing, failed };

// For files and devices that know no holes: the rest is data.
Found rest_of(int fd, off_t offset, Extent& extent) {
  const off_t end = lseek(fd, 0, SEEK_END);
  if (end < 0) return Found::failed;
  if (end <= offset) return Found::nothing;
  extent = {static_cast<uint64_t>(offset), static_cast<uint64_t>(end)};
  return Found::data;
}

// ENXIO means: behind the end, or nothing but a hole up to it. It comes from the second call too, when the
// file was cut meanwhile.
Found find_data(int fd, off_t offset, Extent& extent) {
  const off_t start = lseek(fd, offset, SEEK_DATA);
  if (start < 0 && errno == EINVAL) return rest_of(fd, offset, extent);
  if (start < 0) return errno == ENXIO ? Found::nothing : Found::failed;
  const off_t end = lseek(fd, start, SEEK_HOLE);
  if (end < 0) return errno == ENXIO ? Found::nothing : Found::failed;
  extent = {static_cast<uint64_t>(start), static_cast<uint64_t>(end)};
  return Found::data;
}

}  // namespace

Napi::Value next_extent(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = static_cast<int>(number_of(info[0]));
  const uint64_t offset = number_of(info[1]);
  Extent extent{};
  const Found found = offset > INT64_MAX ? Found::nothing : find_data(fd, static_cast<off_t>(offset), extent);
  if (found == Found::failed) {
    throw_errno(env, errno, "lseek");
    return env.Undefined();
  }
  if (found == Found::nothing) return env.Null();
  Napi::Object answer = Napi::Object::New(env);
  answer["start"] = bigint_to(env, extent.start);
  answer["end"] = bigint_to(env, extent.end);
  return answer;
}

Napi::Value punch_hole(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = static_cast<int>(number_of(info[0]));
  const auto offset = static_cast<off_t>(number_of(info[1]));
  const auto length = static_cast<off_t>(number_of(info[2]));
  if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) != 0)
    throw_errno(env, errno, "fallocate");
  return env.Undefined();
}

}  // namespace cellblock::binding
