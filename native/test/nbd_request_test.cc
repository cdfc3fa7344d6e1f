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
const Terms kContexts{.size = kSize, .structured = true, .contexts = 1};
const Terms kFrozen{.size = kSize, .read_only = true};
const Terms kHuge{.size = uint64_t{1} << 40, .structured = true};
const Terms kExtended{.size = uint64_t{1} << 50, .structured = true, .extended = true};
const Terms kFilters{.size = uint64_t{1} << 50, .structured = true, .extended = true, .contexts = 2};

RequestHeader ask(CommandType type, uint64_t offset, uint64_t length, unsigned flags = 0) {
  return {static_cast<uint16_t>(flags), type, 1, offset, length};
}

using C = CommandType;
using E = WireError;
constexpr unsigned kPayload = kCommandPayloadLen;
constexpr uint64_t kFourGiB = uint64_t{1} << 32;

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
    {"PAYLOAD_LEN without extended headers, write", ask(C::write, 0, 1, kPayload), kStructured, E::einval},
    {"PAYLOAD_LEN without extended headers, block status", ask(C::block_status, 0, 12, kPayload), kContexts,
     E::einval},
    {"extended: write", ask(C::write, 0, kMax, kPayload | kCommandFua), kExtended, E::none},
    {"extended: write of nothing", ask(C::write, 0, 0, kPayload), kExtended, E::none},
    {"extended: write without PAYLOAD_LEN", ask(C::write, 0, 1), kExtended, E::einval},
    {"extended: write of nothing without PAYLOAD_LEN", ask(C::write, 0, 0), kExtended, E::einval},
    {"extended: write beyond the maximum", ask(C::write, 0, kMax + 1, kPayload), kExtended, E::einval},
    {"extended: write of 2^64 - 1 bytes", ask(C::write, 0, ~uint64_t{0}, kPayload), kExtended, E::einval},
    {"extended: read with PAYLOAD_LEN", ask(C::read, 0, 1, kPayload), kExtended, E::einval},
    {"extended: flush with PAYLOAD_LEN", ask(C::flush, 0, 0, kPayload), kExtended, E::einval},
    {"extended: trim with PAYLOAD_LEN", ask(C::trim, 0, 1, kPayload), kExtended, E::einval},
    {"extended: write zeroes with PAYLOAD_LEN", ask(C::write_zeroes, 0, 1, kPayload), kExtended, E::einval},
    {"extended: cache with PAYLOAD_LEN", ask(C::cache, 0, 1, kPayload), kExtended, E::einval},
    {"extended: read of 2^32 and a little", ask(C::read, 0, kFourGiB + 512), kExtended, E::eoverflow},
    {"extended: read past the end, of 2^64 - 1", ask(C::read, 0, ~uint64_t{0}), kExtended, E::einval},
    {"extended: trim of all", ask(C::trim, 0, kExtended.size), kExtended, E::none},
    {"extended: write zeroes of all", ask(C::write_zeroes, 0, kExtended.size), kExtended, E::none},
    {"extended: cache of all", ask(C::cache, 0, kExtended.size), kExtended, E::none},
    {"extended: block status of all", ask(C::block_status, 0, kFilters.size), kFilters, E::none},
    {"extended: trim that wraps", ask(C::trim, 4096, ~uint64_t{0}), kExtended, E::einval},
    {"extended: write zeroes that wraps", ask(C::write_zeroes, 4096, ~uint64_t{0}), kExtended, E::enospc},
    {"filter of one context", ask(C::block_status, 0, 12, kPayload | kCommandReqOne), kFilters, E::none},
    {"filter of all contexts", ask(C::block_status, 0, 16, kPayload), kFilters, E::none},
    {"filter longer than all contexts", ask(C::block_status, 0, 20, kPayload), kFilters, E::einval},
    {"filter of no context", ask(C::block_status, 0, 8, kPayload), kFilters, E::einval},
    {"filter without a length", ask(C::block_status, 0, 4, kPayload), kFilters, E::einval},
    {"filter of nothing", ask(C::block_status, 0, 0, kPayload), kFilters, E::einval},
    {"filter with half an id", ask(C::block_status, 0, 14, kPayload), kFilters, E::einval},
    {"filter where no context is selected", ask(C::block_status, 0, 12, kPayload), kExtended, E::einval},
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
  const auto parse = [&](const std::string& from, bool extended) {
    return parse_request(reinterpret_cast<const std::byte*>(from.data()), extended, header);
  };
  TAP_OK(parse(bytes, false), "magic");
  TAP_EQ(header.type, C::write_zeroes, "type");
  TAP_EQ(header.flags, 0x12, "flags");
  TAP_EQ(header.cookie, 0x0102030405060708, "cookie");
  TAP_EQ(header.offset, 0x1112131415161718, "offset");
  TAP_EQ(header.length, 0x21222324, "length");
  TAP_EQ(payload_bytes(header, false), 0, "no payload");
  TAP_OK(!parse(std::string(28, '\0'), false), "wrong magic");
  TAP_EQ(payload_bytes(ask(C::write, 0, 77), false), 77, "a write has one");

  const std::string extended =
      extended_request(C::trim, 0x0102030405060708, 0x1112131415161718, 0x2122232425262728, 0x21);
  TAP_EQ(extended.size(), kExtendedRequestHeaderBytes, "32 bytes");
  TAP_OK(parse(extended, true), "magic of extended headers");
  TAP_EQ(header.type, C::trim, "type");
  TAP_EQ(header.flags, 0x21, "flags");
  TAP_EQ(header.cookie, 0x0102030405060708, "cookie");
  TAP_EQ(header.offset, 0x1112131415161718, "offset");
  TAP_EQ(header.length, 0x2122232425262728, "length");
  TAP_OK(!parse(extended, false), "each magic for its own headers");
  TAP_OK(!parse(bytes + std::string(4, '\0'), true), "the other way round as well");
}

TAP_TEST("with extended headers the flag says whether a payload follows, whatever the command is") {
  TAP_EQ(payload_bytes(ask(C::write, 0, 77, kPayload), true), 77, "a write");
  TAP_EQ(payload_bytes(ask(C::read, 0, 77, kPayload), true), 77, "a read");
  TAP_EQ(payload_bytes(ask(static_cast<C>(99), 0, 77, kPayload), true), 77, "an unknown command");
  TAP_EQ(payload_bytes(ask(C::write_zeroes, 0, 77), true), 0, "none without it");
}

TAP_TEST("a payload beyond the maximum, and a write that does not announce its data, lose step") {
  TAP_OK(!loses_step(ask(C::write, 0, kMax, kPayload)), "the maximum");
  TAP_OK(loses_step(ask(C::write, 0, kMax + 1, kPayload)), "beyond");
  TAP_OK(!loses_step(ask(static_cast<C>(99), 0, kMax, kPayload)), "of any command");
  TAP_OK(loses_step(ask(static_cast<C>(99), 0, ~uint64_t{0}, kPayload)), "beyond");
  TAP_OK(loses_step(ask(C::write, 0, 1)), "a write without the flag");
  TAP_OK(!loses_step(ask(C::write, 0, 0)), "of nothing it leaves no doubt");
  TAP_OK(!loses_step(ask(C::trim, 0, ~uint64_t{0})), "the length of an effect is not a payload's");
}

TAP_TEST("a filter names selected contexts, each once") {
  const auto read = [](const std::string& payload, StatusFilter& filter) {
    return read_filter(reinterpret_cast<const std::byte*>(payload.data()), payload.size(), 3, filter);
  };
  const auto id = [](uint32_t value) { return be(value); };
  const std::string length = be(kFourGiB + 1);
  StatusFilter filter;
  TAP_OK(read(length + id(3) + id(1), filter), "admitted");
  TAP_EQ(filter.length, kFourGiB + 1, "length");
  TAP_OK(filter.ids == (std::vector<uint32_t>{3, 1}), "ids in their order");
  for (const std::string& wrong : {id(0), id(4), id(0xffffffff), id(2) + id(2), id(1) + id(2) + id(1)}) {
    StatusFilter none;
    TAP_OK(!read(length + wrong, none), "unknown, or twice");
  }
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
  const RequestHeader request = ask(C::read, 0x123456789a, 0);
  simple_reply(to, E::enospc, 42);
  TAP_OK(decode(kSimpleReplyBytes) && !reply.chunk && reply.error == 28 && reply.cookie == 42, "simple");
  const auto in_form = [&](ReplyForm form) {
    const bool extended = form == ReplyForm::extended;
    return reply.chunk && reply.cookie == request.cookie && reply.extended == extended &&
           reply.asked == (extended ? request.offset : 0);
  };
  for (const ReplyForm form : {ReplyForm::structured, ReplyForm::extended}) {
    offset_data(to, form, request, kChunkDone, 4096, 3);
    room.replace(offset_data_bytes(form), 3, "abc");
    TAP_OK(decode(offset_data_bytes(form) + 3) && in_form(form), "data");
    TAP_OK(reply.data == "abc" && reply.offset == 4096 && reply.done, "what it says");
    offset_hole(to, form, request, 0, 8192, 512);
    TAP_OK(decode(offset_hole_bytes(form)) && in_form(form), "hole");
    TAP_OK(reply.hole == 512 && reply.offset == 8192 && !reply.done, "what it says");
    none_chunk(to, form, request);
    TAP_OK(decode(chunk_header_bytes(form)) && in_form(form), "none");
    TAP_OK(reply.type == ChunkType::none && reply.done, "what it says");
    TAP_OK(decode(error_chunk(to, form, request, E::eio)) && in_form(form), "error");
    TAP_OK(reply.error == 5 && reply.data == describe(E::eio) && reply.done, "what it says");
    TAP_OK(decode(error_offset_chunk(to, form, request, E::eio, 77)) && in_form(form), "error with offset");
    TAP_OK(reply.error == 5 && reply.offset == 77, "what it says");
    TAP_OK(decode(error_reply(to, form, request, E::einval)) && in_form(form) && reply.error == 22,
           "failure");
  }
  TAP_OK(decode(error_reply(to, ReplyForm::simple, request, E::einval)) && !reply.chunk && reply.error == 22,
         "failure, simple");
  for (const ReplyForm form : {ReplyForm::simple, ReplyForm::structured}) {
    TAP_OK(decode(success_reply(to, form, request)) && !reply.chunk && reply.error == 0, "success, short");
  }
  TAP_OK(decode(success_reply(to, ReplyForm::extended, request)) && in_form(ReplyForm::extended) &&
             reply.type == ChunkType::none && reply.done,
         "success, extended");
}

namespace {

using Extents = std::vector<std::pair<uint64_t, uint32_t>>;

// Of a chunk as structured or extended replies have it.
Extents status(const Extents& given, StatusChunk::Query query, ReplyForm form = ReplyForm::structured) {
  const bool extended = form == ReplyForm::extended;
  std::vector<std::byte> room(StatusChunk::room(form, given.size() + 1));
  StatusChunk chunk(room.data(), form, query);
  for (const auto& [length, flags] : given) {
    if (!chunk.add(length, flags)) break;
  }
  const RequestHeader request = ask(C::block_status, 4096, query.length);
  const size_t bytes = chunk.finish(request, 3, kChunkDone);
  Extents all;
  if (bytes == 0) return all;
  Reader reader(std::string_view(reinterpret_cast<const char*>(room.data()), bytes));
  Reply reply;
  TAP_OK(next_reply(reader, reply, [](uint64_t) { return 0; }) && reader.left() == 0, "one chunk");
  TAP_EQ(reply.type, extended ? ChunkType::block_status_ext : ChunkType::block_status, "type");
  Reader payload(reply.data);
  TAP_EQ(payload.integer<uint32_t>(), 3u, "context id");
  const uint32_t count = extended ? payload.integer<uint32_t>() : 0;
  while (payload.left() > 0) {
    const uint64_t length = extended ? payload.integer<uint64_t>() : payload.integer<uint32_t>();
    const uint64_t flags = extended ? payload.integer<uint64_t>() : payload.integer<uint32_t>();
    TAP_OK(flags <= UINT32_MAX, "the upper half of the flags is empty");
    all.emplace_back(length, static_cast<uint32_t>(flags));
  }
  TAP_OK(!payload.was_short(), "whole extents");
  if (extended) TAP_EQ(count, all.size(), "as many as it says");
  return all;
}

}  // namespace

TAP_TEST("a status chunk joins equal neighbours and keeps the protocol's rules") {
  for (const ReplyForm form : {ReplyForm::structured, ReplyForm::extended}) {
    const auto is = [&](const Extents& given, StatusChunk::Query query, const Extents& wanted) {
      return status(given, query, form) == wanted;
    };
    TAP_OK(is({{4096, 0}, {4096, 0}, {8192, 3}, {4096, 3}, {4096, 0}}, {24576, false},
              {{8192, 0}, {12288, 3}, {4096, 0}}),
           "joined");
    TAP_OK(is({{4096, 0}, {4096, 3}}, {8192, true}, {{4096, 0}}), "REQ_ONE: one");
    TAP_OK(is({{4096, 0}, {4096, 0}}, {5000, true}, {{5000, 0}}), "REQ_ONE: not longer than asked");
    TAP_OK(is({{4096, 0}, {1 << 20, 3}, {4096, 0}}, {8192, false}, {{4096, 0}, {1 << 20, 3}}),
           "only the last reaches past the request");
    TAP_OK(is({}, {8192, false}, {}), "nothing");
    TAP_OK(is({{4096, 3}}, {0, false}, {{4096, 3}}), "asked about nothing");
  }
}

TAP_TEST("with extended headers an extent is as long as it is") {
  const uint64_t huge = uint64_t{1} << 62;
  const auto extended = [](const Extents& given, StatusChunk::Query query) {
    return status(given, query, ReplyForm::extended);
  };
  TAP_OK(extended({{huge, 3}, {kFourGiB, 3}, {huge, 0}}, {2 * huge, false}) ==
             (Extents{{huge + kFourGiB, 3}, {huge, 0}}),
         "not split");
  TAP_OK(extended({{huge, 3}}, {kFourGiB + 1, true}) == (Extents{{kFourGiB + 1, 3}}), "REQ_ONE");
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
