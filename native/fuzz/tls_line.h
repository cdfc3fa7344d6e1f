// A client that speaks TLS from STARTTLS on: its stream up to there goes out in clear, what is behind it in
// records of a real OpenSSL client, once the server has acknowledged STARTTLS. Steps of the session do to the
// ciphertext what somebody in between could: hold it back at any byte, change, remove or repeat it, put bytes
// in clear into it. That happens once in a session at most, so that no change takes another one back.
//
// Found wrong, besides what the judge finds with sent() and cut() as they are after that: records that were
// changed and do not end the connection, TLS with a client that has no right to it or under another name, no
// TLS with one that has.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fuzz/conversation.h"
#include "fuzz/line.h"
#include "test/tls_peer.h"

namespace cellblock::fuzz {

struct TlsClient {
  test::TlsPeerOptions options;
  std::optional<std::string> identity;  // under which the server knows it; none: it may not begin TLS
};

class TlsLine final : public Line {
 public:
  TlsLine(test::Host& host, const Conversation& said, size_t room, TlsClient who);

  bool push(std::string_view stream, size_t due) override;
  bool take() override;
  void tamper(const Step& step) override;
  void let_go() override { room_ = SIZE_MAX; }
  void end_sending() override;
  void hang_up() override;

  const std::string& got() const override { return got_; }
  size_t sent() const override;
  bool cut() const override;
  bool ended() const override { return client_.ended || hung_up_; }
  void check_at_rest() const override;
  void check_at_end() const override;

 private:
  // Places are those in all that goes out behind STARTTLS.
  struct Record {
    size_t begin = 0;
    size_t end = 0;
    bool is_sealed = false;  // by its type: nobody but the client can have made it
    size_t plain_end = 0;    // place in the stream behind what it carries; 0: nothing of it
  };

  bool send_clear(std::string_view stream, size_t due);
  void write_plain(std::string_view stream, size_t due);
  bool send_wire();
  void find_ack();
  void feed(std::string_view bytes);
  void collect();
  bool begin_tampering();
  void shift_records(size_t at, ptrdiff_t by);
  void inject(const std::string& bytes);
  void flip(uint16_t value);
  void remove(uint16_t value);
  void replay();
  void change_keys();
  void begin_again();
  size_t wire_end() const { return wire_sent_ + wire_.size(); }
  bool is_secure(size_t at) const { return secure_from_ && at >= *secure_from_; }

  test::Host& host_;
  const Conversation& said_;
  const TlsClient who_;
  const uint64_t begun_before_;  // by others
  test::Client client_;          // carries bytes as they are
  std::unique_ptr<test::TlsPeer> peer_;
  std::string got_;
  size_t clear_sent_ = 0;
  size_t written_ = 0;  // bytes of the stream that are sent in clear or in records
  std::string wire_;    // behind STARTTLS, not sent yet
  size_t wire_sent_ = 0;
  size_t room_ = SIZE_MAX;  // what may go out before a cork
  std::vector<Record> records_;
  std::string last_sealed_;
  std::optional<size_t> secure_from_;  // the client's handshake is complete
  std::optional<size_t> changed_at_;
  std::optional<size_t> breaks_at_;  // whoever reads up to there has to end the connection
  bool before_answer_ = false;       // changed by bytes that came with STARTTLS
  bool handshakes_again_ = false;
  bool farewell_said_ = false;
  bool sending_ended_ = false;
  bool hung_up_ = false;
};

}  // namespace cellblock::fuzz
