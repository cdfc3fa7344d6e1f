#include "kernel/nbd_family.h"

#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>

namespace cellblock::kernel {
namespace {

void add_sockets(MessageWriter& message, const std::vector<int>& sockets) {
  if (sockets.empty()) return;
  const size_t list = message.begin(NBD_ATTR_SOCKETS);
  for (const int fd : sockets) {
    const size_t item = message.begin(NBD_SOCK_ITEM);
    message.u32(NBD_SOCK_FD, static_cast<uint32_t>(fd));
    message.end(item);
  }
  message.end(list);
}

// {index, connected} of one device.
std::optional<DeviceStatus> device_of(std::string_view item) {
  DeviceStatus device;
  bool has_index = false;
  AttributeReader attributes(item);
  for (Attribute one; attributes.next(one);) {
    if (one.type == NBD_DEVICE_INDEX && one.u32()) {
      device.index = *one.u32();
      has_index = true;
    }
    if (one.type == NBD_DEVICE_CONNECTED) device.connected = one.u8().value_or(0) != 0;
  }
  if (attributes.is_malformed() || !has_index) return std::nullopt;
  return device;
}

// Number of the group with the name, of the list of groups.
std::optional<uint32_t> group_of(std::string_view list, std::string_view name) {
  AttributeReader groups(list);
  for (Attribute group; groups.next(group);) {
    std::optional<uint32_t> id;
    bool is_it = false;
    AttributeReader attributes(group.value);
    for (Attribute one; attributes.next(one);) {
      if (one.type == CTRL_ATTR_MCAST_GRP_ID) id = one.u32();
      if (one.type == CTRL_ATTR_MCAST_GRP_NAME) is_it = one.text() == name;
    }
    if (is_it) return id;
  }
  return std::nullopt;
}

std::optional<uint32_t> index_in(std::string_view attributes) {
  std::optional<uint32_t> index;
  AttributeReader reader(attributes);
  for (Attribute one; reader.next(one);) {
    if (one.type == NBD_ATTR_INDEX) index = one.u32();
  }
  if (reader.is_malformed()) return std::nullopt;
  return index;
}

}  // namespace

std::string family_request(uint32_t sequence) {
  return MessageWriter(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1, sequence)
      .text(CTRL_ATTR_FAMILY_NAME, NBD_GENL_FAMILY_NAME)
      .finish();
}

std::string connect_request(const Family& family, uint32_t sequence, const ConnectOptions& options) {
  MessageWriter message(family.id, NBD_CMD_CONNECT, NBD_GENL_VERSION, sequence);
  if (options.index) message.u32(NBD_ATTR_INDEX, *options.index);
  message.u64(NBD_ATTR_SIZE_BYTES, options.size_bytes);
  message.u64(NBD_ATTR_BLOCK_SIZE_BYTES, options.block_bytes);
  message.u64(NBD_ATTR_SERVER_FLAGS, options.server_flags);
  message.u64(NBD_ATTR_CLIENT_FLAGS, options.client_flags);
  if (options.io_timeout_s > 0) message.u64(NBD_ATTR_TIMEOUT, options.io_timeout_s);
  if (options.dead_timeout_s > 0) message.u64(NBD_ATTR_DEAD_CONN_TIMEOUT, options.dead_timeout_s);
  if (!options.identifier.empty()) message.text(NBD_ATTR_BACKEND_IDENTIFIER, options.identifier);
  add_sockets(message, options.sockets);
  return message.finish();
}

std::string reconfigure_request(const Family& family, uint32_t sequence, const ReconfigureOptions& options) {
  MessageWriter message(family.id, NBD_CMD_RECONFIGURE, NBD_GENL_VERSION, sequence);
  message.u32(NBD_ATTR_INDEX, options.index);
  if (!options.identifier.empty()) message.text(NBD_ATTR_BACKEND_IDENTIFIER, options.identifier);
  if (options.size_bytes) message.u64(NBD_ATTR_SIZE_BYTES, *options.size_bytes);
  if (options.block_bytes) message.u64(NBD_ATTR_BLOCK_SIZE_BYTES, *options.block_bytes);
  if (options.io_timeout_s) message.u64(NBD_ATTR_TIMEOUT, *options.io_timeout_s);
  if (options.dead_timeout_s) message.u64(NBD_ATTR_DEAD_CONN_TIMEOUT, *options.dead_timeout_s);
  add_sockets(message, options.sockets);
  return message.finish();
}

std::string disconnect_request(const Family& family, uint32_t sequence, uint32_t index) {
  return MessageWriter(family.id, NBD_CMD_DISCONNECT, NBD_GENL_VERSION, sequence)
      .u32(NBD_ATTR_INDEX, index)
      .finish();
}

std::string status_request(const Family& family, uint32_t sequence) {
  return MessageWriter(family.id, NBD_CMD_STATUS, NBD_GENL_VERSION, sequence).finish();
}

std::optional<Family> parse_family(const Message& message) {
  const auto answer = family_message_of(message);
  if (!answer || message.type != GENL_ID_CTRL) return std::nullopt;
  Family family;
  AttributeReader attributes(answer->attributes);
  for (Attribute one; attributes.next(one);) {
    if (one.type == CTRL_ATTR_FAMILY_ID) family.id = one.u16().value_or(0);
    if (one.type == CTRL_ATTR_MCAST_GROUPS) family.events = group_of(one.value, NBD_GENL_MCAST_GROUP_NAME);
  }
  if (attributes.is_malformed() || family.id == 0) return std::nullopt;
  return family;
}

std::optional<uint32_t> parse_connected(const Message& message) {
  const auto answer = family_message_of(message);
  if (!answer) return std::nullopt;
  return index_in(answer->attributes);
}

std::optional<std::vector<DeviceStatus>> parse_status(const Message& message) {
  const auto answer = family_message_of(message);
  if (!answer) return std::nullopt;
  std::vector<DeviceStatus> devices;
  AttributeReader attributes(answer->attributes);
  for (Attribute list; attributes.next(list);) {
    if (list.type != NBD_ATTR_DEVICE_LIST) continue;
    AttributeReader items(list.value);
    for (Attribute item; items.next(item);) {
      if (item.type != NBD_DEVICE_ITEM) continue;
      const auto device = device_of(item.value);
      if (!device) return std::nullopt;
      devices.push_back(*device);
    }
    if (items.is_malformed()) return std::nullopt;
  }
  if (attributes.is_malformed()) return std::nullopt;
  return devices;
}

std::optional<uint32_t> parse_link_dead(const Family& family, const Message& message) {
  const auto event = family_message_of(message);
  if (!event || message.type != family.id || event->command != NBD_CMD_LINK_DEAD) return std::nullopt;
  return index_in(event->attributes);
}

}  // namespace cellblock::kernel
