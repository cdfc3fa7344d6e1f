// The handshake, row by row of the protocol document and of the table of what servers get wrong, over bytes
// alone.
#include <algorithm>
#include <cerrno>

#include "nbd/handshake.h"
#include "test/tap.h"
#include "test/wire_bytes.h"

using namespace cellblock;
using namespace cellblock::nbd;
using namespace cellblock::test;

namespace {

// A server with two exports: "disk" (1 MiB, snapshots mon and tue) and the default, whose name is "disk" too.
struct Server {
  Handshake handshake{HandshakeOptions{}};
  std::string sent;
  std::vector<std::string> opened_since;
  size_t left = 0;  // bytes of the client not consumed
  bool read_only = false;
  bool rotational = false;
  int open_error = 0;
  std::string refusal = "no such thing";

  Server() = default;
  explicit Server(HandshakeOptions options) : handshake(std::move(options)) {}

  void drain() {
    sent += handshake.output();
    handshake.output().clear();
  }

  void answer() {
    switch (handshake.step()) {
      case Step::list:
        return handshake.listed({{"disk", "a disk"}, {"other", ""}});
      case Step::describe: {
        DescribedExport d;
        d.exists = handshake.name() == "disk" || handshake.name().empty();
        if (!d.exists) d.refusal = refusal;
        if (handshake.name() == "secret") d.error = ENOKEY;
        d.name = "disk";
        d.size = 1 << 20;
        d.read_only = read_only;
        d.rotational = rotational;
        d.description = "a disk";
        d.snapshots = {"mon", "tue"};
        return handshake.described(d);
      }
      case Step::open:
        opened_since = handshake.changed_since();
        return handshake.opened({open_error, open_error ? "cannot" : "", 1 << 20, read_only});
      default:
        return;
    }
  }

  bool waits() const {
    const Step s = handshake.step();
    return s == Step::list || s == Step::describe || s == Step::open;
  }

  // Feeds in pieces of at most `piece` bytes.
  Step feed(std::string_view bytes, size_t piece = SIZE_MAX) {
    drain();
    size_t at = 0;
    while (true) {
      while (waits()) answer();
      drain();
      if (at == bytes.size() || handshake.step() != Step::need_bytes) break;
      const size_t n = std::min(piece, bytes.size() - at);
      at += handshake.feed(reinterpret_cast<const std::byte*>(bytes.data()) + at, n);
    }
    left = bytes.size() - at;
    return handshake.step();
  }

  std::vector<OptionAnswer> replies() const { return answers(sent); }
};

OptionReply only_reply(const std::string& bytes) {
  Server server;
  server.feed(client_flags() + bytes);
  const auto all = server.replies();
  TAP_EQ(all.size(), 1u, "one reply");
  return all.empty() ? OptionReply{} : all.back().type;
}

const std::string kStructured = option(Option::structured_reply);
const std::string kExtended = option(Option::extended_headers);

}  // namespace

TAP_TEST("the greeting is fixed newstyle with NO_ZEROES") {
  Server server;
  server.feed("");
  Reader reader(server.sent);
  TAP_OK(reader.greeting(), "magics and flags");
  TAP_EQ(reader.left(), 0u, "nothing else");
}

TAP_TEST("an unknown client flag drops the connection") {
  Server server;
  TAP_OK(server.feed(client_flags(4)) == Step::close, "closed");
  Server plain;
  TAP_OK(plain.feed(client_flags(0)) == Step::need_bytes, "no flag is fine");
}

TAP_TEST("a wrong option magic drops the connection") {
  Server server;
  TAP_OK(server.feed(client_flags() + std::string(16, 'x')) == Step::close, "closed");
}

TAP_TEST("an unknown option's data is consumed, ERR_UNSUP, and the handshake goes on") {
  Server server;
  const auto unknown = static_cast<Option>(4711);
  server.feed(client_flags() + option(unknown, std::string(100000, 'x')) + option(unknown) + kStructured);
  const auto all = server.replies();
  TAP_EQ(all.size(), 3u, "three replies");
  TAP_OK(all[0].option == unknown && all[0].type == OptionReply::err_unsup, "first");
  TAP_OK(!all[0].data.empty(), "with a sentence");
  TAP_OK(all[1].type == OptionReply::err_unsup, "second");
  TAP_OK(all[2].type == OptionReply::ack, "third");
}

TAP_TEST("STARTTLS without configuration and PEEK_EXPORT are answered ERR_UNSUP") {
  for (Option o : {Option::starttls, Option::peek_export}) {
    TAP_OK(only_reply(option(o)) == OptionReply::err_unsup, "unsupported");
  }
}

TAP_TEST("EXPORT_NAME: size, flags and 124 zeroes unless NO_ZEROES") {
  for (bool no_zeroes : {false, true}) {
    Server server;
    const uint32_t flags = kClientFixedNewstyle | (no_zeroes ? uint32_t{kClientNoZeroes} : 0);
    TAP_OK(
        server.feed(client_flags(flags) + option(Option::export_name, "disk") + "next") == Step::transmission,
        "transmission");
    TAP_EQ(server.left, 4u, "bytes of requests are left alone");
    TAP_EQ(server.sent.size(), 18u + 10 + (no_zeroes ? 0 : 124), "length of the reply");
    Reader reader(server.sent);
    reader.greeting();
    TAP_EQ(reader.integer<uint64_t>(), 1u << 20, "size");
    const uint16_t sent = reader.integer<uint16_t>();
    TAP_EQ(sent,
           kHasFlags | kSendFlush | kSendFua | kSendTrim | kSendWriteZeroes | kCanMultiConn | kSendCache |
               kSendFastZero,
           "flags");
    TAP_EQ(server.handshake.negotiated().transmission_flags, sent, "and negotiated");
  }
}

TAP_TEST("EXPORT_NAME of an unknown, unopenable, overlong or malformed name closes") {
  const auto closes = [](const std::string& name) {
    Server server;
    return server.feed(client_flags() + option(Option::export_name, name)) == Step::close;
  };
  TAP_OK(closes("nothing"), "unknown");
  TAP_OK(closes(std::string(4097, 'a')), "overlong");
  TAP_OK(closes(std::string("di\0sk", 5)), "NUL");
  TAP_OK(closes("\xff"), "not UTF-8");
  Server server;
  server.open_error = EBUSY;
  TAP_OK(server.feed(client_flags() + option(Option::export_name, "disk")) == Step::close,
         "cannot be opened");
}

TAP_TEST("the empty name is the default export") {
  Server server;
  TAP_OK(server.feed(client_flags(0) + option(Option::export_name)) == Step::transmission, "EXPORT_NAME");
  Server with_go;
  TAP_OK(with_go.feed(client_flags() + go("", {Info::name})) == Step::transmission, "GO");
  const auto all = with_go.replies();
  TAP_EQ(all.size(), 3u, "export, name, ack");
  TAP_EQ(all[1].data.substr(2), "disk", "the canonical name");
}

TAP_TEST("ABORT is acknowledged, with data or without, and closes") {
  for (const char* data : {"", "goodbye"}) {
    Server server;
    TAP_OK(server.feed(client_flags() + option(Option::abort, data)) == Step::close, "closed");
    const auto all = server.replies();
    TAP_OK(all.size() == 1 && all[0].type == OptionReply::ack, "ack");
  }
}

TAP_TEST("LIST names every export with its description; data is ERR_INVALID") {
  Server server;
  server.feed(client_flags() + option(Option::list) + option(Option::list, "x"));
  const auto all = server.replies();
  TAP_EQ(all.size(), 4u, "two exports, ack, error");
  TAP_OK(all[0].type == OptionReply::server, "server");
  TAP_EQ(all[0].data, sized("disk") + "a disk", "name and description");
  TAP_EQ(all[1].data, sized("other"), "no description");
  TAP_OK(all[2].type == OptionReply::ack, "ack");
  TAP_OK(all[3].type == OptionReply::err_invalid, "data");
}

TAP_TEST("INFO and GO: EXPORT always, the rest as asked, unknown infos ignored") {
  Server server;
  const auto unknown = static_cast<Info>(999);
  const std::vector<Info> infos{Info::block_size, unknown, Info::name, Info::description, Info::name};
  server.feed(client_flags() + go("disk", infos, Option::info) + go("disk", {}));
  const auto all = server.replies();
  TAP_EQ(all.size(), 7u, "replies");
  TAP_EQ(all[0].data.size(), 12u, "EXPORT is 12 bytes");
  TAP_EQ(load_be<uint64_t>(all[0].data.data() + 2), 1u << 20, "real size on INFO");
  TAP_EQ(all[1].data, be<uint16_t>(1) + "disk", "NAME");
  TAP_EQ(all[2].data, be<uint16_t>(2) + "a disk", "DESCRIPTION");
  TAP_EQ(all[3].data, be<uint16_t>(3) + be<uint32_t>(1) + be<uint32_t>(4096) + be<uint32_t>(32 << 20),
         "BLOCK_SIZE");
  TAP_OK(all[4].type == OptionReply::ack, "ack of INFO");
  TAP_EQ(all[5].data, all[0].data, "GO says the same");
  TAP_OK(all[6].type == OptionReply::ack && all[6].option == Option::go, "ack of GO");
  TAP_OK(server.handshake.step() == Step::transmission, "transmission");
}

TAP_TEST("GO never sends zeroes behind its ack") {
  Server server;
  server.feed(client_flags(kClientFixedNewstyle) + go("disk"));
  TAP_EQ(server.sent.size(), 18u + 20 + 12 + 20, "greeting, info, ack");
}

TAP_TEST("INFO and GO: lengths are checked against the data") {
  for (Option o : {Option::info, Option::go}) {
    TAP_OK(only_reply(option(o, "")) == OptionReply::err_invalid, "empty");
    TAP_OK(only_reply(option(o, be<uint32_t>(5) + "disk" + be<uint16_t>(0))) == OptionReply::err_invalid,
           "name too long");
    TAP_OK(only_reply(option(o, be<uint32_t>(0xffffffff) + "disk" + be<uint16_t>(0))) ==
               OptionReply::err_invalid,
           "wraps");
    TAP_OK(only_reply(option(o, sized("disk") + be<uint16_t>(1))) == OptionReply::err_invalid,
           "an info is missing");
    TAP_OK(only_reply(option(o, sized("disk") + be<uint16_t>(0) + "x")) == OptionReply::err_invalid,
           "a byte too many");
    TAP_OK(only_reply(option(o, sized(std::string(4097, 'a')) + be<uint16_t>(0))) == OptionReply::err_invalid,
           "overlong");
    TAP_OK(only_reply(option(o, sized(std::string_view("a\0", 2)) + be<uint16_t>(0))) ==
               OptionReply::err_invalid,
           "NUL");
    TAP_OK(only_reply(option(o, sized("\xc3") + be<uint16_t>(0))) == OptionReply::err_invalid, "not UTF-8");
    TAP_OK(only_reply(option(o, sized("\xed\xa0\x80") + be<uint16_t>(0))) == OptionReply::err_invalid,
           "surrogate");
    TAP_OK(only_reply(option(o, std::string(300 << 10, 'x'))) == OptionReply::err_too_big,
           "beyond the limit");
  }
}

TAP_TEST("INFO and GO of an unknown export: ERR_UNKNOWN with a sentence, and the handshake goes on") {
  Server server;
  server.feed(client_flags() + go("no", {}, Option::info) + go("no") + go("disk"));
  const auto all = server.replies();
  TAP_OK(all[0].type == OptionReply::err_unknown && all[1].type == OptionReply::err_unknown, "both");
  TAP_EQ(all[0].data, "no such thing", "the directory's sentence");
  TAP_OK(server.handshake.step() == Step::transmission, "then another one");
}

TAP_TEST("a sentence is cut to 4096 bytes, and not within a character") {
  for (const auto& [before, wanted] :
       std::vector<std::pair<size_t, size_t>>{{0, 4095}, {1, 4096}, {2, 4094}}) {
    Server server;
    server.refusal = std::string(before, 'x');
    for (int i = 0; i < 2000; i++) server.refusal += "\u20ac";  // three bytes
    server.feed(client_flags() + go("no"));
    const auto all = server.replies();
    TAP_EQ(all[0].data, server.refusal.substr(0, wanted), "whole characters");
  }
}

TAP_TEST("GO of an export that cannot be opened says why and goes on") {
  const std::vector<std::pair<int, OptionReply>> rows{{ENOENT, OptionReply::err_unknown},
                                                      {EACCES, OptionReply::err_policy},
                                                      {EBUSY, OptionReply::err_unknown},
                                                      {ESHUTDOWN, OptionReply::err_shutdown}};
  for (const auto& [error, type] : rows) {
    Server server;
    server.open_error = error;
    TAP_OK(server.feed(client_flags() + go("disk")) == Step::need_bytes, "goes on");
    const auto all = server.replies();
    TAP_OK(all.size() == 1 && all[0].type == type, "type");
    TAP_EQ(all[0].data, "cannot", "sentence");
    server.open_error = 0;
    TAP_OK(server.feed(go("disk")) == Step::transmission, "later it opens");
  }
}

TAP_TEST("flags of a read-only and of a rotational export") {
  Server server;
  server.read_only = server.rotational = true;
  server.feed(client_flags() + kStructured + go("disk"));
  const uint16_t flags = server.handshake.negotiated().transmission_flags;
  TAP_EQ(flags,
         kHasFlags | kReadOnly | kSendFlush | kSendFua | kRotational | kSendDf | kCanMultiConn | kSendCache,
         "no TRIM, WRITE_ZEROES or FAST_ZERO; DF with structured replies");
}

TAP_TEST("STRUCTURED_REPLY: ack once, data ERR_INVALID, again ERR_INVALID") {
  Server server;
  server.feed(client_flags() + option(Option::structured_reply, "x") + kStructured + kStructured);
  const auto all = server.replies();
  TAP_OK(all[0].type == OptionReply::err_invalid, "data");
  TAP_OK(all[1].type == OptionReply::ack, "ack");
  TAP_OK(all[2].type == OptionReply::err_invalid, "again");
  TAP_OK(server.handshake.negotiated().structured, "negotiated");
}

TAP_TEST(
    "EXTENDED_HEADERS: ack once, data ERR_INVALID, again ERR_INVALID, with structured replies or without") {
  for (const std::string& before : {std::string(), kStructured}) {
    Server server;
    server.feed(client_flags() + before + option(Option::extended_headers, "x") + kExtended + kExtended +
                go("disk"));
    const auto all = server.replies();
    const size_t first = before.empty() ? 0 : 1;
    TAP_OK(all[first].type == OptionReply::err_invalid, "data");
    TAP_OK(all[first + 1].type == OptionReply::ack, "ack");
    TAP_OK(all[first + 2].type == OptionReply::err_invalid, "again");
    TAP_OK(server.handshake.negotiated().extended, "negotiated");
    TAP_OK(server.handshake.negotiated().structured, "and replies come in chunks");
    TAP_OK(server.handshake.negotiated().transmission_flags & kSendDf, "so DF is offered");
  }
  Server refused;
  refused.feed(client_flags() + option(Option::extended_headers, "x") + go("disk"));
  TAP_OK(!refused.handshake.negotiated().extended, "one that was refused negotiates nothing");
}

TAP_TEST("after EXTENDED_HEADERS: STRUCTURED_REPLY is ERR_EXT_HEADER_REQD, EXPORT_NAME closes") {
  Server server;
  server.feed(client_flags() + kExtended + kStructured);
  const auto all = server.replies();
  TAP_OK(all.size() == 2 && all[1].type == OptionReply::err_ext_header_reqd, "refused");
  TAP_OK(!all[1].data.empty(), "with a sentence");
  TAP_OK(server.handshake.step() == Step::need_bytes, "and it goes on");
  TAP_OK(server.feed(option(Option::export_name, "disk")) == Step::close, "EXPORT_NAME");
  TAP_OK(server.opened_since.empty(), "nothing was opened");
}

TAP_TEST(
    "BLOCK_STATUS_PAYLOAD is offered with extended headers and contexts of the same export, by INFO and GO") {
  const std::string set = meta(Option::set_meta_context, "disk", {"base:allocation"});
  struct Row {
    const char* what;
    std::string options;
    bool offered;
  };
  const Row rows[] = {
      {"neither", "", false},
      {"contexts alone", kStructured + set, false},
      {"extended headers alone", kExtended, false},
      {"both", kExtended + set, true},
      {"both, the other way round", kStructured + set + kExtended, true},
      {"contexts of another name", kExtended + meta(Option::set_meta_context, "", {"base:allocation"}),
       false},
      {"contexts of which none is known", kExtended + meta(Option::set_meta_context, "disk", {"x-none:"}),
       false},
      {"contexts that were given up", kExtended + set + meta(Option::set_meta_context, "disk", {}), false}};
  for (const Row& row : rows) {
    Server server;
    server.feed(client_flags() + row.options + go("disk", {}, Option::info) + go("disk"));
    std::vector<uint16_t> flags;
    for (const OptionAnswer& answer : server.replies()) {
      if (answer.type == OptionReply::info) flags.push_back(load_be<uint16_t>(answer.data.data() + 10));
    }
    TAP_EQ(flags.size(), 2u, "INFO and GO");
    for (const uint16_t one : flags) TAP_EQ((one & kBlockStatusPayload) != 0, row.offered, row.what);
    TAP_EQ(server.handshake.negotiated().transmission_flags, flags.back(), "as told");
  }
}

TAP_TEST("LIST_META_CONTEXT: all, wildcards, exact names, unknown namespaces ignored, id 0") {
  struct Row {
    std::vector<std::string> queries;
    std::vector<std::string> names;
  };
  const std::string a = "base:allocation", d = "qemu:allocation-depth", m = "qemu:dirty-bitmap:mon",
                    t = "qemu:dirty-bitmap:tue";
  const std::vector<Row> rows{{{}, {a, d, m, t}},
                              {{"base:"}, {a}},
                              {{"qemu:"}, {d, m, t}},
                              {{"qemu:dirty-bitmap:"}, {m, t}},
                              {{t, a, a}, {a, t}},
                              {{"x-none:", "nocolon", "", "base:other", "qemu:dirty-bitmap:wed"}, {}},
                              {{"qemu:", m, "base:"}, {a, d, m, t}}};
  for (const Row& row : rows) {
    Server server;
    server.feed(client_flags() + kStructured + meta(Option::list_meta_context, "disk", row.queries));
    const auto all = server.replies();
    TAP_EQ(all.size(), row.names.size() + 2, "as many as match");
    for (size_t i = 0; i < row.names.size() && i + 2 < all.size(); i++) {
      TAP_OK(all[i + 1].type == OptionReply::meta_context, "type");
      TAP_EQ(all[i + 1].data, be<uint32_t>(0) + row.names[i], "name");
    }
    TAP_OK(all.back().type == OptionReply::ack, "ack");
  }
}

TAP_TEST("SET_META_CONTEXT selects exact names only, with ids of their own") {
  Server server;
  server.feed(client_flags() + kStructured +
              meta(Option::set_meta_context, "disk",
                   {"base:", "qemu:", "qemu:dirty-bitmap:tue", "base:allocation", "base:allocation", "x:y"}) +
              go("disk"));
  const auto all = server.replies();
  TAP_EQ(all.size(), 6u, "structured, two contexts, ack, export, ack");
  TAP_EQ(all[1].data, be<uint32_t>(1) + "base:allocation", "first");
  TAP_EQ(all[2].data, be<uint32_t>(2) + "qemu:dirty-bitmap:tue", "second");
  const auto& contexts = server.handshake.negotiated().contexts;
  TAP_EQ(contexts.size(), 2u, "negotiated");
  TAP_OK(contexts[1].kind == MetaKind::changed && contexts[1].snapshot == "tue" && contexts[1].id == 2,
         "the bitmap");
  TAP_EQ(server.opened_since.size(), 1u, "the directory is told");
  TAP_EQ(server.opened_since[0], "tue", "which");
}

TAP_TEST("SET_META_CONTEXT without structured replies: ERR_INVALID; extended headers are enough") {
  const std::string set = meta(Option::set_meta_context, "disk", {"base:allocation"});
  TAP_OK(only_reply(set) == OptionReply::err_invalid, "refused");
  Server server;
  server.feed(client_flags() + kExtended + set + go("disk"));
  TAP_EQ(server.handshake.negotiated().contexts.size(), 1u, "negotiated");
}

TAP_TEST("a SET_META_CONTEXT replaces the former set, also when it fails") {
  const std::string set = meta(Option::set_meta_context, "disk", {"base:allocation"});
  const std::vector<std::string> seconds{meta(Option::set_meta_context, "disk", {}),
                                         meta(Option::set_meta_context, "nothing", {"base:allocation"}),
                                         option(Option::set_meta_context, "broken"),
                                         option(Option::set_meta_context, std::string(300 << 10, 'x'))};
  for (const std::string& second : seconds) {
    Server server;
    server.feed(client_flags() + kStructured + set + second + go("disk"));
    TAP_OK(server.handshake.step() == Step::transmission, "goes on");
    TAP_EQ(server.handshake.negotiated().contexts.size(), 0u, "none is left");
  }
  Server listing;
  listing.feed(client_flags() + kStructured + set + meta(Option::list_meta_context, "disk", {}) + go("disk"));
  TAP_EQ(listing.handshake.negotiated().contexts.size(), 1u, "LIST leaves them alone");
}

TAP_TEST("contexts count for the same export name only") {
  Server server;
  server.feed(client_flags() + kStructured +
              meta(Option::set_meta_context, "disk", {"base:allocation", "qemu:dirty-bitmap:mon"}) + go(""));
  TAP_OK(server.handshake.step() == Step::transmission, "transmission");
  TAP_EQ(server.handshake.negotiated().contexts.size(), 0u, "none for another name");
  TAP_EQ(server.opened_since.size(), 0u, "nor is the directory asked");
}

TAP_TEST("META_CONTEXT: malformed data is ERR_INVALID, an unknown export ERR_UNKNOWN") {
  for (Option o : {Option::list_meta_context, Option::set_meta_context}) {
    const auto reply = [&](const std::string& data) {
      Server server;
      server.feed(client_flags() + kStructured + option(o, data));
      return server.replies().back().type;
    };
    TAP_OK(reply("") == OptionReply::err_invalid, "empty");
    TAP_OK(reply(sized("disk")) == OptionReply::err_invalid, "no count");
    TAP_OK(reply(sized("disk") + be<uint32_t>(1)) == OptionReply::err_invalid, "a query is missing");
    TAP_OK(reply(sized("disk") + be<uint32_t>(0xffffffff)) == OptionReply::err_invalid,
           "four thousand million missing");
    TAP_OK(reply(sized("disk") + be<uint32_t>(1) + be<uint32_t>(99) + "base:") == OptionReply::err_invalid,
           "query too long");
    TAP_OK(reply(sized("disk") + be<uint32_t>(0) + "x") == OptionReply::err_invalid, "a byte too many");
    TAP_OK(reply(sized("no") + be<uint32_t>(0)) == OptionReply::err_unknown, "unknown export");
  }
}

TAP_TEST("in shutdown every option but ABORT is answered ERR_SHUTDOWN") {
  Server server;
  server.handshake.shut_down();
  server.feed(client_flags() + go("disk") + option(Option::list) + option(Option::abort));
  const auto all = server.replies();
  TAP_OK(all[0].type == OptionReply::err_shutdown && all[1].type == OptionReply::err_shutdown, "refused");
  TAP_OK(all[2].type == OptionReply::ack, "ABORT is acknowledged");
  Server old;
  old.handshake.shut_down();
  TAP_OK(old.feed(client_flags() + option(Option::export_name, "disk")) == Step::close, "EXPORT_NAME closes");
}

TAP_TEST("a connection over the limit is told so") {
  Server server(HandshakeOptions{.refusal = "too many connections", .only = {}});
  server.feed(client_flags() + go("disk"));
  const auto all = server.replies();
  TAP_OK(all.size() == 1 && all[0].type == OptionReply::err_policy, "ERR_POLICY");
  TAP_EQ(all[0].data, "too many connections", "the sentence");
}

TAP_TEST(
    "an export that is there but not for this client is refused with ERR_POLICY, and EXPORT_NAME closes") {
  DescribedExport mine;
  mine.error = EACCES;
  mine.refusal = "not for you";
  for (const std::string& bytes :
       {go("disk"), go("disk", {}, Option::info), meta(Option::list_meta_context, "disk", {}),
        kStructured + meta(Option::set_meta_context, "disk", {"base:allocation"})}) {
    Server server;
    server.feed(client_flags());
    server.handshake.feed(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size());
    if (server.handshake.step() == Step::need_bytes) {
      server.handshake.feed(reinterpret_cast<const std::byte*>(bytes.data()) + kStructured.size(),
                            bytes.size() - kStructured.size());
    }
    TAP_OK(server.handshake.step() == Step::describe, "asks");
    server.handshake.described(mine);
    server.drain();
    const OptionAnswer end = server.replies().back();
    TAP_OK(end.type == OptionReply::err_policy, "ERR_POLICY");
    TAP_EQ(end.data, "not for you", "the sentence");
    TAP_OK(server.handshake.step() == Step::need_bytes, "and it goes on");
  }
  Server old;
  const std::string bytes = option(Option::export_name, "disk");
  old.feed(client_flags());
  old.handshake.feed(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size());
  old.handshake.described(mine);
  TAP_OK(old.handshake.step() == Step::close, "EXPORT_NAME closes");
}

TAP_TEST("a client that may have one export only: that is the default, and all there is") {
  const HandshakeOptions one{.refusal = {}, .only = "disk"};
  Server lists(one);
  lists.feed(client_flags() + option(Option::list));
  const auto listed = lists.replies();
  TAP_EQ(listed.size(), 2u, "one export and ACK");
  TAP_EQ(listed[0].data, sized("disk") + "a disk", "the one");
  for (const char* name : {"disk", ""}) {
    Server server(one);
    TAP_OK(server.feed(client_flags() + go(name)) == Step::transmission, "GO");
    TAP_EQ(server.handshake.negotiated().name, "disk", "its name");
    Server old(one);
    TAP_OK(old.feed(client_flags() + option(Option::export_name, name)) == Step::transmission, "EXPORT_NAME");
  }
  Server contexts(one);
  contexts.feed(client_flags() + kStructured + meta(Option::set_meta_context, "", {"qemu:dirty-bitmap:mon"}) +
                go("disk"));
  TAP_EQ(contexts.opened_since.size(), 1u, "the empty name and its own are the same one");
  for (const std::string& bytes :
       {go("other"), go("other", {}, Option::info), meta(Option::list_meta_context, "other", {})}) {
    Server server(one);
    server.feed(client_flags() + bytes);
    const OptionAnswer end = server.replies().back();
    TAP_OK(end.type == OptionReply::err_unknown, "another one is unknown");
    TAP_EQ(end.data, "only the export 'disk' is served here", "and why");
  }
  Server old(one);
  TAP_OK(old.feed(client_flags() + option(Option::export_name, "other")) == Step::close,
         "EXPORT_NAME closes");
}

TAP_TEST("no byte is taken while a question is open") {
  Server server;
  const std::string bytes = client_flags() + option(Option::list) + go("disk");
  const size_t taken = server.handshake.feed(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size());
  TAP_EQ(taken, 4u + 16, "up to the end of LIST");
  TAP_OK(server.handshake.step() == Step::list, "asks");
  TAP_EQ(server.handshake.feed(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()), 0u,
         "takes nothing");
}

TAP_TEST("the outcome does not depend on how the bytes are cut") {
  const std::string bytes = client_flags() + option(Option::list) + option(Option::starttls) + kStructured +
                            option(static_cast<Option>(77), "abcdef") + go("no", {Info::name}, Option::info) +
                            go("disk", {Info::name, Info::block_size}, Option::info) +
                            meta(Option::list_meta_context, "disk", {}) +
                            meta(Option::set_meta_context, "disk", {"base:allocation", "qemu:"}) +
                            option(Option::list, "data") + go("disk", {Info::description}) + "request";
  Server whole;
  whole.feed(bytes);
  TAP_OK(whole.handshake.step() == Step::transmission, "it ends in transmission");
  for (size_t cut = 0; cut <= bytes.size(); cut++) {
    Server server;
    server.feed(bytes.substr(0, cut));
    if (server.handshake.step() == Step::need_bytes) server.feed(std::string_view(bytes).substr(cut));
    if (server.sent != whole.sent) TAP_OK(false, "cut at " + std::to_string(cut));
  }
  Server bytewise;
  bytewise.feed(bytes, 1);
  TAP_OK(bytewise.sent == whole.sent && bytewise.left == 7, "byte by byte");
}

TAP_TEST("random bytes never do more than end the handshake") {
  Random random;
  const std::vector<Option> options{Option::export_name,
                                    Option::list,
                                    Option::info,
                                    Option::go,
                                    Option::structured_reply,
                                    Option::list_meta_context,
                                    Option::set_meta_context,
                                    Option::starttls,
                                    Option::extended_headers,
                                    static_cast<Option>(12345)};
  size_t transmissions = 0;
  for (int i = 0; i < 3000; i++) {
    Server server;
    std::string bytes = client_flags(static_cast<uint32_t>(random.below(4)));
    const uint64_t count = random.below(8);
    for (uint64_t k = 0; k < count; k++) {
      std::string data;
      switch (random.below(3)) {
        case 0:
          data = std::string(random.below(40), static_cast<char>(random.below(256)));
          break;
        case 1:
          data = sized(random.chance(70) ? "disk" : "x") + be(static_cast<uint16_t>(random.below(3))) +
                 std::string(random.below(6), '\0');
          break;
        default:
          data = sized("disk") + be(static_cast<uint32_t>(random.below(3))) + sized("base:allocation");
          break;
      }
      bytes += option(options[random.below(options.size())], data);
      if (random.chance(10)) bytes[random.below(bytes.size())] = static_cast<char>(random.next());
    }
    server.feed(bytes, 1 + random.below(50));
    if (server.handshake.step() == Step::transmission) transmissions++;
    if (!server.sent.starts_with(be(kInitMagic))) TAP_OK(false, "greeting is there");
  }
  TAP_OK(transmissions > 0, "some of them are good");
}

namespace {

const std::string kStartTls = option(Option::starttls);

Server tls_server(TlsPolicy policy) {
  HandshakeOptions options;
  options.tls = policy;
  return Server(options);
}

template <typename... Types>
bool answered(const Server& server, Types... types) {
  std::vector<OptionReply> got;
  for (const OptionAnswer& answer : server.replies()) got.push_back(answer.type);
  return got == std::vector<OptionReply>{types...};
}

}  // namespace

TAP_TEST("STARTTLS: with data ERR_INVALID, else ACK and nothing behind it is taken; in TLS ERR_INVALID") {
  for (const TlsPolicy policy : {TlsPolicy::offered, TlsPolicy::required}) {
    Server server = tls_server(policy);
    TAP_OK(server.feed(client_flags() + option(Option::starttls, "data")) == Step::need_bytes, "goes on");
    TAP_OK(server.feed(kStartTls + kStructured) == Step::start_tls, "TLS is asked for");
    TAP_EQ(server.left, kStructured.size(), "what comes behind is not looked at");
    TAP_OK(answered(server, OptionReply::err_invalid, OptionReply::ack), "answers");
    server.handshake.tls_started();
    server.sent.resize(18);
    TAP_OK(server.feed(kStartTls + option(Option::starttls, "data") + kStructured) == Step::need_bytes, "on");
    TAP_OK(answered(server, OptionReply::err_invalid, OptionReply::err_invalid, OptionReply::ack),
           "a second one is invalid");
    TAP_OK(server.feed(option(Option::export_name, "disk")) == Step::transmission,
           "client flags still count");
    TAP_OK(server.handshake.negotiated().structured, "what was negotiated in TLS counts");
  }
}

TAP_TEST("what was negotiated before STARTTLS is forgotten") {
  Server server = tls_server(TlsPolicy::offered);
  server.feed(client_flags() + kStructured + meta(Option::set_meta_context, "disk", {"base:allocation"}) +
              go("disk", {Info::name}, Option::info) + kStartTls);
  TAP_OK(server.handshake.step() == Step::start_tls, "TLS");
  server.handshake.tls_started();
  server.sent.resize(18);
  server.feed(meta(Option::set_meta_context, "disk", {"base:allocation"}));
  TAP_OK(answered(server, OptionReply::err_invalid), "structured replies are not negotiated");
  TAP_OK(server.feed(go("disk")) == Step::transmission, "transmission");
  TAP_OK(!server.handshake.negotiated().structured && server.handshake.negotiated().contexts.empty(),
         "nothing");
}

TAP_TEST("FORCED: everything but ABORT and STARTTLS is answered ERR_TLS_REQD, EXPORT_NAME closes") {
  for (const Option o :
       {Option::list, Option::structured_reply, Option::info, Option::go, Option::peek_export,
        Option::list_meta_context, Option::set_meta_context, static_cast<Option>(4711)}) {
    Server server = tls_server(TlsPolicy::required);
    TAP_OK(server.feed(client_flags() + option(o, "data") + kStartTls) == Step::start_tls, "goes on");
    TAP_OK(answered(server, OptionReply::err_tls_reqd, OptionReply::ack), "required");
    TAP_OK(!server.replies()[0].data.empty(), "with a sentence");
  }
  Server name = tls_server(TlsPolicy::required);
  TAP_OK(name.feed(client_flags() + option(Option::export_name, "disk")) == Step::close, "EXPORT_NAME");
  Server abort = tls_server(TlsPolicy::required);
  TAP_OK(abort.feed(client_flags() + option(Option::abort)) == Step::close, "ABORT");
  TAP_OK(answered(abort, OptionReply::ack), "is acknowledged");
  Server secure = tls_server(TlsPolicy::required);
  secure.feed(client_flags() + kStartTls);
  secure.handshake.tls_started();
  TAP_OK(secure.feed(go("disk")) == Step::transmission, "in TLS everything goes");
}

TAP_TEST("SELECTIVE: an export for TLS only is ERR_TLS_REQD to INFO and GO in clear, unknown to the others") {
  for (const Option o : {Option::info, Option::go}) {
    Server server = tls_server(TlsPolicy::offered);
    server.feed(client_flags() + go("secret", {}, o));
    TAP_OK(answered(server, OptionReply::err_tls_reqd), "required");
  }
  for (const Option o : {Option::list_meta_context, Option::set_meta_context}) {
    Server server = tls_server(TlsPolicy::offered);
    server.feed(client_flags() + kStructured + meta(o, "secret", {"base:allocation"}));
    TAP_OK(answered(server, OptionReply::ack, OptionReply::err_unknown), "unknown");
  }
  Server name = tls_server(TlsPolicy::offered);
  TAP_OK(name.feed(client_flags() + option(Option::export_name, "secret")) == Step::close, "EXPORT_NAME");
  Server opened = tls_server(TlsPolicy::offered);
  opened.open_error = ENOKEY;
  opened.feed(client_flags() + go("disk"));
  TAP_OK(answered(opened, OptionReply::err_tls_reqd), "also when it is known at the open only");
  Server other = tls_server(TlsPolicy::offered);
  TAP_OK(other.feed(client_flags() + go("disk")) == Step::transmission, "another export");
}

TAP_TEST("to a client without FIXED_NEWSTYLE it is a server without TLS, and what needs TLS is not for it") {
  const std::string others = option(Option::list) + go("disk") + option(static_cast<Option>(4711));
  Server forced = tls_server(TlsPolicy::required);
  TAP_OK(forced.feed(client_flags(0) + kStartTls + others) == Step::need_bytes, "goes on, in clear");
  constexpr auto policy = OptionReply::err_policy;
  TAP_OK(answered(forced, policy, policy, policy, policy), "refused");
  for (const OptionAnswer& answer : forced.replies()) TAP_OK(!answer.data.empty(), "with a sentence");
  Server closing = tls_server(TlsPolicy::required);
  TAP_OK(closing.feed(client_flags(0) + option(Option::export_name, "disk")) == Step::close, "EXPORT_NAME");

  for (const Option o : {Option::info, Option::go}) {
    Server server = tls_server(TlsPolicy::offered);
    TAP_OK(server.feed(client_flags(0) + kStartTls + go("secret", {}, o)) == Step::need_bytes, "goes on");
    TAP_OK(answered(server, policy, policy), "refused, without a word of ERR_TLS_REQD");
  }
  Server opened = tls_server(TlsPolicy::offered);
  opened.open_error = ENOKEY;
  opened.feed(client_flags(0) + go("disk"));
  TAP_OK(answered(opened, policy), "also when it is known at the open only");
  Server open = tls_server(TlsPolicy::offered);
  TAP_OK(open.feed(client_flags(0) + option(Option::export_name, "disk")) == Step::transmission,
         "what is open");
}

int main() { return cellblock::test::run(); }
