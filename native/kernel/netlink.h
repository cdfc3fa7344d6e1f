// Generic netlink messages as bytes: written attribute by attribute, read without trusting a length in them.
// Knows no socket, so what a kernel could ever send is tested by handing it in.
//
// All numbers are in the machine's byte order; messages and attributes begin at multiples of 4 bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace cellblock::kernel {

// One request, from its header to its last attribute.
class MessageWriter {
 public:
  // A request of a generic netlink family that is to be acknowledged.
  MessageWriter(uint16_t family, uint8_t command, uint8_t version, uint32_t sequence);

  MessageWriter& u32(uint16_t type, uint32_t value);
  MessageWriter& u64(uint16_t type, uint64_t value);
  MessageWriter& text(uint16_t type, std::string_view value);  // with the zero the kernel wants behind it
  // Everything up to end() lies inside the attribute.
  size_t begin(uint16_t type);
  void end(size_t begun);

  std::string finish();

 private:
  void attribute(uint16_t type, const void* value, size_t bytes);

  std::string bytes_;
};

struct Attribute {
  uint16_t type = 0;  // without the flags
  std::string_view value;

  // Nothing when it has another length.
  std::optional<uint8_t> u8() const;
  std::optional<uint16_t> u16() const;
  std::optional<uint32_t> u32() const;
  // Up to the zero; nothing when there is none.
  std::optional<std::string_view> text() const;
};

// Goes through attributes that lie behind one another.
class AttributeReader {
 public:
  explicit AttributeReader(std::string_view bytes) : left_(bytes) {}
  // False at the end, or where a length is wrong: then is_malformed().
  bool next(Attribute& attribute);
  bool is_malformed() const { return malformed_; }

 private:
  std::string_view left_;
  bool malformed_ = false;
};

struct Message {
  uint16_t type = 0;
  uint16_t flags = 0;
  uint32_t sequence = 0;
  std::string_view payload;  // behind the header of netlink
};

// Goes through the messages of one datagram.
class MessageReader {
 public:
  explicit MessageReader(std::string_view datagram) : left_(datagram) {}
  bool next(Message& message);
  bool is_malformed() const { return malformed_; }

 private:
  std::string_view left_;
  bool malformed_ = false;
};

// What a request was answered with: an errno value, 0 for an acknowledgement, and what the kernel says of it.
struct Verdict {
  int error = 0;
  std::string sentence;
};
// Of a message of type NLMSG_ERROR; nothing when it is too short to be one.
std::optional<Verdict> verdict_of(const Message& message);

// A message of a generic netlink family: its command and attributes.
struct FamilyMessage {
  uint8_t command = 0;
  std::string_view attributes;
};
std::optional<FamilyMessage> family_message_of(const Message& message);

}  // namespace cellblock::kernel
