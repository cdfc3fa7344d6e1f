// The server's side of the handshake (fixed newstyle) as a state machine over bytes: bytes in, bytes and one
// question at a time out. It knows no socket and no clock; the caller feeds it, sends output(), and answers
// what step() asks. While a question is open no byte is taken, so a client gets its replies in order.
//
// Invariant: whatever the bytes are, memory stays bounded (kMaxOptionBytes of one option, one option at a
// time).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "nbd/constants.h"
#include "nbd/meta_context.h"

namespace cellblock::nbd {

// Known options larger than this are drained and answered ERR_TOO_BIG.
constexpr size_t kMaxOptionBytes = 256 << 10;

// Whether clients may, or have to, begin TLS. With `offered` the directory says of single exports that they
// are served in TLS only (ENOKEY).
enum class TlsPolicy : uint8_t { none, offered, required };

struct HandshakeOptions {
  std::string refusal;  // not empty: every option is answered ERR_POLICY with this sentence
  TlsPolicy tls = TlsPolicy::none;
  std::string only;  // not empty: the one export there is, and the default one
};

struct ListedExport {
  std::string name;
  std::string description;
};

struct DescribedExport {
  bool exists = false;
  int error = 0;        // errno, when it does not exist or may not be used
  std::string refusal;  // and a sentence
  std::string name;     // canonical; empty: the name asked for
  uint64_t size = 0;
  bool read_only = false;
  bool rotational = false;
  std::string description;
  std::vector<std::string> snapshots;
};

struct OpenedExport {
  int error = 0;  // errno
  std::string refusal;
  uint64_t size = 0;
  bool read_only = false;
};

// What transmission needs of the handshake: plain data, enough to take the connection up again elsewhere.
struct Negotiated {
  std::string name;
  bool structured = false;  // replies come in chunks
  bool extended = false;    // with headers of 32 bytes, requests too; implies structured
  uint16_t transmission_flags = 0;
  std::vector<MetaContext> contexts;
};

enum class Step : uint8_t {
  need_bytes,    // feed()
  list,          // answer with listed()
  describe,      // name(); answer with described()
  open,          // name(), changed_since(); answer with opened()
  start_tls,     // send output(), do the handshake of TLS on the same socket, then tls_started()
  transmission,  // send output(), then negotiated() holds; bytes not consumed are requests
  close,         // send output(), then close
};

class Handshake {
 public:
  explicit Handshake(HandshakeOptions options);  // output() is the greeting

  // Takes bytes and returns how many; fewer than given only when step() is no longer need_bytes.
  size_t feed(const std::byte* bytes, size_t count);

  Step step() const { return step_; }
  const std::string& name() const { return name_; }
  std::vector<std::string> changed_since() const;  // snapshots of the selected contexts, in their order

  void listed(const std::vector<ListedExport>& exports);
  void described(const DescribedExport& described);
  void opened(const OpenedExport& opened);
  // Nothing that was negotiated in clear counts any more. Bytes that came in clear behind STARTTLS must not
  // be fed.
  void tls_started();

  // From now on options are answered ERR_SHUTDOWN; ABORT is still acknowledged.
  void shut_down() { shutting_down_ = true; }

  // Bytes to send; the caller takes them out.
  std::string& output() { return output_; }
  const Negotiated& negotiated() const { return negotiated_; }

 private:
  enum class Part : uint8_t { client_flags, option_header, option_data, skip };

  void begin(Part part, size_t bytes);
  void part_done();
  void client_flags();
  bool refused(uint32_t bytes);
  void option_header();
  void option_data();
  void skip_then_reply(OptionReply type, std::string_view sentence, uint32_t bytes);
  void expect_data(uint32_t bytes, size_t limit);
  void without_data(uint32_t bytes);
  void empty_option();
  void parse_info_or_go();
  void parse_meta_context();
  void negotiate_structured();
  void negotiate_extended();
  bool contexts_count() const;
  bool asks_for_info() const { return option_ == Option::info || option_ == Option::go; }
  // To a client that did not choose fixed newstyle the server is one without TLS: STARTTLS and what needs it
  // are refused, and ERR_TLS_REQD is not said.
  bool may_begin_tls() const { return options_.tls != TlsPolicy::none && fixed_newstyle_; }
  void ask(Step question) { step_ = question; }
  void describe(std::string_view name);
  void resume();
  void close() { step_ = Step::close; }

  // handshake_answers.cc
  OptionReply refusal_of(int error) const;
  void described_for_meta(const DescribedExport& described);
  void send_infos(const DescribedExport& described, uint64_t size, uint16_t flags);
  void finish_export_name(uint64_t size, uint16_t flags);
  uint16_t flags_for(bool read_only) const;
  void enter_transmission(uint16_t flags);
  void reply(OptionReply type, std::string_view data = {});
  void reply_error(OptionReply type, std::string_view sentence);

  HandshakeOptions options_;
  Step step_ = Step::need_bytes;
  Part part_ = Part::client_flags;
  std::string buffer_;    // the part being received
  size_t wanted_ = 0;     // bytes of the part
  uint64_t to_skip_ = 0;  // bytes still to drain
  OptionReply skip_reply_ = OptionReply::ack;
  std::string skip_sentence_;
  std::string output_;
  bool no_zeroes_ = false;
  bool fixed_newstyle_ = false;
  bool shutting_down_ = false;
  bool in_tls_ = false;

  Option option_ = Option::abort;
  std::string name_;
  uint32_t infos_ = 0;                // bits of Info that were asked for
  std::vector<std::string> queries_;  // of LIST/SET_META_CONTEXT
  DescribedExport described_;         // kept between describe and open
  std::string contexts_name_;         // the export the contexts were selected for
  std::vector<MetaContext> contexts_;
  Negotiated negotiated_;
};

}  // namespace cellblock::nbd
