// STARTTLS and what follows it through reactors and connections: a whole client in TLS, and those who would
// like to get something into it.
#include <algorithm>
#include <memory>

#include "test/tls_peer.h"
#include "test/wire_client.h"

using namespace cellblock;
using namespace cellblock::test;
using C = nbd::CommandType;

namespace {

struct SecureHost : Host {
  explicit SecureHost(nbd::TlsPolicy policy, plane::WireOptions options = {}, unsigned reactors = 1)
      : Host(options, reactors), ca("tests' CA") {
    const Certificate own = ca.issue({.name = "localhost"});
    tls::ContextOptions with;
    with.certificate = own.pem;
    with.key = own.key;
    with.client_ca = ca.pem();
    with.clients = tls::ClientCertificates::optional;
    with.keys = "alice:000102030405060708090a0b0c0d0e0f\n";
    std::string sentence;
    wire.set_tls({policy, tls::Context::make(with, sentence)});
  }

  TlsPeerOptions known() const { return {.ca = ca.pem(), .certificate = ca.issue({.name = "web-1"})}; }
  bool logged(std::string_view what) const {
    return std::any_of(log.begin(), log.end(),
                       [&](const std::string& line) { return line.find(what) != std::string::npos; });
  }

  Authority ca;
};

}  // namespace

TAP_TEST("a client in TLS: handshake, reads, writes, and the directory knows who it is") {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    SecureHost host(nbd::TlsPolicy::required);
    Client client(host);
    TlsPeerOptions options = host.known();
    options.version = version;
    TAP_NEED(client.begin_tls(options), "TLS");
    client.enter();
    TAP_EQ(host.directory.last_peer.identity, "x509:web-1", "identity");
    TAP_OK(host.directory.last_peer.tls, "in TLS");
    const std::string data = pattern(300'000, 7);
    TAP_EQ(client.ask(request(C::write, 1, 4096, 300'000) + data).error, 0u, "written");
    TAP_OK(on_disk(host.disk, 4096, data.size()) == data, "as it was sent");
    TAP_OK(client.ask(request(C::read, 2, 4096, 300'000)).data == data, "read back");
    client.talk(request(C::disc, 3, 0, 0));
    TAP_OK(client.ended, "closed");
    TAP_OK(client.tls().ended(), "with a farewell");
    TAP_EQ(host.wire.tls_begun.load(), 1u, "counted");
    TAP_EQ(host.wire.connections.load(), 0u, "none is left");
    TAP_EQ(host.wire.budget.used(), 0, "nothing is charged");
  }
}

TAP_TEST("clients by key are known by its name, those who show nothing by none") {
  SecureHost host(nbd::TlsPolicy::offered);
  std::string key;
  for (char c = 0; c < 16; c++) key.push_back(c);
  Client alice(host);
  TAP_NEED(alice.begin_tls({.psk_name = "alice", .psk_key = key}), "TLS");
  alice.enter();
  TAP_EQ(host.directory.last_peer.identity, "psk:alice", "by key");
  Client nobody(host);
  TAP_NEED(nobody.begin_tls({}), "TLS");
  nobody.enter();
  TAP_EQ(host.directory.last_peer.identity, "", "by none");
  TAP_OK(host.directory.last_peer.tls, "in TLS");
  Client clear(host);
  clear.enter();
  TAP_OK(!host.directory.last_peer.tls, "in clear");
  Client wrong(host);
  TAP_OK(!wrong.begin_tls({.psk_name = "alice", .psk_key = std::string(16, 'x')}), "another key");
  TAP_OK(wrong.ended && host.logged("TLS could not be begun"), "is sent away, and that is told");
  TAP_EQ(host.wire.tls_failed.load(), 1u, "and counted");
}

TAP_TEST("bytes in clear behind STARTTLS close the connection, however they come") {
  const std::string start = client_flags() + option(nbd::Option::starttls);
  {
    SecureHost host(nbd::TlsPolicy::offered);
    Client client(host);
    client.talk(start + go("disk"));
    TAP_OK(client.ended, "in one packet");
    TAP_OK(host.logged("in clear came behind STARTTLS"), "told");
    TAP_EQ(host.directory.leases_open, 0u, "nothing was opened");
  }
  {
    // A first message of TLS that does not wait for the answer is such bytes, too: nobody can tell who sent
    // it.
    SecureHost host(nbd::TlsPolicy::offered);
    TlsPeer peer({});
    Client client(host);
    client.talk(start + peer.output());
    TAP_OK(client.ended, "TLS without waiting");
  }
  SecureHost host(nbd::TlsPolicy::offered);
  Client client(host);
  client.talk(start);
  client.talk(go("disk"));
  TAP_OK(client.ended, "later, instead of TLS");
  TAP_EQ(host.directory.leases_open, 0u, "nothing was opened");
}

TAP_TEST("requests that came in one packet and more than is received at once are all answered") {
  SecureHost host(nbd::TlsPolicy::required);
  Client client(host);
  TAP_NEED(client.begin_tls({}), "TLS");
  client.enter(false);
  std::string bytes;
  for (uint64_t i = 0; i < 3000; i++) bytes += request(C::write, i, i * 512, 512) + pattern(512, i);
  client.talk(bytes);
  TAP_EQ(client.replies().size(), 3000u, "writes");
  bytes.clear();
  for (uint64_t i = 0; i < 3000; i++) bytes += request(C::read, i, i * 512, 512);
  client.talk(bytes);
  const auto replies = client.replies(512);
  TAP_EQ(replies.size(), 3000u, "reads");
  bool right = true;
  for (const Reply& reply : replies) right &= reply.data == pattern(512, reply.cookie);
  TAP_OK(right, "with their data");
  // The handshake's end, options and requests: the client does not wait for anything.
  Client eager(host);
  TAP_NEED(eager.begin_tls({}), "TLS");
  bytes = go("disk");
  for (uint64_t i = 0; i < 100; i++) bytes += request(C::read, i, 0, 512);
  eager.talk(bytes);
  TAP_EQ(eager.got.size(), 20 + 12 + 20 + 100 * (16 + 512u), "all of it");
}

TAP_TEST("a connection in TLS moves to its device's reactor") {
  SecureHost host(nbd::TlsPolicy::required, {}, 2);
  FakeDevice far(1 << 20, 1);
  host.directory.table["far"] = {&far, "", false, {}, 0};
  Client client(host);
  TAP_NEED(client.begin_tls(host.known()), "TLS");
  client.talk(go("far") + request(C::read, 1, 0, 100'000));
  TAP_EQ(client.got.size(), 20 + 12 + 20 + 16 + 100'000u, "answered over there");
  client.close();
  for (int i = 0; i < 4; i++) host.turn();
  TAP_EQ(host.wire.connections.load(), 0u, "and gone");
}

TAP_TEST("a client in TLS that does not read costs no more than one in clear, and gets all in the end") {
  SecureHost host(nbd::TlsPolicy::required);
  Client client(host);
  TAP_NEED(client.begin_tls({}), "TLS");
  client.enter(false);
  client.reads = false;
  const size_t wanted = 64 * (16 + (1 << 20));
  std::string bytes;
  for (uint64_t i = 0; i < 64; i++) bytes += request(C::read, i, 0, 1 << 20);
  client.talk(bytes);
  const uint64_t limit = host.wire.options.bytes_per_connection + (2 << 20);
  TAP_OK(static_cast<uint64_t>(host.wire.budget.used()) <= limit, "charged at most what one may take");
  client.reads = true;
  client.pump();
  TAP_EQ(client.got.size(), wanted, "everything");
  TAP_EQ(host.wire.budget.used(), 0, "nothing is charged any more");
}

TAP_TEST("the deadline of the handshake counts for TLS as well") {
  plane::WireOptions options;
  options.handshake_timeout_ms = 1;
  SecureHost host(nbd::TlsPolicy::required, options);
  Client client(host);
  client.talk(client_flags() + option(nbd::Option::starttls));
  while (!client.ended) {
    host.reactor().loop().run_once(50);
    client.take();
  }
  TAP_OK(host.logged("did not finish in time"), "told");
}

TAP_TEST("at a stop: in TLS what has come is answered, in its handshake it ends") {
  SecureHost host(nbd::TlsPolicy::required);
  Client served(host);
  TAP_NEED(served.begin_tls({}), "TLS");
  served.enter(false);
  Client midway(host);
  midway.talk(client_flags() + option(nbd::Option::starttls));
  host.disk.wait = true;
  served.talk(request(C::read, 1, 0, 4096));
  bool stopped = false;
  host.reactor().stop_serving(60'000, [&](size_t) { stopped = true; });
  host.disk.complete();
  served.pump();
  TAP_EQ(served.got.size(), 16 + 4096u, "answered");
  TAP_OK(served.tls().ended(), "with a farewell");
  served.close();
  served.pump();
  midway.pump();
  TAP_OK(midway.ended, "the other one");
  TAP_OK(stopped, "stopped");
}

TAP_TEST("another set is for connections that begin then") {
  SecureHost host(nbd::TlsPolicy::required);
  Client before(host);
  TAP_NEED(before.begin_tls(host.known()), "TLS");
  before.enter(false);
  const Authority other("another CA");
  const Certificate own = other.issue({.name = "localhost"});
  tls::ContextOptions with;
  with.certificate = own.pem;
  with.key = own.key;
  std::string sentence;
  host.wire.set_tls({nbd::TlsPolicy::required, tls::Context::make(with, sentence)});
  TAP_EQ(before.ask(request(C::read, 1, 0, 4096), 4096).data.size(), 4096u, "the old one goes on");
  Client old_fashioned(host);
  TAP_OK(!old_fashioned.begin_tls(host.known()), "the old CA does not know the new certificate");
  Client after(host);
  TAP_OK(after.begin_tls({.ca = other.pem()}), "the new one does");
}

TAP_TEST("a connection that breaks TLS ends, the others go on") {
  SecureHost host(nbd::TlsPolicy::required);
  Client good(host), bad(host);
  TAP_NEED(good.begin_tls({}) && bad.begin_tls({}), "TLS");
  good.enter(false);
  bad.enter(false);
  bad.send_raw(pattern(1000, 3));
  bad.pump();
  TAP_OK(bad.ended && host.logged("breaks TLS"), "ends, and that is told");
  TAP_EQ(good.ask(request(C::flush, 1, 0, 0)).error, 0u, "the other one");
  TAP_EQ(host.directory.leases_open, 1u, "one lease");
}

int main() { return cellblock::test::run(); }
