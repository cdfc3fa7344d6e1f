// TLS over a socket pair whose other end the test holds: what arrives when is the test's to say.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "test/tap.h"
#include "test/tls_peer.h"
#include "tls/session.h"

using namespace cellblock;
using namespace cellblock::test;
using tls::ClientCertificates;
using tls::Progress;

namespace {

const Authority& authority() {
  static const Authority only("tests' CA");
  return only;
}

const Certificate& server_certificate() {
  static const Certificate only = authority().issue({.name = "localhost"});
  return only;
}

constexpr const char* kKeys = "alice:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

std::string alices_key() {
  std::string key;
  for (char c = 0; c < 32; c++) key.push_back(c);
  return key;
}

tls::ContextOptions with_certificate(ClientCertificates clients = ClientCertificates::none) {
  tls::ContextOptions options;
  options.certificate = server_certificate().pem;
  options.key = server_certificate().key;
  options.client_ca = authority().pem();
  options.clients = clients;
  return options;
}

tls::ContextOptions with_keys() {
  tls::ContextOptions options;
  options.keys = kKeys;
  return options;
}

// A session, and its client at the other end of the socket.
struct Pair {
  explicit Pair(const tls::ContextOptions& options, const TlsPeerOptions& peer = {}) : client(peer) {
    std::string sentence;
    const auto context = tls::Context::make(options, sentence);
    if (!context || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0) {
      std::printf("# %s\n", sentence.c_str());
      std::abort();
    }
    session = std::make_unique<tls::Session>(context, ends[0]);
  }
  ~Pair() {
    session.reset();
    close(ends[0]);
    hang_up();
  }

  void hang_up() {
    if (ends[1] >= 0) close(ends[1]);
    ends[1] = -1;
  }

  void put(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = send(ends[1], bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
  }

  // The handshake as the end of the client finds it: the bytes before it are read first.
  Progress end_handshake() {
    hang_up();
    const Progress progress = session->shake_hands();
    return progress == Progress::again ? session->shake_hands() : progress;
  }

  // What the server sent, not given to the client yet.
  std::string get(size_t most = SIZE_MAX) {
    std::string all;
    char buffer[65536];
    while (all.size() < most) {
      const ssize_t n = recv(ends[1], buffer, std::min(sizeof buffer, most - all.size()), 0);
      if (n <= 0) break;
      all.append(buffer, static_cast<size_t>(n));
    }
    return all;
  }

  // One way and back; `piece`: bytes that arrive at a time.
  Progress step(size_t piece = SIZE_MAX) {
    Progress progress = Progress::again;
    const std::string bytes = client.output();
    for (size_t at = 0; at < bytes.size() && progress == Progress::again; at += piece) {
      put(std::string_view(bytes).substr(at, piece));
      progress = session->shake_hands();
      if (piece == SIZE_MAX) break;
    }
    client.feed(get());
    return progress;
  }

  Progress shake_hands(size_t piece = SIZE_MAX) {
    for (int i = 0; i < 8; i++) {
      const Progress progress = step(piece);
      if (progress != Progress::again) return progress;
    }
    return Progress::again;
  }

  // Everything there is, in calls of at most `room` bytes; the last result in `end`.
  std::string receive(size_t room = 65536) {
    std::string all;
    std::string buffer(room, '\0');
    const iovec to{buffer.data(), room};
    while ((end = session->receive(&to, 1)) > 0) all.append(buffer, 0, static_cast<size_t>(end));
    return all;
  }

  ssize_t send_plain(std::string_view bytes) {
    const iovec from{const_cast<char*>(bytes.data()), bytes.size()};
    return session->send(&from, 1);
  }

  int ends[2] = {-1, -1};
  TlsPeer client;
  std::unique_ptr<tls::Session> session;
  ssize_t end = 0;
};

std::string noise(size_t bytes) {
  Random random;
  std::string text(bytes, '\0');
  for (char& c : text) c = static_cast<char>(random.next());
  return text;
}

void talks(Pair& pair, const std::string& what) {
  pair.client.write("a question");
  pair.put(pair.client.output());
  TAP_EQ(pair.receive(), "a question", what + ": to the server");
  TAP_EQ(pair.end, -EAGAIN, what + ": nothing more");
  TAP_EQ(pair.send_plain("an answer"), 9, what + ": taken");
  pair.client.feed(pair.get());
  TAP_EQ(pair.client.take_plain(), "an answer", what + ": to the client");
}

bool says(const std::string& sentence, std::string_view what) {
  return check(sentence.find(what) != std::string::npos, std::string(what), __FILE__, __LINE__, sentence);
}

std::string refusal(const tls::ContextOptions& options, const TlsPeerOptions& peer = {}) {
  Pair pair(options, peer);
  TAP_OK(pair.shake_hands() == Progress::failed, "refused");
  TAP_OK(pair.session->identity().empty(), "nobody is known");
  TAP_OK(pair.session->shake_hands() == Progress::failed, "for good");
  TAP_EQ(pair.receive(), "", "nothing is received");
  TAP_EQ(pair.end, -EPROTO, "but the error");
  return pair.session->error();
}

constexpr int kVersions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

}  // namespace

TAP_TEST("both versions, by certificate and by key: both ways") {
  for (const int version : kVersions) {
    const std::string name = version == TLS1_3_VERSION ? "TLSv1.3 " : "TLSv1.2 ";
    Pair plain(with_certificate(), {.version = version, .ca = authority().pem()});
    TAP_OK(plain.shake_hands() == Progress::done, name + plain.session->error());
    TAP_EQ(plain.session->identity(), "", "an unknown client");
    says(plain.session->parameters(), name);
    talks(plain, name);

    Pair known(with_keys(), {.version = version, .psk_name = "alice", .psk_key = alices_key()});
    TAP_OK(known.shake_hands() == Progress::done, name + known.session->error());
    TAP_EQ(known.session->identity(), "psk:alice", "known by the key");
    talks(known, name + "by key");
  }
}

TAP_TEST("TLS 1.1 is refused, and so are keys without forward secrecy and CBC") {
  says(refusal(with_certificate(), {.version = TLS1_1_VERSION, .ciphers = "ALL:@SECLEVEL=0"}), "1.2");
  const char* weak = "AES128-SHA:AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES128-SHA256";
  refusal(with_certificate(), {.version = TLS1_2_VERSION, .ciphers = weak});
  const char* weak_psk = "PSK-AES128-GCM-SHA256:PSK-AES128-CBC-SHA256:ECDHE-PSK-AES128-CBC-SHA256";
  refusal(with_keys(),
          {.version = TLS1_2_VERSION, .psk_name = "alice", .psk_key = alices_key(), .ciphers = weak_psk});
}

TAP_TEST("every byte in a packet of its own") {
  for (const int version : kVersions) {
    Pair pair(with_certificate(ClientCertificates::required),
              {.version = version, .certificate = authority().issue({.name = "client"})});
    TAP_OK(pair.shake_hands(1) == Progress::done, pair.session->error());
    TAP_EQ(pair.session->identity(), "x509:client", "known");
    const std::string text = noise(40000);
    pair.client.write(text);
    std::string got;
    const std::string bytes = pair.client.output();
    for (const char byte : bytes) {
      pair.put({&byte, 1});
      got += pair.receive(1000);
    }
    TAP_OK(got == text, "all of it, in order");
  }
}

TAP_TEST("the client goes away after any number of bytes: an end, no harm") {
  size_t bytes = 0;
  {
    Pair whole(with_certificate());
    bytes = whole.client.output().size();
  }
  for (size_t cut = 0; cut < bytes; cut++) {
    Pair pair(with_certificate());
    pair.put(pair.client.output().substr(0, cut));
    if (pair.end_handshake() != Progress::failed) TAP_OK(false, "cut after " + std::to_string(cut));
    if (!says(pair.session->error(), "closed")) break;
  }
  // In its second flight, and in data.
  Pair second(with_certificate());
  second.step();
  second.put(second.client.output().substr(0, 20));
  TAP_OK(second.end_handshake() == Progress::failed, "second flight");
  Pair data(with_certificate());
  TAP_NEED(data.shake_hands() == Progress::done, "begun");
  data.client.write("whole");
  data.put(data.client.output());
  data.client.write("cut");
  data.put(data.client.output().substr(0, 10));
  data.hang_up();
  TAP_EQ(data.receive(), "whole", "what was whole");
  TAP_EQ(data.end, 0, "then the end");
}

TAP_TEST("clients' certificates: not asked for, optional, required") {
  const Certificate good = authority().issue({.name = "web-1"});
  for (const int version : kVersions) {
    Pair unasked(with_certificate(), {.version = version, .certificate = good});
    TAP_OK(unasked.shake_hands() == Progress::done && unasked.session->identity().empty(), "not asked for");
    Pair shown(with_certificate(ClientCertificates::optional), {.version = version, .certificate = good});
    TAP_OK(shown.shake_hands() == Progress::done, shown.session->error());
    TAP_EQ(shown.session->identity(), "x509:web-1", "optional and there");
    TAP_EQ(shown.session->subject(), "CN=web-1,O=tests", "in full");
    Pair without(with_certificate(ClientCertificates::optional), {.version = version});
    TAP_OK(without.shake_hands() == Progress::done && without.session->identity().empty(), "optional");
    says(refusal(with_certificate(ClientCertificates::required), {.version = version}), "one is required");

    const Authority other("somebody else's CA");
    const TlsPeerOptions stranger{.version = version, .certificate = other.issue({.name = "web-1"})};
    for (const auto clients : {ClientCertificates::optional, ClientCertificates::required})
      says(refusal(with_certificate(clients), stranger), "not accepted");
    const CertificateRequest old{.name = "web-1", .valid_from_s = -7200, .valid_to_s = -3600};
    says(refusal(with_certificate(ClientCertificates::required),
                 {.version = version, .certificate = authority().issue(old)}),
         "expired");
  }
}

TAP_TEST("the name in a certificate: common name, else an alternative one, else the subject") {
  const auto identity = [](const CertificateRequest& request) {
    Pair pair(with_certificate(ClientCertificates::required), {.certificate = authority().issue(request)});
    TAP_OK(pair.shake_hands() == Progress::done, pair.session->error());
    return pair.session->identity();
  };
  TAP_EQ(identity({.name = "a", .alternative_name = "DNS:b"}), "x509:a", "common name");
  TAP_EQ(identity({.alternative_name = "IP:127.0.0.1,DNS:b.example,DNS:c.example"}), "x509:b.example", "DNS");
  TAP_EQ(identity({.alternative_name = "URI:spiffe://cell/host"}), "x509:spiffe://cell/host", "URI");
  TAP_EQ(identity({}), "x509:O=tests", "subject");
  const std::string sly("web-1\0.evil", 11);
  TAP_EQ(identity({.name = sly}).find("x509:web-1"), std::string::npos, "a zero byte hides nothing");
}

TAP_TEST("a host of a cell: one name among the URIs, by the word of those who name hosts") {
  const std::string uri = "cellblock://cell/east/host/web-1";
  const auto host = [](const CertificateRequest& request, const std::string& host_ca) {
    tls::ContextOptions options = with_certificate(ClientCertificates::required);
    options.host_ca = host_ca;
    Pair pair(options, {.certificate = authority().issue(request)});
    TAP_OK(pair.shake_hands() == Progress::done, pair.session->error());
    return pair.session->host();
  };
  const std::string ours = authority().pem();
  const Authority other("who names hosts");
  TAP_EQ(host({.name = "web-1", .alternative_name = "URI:" + uri}, ours), uri, "a host");
  TAP_EQ(host({.name = "web-1", .alternative_name = "DNS:web-1,URI:" + uri}, ours), uri,
         "behind another name");
  TAP_EQ(host({.name = "web-1", .alternative_name = "URI:" + uri}, other.pem() + ours), uri,
         "one of several");
  TAP_EQ(host({.name = "web-1", .alternative_name = "URI:" + uri}, ""), "", "nobody names hosts");
  TAP_EQ(host({.name = "web-1", .alternative_name = "URI:" + uri}, other.pem()), "", "another names hosts");
  TAP_EQ(host({.name = uri}, ours), "", "a common name is none");
  TAP_EQ(host({.name = "a", .alternative_name = "DNS:" + uri}, ours), "", "nor is a name of DNS");
  TAP_EQ(host({.name = "a", .alternative_name = "URI:" + uri + ",URI:" + uri + "b"}, ours), "",
         "nor are two");
  TAP_EQ(host({.name = "a", .alternative_name = "URI:https://web-1/"}, ours), "", "nor another URI");
}

TAP_TEST("pre-shared keys: another key, another name, a certificate beside them") {
  for (const int version : kVersions) {
    const TlsPeerOptions wrong{.version = version, .psk_name = "alice", .psk_key = std::string(32, 'x')};
    const std::string sentence = refusal(with_keys(), wrong);
    if (version == TLS1_3_VERSION) says(sentence, "key for 'alice'");
    refusal(with_keys(), {.version = version, .psk_name = "bob", .psk_key = alices_key()});
    refusal(with_keys(), {.version = version});

    tls::ContextOptions both = with_certificate(ClientCertificates::required);
    both.keys = kKeys;
    Pair key(both, {.version = version, .psk_name = "alice", .psk_key = alices_key()});
    TAP_OK(key.shake_hands() == Progress::done, key.session->error());
    TAP_EQ(key.session->identity(), "psk:alice", "a key is enough");
    Pair certificate(both, {.version = version, .certificate = authority().issue({.name = "web-1"})});
    TAP_OK(certificate.shake_hands() == Progress::done, certificate.session->error());
    TAP_EQ(certificate.session->identity(), "x509:web-1", "and so is a certificate");
    refusal(both, {.version = version});
    // A key nobody knows must not pass for somebody who showed nothing.
    refusal(both, {.version = version, .psk_name = "bob", .psk_key = alices_key()});
  }
}

TAP_TEST("garbage, HTTP and NBD in clear are no TLS") {
  for (const std::string& bytes :
       {std::string("GET / HTTP/1.1\r\n\r\n"), std::string("IHAVEOPT\0\0\0\7\0\0\0\0", 16),
        std::string(600, '\0'), noise(600), std::string("\x16\x03\x01") + noise(4000)}) {
    Pair pair(with_certificate());
    pair.put(bytes);
    TAP_OK(pair.end_handshake() == Progress::failed, "refused");
    TAP_OK(!pair.session->error().empty(), pair.session->error());
  }
  // Every byte of a client's first message changed: it fails, or what was changed does not matter.
  const size_t bytes = Pair(with_certificate()).client.output().size();
  for (size_t at = 0; at < bytes; at++) {
    Pair pair(with_certificate());
    std::string hello = pair.client.output();
    hello[at] = static_cast<char>(hello[at] ^ 0x55);
    pair.put(hello);
    if (pair.end_handshake() != Progress::failed) TAP_OK(false, "byte " + std::to_string(at));
  }
}

TAP_TEST("a record that was tampered with ends the session; what came before it counts") {
  Pair pair(with_certificate());
  TAP_NEED(pair.shake_hands() == Progress::done, "begun");
  pair.client.write("good");
  std::string bytes = pair.client.output();
  pair.client.write("bad");
  std::string bad = pair.client.output();
  bad.back() = static_cast<char>(bad.back() ^ 1);
  pair.put(bytes + bad);
  char buffer[100];
  const iovec to{buffer, sizeof buffer};
  TAP_EQ(pair.session->receive(&to, 1), 4, "the good one");
  TAP_OK(pair.session->has_input(), "and there is more to say");
  TAP_EQ(pair.session->receive(&to, 1), -EPROTO, "the bad one");
  says(pair.session->error(), "breaks TLS");
  TAP_EQ(pair.send_plain("x"), -EPROTO, "nothing is sent any more");
}

TAP_TEST("nobody negotiates again") {
  Pair pair(with_certificate(), {.version = TLS1_2_VERSION});
  TAP_NEED(pair.shake_hands() == Progress::done, "begun");
  SSL_renegotiate(pair.client.ssl());
  SSL_do_handshake(pair.client.ssl());
  const std::string hello = pair.client.output();
  TAP_OK(!hello.empty(), "the client tries");
  pair.put(hello);
  TAP_EQ(pair.receive(), "", "no data");
  const std::string answer = pair.get();
  TAP_OK(answer.size() < 100 && (answer.empty() || answer[0] == 0x15), "an alert at most, no handshake");
}

TAP_TEST("many small pieces become full records, and one call of the socket") {
  Pair pair(with_certificate());
  TAP_NEED(pair.shake_hands() == Progress::done, "begun");
  const std::string text = noise(100'000);
  std::vector<iovec> pieces;
  for (size_t at = 0; at < text.size(); at += 100)
    pieces.push_back({const_cast<char*>(text.data()) + at, 100});
  TAP_EQ(pair.session->send(pieces.data(), static_cast<int>(pieces.size())), 100'000, "taken");
  const std::string bytes = pair.get();
  constexpr size_t kOverhead = 5 + 1 + 16;  // TLS 1.3: header, type, tag
  TAP_EQ(bytes.size(), 100'000 + 7 * kOverhead, "seven records");
  pair.client.feed(bytes);
  TAP_OK(pair.client.take_plain() == text, "in order");
}

TAP_TEST("a client that does not read: one batch is kept, then nothing is taken") {
  Pair pair(with_certificate());
  TAP_NEED(pair.shake_hands() == Progress::done, "begun");
  const std::string text = noise(4 << 20);
  size_t sent = 0;
  std::string got;
  bool refused = false;
  while (got.size() < text.size()) {
    ssize_t bytes = 0;
    while (sent < text.size() && (bytes = pair.send_plain(std::string_view(text).substr(sent))) > 0) {
      sent += static_cast<size_t>(bytes);
      TAP_OK(static_cast<size_t>(bytes) <= tls::Session::kBatchBytes, "a batch at most");
    }
    if (sent < text.size()) {
      refused = true;
      TAP_EQ(bytes, -EAGAIN, "refused");
      TAP_EQ(pair.session->flush(), -EAGAIN, "and kept");
    }
    TAP_OK(pair.session->unsent() <= tls::Session::kBatchBytes + 4096, "what is kept is bounded");
    pair.client.feed(pair.get(70'000));
    got += pair.client.take_plain();
    if (sent == text.size()) pair.session->flush();
  }
  TAP_OK(refused, "the socket was full");
  TAP_OK(got == text, "all of it, in order");
  TAP_EQ(pair.session->unsent(), 0u, "nothing is left");
}

TAP_TEST("what is decrypted and not taken is told of, and only that") {
  Pair pair(with_certificate());
  TAP_NEED(pair.shake_hands() == Progress::done, "begun");
  pair.client.write(std::string(1000, 'a'));
  pair.client.write(std::string(1000, 'b'));
  const std::string two = pair.client.output();
  pair.client.write(std::string(1000, 'c'));
  const std::string third = pair.client.output();
  pair.put(two + third.substr(0, 500));
  char buffer[800];
  const iovec to{buffer, sizeof buffer};
  const ssize_t wanted[] = {800, 800, 400};
  for (const ssize_t bytes : wanted) TAP_EQ(pair.session->receive(&to, 1), bytes, "in steps");
  for (int i = 0; i < 2; i++) TAP_EQ(pair.session->receive(&to, 1), -EAGAIN, "half a record is nothing");
  TAP_OK(!pair.session->has_input(), "and nobody is sent round for it");
  pair.put(third.substr(500));
  TAP_EQ(pair.session->receive(&to, 1), 800, "the rest");
  TAP_OK(pair.session->has_input(), "not all");
  // With the client's last message of the handshake comes the first of data.
  Pair eager(with_certificate());
  eager.step();
  eager.client.write("early bird");
  eager.put(eager.client.output());
  TAP_OK(eager.session->shake_hands() == Progress::done, "begun");
  TAP_OK(eager.session->has_input(), "read ahead in the handshake");
  TAP_EQ(eager.receive(), "early bird", "and there");
}

TAP_TEST("farewells: the client's ends the stream, also right behind data; ours reaches the client") {
  Pair pair(with_certificate());
  TAP_NEED(pair.shake_hands() == Progress::done, "begun");
  pair.client.write("last words");
  pair.client.shut_down();
  pair.put(pair.client.output());
  char buffer[100];
  const iovec to{buffer, sizeof buffer};
  TAP_EQ(pair.session->receive(&to, 1), 10, "words");
  TAP_OK(pair.session->has_input(), "an end to tell of");
  TAP_EQ(pair.session->receive(&to, 1), 0, "the end");
  TAP_EQ(pair.send_plain("still here"), 10, "the other direction is open");
  pair.session->shut_sending();
  pair.client.feed(pair.get());
  TAP_EQ(pair.client.take_plain(), "still here", "data");
  TAP_OK(pair.client.ended(), "and a farewell");
}

TAP_TEST("keys are renewed on the way, by us and by the client") {
  tls::ContextOptions options = with_certificate();
  options.records_per_key = 3;
  for (const int version : kVersions) {
    Pair pair(options, {.version = version});
    TAP_NEED(pair.shake_hands() == Progress::done, "begun");
    for (int i = 0; i < 20; i++) {
      if (version == TLS1_3_VERSION) SSL_key_update(pair.client.ssl(), SSL_KEY_UPDATE_REQUESTED);
      talks(pair, "round " + std::to_string(i));
      TAP_OK(!pair.client.failed(), "the client follows");
    }
  }
  // The default lets a session go on much longer than the test above.
  TAP_OK(tls::ContextOptions{}.records_per_key <= uint64_t{1} << 24, "below what AES-GCM allows");
}

TAP_TEST("a client may ask for new keys while it reads slowly, however much waits for it") {
  Pair pair(with_certificate());
  TAP_NEED(pair.shake_hands() == Progress::done, "begun");
  const int little = 4096;
  setsockopt(pair.ends[0], SOL_SOCKET, SO_SNDBUF, &little, sizeof little);
  const std::string text = noise(4 << 20);
  size_t sent = 0;
  for (ssize_t bytes = 0; (bytes = pair.send_plain(std::string_view(text).substr(sent))) > 0;)
    sent += static_cast<size_t>(bytes);
  TAP_OK(pair.session->unsent() > tls::Session::kMaxAnswers, "more waits than we would answer");
  for (int i = 0; i < 10; i++) {
    SSL_key_update(pair.client.ssl(), SSL_KEY_UPDATE_REQUESTED);
    SSL_do_handshake(pair.client.ssl());
    pair.put(pair.client.output());
    pair.receive();
    TAP_EQ(pair.end, -EAGAIN, "it is answered");
  }
  std::string got;
  while (got.size() < sent) {
    pair.session->flush();
    pair.client.feed(pair.get(70'000));
    got += pair.client.take_plain();
    if (!TAP_OK(!pair.client.failed(), "the client follows")) return;
  }
  TAP_OK(got == text.substr(0, sent), "all of it, in order");
  talks(pair, "and on");
}

TAP_TEST("a client that asks for new keys and never reads costs a bounded amount of memory") {
  Pair pair(with_certificate());
  TAP_NEED(pair.shake_hands() == Progress::done, "begun");
  ssize_t end = -EAGAIN;
  size_t most = 0;
  for (int i = 0; i < 200'000 && end == -EAGAIN; i++) {
    SSL_key_update(pair.client.ssl(), SSL_KEY_UPDATE_REQUESTED);
    SSL_do_handshake(pair.client.ssl());
    pair.put(pair.client.output());
    pair.receive();
    end = pair.end;
    most = std::max(most, pair.session->unsent());
  }
  TAP_EQ(end, -EPROTO, "it is sent away");
  TAP_OK(most <= tls::Session::kMaxAnswers + 4096, "kept at most " + std::to_string(most));
}

TAP_TEST("what cannot serve is refused with a sentence in which nothing is secret") {
  const auto why = [](const tls::ContextOptions& options) {
    std::string sentence;
    TAP_OK(!tls::Context::make(options, sentence), "refused");
    return sentence;
  };
  says(why({}), "certificate or pre-shared keys");
  tls::ContextOptions options = with_certificate();
  options.certificate = "nonsense";
  says(why(options), "certificate is no PEM");
  options = with_certificate();
  options.key = "nonsense";
  says(why(options), "key is no PEM");
  options.key = authority().issue({.name = "other"}).key;
  says(why(options), "does not belong");
  options = with_certificate(ClientCertificates::optional);
  options.client_ca = "nonsense";
  says(why(options), "CA of the clients");
  options = with_certificate();
  options.certificate += "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
  says(why(options), "certificate is no PEM");
  for (const auto& [text, wanted] :
       {std::pair{"alice", "line 1"},
        {"a:00112233445566778899aabbccddeeff\nb:5ecre7", "line 2"},
        {"a:0011", "less than 16"},
        {":00112233445566778899aabbccddeeff", "NAME:HEXKEY"},
        {"# nobody\n\n", "no pre-shared key"},
        {"a:00112233445566778899aabbccddeeff\na:00112233445566778899aabbccddeeff", "second time"}}) {
    tls::ContextOptions keys;
    keys.keys = text;
    const std::string sentence = why(keys);
    says(sentence, wanted);
    TAP_EQ(sentence.find("5ecre7"), std::string::npos, "the key is not told");
  }
  tls::PskTable table;
  std::string sentence;
  TAP_OK(
      table.parse("# two\r\n#616c:00112233445566778899AABBCCDDEEFF\r\na:b:00112233445566778899aabbccddeeff",
                  sentence),
      sentence);
  TAP_OK(table.find("al") && table.find("a:b") && !table.find("a") && table.size() == 2, "names");
}

int main() { return cellblock::test::run(); }
