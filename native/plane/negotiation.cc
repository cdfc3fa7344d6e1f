#include "plane/negotiation.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "plane/reactor.h"

namespace cellblock::plane {
namespace {

constexpr size_t kReceiveBytes = 16 << 10;
constexpr size_t kMaxUnsent = 64 << 10;  // no further option is taken while more than this is not sent

nbd::DescribedExport described(ExportDescription from) {
  nbd::DescribedExport to;
  to.exists = from.exists;
  to.error = from.error;
  to.refusal = std::move(from.refusal);
  to.name = std::move(from.name);
  to.size = from.size;
  to.read_only = from.read_only;
  to.rotational = from.rotational;
  to.description = std::move(from.description);
  to.snapshots = std::move(from.snapshots);
  return to;
}

}  // namespace

Negotiation::Negotiation(Reactor& reactor, Arrival arrival, nbd::HandshakeOptions options,
                         std::shared_ptr<const tls::Context> context)
    : reactor_(reactor),
      channel_(arrival.fd),
      peer_(std::move(arrival.peer)),
      companion_(std::move(arrival.companion)),
      context_(std::move(context)),
      handshake_(std::move(options)),
      deadline_([this] {
        log(LogLevel::warn, "the handshake did not finish in time");
        reactor_.wire_.timed_out.fetch_add(1);
        close();
      }) {}

void Negotiation::log(LogLevel level, const std::string& message) const {
  reactor_.log(level, message, peer_);
}

void Negotiation::start() {
  deadline_.arm(reactor_.loop_, reactor_.wire_.options.handshake_timeout_ms);
  advance();
}

void Negotiation::ready(uint32_t events) {
  if (!is_open()) return;
  if ((watched_ & EPOLLIN) && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
    if (!in_tls_handshake_) receive();
  } else if (events & (EPOLLHUP | EPOLLERR)) {
    return close();  // not even the answer to its question could be sent
  }
  if (is_open()) advance();
}

void Negotiation::receive() {
  const size_t before = input_.size();
  input_.resize(before + kReceiveBytes);
  const iovec to{input_.data() + before, kReceiveBytes};
  const ssize_t got = channel_.receive(&to, 1);
  input_.resize(before + static_cast<size_t>(std::max<ssize_t>(got, 0)));
  if (got == 0) input_ended_ = true;
  if (got == -EPROTO && channel_.session()) log(LogLevel::warn, channel_.session()->error());
  if (got < 0 && got != -EAGAIN) close();
}

void Negotiation::advance() {
  if (advancing_) return;
  const std::shared_ptr<Negotiation> self = shared_from_this();
  advancing_ = true;
  do {
    send();
  } while (is_open() && step_once());
  advancing_ = false;
  if (is_open()) update_interest();
}

bool Negotiation::step_once() {
  const size_t unsent = handshake_.output().size();
  switch (handshake_.step()) {
    case nbd::Step::need_bytes:
      if (unsent > kMaxUnsent) return false;
      if (input_at_ < input_.size()) {
        input_at_ += handshake_.feed(input_.data() + input_at_, input_.size() - input_at_);
        if (input_at_ == input_.size()) {
          input_.clear();
          input_at_ = 0;
        }
        return true;
      }
      if (channel_.has_input() && !input_ended_) {
        receive();
        return is_open();
      }
      if ((input_ended_ || stopping_) && unsent == 0 && channel_.unsent() == 0) close();
      return false;
    case nbd::Step::list:
    case nbd::Step::describe:
    case nbd::Step::open:
      if (asked_) return false;
      ask();
      return !asked_;
    case nbd::Step::start_tls:
      if (in_tls_handshake_) return shake_hands();
      return unsent == 0 && start_tls();
    case nbd::Step::transmission:
      hand_over();
      return false;
    case nbd::Step::close:
      if (unsent == 0 && channel_.unsent() == 0) close();
      return false;
  }
  return false;
}

void Negotiation::send() {
  std::string& output = handshake_.output();
  while (output_at_ < output.size()) {
    const iovec from{output.data() + output_at_, output.size() - output_at_};
    const ssize_t bytes = channel_.send(&from, 1);
    if (bytes == -EAGAIN) break;
    if (bytes < 0) return close();
    output_at_ += static_cast<size_t>(bytes);
  }
  output.erase(0, std::exchange(output_at_, 0));
  if (!is_open() || in_tls_handshake_) return;
  const int flushed = channel_.flush();
  if (flushed < 0 && flushed != -EAGAIN) close();
}

// The ACK is out; what comes now is the client's first message of TLS.
bool Negotiation::start_tls() {
  if (input_at_ < input_.size()) {
    log(LogLevel::warn, "bytes in clear came behind STARTTLS: somebody in between may have sent them");
    reactor_.wire_.tls_failed.fetch_add(1);
    close();
    return false;
  }
  channel_.start_tls(context_);
  in_tls_handshake_ = true;
  return true;
}

bool Negotiation::shake_hands() {
  switch (channel_.shake_hands()) {
    case tls::Progress::again:
      return false;
    case tls::Progress::failed:
      log(LogLevel::warn, "TLS could not be begun: " + channel_.session()->error());
      reactor_.wire_.tls_failed.fetch_add(1);
      close();
      return false;
    case tls::Progress::done:
      break;
  }
  in_tls_handshake_ = false;
  const tls::Session& session = *channel_.session();
  peer_.tls = true;
  peer_.identity = session.identity();
  peer_.host = session.host();
  reactor_.wire_.tls_begun.fetch_add(1);
  if (reactor_.wire_.log)
    reactor_.wire_.log(LogLevel::info, "TLS begun",
                       {{"peer", peer_.name},
                        {"identity", peer_.identity},
                        {"subject", session.subject()},
                        {"parameters", session.parameters()}});
  handshake_.tls_started();
  return true;
}

void Negotiation::ask() {
  asked_ = true;
  reactor_.lobby_.charge(Lobby::kQuestionNs);
  Directory& directory = reactor_.wire_.directory;
  const unsigned here = reactor_.index();
  const std::weak_ptr<Negotiation> weak = weak_from_this();
  const auto alive = [weak]() -> std::shared_ptr<Negotiation> {
    std::shared_ptr<Negotiation> self = weak.lock();
    return self && self->is_open() ? self : nullptr;
  };
  if (handshake_.step() == nbd::Step::list) {
    return directory.list(here, peer_, [alive](std::vector<ExportName> exports) {
      const auto self = alive();
      if (!self) return;
      std::vector<nbd::ListedExport> listed;
      for (ExportName& one : exports) listed.push_back({std::move(one.name), std::move(one.description)});
      self->handshake_.listed(listed);
      self->answered();
    });
  }
  if (handshake_.step() == nbd::Step::describe) {
    return directory.describe(here, peer_, handshake_.name(), [alive](ExportDescription description) {
      const auto self = alive();
      if (!self) return;
      self->handshake_.described(described(std::move(description)));
      self->answered();
    });
  }
  directory.open(here, peer_, handshake_.name(), handshake_.changed_since(),
                 [alive, &directory](Lease lease) {
                   if (const auto self = alive()) return self->took_lease(std::move(lease));
                   if (lease.error == 0) directory.close(lease.id);
                 });
}

void Negotiation::took_lease(Lease lease) {
  nbd::OpenedExport opened{lease.error, lease.refusal, 0, false};
  if (lease.error == 0) {
    lease_ = std::move(lease);
    opened.size = lease_.device->size();
    opened.read_only = lease_.device->read_only();
  }
  handshake_.opened(opened);
  answered();
}

void Negotiation::answered() {
  asked_ = false;
  reactor_.lobby_.run([weak = weak_from_this()] {
    if (const std::shared_ptr<Negotiation> self = weak.lock(); self && self->is_open()) self->advance();
  });
}

void Negotiation::stop() {
  if (!is_open()) return;
  handshake_.shut_down();
  if (in_tls_handshake_) return close();
  if (!asked_ && !input_ended_) receive();
  stopping_ = true;
  if (is_open()) advance();
}

void Negotiation::hand_over() {
  Settled settled;
  settled.peer = peer_;
  settled.companion = std::move(companion_);
  settled.negotiated = handshake_.negotiated();
  settled.lease = std::exchange(lease_, {});
  settled.input.assign(input_.begin() + static_cast<ptrdiff_t>(input_at_), input_.end());
  settled.output = std::move(handshake_.output());
  if (in_epoll_) reactor_.lobby_.unwatch(channel_.fd(), this);
  in_epoll_ = false;
  deadline_.disarm();
  settled.tls = channel_.take_session();
  settled.fd = channel_.release();
  reactor_.end_negotiation(this);
  reactor_.hand_over(std::move(settled));
}

void Negotiation::close() {
  if (!is_open()) return;
  if (in_epoll_) reactor_.lobby_.unwatch(channel_.fd(), this);
  in_epoll_ = false;
  deadline_.disarm();
  channel_.close();
  // Its client went before it was told.
  if (volume::Device* opened = std::exchange(lease_.device, nullptr); opened != nullptr)
    reactor_.wire_.directory.close(lease_.id);
  companion_.reset();
  reactor_.socket_closed(peer_);
  reactor_.end_negotiation(this);
}

void Negotiation::update_interest() {
  const bool takes_bytes = handshake_.step() == nbd::Step::need_bytes && input_.empty() && !input_ended_;
  const bool has_unsent = !handshake_.output().empty() || channel_.unsent() > 0;
  const uint32_t wanted =
      (takes_bytes || in_tls_handshake_ ? uint32_t{EPOLLIN} : 0) | (has_unsent ? uint32_t{EPOLLOUT} : 0);
  if (in_epoll_ && wanted == watched_) return;
  if (in_epoll_) {
    reactor_.lobby_.rewatch(channel_.fd(), wanted, this);
  } else if (reactor_.lobby_.watch(channel_.fd(), wanted, this) < 0) {
    return close();
  }
  in_epoll_ = true;
  watched_ = wanted;
}

}  // namespace cellblock::plane
