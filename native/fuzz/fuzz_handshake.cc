// The handshake's state machine over bytes alone, with a directory that answers at once. Two of them get the
// same bytes, one all at once, the other cut at places of the fuzzer's choice: both have to say the same.
//
// The first two bytes say how the stream is cut and what the server is like, the rest is what a client sends.
#include <algorithm>
#include <span>
#include <string>

#include "fuzz/fail.h"
#include "nbd/handshake.h"
#include "test/tap.h"
#include "test/wire_bytes.h"

namespace cellblock::fuzz {
namespace {

using namespace nbd;

constexpr uint8_t kRefusal = 1 << 0;
constexpr uint8_t kFailingOpen = 1 << 1;
constexpr uint8_t kReadOnly = 1 << 2;
constexpr uint8_t kShutDown = 1 << 3;  // in the middle
// What one piece may make the server say: some replies for each export and context there is.
constexpr size_t kMostOutput = 64 << 10;

struct Server {
  explicit Server(uint8_t traits) : handshake({.refusal = traits & kRefusal ? "full" : ""}), traits(traits) {
    drain();
  }

  // Takes what it can; what stays is not the handshake's any more.
  void feed(std::span<const uint8_t> bytes) {
    while (!bytes.empty() && is_open()) {
      const size_t taken = handshake.feed(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size());
      expect(taken <= bytes.size(), "more was taken than given");
      expect(taken == bytes.size() || handshake.step() != Step::need_bytes,
             "bytes were left without a reason");
      bytes = bytes.subspan(taken);
      consumed += taken;
      while (answer()) drain();
      drain();
    }
  }

  bool is_open() const { return handshake.step() != Step::transmission && handshake.step() != Step::close; }

  bool answer() {
    const std::string& name = handshake.name();
    switch (handshake.step()) {
      case Step::list:
        handshake.listed({{"disk", "a disk"}, {"other", ""}});
        return true;
      case Step::describe: {
        expect(name.size() <= kMaxNameBytes, "a name that is too long reached the directory");
        expect(name.find('\0') == name.npos, "a name with NUL reached the directory");
        DescribedExport described;
        described.exists = name == "disk" || name.empty();
        described.name = "disk";
        described.size = 256 << 20;
        described.read_only = traits & kReadOnly;
        described.description = "a disk";
        described.snapshots = {"before", "later"};
        handshake.described(described);
        return true;
      }
      case Step::open:
        for (const std::string& since : handshake.changed_since()) {
          expect(since == "before" || since == "later",
                 "a snapshot that does not exist reached the directory");
        }
        handshake.opened({traits & kFailingOpen ? 5 : 0, "", 256 << 20, (traits & kReadOnly) != 0});
        return true;
      default:
        return false;
    }
  }

  void drain() {
    expect(handshake.output().size() <= kMostOutput, "the output is not bounded");
    sent += handshake.output();
    handshake.output().clear();
  }

  Handshake handshake;
  const uint8_t traits;
  std::string sent;
  size_t consumed = 0;
};

// The greeting, replies that are whole, and what EXPORT_NAME gives, if anything.
void check_frames(const Server& server) {
  test::Reader reader(server.sent);
  expect(reader.greeting(), "the greeting is not as it has to be");
  for (test::OptionAnswer answer; reader.next(answer);) {
    const bool is_error = static_cast<uint32_t>(answer.type) & 0x80000000;
    expect(!is_error || answer.data.size() <= kMaxNameBytes, "an error's sentence is too long");
  }
  expect(!reader.was_short(), "a reply is cut off");
  const size_t rest = reader.left();
  const bool by_export_name = server.handshake.step() == Step::transmission && (rest == 10 || rest == 134);
  expect(rest == 0 || by_export_name, "bytes that are no reply");
}

void compare(const Server& whole, const Server& cut) {
  expect(whole.sent == cut.sent, "the answers depend on how the bytes are cut");
  expect(whole.handshake.step() == cut.handshake.step(), "the end depends on how the bytes are cut");
  expect(whole.consumed == cut.consumed, "what is consumed depends on how the bytes are cut");
}

void run(uint8_t cuts, uint8_t traits, std::span<const uint8_t> stream) {
  const size_t middle = traits & kShutDown ? stream.size() / 2 : stream.size();
  Server whole(traits);
  Server cut(traits);
  test::Random random(cuts);
  for (std::span<const uint8_t> part : {stream.first(middle), stream.subspan(middle)}) {
    if (part.data() == stream.data() + middle && middle < stream.size()) {
      whole.handshake.shut_down();
      cut.handshake.shut_down();
    }
    whole.feed(part);
    while (!part.empty()) {
      const size_t piece = std::min<size_t>(part.size(), 1 + random.below(random.chance(50) ? 4 : 64));
      cut.feed(part.first(piece));
      part = part.subspan(piece);
    }
  }
  compare(whole, cut);
  check_frames(whole);
}

}  // namespace
}  // namespace cellblock::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size >= 2) cellblock::fuzz::run(data[0], data[1], std::span(data, size).subspan(2));
  return 0;
}
