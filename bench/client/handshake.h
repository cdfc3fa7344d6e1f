// The client's side of the handshake: fixed newstyle, TLS where it is wanted, NBD_OPT_GO, simple replies.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <string>
#include <vector>

#include "stream.h"

namespace cellblock::bench {

inline void put_be(std::string& to, uint64_t value, size_t bytes) {
  for (size_t i = bytes; i-- > 0;) to.push_back(static_cast<char>(value >> (8 * i)));
}

inline uint64_t get_be(const uint8_t* from, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; ++i) value = value << 8 | from[i];
  return value;
}

class Handshake {
 public:
  Handshake(Stream& stream, const std::string& export_name) : stream_(stream), export_name_(export_name) {}

  // `certificates`: a directory; empty: in clear. Returns the size of the export.
  uint64_t run(const std::string& certificates) {
    greet();
    if (!certificates.empty()) {
      ask(kStartTls, "");
      while (answer().type != kAck) {
      }
      stream_.begin_tls(certificates);
    }
    return go();
  }

 private:
  static constexpr uint64_t kOptionMagic = 0x49484156454F5054;
  static constexpr uint32_t kStartTls = 5, kGo = 7;
  static constexpr uint32_t kAck = 1, kInfo = 3, kErrors = 0x80000000;

  struct Answer {
    uint32_t type;
    std::vector<uint8_t> data;
  };

  void receive(uint8_t* data, size_t bytes) {
    if (!stream_.receive_all(data, bytes)) die("the server closed the connection during the handshake");
  }

  void greet() {
    uint8_t greeting[18];
    receive(greeting, sizeof greeting);
    if (get_be(greeting + 8, 8) != kOptionMagic) die("not a newstyle server");
    std::string flags;
    put_be(flags, 3, 4);
    stream_.send_all(flags);
  }

  void ask(uint32_t option, const std::string& data) {
    std::string out;
    put_be(out, kOptionMagic, 8);
    put_be(out, option, 4);
    put_be(out, data.size(), 4);
    stream_.send_all(out + data);
  }

  Answer answer() {
    uint8_t header[20];
    receive(header, sizeof header);
    Answer answer{static_cast<uint32_t>(get_be(header + 12, 4)), {}};
    answer.data.resize(get_be(header + 16, 4));
    if (answer.data.size() > 65536)
      die("an option reply of " + std::to_string(answer.data.size()) + " bytes");
    receive(answer.data.data(), answer.data.size());
    if (answer.type >= kErrors)
      die("export '" + export_name_ +
          "' was refused: " + std::string(answer.data.begin(), answer.data.end()));
    return answer;
  }

  uint64_t go() {
    std::string data;
    put_be(data, export_name_.size(), 4);
    data += export_name_;
    put_be(data, 0, 2);
    ask(kGo, data);
    uint64_t size = 0;
    for (;;) {
      const Answer one = answer();
      if (one.type == kAck) return size;
      if (one.type == kInfo && one.data.size() == 12 && get_be(one.data.data(), 2) == 0)
        size = get_be(one.data.data() + 2, 8);
    }
  }

  Stream& stream_;
  const std::string& export_name_;
};

}  // namespace cellblock::bench
