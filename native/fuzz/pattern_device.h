// A device that keeps nothing and forgets nothing: every place has its own content, which reads give, and
// writes are compared with what the client sent. So no state is carried from one run to the next, and a byte
// that comes from the wrong place or goes to it is seen at once.
#pragma once

#include <cerrno>
#include <deque>
#include <string_view>
#include <vector>

#include "fuzz/conversation.h"
#include "volume/device.h"

namespace cellblock::fuzz {

// What a device may say, some of which no reply can.
constexpr int kDeviceErrors[] = {EIO,        ENOSPC, EPERM,  ENOMEM, EINVAL,    EOVERFLOW,
                                 EOPNOTSUPP, EROFS,  EDQUOT, EFBIG,  ESHUTDOWN, ETIMEDOUT};

enum class Outcome : uint8_t { none, succeeded, failed };

// What the devices of a run share: what the client said, and what became of it.
struct Told {
  const Conversation* conversation = nullptr;
  std::string_view stream;        // all the client says
  std::vector<Outcome> outcomes;  // by cookie - 1
  std::vector<int> errors;        // errno of those that failed, by cookie - 1
  std::vector<bool> submitted;    // by cookie - 1
  uint64_t read_bytes = 0;
  bool wait = false;
  int fail = 0;  // errno
  bool hold = false;
  bool holes = false;
};

class PatternDevice final : public volume::Device {
 public:
  PatternDevice(const KnownExport& known, Told& told) : known_(known), told_(told) {}

  volume::Submitted submit(volume::Request& request) override;
  bool complete_first();
  bool complete_last();

  uint64_t size() const override { return known_.size; }
  bool read_only() const override { return known_.read_only; }
  bool held() const override { return told_.hold; }
  unsigned home() const override { return 0; }

 private:
  void admit(const volume::Request& request);
  void perform(volume::Request& request);
  void read(volume::Request& request);
  void compare_payload(const volume::Request& request) const;
  void answer_status(volume::Request& request) const;

  const KnownExport known_;
  Told& told_;
  std::deque<volume::Request*> waiting_;
};

// Whether the block of 4 KiB at `offset` is a hole where there are holes.
inline bool is_hole(uint64_t offset) { return (offset >> 12) % 2 == 1; }

// What lies at [offset, offset + bytes.size()).
void put_content(uint64_t offset, std::byte* to, size_t bytes);
bool is_content(uint64_t offset, std::string_view bytes);

}  // namespace cellblock::fuzz
