// CRC-32C: by the processor's instruction where it has one (looked up once, at load), else by tables, eight
// bytes a step. Both give the same for every input.
#include "base/crc32c.h"

#include <array>

#include "base/bytes.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace cellblock {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // reflected
using Tables = std::array<std::array<uint32_t, 256>, 8>;

constexpr Tables make_tables() {
  Tables tables{};
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) ? kPolynomial : 0);
    tables[0][i] = crc;
  }
  for (size_t t = 1; t < 8; t++) {
    for (size_t i = 0; i < 256; i++) {
      const uint32_t before = tables[t - 1][i];
      tables[t][i] = (before >> 8) ^ tables[0][before & 0xff];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

uint32_t eight_bytes(uint32_t crc, uint64_t word) {
  word ^= crc;
  uint32_t result = 0;
  for (size_t i = 0; i < 8; i++) result ^= kTables[7 - i][(word >> (8 * i)) & 0xff];
  return result;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t crc32c_sse42(uint32_t crc, const void* data, size_t bytes) {
  const auto* at = static_cast<const unsigned char*>(data);
  uint64_t state = ~crc;
  for (; bytes >= 8; bytes -= 8, at += 8) state = _mm_crc32_u64(state, load_le<uint64_t>(at));
  auto rest = static_cast<uint32_t>(state);
  for (; bytes > 0; bytes--, at++) rest = _mm_crc32_u8(rest, *at);
  return ~rest;
}
#endif

using Implementation = uint32_t (*)(uint32_t, const void*, size_t);

Implementation choose() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("sse4.2")) return crc32c_sse42;
#endif
  return crc32c_table;
}

}  // namespace

uint32_t crc32c_table(uint32_t crc, const void* data, size_t bytes) {
  const auto* at = static_cast<const unsigned char*>(data);
  crc = ~crc;
  for (; bytes >= 8; bytes -= 8, at += 8) crc = eight_bytes(crc, load_le<uint64_t>(at));
  for (; bytes > 0; bytes--, at++) crc = (crc >> 8) ^ kTables[0][(crc ^ *at) & 0xff];
  return ~crc;
}

uint32_t crc32c(uint32_t crc, const void* data, size_t bytes) {
  static const Implementation chosen = choose();
  return chosen(crc, data, bytes);
}

}  // namespace cellblock
