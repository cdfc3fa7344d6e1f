// What one run of the connection's fuzzing does: the bytes a client sends, cut at chosen places, and what
// happens around it meanwhile (the device answers late, the directory too, the client stops reading, the
// server stops). With TLS also what happens to the ciphertext on its way, see tls_line.h; in clear these
// steps do nothing.
//
// Every byte string is a session, and a session says the same again when it is written: so the fuzzer may
// change it as bytes or as steps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace cellblock::fuzz {

enum class StepKind : uint8_t {
  send,            // bytes; one turn of the loop follows, as after every step
  fill,            // `value` times kFillUnit bytes that are cheap to say: payloads
  pump,            // turns until nothing happens
  complete,        // the device answers the `value` oldest requests
  complete_last,   // the device answers the newest request
  answer,          // the directory answers
  toggle_wait,     // the device keeps requests from now on, or no more
  toggle_later,    // the directory keeps questions, or no more
  toggle_hold,     // the device is held, or released
  toggle_reading,  // the client stops reading, or goes on
  toggle_failure,  // the device fails, with an error that `value` says, or no more
  end_sending,     // the client shuts its side
  stop_serving,    // the server stops
  disconnect,      // the device is taken away from its clients
  cork,            // of the ciphertext `value` bytes go out from now on, and no more
  uncork,          // all of it
  inject,          // bytes stand in clear where the next of the ciphertext should
  flip,            // a bit of the ciphertext that is not sent yet
  remove,          // bytes of it
  replay,          // its last record comes once more
  key_update,      // the client changes its keys, and wants the server to
  renegotiate,     // the client begins another handshake (TLS 1.2)
  farewell,        // the client says that it will send no more
  hang_up,         // the client closes, whatever it has not read
  last = hang_up,
};

inline bool has_bytes(StepKind kind) { return kind == StepKind::send || kind == StepKind::inject; }

struct Step {
  StepKind kind = StepKind::send;
  uint16_t value = 0;
  std::string bytes;  // where has_bytes()
};

struct Session {
  static constexpr size_t kFillUnit = 64;

  uint8_t settings = 0;  // bits of Setting
  std::vector<Step> steps;
};

enum Setting : uint8_t {
  kWaiting = 1 << 0,     // the device keeps requests from the beginning
  kLater = 1 << 1,       // the directory keeps questions from the beginning
  kHoles = 1 << 2,       // every other 4 KiB of the devices is a hole
  kSmallLimit = 1 << 3,  // few bytes in flight are allowed
  kRefusing = 1 << 4,    // there is no place for another connection
  kNarrow = 1 << 5,      // the server's socket holds little
  kShared = 1 << 6,      // the reactor has a client of another device, too
};

Session read_session(std::span<const uint8_t> bytes);
std::vector<uint8_t> write_session(const Session& session);

enum class Way : uint8_t { clear, tls };

// Changes the session as a whole: steps, messages in them and fields of these. Deterministic from `seed`.
void mutate(Session& session, uint32_t seed, Way way);

}  // namespace cellblock::fuzz
