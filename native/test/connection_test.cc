// Transmission, over socket pairs: every command and every refusal, as simple and as structured replies.
#include "base/units.h"
#include "test/wire_client.h"

using namespace cellblock;
using namespace cellblock::nbd;
using namespace cellblock::test;
using C = CommandType;

TAP_TEST("commands with simple replies") {
  Host host;
  Client client(host);
  client.enter(false);
  const std::string data = pattern(5000, 1);
  TAP_EQ(client.ask(request(C::write, 1, 777, 5000) + data).error, 0u, "write");
  TAP_OK(on_disk(host.disk, 777, 5000) == data, "written");
  const Reply read = client.ask(request(C::read, 2, 777, 5000), 5000);
  TAP_OK(!read.chunk && read.cookie == 2 && read.data == data, "read");
  TAP_EQ(client.ask(request(C::flush, 3, 0, 0)).error, 0u, "flush");
  TAP_EQ(client.ask(request(C::trim, 4, 0, 4096)).error, 0u, "trim");
  TAP_EQ(client.ask(request(C::write_zeroes, 5, 777, 100)).error, 0u, "write zeroes");
  TAP_OK(on_disk(host.disk, 777, 100) == std::string(100, '\0'), "zeroed");
  TAP_EQ(client.ask(request(C::cache, 6, 0, 4096)).error, 0u, "cache");
}

TAP_TEST("commands with structured replies") {
  Host host;
  Client client(host);
  client.enter();
  const std::string data = pattern(4096, 2);
  TAP_EQ(client.ask(request(C::write, 1, 8192, 4096) + data).error, 0u, "write");
  const Reply read = client.ask(request(C::read, 2, 8192, 4096));
  TAP_OK(read.chunk && read.done && read.type == ChunkType::offset_data, "one chunk of data");
  TAP_OK(read.offset == 8192 && read.data == data && read.cookie == 2, "the data");
}

TAP_TEST("flags reach the device as its own") {
  Host host;
  Client client(host);
  client.enter(true, {"base:allocation"});
  client.ask(request(C::write, 1, 0, 1, kCommandFua) + "x");
  TAP_EQ(host.disk.last_flags, volume::kFua, "FUA");
  client.ask(request(C::write_zeroes, 1, 0, 1, kCommandNoHole | kCommandFastZero));
  TAP_EQ(host.disk.last_flags, volume::kNoHole | volume::kFastZero, "NO_HOLE and FAST_ZERO");
  client.ask(request(C::block_status, 1, 0, 1, kCommandReqOne));
  TAP_EQ(host.disk.last_flags, volume::kRequestOne, "REQ_ONE");
  client.ask(request(C::read, 1, 0, 1, kCommandFua));
  TAP_EQ(host.disk.last_flags, volume::kFua, "FUA on a read is accepted");
}

namespace {

struct Refusal {
  const char* what;
  std::string bytes;
  WireError wanted;
  bool frozen = false;
};

const Refusal kRefusals[] = {
    {"read past the end", request(C::read, 1, 4 << 20, 1), WireError::einval},
    {"unknown command", request(static_cast<C>(99), 1, 0, 0), WireError::einval},
    {"unknown flag", request(C::read, 1, 0, 1, 1 << 15), WireError::einval},
    {"a flag not meant for the command", request(C::write, 1, 0, 4, kCommandDf) + "data", WireError::einval},
    {"write past the end", request(C::write, 1, 4 << 20, 4) + "data", WireError::enospc},
    {"write zeroes past the end", request(C::write_zeroes, 1, 4 << 20, 4), WireError::enospc},
    {"trim past the end", request(C::trim, 1, 4 << 20, 4), WireError::einval},
    {"write to a read-only export", request(C::write, 1, 0, 4) + "data", WireError::eperm, true},
    {"trim of a read-only export", request(C::trim, 1, 0, 4), WireError::eperm, true},
    {"write zeroes to a read-only export", request(C::write_zeroes, 1, 0, 4), WireError::eperm, true},
    {"block status without contexts", request(C::block_status, 1, 0, 4), WireError::einval},
    {"flush with a range", request(C::flush, 1, 1, 0), WireError::einval},
};

}  // namespace

TAP_TEST("what is refused has its error, and the connection goes on") {
  for (bool structured : {false, true}) {
    for (const Refusal& row : kRefusals) {
      Host host;
      host.disk.is_read_only = row.frozen;
      Client client(host);
      client.enter(structured);
      const Reply reply = client.ask(row.bytes);
      TAP_EQ(reply.error, static_cast<uint32_t>(row.wanted), row.what);
      TAP_EQ(reply.chunk, structured, "in the negotiated form");
      TAP_EQ(client.ask(request(C::flush, 2, 0, 0)).error, 0u, "goes on");
    }
  }
}

TAP_TEST("zero length succeeds without the device and without a disconnect") {
  for (bool structured : {false, true}) {
    Host host;
    Client client(host);
    client.enter(structured);
    host.disk.remember = true;
    for (C type : {C::read, C::write, C::trim, C::write_zeroes, C::cache}) {
      TAP_EQ(client.ask(request(type, 1, 0, 0)).error, 0u, "success");
    }
    TAP_EQ(host.disk.seen.size(), 0u, "the device is not asked");
    const Reply read = client.ask(request(C::read, 1, 0, 0));
    TAP_EQ(read.chunk, structured, "a read of nothing keeps its form");
  }
}

TAP_TEST("a payload beyond the maximum is drained and answered EINVAL, no reset") {
  for (bool structured : {false, true}) {
    Host host;
    Client client(host);
    client.enter(structured);
    const uint32_t bytes = kMaxRequestBytes + 1;
    client.send(request(C::write, 1, 0, bytes));
    const std::string part(1 << 20, 'p');
    for (uint32_t sent = 0; sent < bytes;) {
      const uint32_t now = std::min<uint32_t>(bytes - sent, static_cast<uint32_t>(part.size()));
      TAP_OK(client.got.empty(), "no reply before the payload is there");
      client.send(std::string_view(part).substr(0, now));
      sent += now;
    }
    client.pump();
    TAP_EQ(client.replies().at(0).error, 22u, "EINVAL");
    TAP_EQ(client.ask(request(C::flush, 2, 0, 0)).error, 0u, "goes on");
    TAP_OK(!client.ended, "still connected");
  }
}

TAP_TEST("payloads and results of 32 MiB") {
  Host host;
  FakeDevice large(40 << 20);
  host.directory.table["large"] = {&large, "", false, {}, 0};
  for (bool structured : {false, true}) {
    Client client(host);
    client.enter(structured, {}, "large");
    const std::string data = pattern(kMaxRequestBytes, 3);
    TAP_EQ(client.ask(request(C::write, 1, 4096, kMaxRequestBytes) + data).error, 0u, "write");
    TAP_OK(on_disk(large, 4096, data.size()) == data, "written");
    const Reply read = client.ask(request(C::read, 2, 4096, kMaxRequestBytes, structured ? kCommandDf : 0),
                                  kMaxRequestBytes);
    TAP_OK(read.data == data, "read in one chunk");
  }
}

TAP_TEST("errors of the device are answered, the connection goes on") {
  Host host;
  Client client(host);
  client.enter();
  for (bool wait : {false, true}) {
    host.disk.fail_with = EIO;
    host.disk.wait = wait;
    for (uint32_t length : {1u, 4096u, 1u << 20}) {
      client.send(request(C::read, 1, 0, length));
      client.pump();
      host.disk.complete();
      const Reply reply = client.ask("");
      TAP_OK(reply.error == 5 && reply.chunk && reply.done, "EIO");
    }
    host.disk.fail_with = 0;
    host.disk.wait = false;
    TAP_EQ(client.ask(request(C::read, 2, 0, 1)).data.size(), 1u, "goes on");
  }
}

TAP_TEST("holes are sent as holes, data as data, in order") {
  Host host;
  Client client(host);
  client.enter();
  host.disk.hole_at = [](uint64_t block) { return block % 4 >= 2; };
  const std::string data = pattern(64 << 10, 4);
  client.ask(request(C::write, 1, 0, 64 << 10) + data);
  for (bool wait : {false, true}) {
    for (uint32_t length : {20u << 10, 64u << 10}) {
      const uint64_t from = 1000;
      host.disk.wait = wait;
      client.talk(request(C::read, 2, from, length - 2000));
      host.disk.complete();
      client.pump();
      uint64_t at = from;
      size_t done = 0;
      for (const Reply& chunk : client.replies()) {
        TAP_EQ(chunk.offset, at, "in order");
        const bool hole = (at / 4096) % 4 >= 2;
        TAP_EQ(chunk.type == ChunkType::offset_hole, hole, "kind");
        if (!hole) TAP_OK(chunk.data == data.substr(at, chunk.data.size()), "data");
        at += hole ? chunk.hole : chunk.data.size();
        done += chunk.done;
        TAP_OK(!chunk.done || at == from + length - 2000, "done is the last");
      }
      TAP_EQ(at, from + length - 2000, "all of it");
      TAP_EQ(done, 1u, "done once");
    }
  }
  host.disk.wait = false;
}

TAP_TEST("a read of a hole sends no zeroes") {
  Host host;
  Client client(host);
  client.enter();
  host.disk.hole_at = [](uint64_t) { return true; };
  for (uint32_t length : {512u, 4096u, 1u << 20}) {
    const Reply reply = client.ask(request(C::read, 1, 0, length));
    TAP_OK(reply.type == ChunkType::offset_hole && reply.hole == length && reply.done, "one hole");
  }
}

TAP_TEST("DF and simple replies carry zeroes for holes, in one piece") {
  Host host;
  host.disk.hole_at = [](uint64_t block) { return block % 2 == 1; };
  const std::string data = pattern(16 << 10, 5);
  std::string wanted = data;
  wanted.replace(4096, 4096, 4096, '\0');
  wanted.replace(12288, 4096, 4096, '\0');
  for (bool structured : {false, true}) {
    Client client(host);
    client.enter(structured);
    client.ask(request(C::write, 1, 0, 16 << 10) + data);
    const Reply reply = client.ask(request(C::read, 2, 0, 16 << 10, structured ? kCommandDf : 0), 16 << 10);
    TAP_OK(reply.done && reply.data == wanted, "one piece");
  }
}

TAP_TEST("BLOCK_STATUS: one chunk per context, done on the last") {
  Host host;
  Client client(host);
  client.enter(true, {"base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:tue"});
  TAP_EQ(host.directory.last_changed_since.size(), 1u, "the directory knows of the bitmap");
  uint32_t since = 0;
  host.disk.status = [&](const volume::Request& r) {
    since = (*r.contexts)[2].since_layer;
    std::vector<std::vector<volume::StatusExtent>> all;
    for (const auto& context : *r.contexts) all.push_back({{4096, context.id}, {r.length - 4096, 0}});
    return all;
  };
  client.talk(request(C::block_status, 9, 0, 65536));
  const auto all = client.replies();
  TAP_EQ(all.size(), 3u, "three");
  TAP_EQ(since, 100u, "the lease's context is used");
  for (uint32_t i = 0; i < all.size(); i++) {
    TAP_OK(all[i].type == ChunkType::block_status && all[i].cookie == 9, "type");
    TAP_EQ(all[i].done, i == 2, "done");
    TAP_EQ(all[i].data, be(i + 1) + be<uint32_t>(4096) + be(i + 1) + be<uint32_t>(61440) + be<uint32_t>(0),
           "extents");
  }
  client.talk(request(C::block_status, 9, 0, 65536, kCommandReqOne));
  for (const Reply& one : client.replies()) TAP_EQ(one.data.size(), 12u, "REQ_ONE: one extent");
  client.talk(request(C::block_status, 9, 4096, 0));
  TAP_EQ(client.replies().size(), 3u, "of nothing: still one each");
}

TAP_TEST("BLOCK_STATUS with very many extents, and with none") {
  Host host;
  Client client(host);
  client.enter(true, {"base:allocation"});
  host.disk.status = [](const volume::Request&) {
    std::vector<volume::StatusExtent> list;
    for (uint32_t i = 0; i < 100000; i++) list.push_back({1, i % 2});
    return std::vector<std::vector<volume::StatusExtent>>{list};
  };
  const Reply reply = client.ask(request(C::block_status, 1, 0, 1 << 20));
  TAP_EQ(reply.data.size(), 4u + 8 * 100000, "all of them");
  host.disk.status = [](const volume::Request&) {
    return std::vector<std::vector<volume::StatusExtent>>{{}};
  };
  TAP_EQ(client.ask(request(C::block_status, 1, 0, 1 << 20)).error, 5u, "a device that says nothing: EIO");
}

TAP_TEST("replies may come out of order, each with its cookie") {
  Host host;
  Client client(host);
  client.enter();
  const std::string data = pattern(64 << 10, 6);
  client.ask(request(C::write, 1, 0, 64 << 10) + data);
  host.disk.wait = true;
  std::string bytes;
  for (uint64_t i = 0; i < 16; i++) bytes += request(C::read, 100 + i, i * 4096, 4096);
  client.talk(bytes);
  TAP_EQ(host.disk.waiting.size(), 16u, "all in flight at once");
  TAP_EQ(client.got.size(), 0u, "none answered");
  while (!host.disk.waiting.empty()) {
    host.disk.complete_last();
    client.pump();
  }
  const auto all = client.replies();
  TAP_EQ(all.size(), 16u, "all answered");
  for (size_t i = 0; i < all.size(); i++) {
    TAP_EQ(all[i].cookie, 115 - i, "last first");
    TAP_OK(all[i].data == data.substr((15 - i) * 4096, 4096), "its data");
  }
}

TAP_TEST("a payload that waits is not overwritten by what is received later") {
  Host host;
  Client client(host);
  client.enter();
  host.disk.wait = true;
  std::string wanted;
  // Small ones in place until the pins run out, then copied; and large ones of their own.
  for (uint64_t i = 0; i < 200; i++) {
    const std::string data = pattern(4096, 1000 + i);
    wanted += data;
    client.talk(request(C::write, i, i * 4096, 4096) + data);
  }
  TAP_EQ(host.disk.waiting.size(), 200u, "all wait");
  host.disk.complete();
  client.pump();
  TAP_EQ(client.replies().size(), 200u, "all answered");
  TAP_OK(on_disk(host.disk, 0, wanted.size()) == wanted, "as sent");
}

TAP_TEST("inline and waiting answers mix on one connection") {
  Host host;
  Client client(host);
  client.enter();
  const std::string data = pattern(1 << 20, 7);
  client.ask(request(C::write, 1, 0, 1 << 20) + data);
  Random random;
  std::vector<std::pair<uint64_t, uint32_t>> asked;
  size_t answered = 0;
  for (int round = 0; round < 300; round++) {
    host.disk.wait = random.chance(50);
    std::string bytes;
    for (uint64_t n = random.below(6); n > 0; n--) {
      const uint32_t length = static_cast<uint32_t>(1 + random.below(random.chance(20) ? 200000 : 9000));
      const uint64_t offset = random.below((1 << 20) - length);
      bytes += request(C::read, asked.size(), offset, length);
      asked.emplace_back(offset, length);
    }
    client.talk(bytes);
    if (random.chance(50)) host.disk.complete(random.below(8));
    if (round == 299) host.disk.complete();
    client.pump();
    for (const Reply& reply : client.replies()) {
      const auto [offset, length] = asked[reply.cookie];
      if (reply.data != data.substr(offset, length)) TAP_OK(false, "data of " + std::to_string(reply.cookie));
      answered++;
    }
  }
  TAP_EQ(answered, asked.size(), "each answered once");
}

TAP_TEST("large requests get buffers aligned to 4096") {
  Host host;
  struct Picky : FakeDevice {
    using FakeDevice::FakeDevice;
    size_t crooked = 0;
    volume::Submitted submit(volume::Request& r) override {
      if (r.length >= 300000 && reinterpret_cast<uintptr_t>(r.data) % 4096) crooked++;
      return FakeDevice::submit(r);
    }
  } picky(4 << 20);
  host.directory.table["picky"] = {&picky, "", false, {}, 0};
  Client client(host);
  client.enter(true, {}, "picky");
  client.ask(request(C::write, 1, 0, 1 << 20) + pattern(1 << 20, 8));
  client.ask(request(C::read, 1, 0, 1 << 20));
  TAP_EQ(picky.crooked, 0u, "all aligned");
}

TAP_TEST("the outcome does not depend on how the bytes are cut") {
  // No larger than a test can afford to send once per byte.
  const std::string script = request(C::write, 1, 100, 300) + pattern(300, 9) + request(C::read, 2, 0, 512) +
                             request(C::write, 3, 1 << 30, 10) + pattern(10, 10) +
                             request(static_cast<C>(50), 4, 0, 0) + request(C::write_zeroes, 5, 150, 20) +
                             request(C::read, 6, 90, 100) + request(C::write, 7, 0, 0) +
                             request(C::flush, 8, 0, 0) + request(C::read, 9, 0, 512);
  std::string whole;
  for (size_t cut = 0; cut <= script.size(); cut++) {
    Host host;
    Client client(host);
    client.enter();
    client.talk(std::string_view(script).substr(0, cut));
    client.talk(std::string_view(script).substr(cut));
    if (cut == 0) {
      whole = client.got;
      TAP_EQ(client.replies().size(), 9u, "nine replies");
    } else if (client.got != whole) {
      TAP_OK(false, "cut at " + std::to_string(cut));
    }
  }
}

TAP_TEST("requests behind the handshake in the same segment are answered") {
  for (bool old : {false, true}) {
    Host host;
    Client client(host);
    client.talk(client_flags() + (old ? option(Option::export_name, "disk") : go("disk")) +
                request(C::read, 1, 0, 512));
    TAP_OK(client.got.ends_with(be(kSimpleReplyMagic) + be<uint32_t>(0) + be<uint64_t>(1) +
                                std::string(512, '\0')),
           "answered");
  }
}

TAP_TEST("counters") {
  Host host;
  Client client(host);
  client.enter();
  client.ask(request(C::write, 1, 0, 4096) + std::string(4096, 'x'));
  client.ask(request(C::read, 2, 0, 100));
  client.ask(request(C::read, 3, 1 << 30, 100));
  host.disk.wait = true;
  client.talk(request(C::flush, 4, 0, 0));
  host.disk.complete();
  client.pump();
  const auto all = host.reactor().counters();
  TAP_EQ(all.size(), 1u, "one device");
  TAP_EQ(all[0].connections, 1u, "one connection");
  const auto& read = all[0].kinds[static_cast<unsigned>(volume::Command::read)];
  TAP_OK(read.requests == 2 && read.errors == 1 && read.bytes == 100, "read");
  const auto& write = all[0].kinds[static_cast<unsigned>(volume::Command::write)];
  TAP_OK(write.requests == 1 && write.errors == 0 && write.bytes == 4096, "write");
  const auto& flush = all[0].kinds[static_cast<unsigned>(volume::Command::flush)];
  TAP_EQ(flush.requests, 1u, "flush");
  uint64_t in_buckets = 0;
  for (uint64_t n : flush.buckets) in_buckets += n;
  for (uint64_t n : read.buckets) in_buckets += n;
  TAP_EQ(in_buckets, 2u, "each success has a latency");
}

int main() { return cellblock::test::run(); }
