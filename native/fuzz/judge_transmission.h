// The part of judge.h behind the handshake: replies, against the requests and what the device did with them.
#pragma once

#include <cstdint>
#include <set>
#include <string_view>

#include "fuzz/conversation.h"
#include "fuzz/fail.h"
#include "fuzz/judge.h"
#include "fuzz/pattern_device.h"
#include "test/wire_bytes.h"

namespace cellblock::fuzz {

// What was negotiated.
struct Terms {
  bool structured = false;
  bool extended = false;
  std::set<uint32_t> contexts;  // ids
};

// What the server said and nobody has judged yet.
struct Heard {
  test::Reader rest;
  bool may_be_cut = false;

  // Whether so many bytes are there. Where an answer may be cut off, the rest of one is dropped.
  bool have(size_t bytes) {
    if (rest.left() >= bytes) return true;
    expect(may_be_cut, "an answer is cut off");
    rest.take(rest.left());
    return false;
  }
};

void judge_transmission(const Conversation& said, const Told& told, const Circumstances& how,
                        const Terms& terms, Heard& heard);

}  // namespace cellblock::fuzz
