#include "tls/session.h"

#include <openssl/err.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "tls/identity.h"

namespace cellblock::tls {
namespace {

constexpr size_t kRecordBytes = SSL3_RT_MAX_PLAIN_LENGTH;

// One batch of records of whichever session sends on this thread: what the socket takes at once, nearly
// always all of it, costs no session any memory.
std::vector<std::byte>& batch() {
  thread_local std::vector<std::byte> bytes;
  bytes.clear();
  return bytes;
}

// Bytes the socket took, or -errno.
ssize_t send_some(int fd, const std::byte* from, size_t bytes) {
  ssize_t sent;
  do {
    sent = ::send(fd, from, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? -errno : sent;
}

// The front of the vectors in one piece after the other: as they are where they fill a record, else
// collected.
class Gather {
 public:
  Gather(const iovec* from, int count) : from_(from), end_(from + count) {}

  bool next(const void*& at, size_t& bytes) {
    while (from_ != end_ && from_->iov_len == used_) advance();
    if (from_ == end_) return false;
    if (from_->iov_len - used_ >= kRecordBytes || from_ + 1 == end_) {
      at = static_cast<const std::byte*>(from_->iov_base) + used_;
      bytes = std::min(from_->iov_len - used_, kRecordBytes);
      return true;
    }
    thread_local std::byte collected[kRecordBytes];
    bytes = 0;
    size_t used = used_;
    for (const iovec* one = from_; one != end_ && bytes < kRecordBytes; one++, used = 0) {
      const size_t part = std::min(one->iov_len - used, kRecordBytes - bytes);
      std::memcpy(collected + bytes, static_cast<const std::byte*>(one->iov_base) + used, part);
      bytes += part;
    }
    at = collected;
    return true;
  }

  void take(size_t bytes) {
    while (bytes > 0) {
      const size_t part = std::min(bytes, from_->iov_len - used_);
      used_ += part;
      bytes -= part;
      if (used_ == from_->iov_len) advance();
    }
  }

 private:
  void advance() {
    from_++;
    used_ = 0;
  }

  const iovec* from_;
  const iovec* const end_;
  size_t used_ = 0;  // of *from_
};

std::string last_reason() { return ERR_reason_error_string(ERR_peek_error()) ?: "it breaks the protocol"; }

}  // namespace

// ---- OpenSSL's view of the socket: reads from it, writes into memory, so that a write never blocks ----

struct Session::Transport {
  static Session& session(BIO* bio) { return *static_cast<Session*>(BIO_get_data(bio)); }

  static int read(BIO* bio, char* to, size_t room, size_t* got) {
    Session& self = session(bio);
    BIO_clear_retry_flags(bio);
    *got = 0;
    if (self.socket_ended_) return 0;
    ssize_t bytes = -EAGAIN;
    if (!self.socket_empty_) {
      do {
        bytes = recv(self.fd_, to, room, MSG_DONTWAIT);
      } while (bytes < 0 && errno == EINTR);
      if (bytes < 0) bytes = -errno;
    }
    if (bytes > 0) {
      *got = static_cast<size_t>(bytes);
      self.socket_empty_ = *got < room;
      return 1;
    }
    if (bytes == -EAGAIN) {
      BIO_set_retry_read(bio);
    } else if (bytes == 0) {
      self.socket_ended_ = true;
    } else {
      self.socket_error_ = static_cast<int>(-bytes);
    }
    return 0;
  }

  static int write(BIO* bio, const char* from, size_t bytes, size_t* taken) {
    Session& self = session(bio);
    BIO_clear_retry_flags(bio);
    *taken = 0;
    if (self.out_ == &self.kept_ && self.established_) {
      // Records of ours that wait for the socket are no fault of the client's.
      if (self.answers_ + bytes > kMaxAnswers) return 0;
      self.answers_ += bytes;
    }
    const auto* at = reinterpret_cast<const std::byte*>(from);
    self.out_->insert(self.out_->end(), at, at + bytes);
    *taken = bytes;
    return 1;
  }

  static long control(BIO* bio, int what, long, void*) {
    if (what == BIO_CTRL_EOF) return session(bio).socket_ended_;
    return what == BIO_CTRL_FLUSH;
  }

  static const BIO_METHOD* method() {
    static const BIO_METHOD* const only = [] {
      BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket of a session");
      BIO_meth_set_read_ex(made, read);
      BIO_meth_set_write_ex(made, write);
      BIO_meth_set_ctrl(made, control);
      return made;
    }();
    return only;
  }
};

Session::Session(std::shared_ptr<const Context> context, int fd)
    : context_(std::move(context)), fd_(fd), connection_(SSL_new(context_->get())), out_(&kept_) {
  BIO* bio = BIO_new(Transport::method());
  if (!connection_ || !bio) {
    BIO_free(bio);
    failed_ = true;
    error_ = "there is not enough memory for TLS";
    return;
  }
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(connection_.get(), bio, bio);
  SSL_set_app_data(connection_.get(), this);
  SSL_set_accept_state(connection_.get());
}

Session::~Session() = default;

// ---- the handshake ----

Progress Session::shake_hands() {
  if (failed_) return Progress::failed;
  ERR_clear_error();
  socket_empty_ = false;
  const int result = SSL_do_handshake(connection_.get());
  const int kind = result == 1 ? SSL_ERROR_NONE : SSL_get_error(connection_.get(), result);
  if (kind == SSL_ERROR_NONE) {
    established_ = true;
    // What came behind the client's last message may have been read ahead.
    has_input_ = SSL_has_pending(connection_.get());
    know_client();
  } else if (kind != SSL_ERROR_WANT_READ) {
    failed_ = true;
    error_ = handshake_error(kind);
  }
  ERR_clear_error();
  const int flushed = flush();
  if (!failed_ && flushed < 0 && flushed != -EAGAIN) {
    failed_ = true;
    error_ = std::strerror(-flushed);
  }
  if (failed_) return Progress::failed;
  return established_ ? Progress::done : Progress::again;
}

std::string Session::handshake_error(int kind) const {
  if (socket_error_ != 0) return std::strerror(socket_error_);
  if (socket_ended_) return "the client closed the connection in the middle of it";
  const long verified = SSL_get_verify_result(connection_.get());
  if (verified != X509_V_OK)
    return std::string("the client's certificate was not accepted: ") +
           X509_verify_cert_error_string(verified);
  if (kind != SSL_ERROR_SSL) return "OpenSSL could not go on";
  switch (ERR_GET_REASON(ERR_peek_error())) {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
      return "the client has no certificate, and one is required";
    case SSL_R_BINDER_DOES_NOT_VERIFY:
      return "the client's key for '" + key_name_ + "' is another one than ours";
    case SSL_R_UNSUPPORTED_PROTOCOL:
      return "the client knows no version of TLS from 1.2 on";
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_UNEXPECTED_MESSAGE:
    case SSL_R_BAD_PROTOCOL_VERSION_NUMBER:
      return "what the client sent is not TLS";
    default:
      break;
  }
  if (key_was_unknown_ && key_name_.empty())
    return "the client names a pre-shared key that is not known here";
  return last_reason();
}

// A client that proved a pre-shared key shows no certificate: the other way round in each version of TLS.
void Session::know_client() {
  const SSL* connection = connection_.get();
  const bool by_key = SSL_version(connection) >= TLS1_3_VERSION
                          ? SSL_session_reused(connection) == 1  // of ours none is kept, so it is a key
                          : SSL_CIPHER_get_auth_nid(SSL_get_current_cipher(connection)) == NID_auth_psk;
  if (by_key) {
    identity_ = "psk:" + key_name_;
  } else if (const X509* certificate = SSL_get0_peer_certificate(connection)) {
    identity_ = "x509:" + name_in(certificate);
    subject_ = subject_of(certificate);
    if (context_->names_hosts(SSL_get0_verified_chain(connection))) host_ = host_in(certificate);
  }
}

std::string Session::parameters() const {
  return std::string(SSL_get_version(connection_.get())) + " " +
         SSL_CIPHER_get_name(SSL_get_current_cipher(connection_.get()));
}

unsigned Session::find_key(SSL* connection, const char* name, unsigned char* key, unsigned room) {
  auto* self = static_cast<Session*>(SSL_get_app_data(connection));
  const std::vector<uint8_t>* found = name ? self->context_->keys().find(name) : nullptr;
  if (!found || found->size() > room) {
    self->key_was_unknown_ = true;
    return 0;
  }
  self->key_name_ = name;
  std::memcpy(key, found->data(), found->size());
  return static_cast<unsigned>(found->size());
}

// ---- records ----

ssize_t Session::receive(const iovec* to, int count) {
  if (failed_) return -EPROTO;
  if (ended_) return 0;
  ERR_clear_error();
  socket_empty_ = false;
  has_input_ = false;
  size_t total = 0;
  bool more = true;
  for (int i = 0; i < count && more; i++) {
    size_t filled = 0;
    while (filled < to[i].iov_len && more) {
      size_t got = 0;
      more = read_record(static_cast<std::byte*>(to[i].iov_base) + filled, to[i].iov_len - filled, got);
      filled += got;
    }
    total += filled;
  }
  const int flushed = unsent() > 0 ? flush() : 0;
  if (flushed < 0 && flushed != -EAGAIN && !ended_ && socket_error_ == 0) socket_error_ = -flushed;
  const bool over = ended_ || failed_ || socket_error_ != 0;
  if (total > 0) {
    has_input_ = over || (more && SSL_has_pending(connection_.get()));
    return static_cast<ssize_t>(total);
  }
  if (socket_error_ != 0) return -socket_error_;
  if (failed_) return -EPROTO;
  return ended_ ? 0 : -EAGAIN;
}

// False: there is nothing more for now, or for ever.
bool Session::read_record(std::byte* to, size_t room, size_t& got) {
  const int result = SSL_read_ex(connection_.get(), to, room, &got);
  if (result == 1) return true;
  got = 0;
  const int kind = SSL_get_error(connection_.get(), result);
  if (kind == SSL_ERROR_WANT_READ || socket_error_ != 0) return false;
  // An end without a farewell is an end, too: every NBD message tells its length.
  if (kind == SSL_ERROR_ZERO_RETURN || socket_ended_) {
    ended_ = true;
  } else {
    fail("what the client sent breaks TLS");
  }
  return false;
}

ssize_t Session::send(const iovec* from, int count) {
  if (failed_) return -EPROTO;
  if (unsent() > 0) {
    const int flushed = flush();
    if (flushed < 0) return flushed;
  }
  ERR_clear_error();
  std::vector<std::byte>& records = batch();
  out_ = &records;
  size_t total = 0;
  const void* at = nullptr;
  size_t bytes = 0;
  for (Gather gather(from, count); total < kBatchBytes && !failed_ && gather.next(at, bytes);) {
    size_t taken = 0;
    if (!write_record(at, bytes, taken)) break;
    gather.take(taken);
    total += taken;
  }
  out_ = &kept_;
  if (failed_) return -EPROTO;
  ssize_t sent = records.empty() ? 0 : send_some(fd_, records.data(), records.size());
  if (sent < 0 && sent != -EAGAIN) return sent;
  sent = std::max<ssize_t>(sent, 0);
  kept_.insert(kept_.end(), records.begin() + sent, records.end());
  return static_cast<ssize_t>(total);
}

bool Session::write_record(const void* from, size_t bytes, size_t& taken) {
  if (++records_ >= context_->records_per_key()) renew_keys();
  const int result = SSL_write_ex(connection_.get(), from, bytes, &taken);
  if (result == 1) return true;
  // Writing goes into memory, and nothing is ever negotiated again: there is no reason to wait for anything.
  fail("OpenSSL could not encrypt");
  return false;
}

void Session::renew_keys() {
  records_ = 0;
  if (SSL_version(connection_.get()) >= TLS1_3_VERSION)
    SSL_key_update(connection_.get(), SSL_KEY_UPDATE_NOT_REQUESTED);
}

ssize_t Session::fail(const char* what) {
  failed_ = true;
  const std::string why = take_error();
  error_ = why.empty() ? what : std::string(what) + ": " + why;
  return -EPROTO;
}

int Session::flush() {
  while (unsent() > 0) {
    const ssize_t sent = send_some(fd_, kept_.data() + kept_at_, unsent());
    if (sent < 0) return static_cast<int>(sent);
    kept_at_ += static_cast<size_t>(sent);
  }
  // An idle connection keeps no memory.
  std::vector<std::byte>().swap(kept_);
  kept_at_ = 0;
  answers_ = 0;
  return 0;
}

void Session::shut_sending() {
  if (failed_ || !established_) return;
  ERR_clear_error();
  SSL_shutdown(connection_.get());
  ERR_clear_error();
  flush();
}

}  // namespace cellblock::tls
