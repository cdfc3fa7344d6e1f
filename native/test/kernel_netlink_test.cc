// Messages of the nbd driver as bytes: what a request consists of, and that no answer whatever, cut or bent,
// is read beyond its end or taken for something it is not.
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>

#include <cerrno>
#include <vector>

#include "base/bytes.h"
#include "kernel/nbd_family.h"
#include "test/tap.h"

using namespace cellblock;
using namespace cellblock::kernel;
using namespace cellblock::test;

namespace {

constexpr uint16_t kFamily = 0x1c;

// The one message of a datagram, which has to live longer.
Message only(const std::string& datagram) {
  Message message;
  MessageReader reader(datagram);
  TAP_OK(reader.next(message), "a message");
  Message more;
  TAP_OK(!reader.next(more) && !reader.is_malformed(), "and nothing behind it");
  return message;
}

std::vector<Attribute> attributes_of(std::string_view bytes) {
  std::vector<Attribute> all;
  AttributeReader reader(bytes);
  for (Attribute one; reader.next(one);) all.push_back(one);
  TAP_OK(!reader.is_malformed(), "well-formed attributes");
  return all;
}

std::string text_of(const Attribute& attribute) { return std::string(attribute.text().value_or("?")); }

uint64_t u64_of(const Attribute& attribute) {
  return attribute.value.size() == 8 ? load_le<uint64_t>(attribute.value.data()) : ~uint64_t{0};
}

std::string family_answer() {
  MessageWriter answer(GENL_ID_CTRL, CTRL_CMD_NEWFAMILY, 2, 1);
  answer.text(CTRL_ATTR_FAMILY_NAME, "nbd");
  const size_t groups = answer.begin(CTRL_ATTR_MCAST_GROUPS);
  const size_t other = answer.begin(1);
  answer.u32(CTRL_ATTR_MCAST_GRP_ID, 3).text(CTRL_ATTR_MCAST_GRP_NAME, "another");
  answer.end(other);
  const size_t group = answer.begin(2);
  answer.text(CTRL_ATTR_MCAST_GRP_NAME, NBD_GENL_MCAST_GROUP_NAME).u32(CTRL_ATTR_MCAST_GRP_ID, 9);
  answer.end(group);
  answer.end(groups);
  std::string bytes = answer.finish();
  // The family's id is a number of 16 bits, which requests of ours have none of.
  char id[8];
  store_le<uint16_t>(id, 6);
  store_le<uint16_t>(id + 2, CTRL_ATTR_FAMILY_ID);
  store_le<uint16_t>(id + 4, kFamily);
  store_le<uint16_t>(id + 6, 0);
  bytes.append(id, sizeof id);
  store_le<uint32_t>(bytes.data(), static_cast<uint32_t>(bytes.size()));
  return bytes;
}

std::string status_answer() {
  MessageWriter answer(kFamily, NBD_CMD_STATUS, 0, 5);
  const size_t list = answer.begin(NBD_ATTR_DEVICE_LIST);
  for (const uint32_t index : {0u, 3u}) {
    const size_t item = answer.begin(NBD_DEVICE_ITEM);
    answer.u32(NBD_DEVICE_INDEX, index);
    answer.end(item);
  }
  answer.end(list);
  return answer.finish();
}

std::string verdict(int32_t error, uint16_t flags, std::string_view behind) {
  std::string bytes(16, '\0');
  char code[4];
  store_le<int32_t>(code, error);
  bytes.append(code, sizeof code);
  char request[16] = {};
  store_le<uint32_t>(request, 20);
  bytes.append(request, sizeof request);
  bytes += behind;
  store_le<uint16_t>(bytes.data() + 4, NLMSG_ERROR);
  store_le<uint16_t>(bytes.data() + 6, flags);
  store_le<uint32_t>(bytes.data(), static_cast<uint32_t>(bytes.size()));
  return bytes;
}

}  // namespace

TAP_TEST("CONNECT carries everything a device is made of") {
  ConnectOptions options;
  options.index = 4;
  options.size_bytes = uint64_t{5} << 40;
  options.block_bytes = 4096;
  options.server_flags = 0x123;
  options.client_flags = 2;
  options.io_timeout_s = 7;
  options.dead_timeout_s = 300;
  options.identifier = "cellblock:ab:c1";
  options.sockets = {11, 12};
  const std::string bytes = connect_request({kFamily, 9}, 77, options);
  const Message message = only(bytes);
  TAP_EQ(message.type, kFamily, "to the family");
  TAP_EQ(message.sequence, 77u, "its sequence");
  TAP_EQ(message.flags, NLM_F_REQUEST | NLM_F_ACK, "a request that is acknowledged");
  const auto head = family_message_of(message);
  TAP_NEED(head.has_value(), "a command");
  TAP_EQ(head->command, NBD_CMD_CONNECT, "CONNECT");
  const auto all = attributes_of(head->attributes);
  TAP_NEED(all.size() == 9, "nine attributes");
  TAP_EQ(all[0].type, NBD_ATTR_INDEX, "index");
  TAP_EQ(all[0].u32().value_or(0), 4u, "its value");
  TAP_EQ(u64_of(all[1]), uint64_t{5} << 40, "size");
  TAP_EQ(u64_of(all[2]), 4096u, "block size");
  TAP_EQ(u64_of(all[3]), 0x123u, "server flags");
  TAP_EQ(u64_of(all[4]), 2u, "client flags");
  TAP_EQ(all[5].type, NBD_ATTR_TIMEOUT, "timeout");
  TAP_EQ(u64_of(all[5]), 7u, "its value");
  TAP_EQ(all[6].type, NBD_ATTR_DEAD_CONN_TIMEOUT, "dead-connection timeout");
  TAP_EQ(u64_of(all[6]), 300u, "its value");
  TAP_EQ(all[7].type, NBD_ATTR_BACKEND_IDENTIFIER, "identifier");
  TAP_EQ(text_of(all[7]), "cellblock:ab:c1", "its value");
  const auto sockets = attributes_of(all[8].value);
  TAP_NEED(all[8].type == NBD_ATTR_SOCKETS && sockets.size() == 2, "two sockets");
  const auto second = attributes_of(sockets[1].value);
  TAP_NEED(sockets[1].type == NBD_SOCK_ITEM && second.size() == 1, "one descriptor each");
  TAP_EQ(second[0].type, NBD_SOCK_FD, "a descriptor");
  TAP_EQ(second[0].u32().value_or(0), 12u, "the second one");
}

TAP_TEST("what is not asked for is not sent: the kernel then takes its default") {
  const std::string connect = connect_request({kFamily, 9}, 1, {});
  for (const Attribute& one : attributes_of(family_message_of(only(connect))->attributes)) {
    TAP_OK(one.type != NBD_ATTR_INDEX && one.type != NBD_ATTR_TIMEOUT, "no index, no timeout");
    TAP_OK(one.type != NBD_ATTR_DEAD_CONN_TIMEOUT && one.type != NBD_ATTR_SOCKETS, "no more either");
  }
  ReconfigureOptions resize;
  resize.index = 2;
  resize.size_bytes = 1 << 20;
  const std::string reconfigure = reconfigure_request({kFamily, 9}, 1, resize);
  const auto all = attributes_of(family_message_of(only(reconfigure))->attributes);
  TAP_NEED(all.size() == 2, "index and size only");
  TAP_EQ(all[1].type, NBD_ATTR_SIZE_BYTES, "size");
}

TAP_TEST("the family and its group of events are found among others") {
  const std::string bytes = family_answer();
  const auto family = parse_family(only(bytes));
  TAP_NEED(family.has_value(), "found");
  TAP_EQ(family->id, kFamily, "id");
  TAP_EQ(family->events.value_or(0), 9u, "group");
}

TAP_TEST("the status of devices") {
  std::string bytes = status_answer();
  const auto devices = parse_status(only(bytes));
  TAP_NEED(devices.has_value() && devices->size() == 2, "two devices");
  TAP_EQ((*devices)[1].index, 3u, "the second one");
  TAP_OK(!(*devices)[1].connected, "what is not said is not so");
}

TAP_TEST("a dead link is one of this family and this command only") {
  const std::string bytes = MessageWriter(kFamily, NBD_CMD_LINK_DEAD, 0, 0).u32(NBD_ATTR_INDEX, 6).finish();
  TAP_EQ(parse_link_dead({kFamily, 9}, only(bytes)).value_or(0), 6u, "the device");
  TAP_OK(!parse_link_dead({kFamily + 1, 9}, only(bytes)), "another family");
  const std::string other = MessageWriter(kFamily, NBD_CMD_STATUS, 0, 0).u32(NBD_ATTR_INDEX, 6).finish();
  TAP_OK(!parse_link_dead({kFamily, 9}, only(other)), "another command");
  const std::string bare = MessageWriter(kFamily, NBD_CMD_LINK_DEAD, 0, 0).finish();
  TAP_OK(!parse_link_dead({kFamily, 9}, only(bare)), "no device");
}

TAP_TEST("verdicts: acknowledged, refused, refused with a sentence") {
  const std::string good = verdict(0, 0, "");
  TAP_EQ(verdict_of(only(good))->error, 0, "acknowledged");
  const std::string bad = verdict(-EBUSY, 0, "");
  TAP_EQ(verdict_of(only(bad))->error, EBUSY, "refused");
  std::string sentence(4, '\0');
  store_le<uint16_t>(sentence.data(), 4 + 8);
  store_le<uint16_t>(sentence.data() + 2, NLMSGERR_ATTR_MSG);
  sentence += std::string("no room\0", 8);
  const std::string told = verdict(-ENOSPC, NLM_F_ACK_TLVS | NLM_F_CAPPED, sentence);
  TAP_EQ(verdict_of(only(told))->error, ENOSPC, "refused");
  TAP_EQ(verdict_of(only(told))->sentence, "no room", "and why");
  const std::string echoed = verdict(-ENOSPC, NLM_F_ACK_TLVS, "four" + sentence);
  TAP_EQ(verdict_of(only(echoed))->sentence, "no room", "behind the request that came back");
  const std::string odd = verdict(INT32_MIN, 0, "");
  TAP_EQ(verdict_of(only(odd))->error, EPROTO, "no errno at all");
}

// Under the sanitizers: nothing is read beyond the bytes that there are.
TAP_TEST("answers cut at each byte and with each length bent are refused or read as far as they go") {
  std::string link = MessageWriter(kFamily, NBD_CMD_LINK_DEAD, 0, 0).u32(NBD_ATTR_INDEX, 6).finish();
  const auto read_all = [](const std::string& bytes) {
    const std::string_view exact(bytes);
    MessageReader reader(exact);
    for (Message message; reader.next(message);) {
      (void)parse_family(message);
      (void)parse_status(message);
      (void)parse_connected(message);
      (void)parse_link_dead({kFamily, 9}, message);
      (void)verdict_of(message);
    }
    return reader.is_malformed();
  };
  for (const std::string& whole :
       {family_answer(), status_answer(), link, verdict(-5, NLM_F_ACK_TLVS, "abcdefgh")}) {
    for (size_t bytes = 1; bytes < whole.size(); bytes++) {
      const std::vector<char> exact(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(bytes));
      TAP_OK(read_all(std::string(exact.begin(), exact.end())), "a cut message is malformed");
    }
    for (size_t at = 0; at < whole.size(); at++) {
      for (const int value : {0, 1, 3, 5, 127, 255}) {
        std::string bent = whole;
        bent[at] = static_cast<char>(value);
        read_all(bent);
      }
    }
  }
  std::string cut = status_answer();
  store_le<uint16_t>(cut.data() + 20, static_cast<uint16_t>(cut.size() - 20 - 4));
  TAP_OK(!parse_status(only(cut)), "a list that ends in the middle of an item is not believed");
}

int main() { return run(); }
