// Transmission with extended headers, over socket pairs: both headers are long, a payload is where the client
// says so, lengths have 64 bits, and BLOCK_STATUS may choose contexts.
#include <cerrno>

#include "base/units.h"
#include "test/wire_client.h"

using namespace cellblock;
using namespace cellblock::nbd;
using namespace cellblock::test;
using C = CommandType;

namespace {

constexpr unsigned kPayload = kCommandPayloadLen;
constexpr uint64_t kVast = uint64_t{1} << 50;

std::string extended_write(uint64_t cookie, uint64_t offset, std::string_view data, unsigned flags = 0) {
  return extended_request(C::write, cookie, offset, data.size(), flags | kPayload) + std::string(data);
}

std::string filtered_status(uint64_t cookie, uint64_t offset, uint64_t length,
                            const std::vector<uint32_t>& ids, unsigned flags = 0) {
  std::string payload = be(length);
  for (uint32_t id : ids) payload += be(id);
  return extended_request(C::block_status, cookie, offset, payload.size(), flags | kPayload) + payload;
}

// As large as one likes: it takes note of what it is asked and holds nothing.
class VastDevice : public FakeDevice {
 public:
  VastDevice() : FakeDevice(0) {}
  uint64_t size() const override { return kVast; }
  volume::Submitted submit(volume::Request& request) override {
    last_length = request.length;
    if (request.command == volume::Command::block_status) {
      request.extents.assign(request.contexts->size(), {{request.length, 3}});
    }
    return volume::Submitted::done;
  }
};

// The status of a context says its id, so that answers can be told apart.
std::vector<std::vector<volume::StatusExtent>> ids_as_flags(const volume::Request& request) {
  std::vector<std::vector<volume::StatusExtent>> all;
  for (const auto& context : *request.contexts) all.push_back({{request.length, context.id}});
  return all;
}

const std::vector<std::string> kThree{"base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:tue"};

std::string extent(uint32_t id, uint64_t length, uint64_t flags) {
  return be(id) + be<uint32_t>(1) + be(length) + be(flags);
}

// The ids the chunks of one answer speak of.
std::vector<uint32_t> ids_of(const std::vector<Reply>& chunks) {
  std::vector<uint32_t> ids;
  for (const Reply& chunk : chunks) {
    TAP_OK(chunk.type == ChunkType::block_status_ext, "a status");
    ids.push_back(load_be<uint32_t>(chunk.data.data()));
  }
  return ids;
}

}  // namespace

TAP_TEST("every reply is an extended chunk with the offset of its request") {
  Host host;
  Client client(host);
  client.enter_extended({"base:allocation"});
  const std::string data = pattern(5000, 1);
  const auto check = [&](const std::string& bytes, uint64_t cookie, uint64_t offset, ChunkType type) {
    const Reply reply = client.ask(bytes);
    TAP_OK(reply.extended && reply.done && reply.cookie == cookie, "extended, its own, the last");
    TAP_EQ(reply.asked, offset, "offset");
    TAP_OK(reply.type == type, "type");
    return reply;
  };
  check(extended_write(1, 777, data), 1, 777, ChunkType::none);
  TAP_OK(on_disk(host.disk, 777, 5000) == data, "written");
  const Reply read = check(extended_request(C::read, 2, 777, 5000), 2, 777, ChunkType::offset_data);
  TAP_OK(read.offset == 777 && read.data == data, "read");
  check(extended_request(C::flush, 3, 0, 0), 3, 0, ChunkType::none);
  check(extended_request(C::trim, 4, 4096, 4096), 4, 4096, ChunkType::none);
  check(extended_request(C::write_zeroes, 5, 777, 100), 5, 777, ChunkType::none);
  TAP_OK(on_disk(host.disk, 777, 100) == std::string(100, '\0'), "zeroed");
  check(extended_request(C::cache, 6, 0, 4096), 6, 0, ChunkType::none);
  const Reply status =
      check(extended_request(C::block_status, 7, 8192, 512), 7, 8192, ChunkType::block_status_ext);
  TAP_EQ(status.data, extent(1, 512, 0), "count, lengths and flags as long as they are to be");
  const Reply error = check(extended_request(C::read, 8, 4 << 20, 1), 8, 4 << 20, ChunkType::error);
  TAP_EQ(error.error, 22u, "EINVAL");
  for (C type : {C::read, C::write, C::trim, C::write_zeroes, C::cache}) {
    check(extended_request(type, 9, 4096, 0, type == C::write ? kPayload : 0), 9, 4096, ChunkType::none);
  }
}

TAP_TEST("flags reach the device as its own") {
  Host host;
  Client client(host);
  client.enter_extended({"base:allocation"});
  client.ask(extended_write(1, 0, "x", kCommandFua));
  TAP_EQ(host.disk.last_flags, volume::kFua, "FUA");
  client.ask(filtered_status(1, 0, 1, {1}, kCommandReqOne));
  TAP_EQ(host.disk.last_flags, volume::kRequestOne, "REQ_ONE");
}

TAP_TEST("effects of 64 bits reach the device whole") {
  Host host;
  VastDevice vast;
  host.directory.table["vast"] = {&vast, "", false, {}, 0};
  Client client(host);
  client.enter_extended({"base:allocation"}, "vast");
  for (C type : {C::trim, C::write_zeroes, C::cache}) {
    for (const auto& [offset, length] :
         std::vector<std::pair<uint64_t, uint64_t>>{{0, kVast}, {4096, (uint64_t{1} << 32) + 512}}) {
      vast.last_length = 0;
      TAP_EQ(client.ask(extended_request(type, 1, offset, length)).error, 0u, "success");
      TAP_EQ(vast.last_length, length, "all of it");
    }
  }
  TAP_EQ(client.ask(extended_request(C::block_status, 1, 0, kVast)).data, extent(1, kVast, 3), "one extent");
  TAP_EQ(client.ask(filtered_status(1, 512, kVast - 512, {1})).data, extent(1, kVast - 512, 3), "filtered");
  TAP_EQ(client.ask(extended_request(C::read, 1, 0, (uint64_t{1} << 32) + 512)).error, 75u, "EOVERFLOW");
  TAP_EQ(client.ask(extended_request(C::trim, 1, 4096, kVast)).error, 22u, "past the end");
  TAP_EQ(client.ask(extended_request(C::write_zeroes, 1, 4096, kVast)).error, 28u, "past the end: ENOSPC");
  TAP_EQ(client.ask(extended_request(C::trim, 1, 4096, ~uint64_t{0})).error, 22u, "a sum that wraps");
}

TAP_TEST("reads of any kind, at once and later, with holes and without, are the bytes of the disk") {
  Host host;
  const std::string data = pattern(1 << 20, 7);
  std::memcpy(host.disk.bytes().data(), data.data(), data.size());
  Random random;
  for (bool holes : {false, true}) {
    std::string wanted = data;
    if (holes) {
      host.disk.hole_at = [](uint64_t block) { return block % 3 == 1; };
      for (size_t at = 4096; at < wanted.size(); at += 3 * 4096) {
        wanted.replace(at, std::min<size_t>(4096, wanted.size() - at),
                       std::min<size_t>(4096, wanted.size() - at), '\0');
      }
    }
    Client client(host);
    client.enter_extended();
    struct Asked {
      uint64_t offset;
      uint32_t length;
      std::string got;
      bool done = false;
    };
    std::vector<Asked> asked;
    for (int round = 0; round < 200; round++) {
      host.disk.wait = random.chance(50);
      std::string bytes;
      for (uint64_t n = random.below(6); n > 0; n--) {
        const uint32_t length = static_cast<uint32_t>(1 + random.below(random.chance(20) ? 200000 : 9000));
        const uint64_t offset = random.below((1 << 20) - length);
        bytes += extended_request(C::read, asked.size(), offset, length, random.chance(30) ? kCommandDf : 0);
        asked.push_back({offset, length, std::string(length, '\0')});
      }
      client.talk(bytes);
      if (random.chance(50)) host.disk.complete(random.below(8));
      if (round == 199) host.disk.complete();
      client.pump();
      for (const Reply& reply : client.replies()) {
        Asked& one = asked[reply.cookie];
        TAP_OK(reply.extended && reply.asked == one.offset && !one.done, "of a request not answered yet");
        one.got.replace(reply.offset - one.offset, reply.data.size(), reply.data);
        one.done = reply.done;
      }
    }
    size_t wrong = 0;
    for (const Asked& one : asked) wrong += !one.done || one.got != wanted.substr(one.offset, one.length);
    TAP_EQ(wrong, 0u, "all, and as they are on the disk");
    host.disk.wait = false;
  }
}

TAP_TEST("a payload that is not wanted is thrown away, EINVAL, and the connection stays in step") {
  struct Row {
    const char* what;
    C type;
    uint64_t offset;
    WireError wanted;
  };
  const Row rows[] = {{"read", C::read, 0, WireError::einval},
                      {"flush", C::flush, 0, WireError::einval},
                      {"trim", C::trim, 0, WireError::einval},
                      {"cache", C::cache, 0, WireError::einval},
                      {"write zeroes", C::write_zeroes, 0, WireError::einval},
                      {"block status without contexts", C::block_status, 0, WireError::einval},
                      {"an unknown command", static_cast<C>(99), 0, WireError::einval},
                      {"write past the end", C::write, 4 << 20, WireError::enospc}};
  for (const Row& row : rows) {
    Host host;
    Client client(host);
    client.enter_extended();
    host.disk.remember = true;
    // Requests, if anybody took them for such.
    std::string payload;
    while (payload.size() < (1 << 20)) payload += extended_request(C::trim, 66, 0, 4096);
    for (size_t bytes : {size_t{1}, size_t{32}, payload.size()}) {
      const std::string request = extended_request(row.type, 5, row.offset, bytes, kPayload);
      client.send(request);
      client.pump();
      TAP_OK(client.got.empty(), "no reply before the payload is there");
      const Reply reply = client.ask(std::string_view(payload).substr(0, bytes));
      TAP_OK(reply.error == static_cast<uint32_t>(row.wanted) && reply.cookie == 5, row.what);
      TAP_OK(reply.extended && reply.asked == row.offset, "extended");
    }
    TAP_EQ(host.disk.seen.size(), 0u, "the device has seen none of it");
    TAP_EQ(client.ask(extended_request(C::flush, 2, 0, 0)).error, 0u, "goes on");
  }
}

TAP_TEST("a payload of the maximum is written, one of the maximum that is not wanted is thrown away") {
  Host host;
  FakeDevice large(40 << 20);
  host.directory.table["large"] = {&large, "", false, {}, 0};
  Client client(host);
  client.enter_extended({}, "large");
  const std::string data = pattern(kMaxRequestBytes, 3);
  TAP_EQ(client.ask(extended_write(1, 4096, data)).error, 0u, "write");
  TAP_OK(on_disk(large, 4096, data.size()) == data, "written");
  TAP_OK(client.ask(extended_request(C::read, 2, 4096, kMaxRequestBytes, kCommandDf)).data == data, "read");
  TAP_EQ(client.ask(extended_request(C::trim, 3, 0, kMaxRequestBytes, kPayload) + data).error, 22u,
         "refused");
  TAP_EQ(client.ask(extended_request(C::flush, 4, 0, 0)).error, 0u, "goes on");
}

TAP_TEST(
    "what puts the next request out of reach is answered, and nothing behind it is taken for a request") {
  struct Row {
    const char* what;
    std::string request;
  };
  const uint64_t beyond = uint64_t{kMaxRequestBytes} + 1;
  const Row rows[] = {{"a write beyond the maximum", extended_request(C::write, 1, 0, beyond, kPayload)},
                      {"a write of 2^64 - 1 bytes", extended_request(C::write, 1, 0, ~uint64_t{0}, kPayload)},
                      {"a status with 2^63 bytes of ids",
                       extended_request(C::block_status, 1, 0, uint64_t{1} << 63, kPayload)},
                      {"a trim with such a payload", extended_request(C::trim, 1, 0, beyond, kPayload)},
                      {"an unknown command with such a payload",
                       extended_request(static_cast<C>(99), 1, 0, ~uint64_t{0}, kPayload)},
                      {"a write that does not announce its data", extended_request(C::write, 1, 0, 4096)}};
  for (const Row& row : rows) {
    Host host;
    Client client(host);
    client.enter_extended({"base:allocation"});
    host.disk.wait = true;
    client.talk(extended_request(C::read, 7, 0, 512));
    host.disk.remember = true;
    std::string behind;
    for (int i = 0; i < 1000; i++) behind += extended_request(C::trim, 66, 0, 4096);
    client.talk(row.request + behind);
    TAP_OK(!client.ended, "what is in flight is finished first");
    host.disk.complete();
    client.pump();
    client.send(behind);
    client.pump();
    const auto all = client.replies();
    TAP_EQ(all.size(), 2u, row.what);
    TAP_OK(all[0].cookie == 1 && all[0].error == 22 && all[0].type == ChunkType::error, "EINVAL");
    TAP_OK(all[1].cookie == 7 && all[1].error == 0, "the one before it");
    TAP_OK(client.ended, "and no more");
    TAP_EQ(host.wire.connections.load(), 1u, "the socket is kept open for the client to read that");
    TAP_EQ(host.disk.seen.size(), 0u, "the device has seen nothing of it");
    client.close();
    for (int i = 0; i < 4; i++) host.turn();
    TAP_EQ(host.directory.leases_open, 0u, "lease given back");
    TAP_EQ(host.wire.budget.used(), 0, "nothing is charged");
  }
}

TAP_TEST("who does not leave after losing step is left when the time to read has passed") {
  plane::WireOptions options;
  options.linger_ms = 20;
  Host host(options);
  Client client(host);
  client.enter_extended();
  client.talk(extended_request(C::write, 1, 0, ~uint64_t{0}, kPayload));
  TAP_EQ(client.replies().size(), 1u, "told");
  while (host.wire.connections.load() > 0) {
    client.send("x");
    host.reactor().loop().run_once(1);
  }
  TAP_EQ(host.directory.leases_open, 0u, "lease given back");
}

TAP_TEST("the short header is not understood where the long one is negotiated, nor the other way round") {
  for (bool extended : {false, true}) {
    Host host;
    Client client(host);
    if (extended)
      client.enter_extended();
    else
      client.enter();
    client.talk((extended ? request(C::read, 1, 0, 10) : extended_request(C::read, 1, 0, 10)) +
                std::string(64, '\0'));
    TAP_OK(client.ended, "closed");
    TAP_EQ(client.got.size(), 0u, "without a reply");
  }
}

TAP_TEST("BLOCK_STATUS with a filter answers for the contexts it names, and asks the device for no others") {
  Host host;
  Client client(host);
  client.enter_extended(kThree);
  size_t asked = 0;
  host.disk.status = [&](const volume::Request& request) {
    asked = request.contexts->size();
    return ids_as_flags(request);
  };
  for (const std::vector<uint32_t>& ids : std::vector<std::vector<uint32_t>>{{2}, {3, 1}, {1, 2, 3}, {3}}) {
    client.talk(filtered_status(9, 4096, 65536, ids));
    const auto all = client.replies();
    TAP_OK(ids_of(all) == ids, "these, in the order asked for");
    TAP_EQ(asked, ids.size(), "of the device too");
    for (size_t i = 0; i < all.size(); i++) {
      TAP_OK(all[i].cookie == 9 && all[i].asked == 4096 && all[i].done == (i + 1 == all.size()), "header");
      TAP_EQ(all[i].data, extent(ids[i], 65536, ids[i]), "extent");
    }
  }
  client.talk(extended_request(C::block_status, 9, 0, 65536));
  TAP_EQ(ids_of(client.replies()).size(), 3u, "without a filter: all");
}

TAP_TEST("a filter is on the context of its snapshot") {
  Host host;
  Client client(host);
  client.enter_extended(kThree);
  uint32_t since = 0;
  host.disk.status = [&](const volume::Request& request) {
    since = request.contexts->back().since_layer;
    return ids_as_flags(request);
  };
  client.ask(filtered_status(1, 0, 4096, {3}));
  TAP_EQ(since, 100u, "the lease's");
}

TAP_TEST("filters of several requests in flight do not meet") {
  Host host;
  Client client(host);
  client.enter_extended(kThree);
  host.disk.status = ids_as_flags;
  host.disk.wait = true;
  client.talk(filtered_status(1, 0, 4096, {1}) + filtered_status(2, 0, 4096, {3, 2}) +
              extended_request(C::block_status, 3, 0, 4096) + filtered_status(4, 0, 4096, {2}));
  TAP_EQ(host.disk.waiting.size(), 4u, "all in flight");
  while (!host.disk.waiting.empty()) host.disk.complete_last();
  client.pump();
  std::map<uint64_t, std::vector<Reply>> by_cookie;
  for (const Reply& reply : client.replies()) by_cookie[reply.cookie].push_back(reply);
  TAP_OK(ids_of(by_cookie[1]) == (std::vector<uint32_t>{1}), "first");
  TAP_OK(ids_of(by_cookie[2]) == (std::vector<uint32_t>{3, 2}), "second");
  TAP_OK(ids_of(by_cookie[3]) == (std::vector<uint32_t>{1, 2, 3}), "third");
  TAP_OK(ids_of(by_cookie[4]) == (std::vector<uint32_t>{2}), "fourth");
}

TAP_TEST("a filter that is not proper is EINVAL, and the connection stays in step") {
  struct Row {
    const char* what;
    std::string request;
  };
  const auto with = [](const std::string& payload) {
    return extended_request(C::block_status, 1, 4096, payload.size(), kPayload) + payload;
  };
  const std::string length = be<uint64_t>(4096);
  const Row rows[] = {{"an unknown id", filtered_status(1, 4096, 4096, {1, 4})},
                      {"id 0", filtered_status(1, 4096, 4096, {0})},
                      {"an id twice", filtered_status(1, 4096, 4096, {2, 2})},
                      {"more ids than contexts", filtered_status(1, 4096, 4096, {1, 2, 3, 1})},
                      {"no id", with(length)},
                      {"half a length", with(length.substr(0, 4))},
                      {"half an id", with(length + "ab")},
                      {"a payload of nothing", with("")},
                      {"a range past the end", filtered_status(1, 4096, 4 << 20, {1})},
                      {"a length that wraps", filtered_status(1, 4096, ~uint64_t{0}, {1})},
                      {"DF", filtered_status(1, 4096, 4096, {1}, kCommandDf)},
                      {"64 KiB of ids", with(length + std::string(65536, '\1'))}};
  for (const Row& row : rows) {
    Host host;
    Client client(host);
    client.enter_extended(kThree);
    host.disk.remember = true;
    const Reply reply = client.ask(row.request);
    TAP_EQ(reply.error, 22u, row.what);
    TAP_OK(reply.type == ChunkType::error && reply.cookie == 1 && reply.asked == 4096, "whose it is");
    TAP_EQ(host.disk.seen.size(), 0u, "the device is not asked");
    TAP_EQ(client.ask(extended_request(C::flush, 2, 0, 0)).error, 0u, "goes on");
    client.close();
    for (int i = 0; i < 4; i++) host.turn();
    TAP_EQ(host.wire.budget.used(), 0, "nothing is charged");
  }
}

TAP_TEST("an empty query with a filter is answered with what follows") {
  Host host;
  Client client(host);
  client.enter_extended(kThree);
  host.disk.status = ids_as_flags;
  const Reply reply = client.ask(filtered_status(1, 4096, 0, {2}));
  TAP_EQ(reply.data, extent(2, 4096, 2), "an extent of at least a byte");
  TAP_EQ(client.ask(filtered_status(1, 4096, 0, {2}, kCommandReqOne)).error, 22u, "which REQ_ONE forbids");
}

TAP_TEST("a stop: a filter that is coming is answered, a payload that comes later is thrown away") {
  Host host;
  Client client(host);
  client.enter_extended(kThree);
  host.disk.status = ids_as_flags;
  const std::string filter = filtered_status(1, 0, 4096, {2});
  client.talk(filter.substr(0, 40));
  host.reactor().stop_serving(1'000'000, [](size_t) {});
  client.talk(filter.substr(40) + filtered_status(2, 0, 4096, {2}) + extended_write(3, 0, "data"));
  const auto all = client.replies();
  TAP_EQ(all.size(), 3u, "each is answered");
  TAP_OK(all[0].error == 0 && all[0].cookie == 1, "the one under way");
  TAP_OK(all[1].error == 108 && all[2].error == 108 && all[2].cookie == 3, "ESHUTDOWN, in step");
}

TAP_TEST("the outcome does not depend on how the bytes are cut") {
  const std::string script =
      extended_write(1, 100, pattern(300, 9)) + extended_request(C::read, 2, 0, 512) +
      extended_write(3, 1 << 30, "0123456789") + extended_request(static_cast<C>(50), 4, 0, 5, kPayload) +
      "12345" + filtered_status(5, 0, 4096, {3, 1}) + extended_request(C::write_zeroes, 6, 150, 20) +
      filtered_status(7, 0, 4096, {1, 1}) + extended_request(C::read, 8, 90, 100) +
      extended_request(C::flush, 9, 0, 0);
  std::string whole;
  for (size_t cut = 0; cut <= script.size(); cut++) {
    Host host;
    Client client(host);
    client.enter_extended(kThree);
    host.disk.status = ids_as_flags;
    client.talk(std::string_view(script).substr(0, cut));
    client.talk(std::string_view(script).substr(cut));
    if (cut == 0) {
      whole = client.got;
      TAP_EQ(client.replies().size(), 10u, "nine answers, one of them of two chunks");
    } else if (client.got != whole) {
      TAP_OK(false, "cut at " + std::to_string(cut));
    }
  }
}

int main() { return cellblock::test::run(); }
