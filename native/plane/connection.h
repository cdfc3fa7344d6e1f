// A client in transmission: requests in, replies out, many in flight. Requests the device answers at once
// never leave the stack: their replies are built behind one another and go out in one send.
//
// Invariants: every admitted request is answered exactly once unless the socket is gone; bytes held for the
// client stay below its limit; what is not read stays in the socket, so a client that does not read is slowed
// down by itself alone.
//
// The kernel resends: what a connection did not answer it asks for once more on another one. So at a stop its
// requests are left to that, where other clients are told ESHUTDOWN; what it has shut is not read any more;
// and nothing of it is taken while the device works on what it asked on a connection that is gone. Otherwise
// an old write could end behind a newer one.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "nbd/handshake.h"
#include "nbd/reply.h"
#include "nbd/request.h"
#include "plane/channel.h"
#include "plane/loop.h"
#include "plane/operation.h"
#include "plane/out_queue.h"
#include "plane/reactor.h"

namespace cellblock::plane {

constexpr uint64_t kOperationBytes = 512;  // what a request in flight costs besides its data

class Connection final : public Watcher {
 public:
  Connection(Reactor& reactor, ServedDevice& served, Settled settled);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void start();
  void ready(uint32_t events) override;
  int64_t run();  // called by the reactor after run_soon(); what the turn has cost, see turns.h
  void flush();   // called by the reactor after flush_soon()

  void retry();  // the device was released, or there is budget again
  void stop();   // finish what is in flight, ESHUTDOWN for the rest (see above), close
  // Finish what is in flight, take nothing more, and leave the socket to the reactor: for the next process. A
  // connection that cannot be carried over (TLS, one handed over by a program) is stopped.
  void keep();
  void abort();  // close now; what the device has is forgotten when it comes back

  bool is_open() const { return channel_.is_open(); }
  size_t in_flight() const { return in_flight_; }
  // Nothing received in part, nothing pending, nothing to send: the socket and negotiated() are all there is.
  bool at_boundary() const;
  const nbd::Negotiated& negotiated() const { return negotiated_; }
  const Peer& peer() const { return peer_; }
  ServedDevice& served() { return served_; }
  uint64_t lease() const { return lease_; }
  bool is_unsettled() const { return unsettled_; }
  int64_t credit_left() const { return credit - turn_cost_; }

  size_t index = 0;  // the reactor's: place in its list
  bool in_run_queue = false;
  bool input_due = false;  // it is in the run queue for its input, not only to send
  bool in_flush_queue = false;
  int64_t credit = 0;             // see turns.h
  uint64_t in_line_since_ns = 0;  // the throttle's: 0 when the next request does not wait for a limit
  uint64_t in_line_bytes = 0;     // of that request

 private:
  enum class Stall : uint8_t { none, held, own_limit, budget, unsent, limits, log, kept };

  // What was answered in this turn, for the counters.
  struct Batch {
    std::array<uint32_t, kKinds> answered{};
    std::array<uint32_t, kKinds> errors{};
    std::array<uint64_t, kKinds> bytes{};
    bool any = false;
  };

  // connection.cc: life, input and output
  void begin_turn();
  void take_turn();
  bool turn_is_over() const;
  void receive();
  void drain();
  size_t take_payload(size_t received);
  void process(const BufferRef& block, std::byte* at, std::byte* end);
  bool send_ahead();
  bool send();
  bool has_unsent() const { return !out_.empty() || channel_.unsent() > 0; }
  void keep_input(const BufferRef& block, std::byte* at, std::byte* end);
  void end_input();
  void turn_done();
  void update_interest();
  void settle_budget();
  bool wait_for_budget();
  bool reserve_payload(uint64_t length);
  void release_payload();
  void watch_payload();
  void payload_is_late();
  void finish_if_idle();
  void linger();
  void discard_input();
  bool between_messages() const { return !receiving_ && drain_ == 0; }
  void leave();
  void close();
  void end();

  // connection_admission.cc
  bool admits(uint64_t bytes);
  bool admitted_by_volume(const nbd::RequestHeader& header);
  void was_taken(const nbd::RequestHeader& header);

  // connection_requests.cc: from header to device and back. They return false when the request has to wait.
  bool take_request(const BufferRef& block, std::byte*& at, std::byte* end);
  bool take_write(const nbd::RequestHeader& header, const BufferRef& block, std::byte*& at, std::byte* end);
  bool take_read(const nbd::RequestHeader& header);
  bool take_status(const nbd::RequestHeader& header);
  bool take_filtered_status(const nbd::RequestHeader& header, std::byte*& at, std::byte* end);
  bool take_other(const nbd::RequestHeader& header);
  nbd::Terms terms() const;
  Operation* begin(const nbd::RequestHeader& header, volume::Command command);
  void collect_payload(Operation* operation, std::byte*& at, std::byte* end);
  void payload_complete(Operation* operation);
  void submit_filtered_status(Operation* operation);
  void submit_status(Operation* operation);
  void submit(Operation* operation, uint64_t charge);
  void charge(Operation* operation, uint64_t bytes);
  static void done(volume::Request& request);
  void completed(Operation* operation);
  void release(Operation* operation);
  void refuse(const nbd::RequestHeader& header, nbd::WireError error);
  void count_refusal(nbd::CommandType type);
  void log(const nbd::RequestHeader& header);
  void log_request(Operation* operation);
  void log_reply(const Operation* operation);
  void count(const Operation& operation, nbd::WireError error);
  void record_batch();

  // connection_replies.cc
  void reply(Operation* operation, bool in_reservation);
  void reply_error(const nbd::RequestHeader& header, nbd::WireError error);
  void reply_success(const nbd::RequestHeader& header);
  void reply_read(Operation* operation, bool in_reservation);
  void reply_fragments(Operation* operation);
  bool reply_status(Operation* operation);
  std::byte* reserve(size_t bytes);

  Reactor& reactor_;
  ServedDevice& served_;
  volume::Device& device_;
  Channel channel_;
  Peer peer_;
  std::shared_ptr<Companion> companion_;
  nbd::Negotiated negotiated_;
  uint64_t lease_;
  std::vector<volume::StatusContext> contexts_;
  const nbd::ReplyForm form_;
  const bool extended_;  // headers, of requests too
  const bool resends_;
  const uint32_t header_bytes_;  // of a request
  const uint32_t read_head_;     // bytes of a reply to READ before its data

  // input
  BufferRef input_;  // received and not processed: [input_at_, input_end_)
  std::byte* input_at_ = nullptr;
  std::byte* input_end_ = nullptr;
  std::array<std::byte, nbd::kExtendedRequestHeaderBytes> carry_;  // the front of a header
  size_t carried_ = 0;
  Operation* receiving_ = nullptr;  // one whose payload, of its length, is still coming
  uint64_t received_ = 0;           // bytes of it
  uint64_t reserved_ = 0;           // of wire_.payloads: its length, when it is large
  uint64_t payload_at_ = 0;         // received_ when the timer was armed
  uint64_t waits_then_ = 0;         // of wire_.payloads, likewise
  uint64_t drain_ = 0;              // payload bytes to throw away
  nbd::RequestHeader drained_;      // whose
  nbd::WireError drain_error_ = nbd::WireError::none;
  bool expect_payload_ = false;  // large writes are streaming: receive little beyond the payload
  bool input_ended_ = false;
  bool out_of_step_ = false;  // ended by us, what still comes is not understood
  bool reads_wait_ = false;   // the last read could not be answered at once: use buffers of their own
  Stall stall_ = Stall::none;

  // output
  OutQueue out_;
  bool send_blocked_ = false;

  uint32_t watched_ = 0;  // events asked for; 0: not in epoll
  bool in_epoll_ = false;
  bool stopping_ = false;
  bool keeping_ = false;       // see keep()
  bool socket_empty_ = false;  // the last receive found nothing
  bool lingering_ = false;
  Timer payload_timer_;
  bool unsettled_ = false;  // ended with requests in flight, and counted by its device
  bool broken_ = false;     // out of memory for a reply: close at the end of the turn
  Timer linger_timer_;

  size_t in_flight_ = 0;
  uint64_t pending_bytes_ = 0;
  uint64_t charged_ = 0;   // to the budget of all
  uint64_t turn_ns_ = 0;   // when this turn's bytes came
  uint64_t turn_out_ = 0;  // out_.bytes() at its begin
  uint32_t turn_requests_ = 0;
  int64_t turn_cost_ = 0;  // bytes received, asked for and sent, and a constant for each request
  Batch batch_;
};

}  // namespace cellblock::plane
