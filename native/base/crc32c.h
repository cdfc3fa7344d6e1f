// CRC-32C (Castagnoli), the checksum of journal entries and window records.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cellblock {

// The checksum of `bytes` bytes at `data` that continue what `crc` is the checksum of; start with 0.
// crc32c(crc32c(0, a), b) == crc32c(0, a + b).
uint32_t crc32c(uint32_t crc, const void* data, size_t bytes);

// The portable one, for tests and for machines without the instruction.
uint32_t crc32c_table(uint32_t crc, const void* data, size_t bytes);

}  // namespace cellblock
