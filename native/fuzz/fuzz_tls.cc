// The boundary of TLS: sessions in which a client begins TLS, or may, against a server that requires or
// offers it; see run.h and tls_line.h. The first byte of an input says what both have in hand, the rest is a
// session.
//
// OpenSSL draws its random bytes from one seed in every run, so that a run makes the same records wherever it
// stands.
#define OPENSSL_SUPPRESS_DEPRECATED  // there is no other way to set where its random bytes come from
#include <openssl/rand.h>

#include <cstdint>
#include <ctime>
#include <string>
#include <utility>

#include "base/random.h"
#include "fuzz/fail.h"
#include "fuzz/run.h"
#include "fuzz/tls_line.h"

namespace cellblock::fuzz {
namespace {

using test::Authority;
using test::Certificate;
using test::TlsPeerOptions;

enum Hand : uint8_t {
  kOldVersion = 1 << 0,  // TLS 1.2
  kOffered = 1 << 1,     // else it is required
  kShown = 7 << 2,       // what the client shows: a Show
  kDemanding = 1 << 5,   // the server wants a certificate of who has no key
  kKeysOnly = 1 << 6,    // it has none itself
};

enum class Show : uint8_t { nothing, certificate, key, wrong_key, unknown_key, foreign_certificate, last };

Random& randomness() {
  static Random one(1);
  return one;
}

int fill(unsigned char* to, int bytes) {
  for (int i = 0; i < bytes; i++) to[i] = static_cast<unsigned char>(randomness().next());
  return 1;
}

void draw_from_a_seed() {
  static const RAND_METHOD method = {nullptr, fill, nullptr, nullptr, fill, [] { return 1; }};
  expect(RAND_set_rand_method(&method) == 1, "OpenSSL does not let its random bytes be set");
}

// Everything that is made once. Certificates hold from 1970 to 2100, whenever a run is.
struct Hands {
  Hands() : ca("fuzzing"), foreign("another CA") {
    own = issue(ca, "localhost");
    known = issue(ca, "web-1");
    stranger = issue(foreign, "web-1");
    for (const bool demanding : {false, true})
      contexts[demanding] =
          context(own, demanding ? tls::ClientCertificates::required : tls::ClientCertificates::optional);
    keys_only = context({}, tls::ClientCertificates::none);
  }

  static Certificate issue(const Authority& by, const std::string& name) {
    constexpr long kEnd = 4'102'444'800;
    const long now = std::time(nullptr);
    return by.issue({.name = name, .valid_from_s = -now, .valid_to_s = kEnd - now});
  }

  std::shared_ptr<const tls::Context> context(const Certificate& with,
                                              tls::ClientCertificates clients) const {
    tls::ContextOptions options;
    options.certificate = with.pem;
    options.key = with.key;
    options.client_ca = ca.pem();
    options.clients = clients;
    options.keys = "alice:000102030405060708090a0b0c0d0e0f\n";
    options.records_per_key = 4;
    std::string sentence;
    auto made = tls::Context::make(options, sentence);
    expect(made != nullptr, "the server's TLS cannot be set up");
    return made;
  }

  Authority ca;
  Authority foreign;
  Certificate own, known, stranger;
  std::shared_ptr<const tls::Context> contexts[2];
  std::shared_ptr<const tls::Context> keys_only;
};

const Hands& hands() {
  static const Hands all;
  return all;
}

Show shown(uint8_t hand) {
  return static_cast<Show>((hand & kShown) >> 2) < Show::last ? static_cast<Show>((hand & kShown) >> 2)
                                                              : Show::nothing;
}

// Under which name the server has to know the client, if it may come in at all.
std::optional<std::string> identity(uint8_t hand) {
  const bool open = !(hand & (kDemanding | kKeysOnly));
  switch (shown(hand)) {
    case Show::key:
      return "psk:alice";
    case Show::certificate:
      return hand & kKeysOnly ? std::nullopt : std::optional<std::string>("x509:web-1");
    case Show::unknown_key:
      // TLS 1.3 goes on without it, in TLS 1.2 the suite that was chosen needs it.
      return open && !(hand & kOldVersion) ? std::optional<std::string>("") : std::nullopt;
    case Show::nothing:
    case Show::last:
      return open ? std::optional<std::string>("") : std::nullopt;
    case Show::wrong_key:
    case Show::foreign_certificate:
      break;
  }
  return std::nullopt;
}

TlsClient client(uint8_t hand) {
  std::string key;
  for (char c = 0; c < 16; c++) key.push_back(c);
  TlsPeerOptions options;
  options.version = hand & kOldVersion ? TLS1_2_VERSION : TLS1_3_VERSION;
  switch (shown(hand)) {
    case Show::certificate:
      options.certificate = hands().known;
      break;
    case Show::foreign_certificate:
      options.certificate = hands().stranger;
      break;
    case Show::key:
    case Show::wrong_key:
    case Show::unknown_key:
      options.psk_name = shown(hand) == Show::unknown_key ? "bob" : "alice";
      options.psk_key = shown(hand) == Show::wrong_key ? std::string(16, 'x') : key;
      break;
    case Show::nothing:
    case Show::last:
      break;
  }
  return {options, identity(hand)};
}

Access access(uint8_t hand) {
  Access access;
  access.tls.policy = hand & kOffered ? nbd::TlsPolicy::offered : nbd::TlsPolicy::required;
  access.tls.context = hand & kKeysOnly ? hands().keys_only : hands().contexts[(hand & kDemanding) != 0];
  access.line = [hand](test::Host& host, const Conversation& said, size_t room) {
    return std::make_unique<TlsLine>(host, said, room, client(hand));
  };
  access.another = [](test::Host& host, const Conversation& said, size_t room) {
    return std::make_unique<TlsLine>(host, said, room, client(static_cast<uint8_t>(Show::key) << 2));
  };
  return access;
}

}  // namespace
}  // namespace cellblock::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cellblock;
  using namespace cellblock::fuzz;
  if (size == 0) return 0;
  static const bool is_set_up = (draw_from_a_seed(), hands(), true);
  (void)is_set_up;
  randomness() = Random(1);
  const Session session = read_session({data + 1, size - 1});
  Run(session, access(data[0])).run();
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  using namespace cellblock::fuzz;
  if (size > 0 && seed % 32 == 0) data[0] = static_cast<uint8_t>(seed / 32);
  return mutate_input(data, size, max_size, seed, Way::tls, 1);
}
