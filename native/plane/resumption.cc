#include "plane/resumption.h"

#include <fcntl.h>

#include <cerrno>
#include <string>
#include <utility>

#include "plane/reactor.h"

namespace cellblock::plane {
namespace {

// A volume of a cell may be served only when the host knows where it stands, which takes its coordinator.
constexpr uint64_t kAgainMs = 100;

}  // namespace

Resumption::Resumption(Reactor& reactor, KeptClient client)
    : reactor_(reactor), channel_(client.fd), client_(std::move(client)), again_([this] { ask(); }) {}

void Resumption::start() {
  prepare_socket(channel_.fd());
  // It came through an exec, and no child of ours shall hold it open.
  fcntl(channel_.fd(), F_SETFD, FD_CLOEXEC);
  reactor_.wire_.connections.fetch_add(1);
  reactor_.wire_.clients.enter(client_.peer);
  until_ns_ = reactor_.loop_.clock_ns() + reactor_.wire_.options.handshake_timeout_ms * 1'000'000;
  ask();
}

void Resumption::ask() {
  std::vector<std::string> changed_since;
  for (const nbd::MetaContext& context : client_.negotiated.contexts) {
    if (context.kind == nbd::MetaKind::changed) changed_since.push_back(context.snapshot);
  }
  Directory& directory = reactor_.wire_.directory;
  directory.open(reactor_.index(), client_.peer, client_.negotiated.name, changed_since,
                 [weak = weak_from_this(), &directory](Lease lease) {
                   const std::shared_ptr<Resumption> self = weak.lock();
                   if (self && self->channel_.is_open()) return self->took_lease(std::move(lease));
                   if (lease.error == 0) directory.close(lease.id);
                 });
}

void Resumption::took_lease(Lease lease) {
  if (lease.error == 0) return serve(std::move(lease));
  if (lease.error == ESHUTDOWN && reactor_.loop_.clock_ns() < until_ns_)
    return again_.arm(reactor_.loop_, kAgainMs);
  reactor_.log(LogLevel::warn, "a client of the run before is not taken over: " + lease.refusal,
               client_.peer);
  close();
}

void Resumption::serve(Lease lease) {
  Settled settled;
  settled.peer = client_.peer;
  settled.negotiated = std::move(client_.negotiated);
  settled.input = std::move(client_.input);
  settled.lease = std::move(lease);
  settled.fd = channel_.release();
  reactor_.end_resumption(this);
  reactor_.hand_over(std::move(settled));
}

void Resumption::close() {
  if (!channel_.is_open()) return;
  again_.disarm();
  channel_.close();
  reactor_.socket_closed(client_.peer);
  reactor_.end_resumption(this);
}

}  // namespace cellblock::plane
