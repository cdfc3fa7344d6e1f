// Loads and stores of fixed-width integers at unaligned addresses, in either byte order.
// The wire (NBD) is big-endian; everything on disk but LevelDB keys is little-endian.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace cellblock {

static_assert(std::endian::native == std::endian::little, "cellblock is built for little-endian machines");

template <typename T>
inline T load_le(const void* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <typename T>
inline void store_le(void* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

inline uint16_t swap_bytes(uint16_t v) { return __builtin_bswap16(v); }
inline uint32_t swap_bytes(uint32_t v) { return __builtin_bswap32(v); }
inline uint64_t swap_bytes(uint64_t v) { return __builtin_bswap64(v); }

template <typename T>
inline T load_be(const void* from) {
  return swap_bytes(load_le<T>(from));
}

template <typename T>
inline void store_be(void* to, T value) {
  store_le<T>(to, swap_bytes(value));
}

}  // namespace cellblock
