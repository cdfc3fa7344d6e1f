// Pre-shared keys by name, as GnuTLS's psktool writes them: lines `name:hexkey`. A name of bytes that are no
// text stands as `#` and hexadecimal. Empty lines and other lines that begin with `#` say nothing.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace cellblock::tls {

class PskTable {
 public:
  // Below this a key can be guessed by whoever has recorded a handshake.
  static constexpr size_t kMinKeyBytes = 16;
  static constexpr size_t kMaxKeyBytes = 256;
  static constexpr size_t kMaxNameBytes = 128;

  PskTable() = default;
  PskTable(const PskTable&) = delete;
  PskTable& operator=(const PskTable&) = delete;
  ~PskTable();  // wipes the keys

  // False: `sentence` names the line that is wrong, never what stands in it.
  bool parse(std::string_view text, std::string& sentence);

  // Null: nobody has that name.
  const std::vector<uint8_t>* find(std::string_view name) const;
  bool empty() const { return keys_.empty(); }
  size_t size() const { return keys_.size(); }

 private:
  const char* add(std::string_view line);

  std::map<std::string, std::vector<uint8_t>, std::less<>> keys_;
};

}  // namespace cellblock::tls
