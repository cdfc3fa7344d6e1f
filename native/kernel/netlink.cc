#include "kernel/netlink.h"

#include <linux/genetlink.h>
#include <linux/netlink.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/bytes.h"

namespace cellblock::kernel {
namespace {

constexpr size_t aligned(size_t bytes) { return (bytes + 3) & ~size_t{3}; }

constexpr size_t kAttributeHeader = sizeof(nlattr);
constexpr size_t kMessageHeader = sizeof(nlmsghdr);

// The smallest piece that is whole: what is behind it may be padding that the sender left out.
std::string_view behind(std::string_view bytes, size_t used) {
  return bytes.substr(std::min(bytes.size(), aligned(used)));
}

}  // namespace

MessageWriter::MessageWriter(uint16_t family, uint8_t command, uint8_t version, uint32_t sequence) {
  nlmsghdr header{};
  header.nlmsg_type = family;
  header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  header.nlmsg_seq = sequence;
  genlmsghdr generic{};
  generic.cmd = command;
  generic.version = version;
  bytes_.append(reinterpret_cast<const char*>(&header), sizeof header);
  bytes_.append(reinterpret_cast<const char*>(&generic), sizeof generic);
}

void MessageWriter::attribute(uint16_t type, const void* value, size_t bytes) {
  nlattr header{};
  header.nla_len = static_cast<uint16_t>(kAttributeHeader + bytes);
  header.nla_type = type;
  bytes_.append(reinterpret_cast<const char*>(&header), sizeof header);
  bytes_.append(static_cast<const char*>(value), bytes);
  bytes_.resize(aligned(bytes_.size()));
}

MessageWriter& MessageWriter::u32(uint16_t type, uint32_t value) {
  attribute(type, &value, sizeof value);
  return *this;
}

MessageWriter& MessageWriter::u64(uint16_t type, uint64_t value) {
  attribute(type, &value, sizeof value);
  return *this;
}

MessageWriter& MessageWriter::text(uint16_t type, std::string_view value) {
  const std::string terminated(value);
  attribute(type, terminated.c_str(), terminated.size() + 1);
  return *this;
}

size_t MessageWriter::begin(uint16_t type) {
  const size_t at = bytes_.size();
  attribute(type | NLA_F_NESTED, nullptr, 0);
  return at;
}

void MessageWriter::end(size_t begun) {
  store_le<uint16_t>(bytes_.data() + begun, static_cast<uint16_t>(bytes_.size() - begun));
}

std::string MessageWriter::finish() {
  store_le<uint32_t>(bytes_.data(), static_cast<uint32_t>(bytes_.size()));
  return std::move(bytes_);
}

std::optional<uint8_t> Attribute::u8() const {
  if (value.size() != sizeof(uint8_t)) return std::nullopt;
  return load_le<uint8_t>(value.data());
}

std::optional<uint16_t> Attribute::u16() const {
  if (value.size() != sizeof(uint16_t)) return std::nullopt;
  return load_le<uint16_t>(value.data());
}

std::optional<uint32_t> Attribute::u32() const {
  if (value.size() != sizeof(uint32_t)) return std::nullopt;
  return load_le<uint32_t>(value.data());
}

std::optional<std::string_view> Attribute::text() const {
  const size_t end = value.find('\0');
  if (end == std::string_view::npos) return std::nullopt;
  return value.substr(0, end);
}

bool AttributeReader::next(Attribute& attribute) {
  if (left_.empty() || malformed_) return false;
  const size_t bytes = left_.size() < kAttributeHeader ? 0 : load_le<uint16_t>(left_.data());
  if (bytes < kAttributeHeader || bytes > left_.size()) {
    malformed_ = true;
    return false;
  }
  attribute.type = load_le<uint16_t>(left_.data() + 2) & NLA_TYPE_MASK;
  attribute.value = left_.substr(kAttributeHeader, bytes - kAttributeHeader);
  left_ = behind(left_, bytes);
  return true;
}

bool MessageReader::next(Message& message) {
  if (left_.empty() || malformed_) return false;
  const size_t bytes = left_.size() < kMessageHeader ? 0 : load_le<uint32_t>(left_.data());
  if (bytes < kMessageHeader || bytes > left_.size()) {
    malformed_ = true;
    return false;
  }
  message.type = load_le<uint16_t>(left_.data() + 4);
  message.flags = load_le<uint16_t>(left_.data() + 6);
  message.sequence = load_le<uint32_t>(left_.data() + 8);
  message.payload = left_.substr(kMessageHeader, bytes - kMessageHeader);
  left_ = behind(left_, bytes);
  return true;
}

std::optional<Verdict> verdict_of(const Message& message) {
  if (message.type != NLMSG_ERROR || message.payload.size() < sizeof(int32_t) + kMessageHeader)
    return std::nullopt;
  const int32_t error = load_le<int32_t>(message.payload.data());
  Verdict verdict{error > 0 || error == INT32_MIN ? EPROTO : -error, {}};
  if (!(message.flags & NLM_F_ACK_TLVS)) return verdict;
  // The request's header comes back, and all of the request where the kernel was not asked to leave it out.
  const uint32_t request = load_le<uint32_t>(message.payload.data() + sizeof error);
  const bool capped = message.flags & NLM_F_CAPPED;
  const size_t echoed = capped || verdict.error == 0 ? kMessageHeader : request;
  AttributeReader attributes(behind(message.payload, sizeof error + echoed));
  for (Attribute one; attributes.next(one);) {
    if (one.type == NLMSGERR_ATTR_MSG) verdict.sentence = one.text().value_or("");
  }
  return verdict;
}

std::optional<FamilyMessage> family_message_of(const Message& message) {
  if (message.type < NLMSG_MIN_TYPE || message.payload.size() < sizeof(genlmsghdr)) return std::nullopt;
  return FamilyMessage{load_le<uint8_t>(message.payload.data()), message.payload.substr(sizeof(genlmsghdr))};
}

}  // namespace cellblock::kernel
