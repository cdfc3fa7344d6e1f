// Strings of the protocol: UTF-8 of at most kMaxNameBytes, without NUL.
#pragma once

#include <string_view>

namespace cellblock::nbd {

bool is_proper_string(std::string_view s);

// As much from its front as a string may have, not cut within a character.
std::string_view fitting(std::string_view text);

}  // namespace cellblock::nbd
