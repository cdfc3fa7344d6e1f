#include "plane/connection.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace cellblock::plane {
namespace {

constexpr size_t kShortReceive = 8 << 10;  // when a large payload is expected right behind the next header
constexpr uint32_t kTurnRequests = 512;    // then it is another connection's turn
constexpr uint64_t kTurnOutBytes = 1 << 20;
constexpr uint64_t kTurnSendBytes = 4 << 20;
constexpr uint64_t kHotBytes =
    192 << 10;  // of replies are sent before more is read; a batch of 4 KiB reads stays below
constexpr int kMaxVectors = 64;
constexpr size_t kCopiedInput = 64 << 10;  // a stalled connection's input up to this does not pin its block
// At a time, where other volumes have connections on the reactor: as much as a turn may cost.
constexpr uint64_t kSharedBytes = static_cast<uint64_t>(Turns::kQuantum);

nbd::ReplyForm form_of(const nbd::Negotiated& negotiated) {
  if (negotiated.extended) return nbd::ReplyForm::extended;
  return negotiated.structured ? nbd::ReplyForm::structured : nbd::ReplyForm::simple;
}

}  // namespace

Connection::Connection(Reactor& reactor, ServedDevice& served, Settled settled)
    : reactor_(reactor),
      served_(served),
      device_(served.device),
      channel_(settled.fd, std::move(settled.tls)),
      peer_(std::move(settled.peer)),
      companion_(std::move(settled.companion)),
      negotiated_(std::move(settled.negotiated)),
      lease_(settled.lease.id),
      form_(form_of(negotiated_)),
      extended_(negotiated_.extended),
      resends_(settled.resends),
      header_bytes_(extended_ ? nbd::kExtendedRequestHeaderBytes : nbd::kRequestHeaderBytes),
      read_head_(nbd::read_head_bytes(form_)),
      out_(reactor.buffers_),
      payload_timer_([this] { payload_is_late(); }),
      linger_timer_([this] { close(); }) {
  size_t changed = 0;
  for (const nbd::MetaContext& context : negotiated_.contexts) {
    volume::StatusContext status;
    if (context.kind == nbd::MetaKind::changed && changed < settled.lease.changed_contexts.size()) {
      status = std::move(settled.lease.changed_contexts[changed++]);
    }
    status.id = context.id;
    status.kind = static_cast<volume::ContextKind>(context.kind);
    contexts_.push_back(std::move(status));
  }
  static_assert(static_cast<int>(volume::ContextKind::allocation) ==
                static_cast<int>(nbd::MetaKind::allocation));
  static_assert(static_cast<int>(volume::ContextKind::depth) == static_cast<int>(nbd::MetaKind::depth));
  static_assert(static_cast<int>(volume::ContextKind::changed) == static_cast<int>(nbd::MetaKind::changed));
  if (!settled.output.empty() &&
      !out_.append_copy(reinterpret_cast<const std::byte*>(settled.output.data()), settled.output.size())) {
    broken_ = true;
  }
  if (!settled.input.empty()) {
    input_ = reactor_.buffers_.take(settled.input.size());
    if (!input_) {
      broken_ = true;
      return;
    }
    std::memcpy(input_.bytes(), settled.input.data(), settled.input.size());
    input_at_ = input_.bytes();
    input_end_ = input_at_ + settled.input.size();
  }
}

Connection::~Connection() = default;

void Connection::start() {
  begin_turn();
  if (input_ || channel_.has_input()) reactor_.run_soon(this);
  turn_done();
}

bool Connection::at_boundary() const {
  return is_open() && in_flight_ == 0 && !has_unsent() && !input_ && carried_ == 0 && !receiving_ &&
         drain_ == 0;
}

// ---- input ----

void Connection::ready(uint32_t events) {
  if (!is_open()) return;
  if (lingering_) return discard_input();
  // It has given this connection up and asks for all of it elsewhere, before what is still unread here would
  // be taken.
  if (resends_ && (events & (EPOLLHUP | EPOLLERR))) return abort();
  if (events & EPOLLOUT) {
    if (reactor_.shared()) {
      reactor_.flush_soon(this);
    } else {
      flush();
    }
    if (!is_open()) return;
  }
  if (watched_ & EPOLLIN) {
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return;
    if (reactor_.shared()) {
      reactor_.run_soon(this);
    } else if (!in_run_queue) {
      input_due = true;
      run();
    }
    return;
  }
  if (events & (EPOLLHUP | EPOLLERR)) {
    // The peer is gone while nothing is wanted of it, and epoll would say so again and again.
    if (has_unsent()) flush();
    if (!is_open() || !in_epoll_) return;
    // Others stand in the same line, for hours where it had asked for much.
    if (stall_ == Stall::limits) return abort();
    reactor_.loop_.unwatch(channel_.fd(), this);
    in_epoll_ = false;
  }
}

void Connection::begin_turn() {
  turn_ns_ = reactor_.loop_.now_ns();
  turn_out_ = out_.bytes();
  turn_requests_ = 0;
  stall_ = Stall::none;
}

int64_t Connection::run() {
  turn_cost_ = 0;
  const bool with_input = std::exchange(input_due, false);
  if (is_open() && lingering_) {
    discard_input();
  } else if (is_open()) {
    with_input ? take_turn() : flush();
  }
  const int64_t cost = std::exchange(turn_cost_, 0);
  credit = std::max(credit - cost, -Turns::kMostDebt);
  if (with_input && served_.throttle) [[unlikely]]
    served_.throttle->turn_ended(*this);
  return cost;
}

void Connection::take_turn() {
  begin_turn();
  const bool waits = device_.held() || (resends_ && served_.unsettled > 0);
  if (keeping_ && between_messages() && !input_ended_) {
    stall_ = Stall::kept;
  } else if (waits && !input_ended_) {
    stall_ = Stall::held;
  } else if (input_) {
    const BufferRef block = std::move(input_);
    process(block, input_at_, input_end_);
  } else if (!input_ended_) {
    drain_ > 0 ? drain() : receive();
  }
  if (is_open()) turn_done();
}

void Connection::receive() {
  const BufferRef block = reactor_.receive_block();
  if (!block) return abort();
  std::memcpy(block.bytes(), carry_.data(), carried_);
  iovec to[2];
  int count = 0;
  const uint64_t most = reactor_.shared() ? kSharedBytes : UINT64_MAX;
  const uint64_t payload = receiving_ ? receiving_->length - received_ : 0;
  if (payload > 0) to[count++] = {receiving_->data + received_, std::min(payload, most)};
  // What comes behind the payload may be read with it, but nothing in place of its rest.
  if (payload <= most) {
    const size_t room = block.capacity() - carried_;
    to[count++] = {block.bytes() + carried_, expect_payload_ ? std::min(room, kShortReceive) : room};
  }
  const ssize_t got = channel_.receive(to, count);
  socket_empty_ = got == -EAGAIN;
  if (got == -EAGAIN) return;
  if (got == -EPROTO && channel_.session()) reactor_.log(LogLevel::warn, channel_.session()->error(), peer_);
  if (got < 0) return abort();
  if (got == 0) return end_input();
  turn_cost_ += got;
  const size_t rest = static_cast<size_t>(got) - take_payload(static_cast<size_t>(got));
  const size_t front = std::exchange(carried_, 0);
  process(block, block.bytes(), block.bytes() + front + rest);
}

// Work that is of use to nobody, so it is paid for out of what newcomers may take: turns alone give it all
// the time that others leave, which on a busy machine their clients want.
void Connection::drain() {
  if (!reactor_.lobby_.may_spend()) {
    stall_ = Stall::budget;
    return reactor_.retry_when_budget_allows();
  }
  const uint64_t begin = reactor_.loop_.clock_ns();
  receive();
  reactor_.lobby_.charge(static_cast<int64_t>(reactor_.loop_.clock_ns() - begin));
}

// The front of what was received belongs to the payload being received; returns how much.
size_t Connection::take_payload(size_t received) {
  if (!receiving_) return 0;
  const size_t bytes = static_cast<size_t>(std::min<uint64_t>(received, receiving_->length - received_));
  received_ += bytes;
  charge(receiving_, received_ + kOperationBytes);
  if (received_ < receiving_->length) return bytes;
  release_payload();
  payload_complete(std::exchange(receiving_, nullptr));
  return bytes;
}

void Connection::process(const BufferRef& block, std::byte* at, std::byte* end) {
  while (!input_ended_ && !broken_) {
    if (drain_ > 0) {
      const uint64_t bytes = std::min<uint64_t>(drain_, static_cast<uint64_t>(end - at));
      at += bytes;
      drain_ -= bytes;
      turn_cost_ += static_cast<int64_t>(bytes) * (Turns::kDrainedCost - 1);
      if (drain_ > 0) return;
      reply_error(drained_, drain_error_);
    }
    if (keeping_ && between_messages()) {
      stall_ = Stall::kept;
      if (at < end) keep_input(block, at, end);
      return;
    }
    if (static_cast<size_t>(end - at) < header_bytes_) break;
    if (out_.bytes() >= kHotBytes && !send_ahead()) {
      if (is_open()) keep_input(block, at, end);
      return;
    }
    if (turn_is_over()) {
      keep_input(block, at, end);
      return reactor_.run_soon(this);
    }
    if (!take_request(block, at, end)) return keep_input(block, at, end);
    turn_requests_++;
  }
  if (input_ended_ || broken_) return;
  carried_ = static_cast<size_t>(end - at);
  std::memcpy(carry_.data(), at, carried_);
}

bool Connection::turn_is_over() const {
  if (reactor_.shared() && turn_cost_ >= Turns::kQuantum) return true;
  return turn_requests_ >= kTurnRequests || out_.bytes() >= turn_out_ + kTurnOutBytes;
}

// What was read is sent while the processor's cache still has it; reading further ahead than the socket takes
// would only push it out. False: the rest of the input waits until the client has read more.
bool Connection::send_ahead() {
  if (!send() || out_.bytes() < kHotBytes) return is_open();
  stall_ = Stall::unsent;
  return false;
}

void Connection::keep_input(const BufferRef& block, std::byte* at, std::byte* end) {
  const size_t bytes = static_cast<size_t>(end - at);
  input_ = block;
  input_at_ = at;
  input_end_ = end;
  // A copy is not copied again: a connection in line for its limits comes by here for a few requests each
  // time.
  if (stall_ == Stall::none || bytes > kCopiedInput || block.capacity() <= kCopiedInput) return;
  BufferRef copy = reactor_.buffers_.take(bytes);
  if (!copy) return;
  std::memcpy(copy.bytes(), at, bytes);
  input_ = std::move(copy);
  input_at_ = input_.bytes();
  input_end_ = input_at_ + bytes;
}

void Connection::end_input() {
  input_ended_ = true;
  carried_ = 0;
  drain_ = 0;
  input_.reset();
  release_payload();
  if (receiving_) release(std::exchange(receiving_, nullptr));
  if (!resends_ || unsettled_ || in_flight_ == 0) return;
  unsettled_ = true;
  served_.unsettled++;
}

// ---- output and the end of a turn ----

void Connection::turn_done() {
  record_batch();
  flush();
}

void Connection::flush() {
  if (!is_open() || lingering_) return;
  if (broken_) return abort();
  const uint64_t before = out_.bytes();
  if (!send()) return;
  settle_budget();
  if (stall_ == Stall::own_limit && out_.bytes() < before) reactor_.run_soon(this);
  if (stall_ == Stall::unsent && out_.bytes() < kHotBytes) reactor_.run_soon(this);
  finish_if_idle();
  if (is_open()) update_interest();
}

// Hands the socket what it takes. False: the connection is gone.
bool Connection::send() {
  const uint64_t most = reactor_.shared() ? kSharedBytes : kTurnSendBytes;
  uint64_t total = 0;
  send_blocked_ = false;
  while (!out_.empty()) {
    iovec from[kMaxVectors];
    const int count = out_.vectors(from, kMaxVectors, most);
    const ssize_t bytes = channel_.send(from, count);
    if (bytes > 0) turn_cost_ += bytes;
    if (bytes == -EAGAIN || total >= most) {
      if (bytes > 0) out_.sent(static_cast<size_t>(bytes));
      send_blocked_ = !out_.empty();
      break;
    }
    if (bytes < 0) {
      abort();
      return false;
    }
    out_.sent(static_cast<size_t>(bytes));
    total += static_cast<uint64_t>(bytes);
  }
  if (send_blocked_) return true;
  const int flushed = channel_.flush();
  send_blocked_ = flushed == -EAGAIN;
  if (flushed == 0 || send_blocked_) return true;
  abort();
  return false;
}

void Connection::update_interest() {
  uint32_t wanted = send_blocked_ ? uint32_t{EPOLLOUT} : 0;
  // What TLS has decrypted already no socket tells of.
  if (!input_ended_ && stall_ == Stall::none && !input_ && channel_.has_input()) reactor_.run_soon(this);
  // In the run queue it comes to its input anyway, and is spared two system calls.
  if ((!input_ended_ || lingering_) && stall_ == Stall::none && (!input_ || in_run_queue)) wanted |= EPOLLIN;
  if (in_epoll_ ? wanted == watched_ : wanted == 0) return;
  if (!in_epoll_) {
    if (reactor_.loop_.watch(channel_.fd(), wanted, this) < 0) return abort();
    in_epoll_ = true;
  } else {
    reactor_.loop_.rewatch(channel_.fd(), wanted, this);
  }
  watched_ = wanted;
}

void Connection::settle_budget() {
  const uint64_t held = pending_bytes_ + (is_open() ? out_.bytes() + channel_.unsent() : 0);
  if (held == charged_) return;
  reactor_.wire_.budget.add(static_cast<int64_t>(held) - static_cast<int64_t>(charged_));
  charged_ = held;
}

void Connection::retry() {
  if (is_open() && stall_ != Stall::none) reactor_.run_soon(this);
}

// ---- the end ----

void Connection::finish_if_idle() {
  if (in_flight_ > 0 || has_unsent()) return;
  if (input_ended_) return out_of_step_ ? linger() : close();
  if (keeping_ && between_messages()) return leave();
  if (!stopping_ || stall_ == Stall::held || lingering_) return;
  if (!socket_empty_ && !input_) return reactor_.run_soon(this);  // answer what has come already
  if (socket_empty_ && at_boundary()) linger();
}

void Connection::stop() {
  if (!is_open() || stopping_) return;
  stopping_ = true;
  if (resends_) end_input();
  reactor_.run_soon(this);
}

void Connection::keep() {
  if (!is_open() || stopping_) return;
  // What TLS knows of a socket no other process can have; the program that handed one over waits for this
  // one.
  if (channel_.session() || companion_) return stop();
  stopping_ = true;
  keeping_ = true;
  reactor_.run_soon(this);
}

void Connection::leave() {
  KeptClient client;
  client.peer = peer_;
  client.negotiated = negotiated_;
  client.resends = resends_;
  client.input.assign(carry_.data(), carry_.data() + carried_);
  if (input_) client.input.insert(client.input.end(), input_at_, input_end_);
  if (in_epoll_) reactor_.loop_.unwatch(channel_.fd(), this);
  in_epoll_ = false;
  client.fd = channel_.release();
  reactor_.kept_.push_back(std::move(client));
  end();
}

// Closing with bytes unread would cost the client the replies it has not read yet.
void Connection::linger() {
  lingering_ = true;
  channel_.shut_sending();
  linger_timer_.arm(reactor_.loop_, reactor_.wire_.options.linger_ms);
  discard_input();
}

void Connection::discard_input() {
  const BufferRef block = reactor_.receive_block();
  const iovec to{block ? block.bytes() : nullptr, block ? block.capacity() : 0};
  const ssize_t got = block ? channel_.receive(&to, 1) : 0;
  if (got <= 0 && got != -EAGAIN) close();
}

void Connection::abort() {
  if (is_open()) close();
}

void Connection::close() {
  linger_timer_.disarm();
  if (in_epoll_) reactor_.loop_.unwatch(channel_.fd(), this);
  in_epoll_ = false;
  channel_.close();
  end();
}

// The socket is closed, or somebody else's.
void Connection::end() {
  end_input();
  out_.clear();
  settle_budget();
  companion_.reset();
  reactor_.socket_closed(peer_);
  if (in_flight_ == 0) reactor_.retire(this);
}

}  // namespace cellblock::plane
