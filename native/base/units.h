// Sizes every layer agrees on.
#pragma once

#include <cstdint>

namespace cellblock {

constexpr uint32_t kBlockBytes = 4096;  // the unit of validity inside a window
constexpr uint32_t kBlockShift = 12;
constexpr uint32_t kMinWindowBytes = 64 << 10;
constexpr uint32_t kMaxWindowBytes = 4 << 20;
constexpr uint32_t kMaxRequestBytes = 32 << 20;  // largest payload of one NBD request
constexpr uint64_t kMaxVolumeBytes = (uint64_t{1} << 63) - 1;

}  // namespace cellblock
