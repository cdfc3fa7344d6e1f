// CRC-32C: the vectors of RFC 3720 B.4, chaining, and that the instruction and the tables agree.
#include "base/crc32c.h"

#include <cstring>
#include <string>
#include <vector>

#include "test/tap.h"

namespace {

using cellblock::crc32c;
using cellblock::crc32c_table;

struct Vector {
  const char* name;
  std::string bytes;
  uint32_t crc;
};

std::vector<Vector> rfc_3720_vectors() {
  std::string up, down;
  for (int i = 0; i < 32; i++) {
    up.push_back(static_cast<char>(i));
    down.push_back(static_cast<char>(31 - i));
  }
  const unsigned char command[48] = {0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,    0, 0, 0, 0,
                                     0x14, 0,    0, 0, 0, 0, 4, 0, 0, 0, 0, 0x14, 0, 0, 0, 0x18,
                                     0x28, 0,    0, 0, 0, 0, 0, 0, 2, 0, 0, 0,    0, 0, 0, 0};
  return {{"32 zeros", std::string(32, '\0'), 0x8a9136aa},
          {"32 ones", std::string(32, '\xff'), 0x62a8ab43},
          {"ascending", up, 0x46dd794e},
          {"descending", down, 0x113fdb5c},
          {"an iSCSI read command", std::string(reinterpret_cast<const char*>(command), 48), 0xd9963a56},
          {"check value", "123456789", 0xe3069283}};
}

TAP_TEST("the vectors of RFC 3720") {
  for (const Vector& v : rfc_3720_vectors()) {
    TAP_EQ(crc32c(0, v.bytes.data(), v.bytes.size()), v.crc, v.name);
    TAP_EQ(crc32c_table(0, v.bytes.data(), v.bytes.size()), v.crc, std::string(v.name) + " by tables");
  }
}

TAP_TEST("nothing leaves the checksum as it was") {
  TAP_EQ(crc32c(0, nullptr, 0), 0u, "of nothing");
  TAP_EQ(crc32c(0x12345678, nullptr, 0), 0x12345678u, "continued by nothing");
}

TAP_TEST("instruction and tables agree at every alignment, length and cut") {
  cellblock::test::Random random;
  std::vector<unsigned char> bytes(1024);
  for (auto& b : bytes) b = static_cast<unsigned char>(random.next());
  for (int i = 0; i < 5000; i++) {
    const size_t start = random.below(64);
    const size_t length = random.below(bytes.size() - start);
    const size_t cut = random.below(length + 1);
    const auto first = static_cast<uint32_t>(random.next());
    const uint32_t whole = crc32c(first, bytes.data() + start, length);
    TAP_EQ(crc32c_table(first, bytes.data() + start, length), whole, "tables");
    const uint32_t chained =
        crc32c(crc32c(first, bytes.data() + start, cut), bytes.data() + start + cut, length - cut);
    TAP_EQ(chained, whole, "in two parts");
  }
}

}  // namespace

int main() { return cellblock::test::run(); }
