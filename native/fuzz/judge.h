// Reads what a server answered against what the client said and what the device did: every answer is whole,
// belongs to something that was asked and not answered yet, says what the device said, and nothing that was
// asked stays without one. Whatever does not hold ends the program (fail.h).
#pragma once

#include <string_view>

#include "fuzz/conversation.h"
#include "fuzz/pattern_device.h"

namespace cellblock::fuzz {

struct Circumstances {
  size_t sent = 0;       // bytes of the stream that the server can have
  bool stopped = false;  // the server or the device was taken away meanwhile
  bool refused = false;  // there was no place for this client
  bool cut = false;  // the connection may end anywhere: what came is right, what did not come may be missing
};

void judge(const Conversation& said, const Told& told, std::string_view got, const Circumstances& how);

}  // namespace cellblock::fuzz
