// What is admitted, what each refusal is called, and the bytes of every kind of reply.
#include <cerrno>

#include "base/units.h"
#include "nbd/reply.h"
#include "nbd/request.h"
#include "test/tap.h"
#include "test/wire_bytes.h"

using namespace cellblock;
using namespace cellblock::nbd;
using namespace cellblock::test;

namespace {

constexpr uint64_t kSize = 1 << 20;
constexpr uint64_t kMax = kMaxRequestBytes;

struct Row {
  const char* what;
  RequestHeader header;
  Terms terms;
  WireError wanted;
};

const Terms kPlain{.size = kSize};
const Terms kStructured{.size = kSize, .structured = true};
const Terms kContexts{.size = kSize, .structured = true, .contexts = true};
const Terms kFrozen{.size = kSize, .read_only = true};
const Terms kHuge{.size = uint64_t{1} << 40, .structured = true};

RequestHeader ask(CommandType type, uint64_t offset, uint64_t length, unsigned flags = 0) {
  return {static_cast<uint16_t>(flags), type, 1, offset, length};
}

using C = CommandType;
using E = WireError;

const Row kRows[] = {
    {"read", ask(C::read, 0, 4096), kPlain, E::none},
    {"read to the end", ask(C::read, kSize - 1, 1), kPlain, E::none},
    {"read past the end", ask(C::read, kSize - 1, 2), kPlain, E::einval},
    {"read that wraps", ask(C::read, ~uint64_t{0}, 2), kPlain, E::einval},
    {"read of the maximum", ask(C::read, 0, kMax), kHuge, E::none},
    {"read beyond the maximum, structured", ask(C::read, 0, kMax + 1), kHuge, E::eoverflow},
    {"read beyond the maximum, simple", ask(C::read, 0, kMax + 1), {.size = uint64_t{1} << 40}, E::einval},
    {"read with DF", ask(C::read, 0, kMax, kCommandDf), kHuge, E::none},
    {"read with DF, not structured", ask(C::read, 0, 1, kCommandDf), kPlain, E::einval},
    {"read with REQ_ONE", ask(C::read, 0, 1, kCommandReqOne), kContexts, E::einval},
    {"read with FAST_ZERO", ask(C::read, 0, 1, kCommandFastZero), kPlain, E::einval},
    {"write", ask(C::write, 0, 4096), kPlain, E::none},
    {"write past the end", ask(C::write, kSize, 1), kPlain, E::enospc},
    {"write that wraps", ask(C::write, ~uint64_t{0}, 4096), kPlain, E::enospc},
    {"write to a read-only export", ask(C::write, 0, 1), kFrozen, E::eperm},
    {"write past the end of a read-only export", ask(C::write, kSize, 1), kFrozen, E::eperm},
    {"write beyond the maximum", ask(C::write, 0, kMax + 1), kHuge, E::einval},
    {"write with DF", ask(C::write, 0, 1, kCommandDf), kStructured, E::einval},
    {"write with NO_HOLE", ask(C::write, 0, 1, kCommandNoHole), kPlain, E::einval},
    {"write with an unknown flag", ask(C::write, 0, 1, 1 << 9), kPlain, E::einval},
    {"flush", ask(C::flush, 0, 0), kPlain, E::none},
    {"flush of a read-only export", ask(C::flush, 0, 0), kFrozen, E::none},
    {"flush with a range", ask(C::flush, 0, 1), kPlain, E::einval},
    {"trim", ask(C::trim, 0, kSize), kPlain, E::none},
    {"trim past the end", ask(C::trim, 1, kSize), kPlain, E::einval},
    {"trim on a read-only export", ask(C::trim, 0, 1), kFrozen, E::eperm},
    {"trim of more than the maximum payload", ask(C::trim, 0, 0xffffffff), kHuge, E::none},
    {"write zeroes", ask(C::write_zeroes, 0, kSize), kPlain, E::none},
    {"write zeroes with NO_HOLE and FAST_ZERO", ask(C::write_zeroes, 0, 1, kCommandNoHole | kCommandFastZero),
     kPlain, E::none},
    {"write zeroes past the end", ask(C::write_zeroes, 1, kSize), kPlain, E::enospc},
    {"write zeroes on a read-only export", ask(C::write_zeroes, 0, 1), kFrozen, E::eperm},
    {"write zeroes with DF", ask(C::write_zeroes, 0, 1, kCommandDf), kStructured, E::einval},
    {"cache", ask(C::cache, 0, kSize), kPlain, E::none},
    {"cache past the end", ask(C::cache, 0, kSize + 1), kPlain, E::einval},
    {"block status", ask(C::block_status, 0, kSize, kCommandReqOne), kContexts, E::none},
    {"block status past the end", ask(C::block_status, 1, kSize), kContexts, E::einval},
    {"block status without contexts", ask(C::block_status, 0, 1), kStructured, E::einval},
    {"block status of nothing", ask(C::block_status, 0, 0), kContexts, E::none},
    {"block status of nothing with REQ_ONE", ask(C::block_status, 0, 0, kCommandReqOne), kContexts,
     E::einval},
    {"block status of nothing at the end", ask(C::block_status, kSize, 0), kContexts, E::einval},
    {"read of nothing", ask(C::read, kSize, 0), kPlain, E::none},
    {"write of nothing", ask(C::write, kSize, 0), kPlain, E::none},
    {"trim of nothing", ask(C::trim, 0, 0), kPlain, E::none},
    {"write zeroes of nothing", ask(C::write_zeroes, 0, 0), kPlain, E::none},
    {"cache of nothing", ask(C::cache, 0, 0), kPlain, E::none},
    {"resize", ask(C::resize, 0, 0), kPlain, E::einval},
    {"an unknown command", ask(static_cast<C>(4711), 0, 0), kPlain, E::einval},
};

}  // namespace

TAP_TEST("each request is admitted or has its own error") {
  for (const Row& row : kRows) TAP_EQ(validate(row.header, row.terms), row.wanted, row.what);
}

TAP_TEST("FUA is accepted on every command") {
  for (C type : {C::read, C::write, C::trim, C::write_zeroes, C::cache, C::block_status}) {
    TAP_EQ(validate(ask(type, 0, 512, kCommandFua), kContexts), E::none, "with FUA");
  }
  TAP_EQ(validate(ask(C::flush, 0, 0, kCommandFua), kPlain), E::none, "flush");
}

TAP_TEST("a header is read as the protocol lays it out") {
  const std::string bytes =
      request(C::write_zeroes, 0x0102030405060708, 0x1112131415161718, 0x21222324, 0x12);
  TAP_EQ(bytes.size(), kRequestHeaderBytes, "28 bytes");
  RequestHeader header;
  TAP_OK(parse_request(reinterpret_cast<const std::byte*>(bytes.data()), header), "magic");
  TAP_EQ(header.type, C::write_zeroes, "type");
  TAP_EQ(header.flags, 0x12, "flags");
  TAP_EQ(header.cookie, 0x0102030405060708, "cookie");
  TAP_EQ(header.offset, 0x1112131415161718, "offset");
  TAP_EQ(header.length, 0x21222324, "length");
  TAP_EQ(payload_bytes(header), 0, "no payload");
  const std::string wrong = std::string(28, '\0');
  TAP_OK(!parse_request(reinterpret_cast<const std::byte*>(wrong.data()), header), "wrong magic");
  TAP_EQ(payload_bytes(ask(C::write, 0, 77)), 77, "a write has one");
}

TAP_TEST("errno values become errors of the wire") {
  TAP_EQ(wire_error(0), E::none, "0");
  TAP_EQ(wire_error(EROFS), E::eperm, "EROFS");
  TAP_EQ(wire_error(EDQUOT), E::enospc, "EDQUOT");
  TAP_EQ(wire_error(EFBIG), E::enospc, "EFBIG");
  TAP_EQ(wire_error(EBADF), E::eio, "anything else");
  for (E e : {E::eperm, E::eio, E::enomem, E::einval, E::enospc, E::eoverflow, E::enotsup, E::eshutdown}) {
    TAP_EQ(wire_error(static_cast<int>(e)), e, "itself");
    TAP_OK(std::strlen(describe(e)) > 5 && std::strlen(describe(e)) <= 128, "a sentence");
  }
}

TAP_TEST("replies decode to what was encoded") {
  std::string room(4096, 'x');
  std::byte* to = reinterpret_cast<std::byte*>(room.data());
  Reply reply;
  const auto decode = [&](size_t bytes) {
    Reader reader(std::string_view(room).substr(0, bytes));
    return next_reply(reader, reply, [](uint64_t) { return 0; }) && reader.left() == 0;
  };
  simple_reply(to, E::enospc, 42);
  TAP_OK(decode(kSimpleReplyBytes) && !reply.chunk && reply.error == 28 && reply.cookie == 42, "simple");
  offset_data(to, kChunkDone, 7, 4096, 3);
  room.replace(kOffsetDataBytes, 3, "abc");
  TAP_OK(decode(kOffsetDataBytes + 3) && reply.data == "abc" && reply.offset == 4096 && reply.done, "data");
  offset_hole(to, 0, 7, 8192, 512);
  TAP_OK(decode(kOffsetHoleBytes) && reply.hole == 512 && reply.offset == 8192 && !reply.done, "hole");
  none_chunk(to, 9);
  TAP_OK(decode(kChunkHeaderBytes) && reply.type == ChunkType::none && reply.done, "none");
  TAP_OK(
      decode(error_chunk(to, 9, E::eio)) && reply.error == 5 && reply.data == describe(E::eio) && reply.done,
      "error");
  TAP_OK(decode(error_offset_chunk(to, 9, E::eio, 77)) && reply.error == 5 && reply.offset == 77,
         "error with offset");
  TAP_OK(decode(error_reply(to, false, 9, E::einval)) && !reply.chunk && reply.error == 22, "error, simple");
  TAP_OK(decode(error_reply(to, true, 9, E::einval)) && reply.chunk && reply.error == 22,
         "error, structured");
}

namespace {

using Extents = std::vector<std::pair<uint64_t, uint32_t>>;

Extents status(const Extents& given, StatusChunk::Query query) {
  std::vector<std::byte> room(StatusChunk::room(given.size() + 1));
  StatusChunk chunk(room.data(), query);
  for (const auto& [length, flags] : given) {
    if (!chunk.add(length, flags)) break;
  }
  const size_t bytes = chunk.finish(3, 1, kChunkDone);
  Extents all;
  if (bytes == 0) return all;
  TAP_EQ(load_be<uint32_t>(room.data() + 16), bytes - kChunkHeaderBytes, "payload length");
  TAP_EQ(load_be<uint32_t>(room.data() + 20), 3, "context id");
  for (size_t at = kStatusHeaderBytes; at < bytes; at += 8) {
    all.emplace_back(load_be<uint32_t>(room.data() + at), load_be<uint32_t>(room.data() + at + 4));
  }
  return all;
}

}  // namespace

TAP_TEST("a status chunk joins equal neighbours and keeps the protocol's rules") {
  const Extents joined = status({{4096, 0}, {4096, 0}, {8192, 3}, {4096, 3}, {4096, 0}}, {24576, false});
  TAP_OK(joined == (Extents{{8192, 0}, {12288, 3}, {4096, 0}}), "joined");
  TAP_OK(status({{4096, 0}, {4096, 3}}, {8192, true}) == (Extents{{4096, 0}}), "REQ_ONE: one");
  TAP_OK(status({{4096, 0}, {4096, 0}}, {5000, true}) == (Extents{{5000, 0}}),
         "REQ_ONE: not longer than asked");
  TAP_OK(status({{4096, 0}, {1 << 20, 3}, {4096, 0}}, {8192, false}) == (Extents{{4096, 0}, {1 << 20, 3}}),
         "only the last reaches past the request");
  TAP_OK(status({}, {8192, false}).empty(), "nothing");
  TAP_OK(status({{4096, 3}}, {0, false}) == (Extents{{4096, 3}}), "asked about nothing");
}

TAP_TEST("lengths of a status chunk fit 32 bits") {
  const Extents huge = status({{uint64_t{1} << 40, 3}}, {0xffffffff, false});
  TAP_EQ(huge.size(), 2, "split");
  uint64_t sum = 0;
  for (size_t i = 0; i + 1 < huge.size(); i++) sum += huge[i].first;
  TAP_OK(sum < 0xffffffff, "all but the last lie in the request");
  TAP_OK(sum + huge.back().first >= 0xffffffff, "and together they cover it");
  TAP_EQ(status({{uint64_t{1} << 40, 3}}, {4096, true})[0].first, 4096, "REQ_ONE");
  TAP_EQ(status({{uint64_t{1} << 40, 3}}, {4096, false}).size(), 1, "one is enough for a short request");
}

TAP_TEST("a status chunk has at most 2^20 extents") {
  Extents many;
  for (uint32_t i = 0; i < (1 << 20) + 10; i++) many.emplace_back(512, i % 2);
  const Extents got = status(many, {0xffffffff, false});
  TAP_EQ(got.size(), 1 << 20, "cut off");
  TAP_EQ(got.back().first, 512, "the last one is whole");
}

int main() { return cellblock::test::run(); }
