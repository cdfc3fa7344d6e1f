// The way between a client and the server: what becomes of the stream that the client says.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "fuzz/session.h"
#include "test/wire_client.h"

namespace cellblock::fuzz {

class Line {
 public:
  virtual ~Line() = default;

  // Sends what may go now of the front of the stream, up to `due`, as far as the socket takes it. Whether
  // anything went.
  virtual bool push(std::string_view stream, size_t due) = 0;
  // Receives what has come. Whether anything did.
  virtual bool take() = 0;
  // A step that is none of the client's nor of the server's.
  virtual void tamper(const Step&) {}
  // Nothing is kept back any more.
  virtual void let_go() {}
  // Nothing more is sent.
  virtual void end_sending() = 0;
  // Nothing more is received either.
  virtual void hang_up() = 0;

  virtual const std::string& got() const = 0;  // what the server said, as the client reads it
  virtual size_t sent() const = 0;             // bytes of the stream that the server can have
  virtual bool cut() const { return false; }   // see Circumstances
  virtual bool ended() const = 0;              // the server closed
  // Called when everything has come to rest, and once more when the client has left.
  virtual void check_at_rest() const {}
  virtual void check_at_end() const {}
};

class ClearLine final : public Line {
 public:
  ClearLine(test::Host& host, size_t room) : client_(host, room) {}

  bool push(std::string_view stream, size_t due) override {
    if (sending_ended_) return false;
    const size_t went = client_.send_some(stream.substr(sent_, due - sent_));
    sent_ += went;
    return went > 0;
  }
  bool take() override { return client_.take() > 0; }
  void end_sending() override {
    if (!std::exchange(sending_ended_, true)) client_.half_close();
  }
  void hang_up() override {
    sending_ended_ = hung_up_ = true;
    client_.close();
  }
  const std::string& got() const override { return client_.got; }
  size_t sent() const override { return sent_; }
  bool cut() const override { return hung_up_; }
  bool ended() const override { return client_.ended || hung_up_; }

 private:
  test::Client client_;
  size_t sent_ = 0;
  bool sending_ended_ = false;
  bool hung_up_ = false;
};

}  // namespace cellblock::fuzz
