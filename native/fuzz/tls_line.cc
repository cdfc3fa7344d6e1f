#include "fuzz/tls_line.h"

#include <openssl/err.h>

#include "base/bytes.h"
#include "fuzz/fail.h"

namespace cellblock::fuzz {
namespace {

constexpr size_t kRecordHead = 5;
constexpr size_t kMostInRecord = 16 << 10;
constexpr char kApplicationData = 23;
// As much as the server receives at once: bytes that come with so much or less are seen with it.
constexpr size_t kSeenTogether = 16 << 10;

}  // namespace

TlsLine::TlsLine(test::Host& host, const Conversation& said, size_t room, TlsClient who)
    : host_(host),
      said_(said),
      who_(std::move(who)),
      begun_before_(host.wire.tls_begun),
      client_(host, room) {
  host.directory.last_peer = {};
}

// ---- out ----

bool TlsLine::push(std::string_view stream, size_t due) {
  if (sending_ended_) return false;
  const size_t before = clear_sent_ + wire_sent_;
  if (said_.tls_at == 0 || clear_sent_ < said_.tls_at) {
    send_clear(stream, due);
  } else {
    write_plain(stream, due);
    send_wire();
  }
  return clear_sent_ + wire_sent_ > before;
}

// Bytes that were put behind STARTTLS go out together with its end.
bool TlsLine::send_clear(std::string_view stream, size_t due) {
  const size_t upto = said_.tls_at == 0 ? due : std::min(due, said_.tls_at);
  std::string bytes(stream.substr(clear_sent_, upto - clear_sent_));
  const size_t clear = bytes.size();
  if (upto == said_.tls_at) bytes += wire_;
  const size_t went = client_.send_some(bytes);
  clear_sent_ += std::min(went, clear);
  written_ = clear_sent_;
  if (went <= clear) return went > 0;
  wire_.erase(0, went - clear);
  wire_sent_ += went - clear;
  before_answer_ = said_.tls_at <= kSeenTogether;
  return true;
}

void TlsLine::write_plain(std::string_view stream, size_t due) {
  if (!peer_ || !peer_->established() || peer_->failed() || farewell_said_) return;
  while (written_ < due) {
    const size_t bytes = std::min(due - written_, kMostInRecord);
    if (!peer_->write(stream.substr(written_, bytes))) return;
    written_ += bytes;
    collect();
    records_.back().plain_end = written_;
  }
}

bool TlsLine::send_wire() {
  const size_t went = client_.send_some(std::string_view(wire_).substr(0, room_));
  wire_.erase(0, went);
  wire_sent_ += went;
  if (room_ != SIZE_MAX) room_ -= went;
  return went > 0;
}

void TlsLine::end_sending() {
  if (!std::exchange(sending_ended_, true)) client_.half_close();
}

void TlsLine::hang_up() {
  sending_ended_ = hung_up_ = true;
  client_.close();
}

// What OpenSSL has made goes behind what waits already.
void TlsLine::collect() {
  const std::string made = peer_->output();
  for (size_t at = 0; at < made.size();) {
    const size_t bytes = kRecordHead + load_be<uint16_t>(made.data() + at + 3);
    const bool sealed = made[at] == kApplicationData;
    records_.push_back({wire_end() + at, wire_end() + at + bytes, sealed, 0});
    if (sealed) last_sealed_ = made.substr(at, bytes);
    at += bytes;
  }
  wire_ += made;
}

// ---- in ----

bool TlsLine::take() {
  const bool was_ended = client_.ended;
  client_.take();
  const std::string came = std::exchange(client_.got, {});
  if (peer_) {
    feed(came);
  } else {
    got_ += came;
    find_ack();
  }
  return !came.empty() || client_.ended != was_ended;
}

// What is behind the acknowledgement of STARTTLS is TLS.
void TlsLine::find_ack() {
  if (said_.tls_at == 0 || clear_sent_ < said_.tls_at) return;
  test::Reader reader(got_);
  if (!reader.greeting()) return;
  for (test::OptionAnswer answer; reader.next(answer);) {
    if (answer.option != nbd::Option::starttls || answer.type != nbd::OptionReply::ack) continue;
    const std::string rest = got_.substr(got_.size() - reader.left());
    got_.resize(got_.size() - rest.size());
    peer_ = std::make_unique<test::TlsPeer>(who_.options);
    collect();
    return feed(rest);
  }
}

void TlsLine::feed(std::string_view bytes) {
  peer_->feed(bytes);
  got_ += peer_->take_plain();
  collect();
  if (!secure_from_ && peer_->established()) secure_from_ = wire_end();
}

// ---- steps ----

void TlsLine::tamper(const Step& step) {
  switch (step.kind) {
    case StepKind::cork:
      room_ = step.value;
      return;
    case StepKind::uncork:
      return let_go();
    case StepKind::inject:
      return inject(step.bytes);
    case StepKind::flip:
      return flip(step.value);
    case StepKind::remove:
      return remove(step.value);
    case StepKind::replay:
      return replay();
    case StepKind::key_update:
      return change_keys();
    case StepKind::renegotiate:
      return begin_again();
    case StepKind::farewell:
      if (!peer_ || !peer_->established() || peer_->failed()) return;
      farewell_said_ = true;
      peer_->shut_down();
      return collect();
    default:
      return;
  }
}

bool TlsLine::begin_tampering() { return !changed_at_ && said_.tls_at > 0 && !sending_ended_; }

void TlsLine::shift_records(size_t at, ptrdiff_t by) {
  for (Record& record : records_) {
    if (record.end <= at) continue;
    record.end += static_cast<size_t>(by);
    if (record.begin >= at) record.begin += static_cast<size_t>(by);  // modulo 2^64 where it is taken off
  }
}

// Ahead of what waits, so behind the last byte that went out.
void TlsLine::inject(const std::string& bytes) {
  if (bytes.empty() || !begin_tampering()) return;
  changed_at_ = wire_sent_;
  shift_records(wire_sent_, static_cast<ptrdiff_t>(bytes.size()));
  wire_.insert(0, bytes);
}

void TlsLine::flip(uint16_t value) {
  if (wire_.empty() || !begin_tampering()) return;
  const size_t place = value % wire_.size();
  changed_at_ = wire_sent_ + place;
  wire_[place] = static_cast<char>(wire_[place] ^ 1 << (value >> 13));
  for (const Record& record : records_) {
    const bool inside = *changed_at_ >= record.begin + kRecordHead && *changed_at_ < record.end;
    if (inside && record.is_sealed) breaks_at_ = record.end;
  }
}

void TlsLine::remove(uint16_t value) {
  if (wire_.empty() || !begin_tampering()) return;
  const size_t place = value % wire_.size();
  const size_t bytes = std::min<size_t>(wire_.size() - place, 1 + (value >> 8));
  changed_at_ = wire_sent_ + place;
  wire_.erase(place, bytes);
  for (Record& record : records_) {
    if (record.begin < *changed_at_ + bytes && record.end > *changed_at_) record = {};
  }
  shift_records(*changed_at_, -static_cast<ptrdiff_t>(bytes));
}

void TlsLine::replay() {
  if (last_sealed_.empty() || !begin_tampering()) return;
  changed_at_ = wire_end();
  wire_ += last_sealed_;
  breaks_at_ = wire_end();
}

void TlsLine::change_keys() {
  if (!peer_ || !peer_->established() || peer_->failed() || farewell_said_) return;
  if (SSL_version(peer_->ssl()) < TLS1_3_VERSION) return;
  SSL_key_update(peer_->ssl(), SSL_KEY_UPDATE_REQUESTED);
  SSL_do_handshake(peer_->ssl());
  ERR_clear_error();
  collect();
}

void TlsLine::begin_again() {
  if (!peer_ || !peer_->established() || peer_->failed() || farewell_said_) return;
  if (SSL_version(peer_->ssl()) > TLS1_2_VERSION) return;
  handshakes_again_ = true;
  SSL_renegotiate(peer_->ssl());
  feed({});
}

// ---- what the server can have, and has to have done ----

// Of a connection that was changed once it was secure, nothing behind the change; of one that was changed
// before, all that the client said in TLS, for it did so only when it had seen that nothing had come of it.
size_t TlsLine::sent() const {
  if (before_answer_ || !who_.identity) return clear_sent_;
  const bool secure = !changed_at_ || is_secure(*changed_at_);
  const size_t upto = changed_at_ && secure ? std::min(wire_sent_, *changed_at_) : wire_sent_;
  size_t sent = clear_sent_;
  for (const Record& record : records_) {
    if (record.plain_end > 0 && record.end <= upto) sent = record.plain_end;
  }
  return sent;
}

bool TlsLine::cut() const {
  const bool changed = changed_at_ && wire_sent_ > *changed_at_;
  return changed || hung_up_ || handshakes_again_ || (peer_ && !who_.identity);
}

void TlsLine::check_at_rest() const {
  const bool broken = breaks_at_ && wire_sent_ >= *breaks_at_;
  expect(!broken || ended(), "what breaks TLS did not end the connection");
  if (!peer_ || sending_ended_ || changed_at_ || cut() || !who_.identity) return;
  expect(peer_->established() && !peer_->failed(),
         "TLS did not come about with a client that has a right to it");
}

void TlsLine::check_at_end() const {
  const bool begun = host_.wire.tls_begun > begun_before_;
  expect(!begun || peer_ != nullptr, "TLS was begun with a client that did not");
  expect(!begun || who_.identity.has_value(), "TLS was begun with a client that has no right to it");
  if (!host_.directory.last_peer.tls) return;
  expect(begun, "the directory is told of TLS where there is none");
  expect(host_.directory.last_peer.identity == *who_.identity, "the client is taken for another one");
}

}  // namespace cellblock::fuzz
