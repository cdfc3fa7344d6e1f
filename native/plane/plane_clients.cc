// The plane's clients: where they are listened for, what is answered to them of exports, those of an earlier
// process, and the stop.
#include <algorithm>
#include <cerrno>
#include <iterator>

#include "plane/plane.h"

namespace cellblock::plane {

int Plane::listen(const std::string& address, const ListenOptions& options, std::string& bound,
                  std::string& sentence) {
  return serve(listen_on(address, options), options.visitors, bound, sentence);
}

int Plane::listen_on_descriptor(int fd, const ListenOptions& options, std::string& bound,
                                std::string& sentence) {
  return serve(adopt_listening(fd, options), options.visitors, bound, sentence);
}

int Plane::serve(Bound socket, Visitors visitors, std::string& bound, std::string& sentence) {
  if (socket.error) {
    sentence = std::move(socket.sentence);
    return -socket.error;
  }
  bound = socket.address;
  // A listener lives on its reactor's thread; the connections it accepts move to their volumes' homes.
  Seat& seat = seats_[next_listener_++ % seats_.size()];
  seat.reactor->loop().post([&seat, visitors, socket = std::move(socket)] {
    seat.listeners.push_back(std::make_unique<Listener>(*seat.reactor, socket, visitors));
  });
  return 0;
}

bool Plane::set_tls(nbd::TlsPolicy policy, const tls::ContextOptions& options, std::string& sentence) {
  TlsSetting setting{policy, nullptr};
  if (policy != nbd::TlsPolicy::none) {
    setting.context = tls::Context::make(options, sentence);
    if (!setting.context) return false;
  }
  wire_->set_tls(std::move(setting));
  return true;
}

template <typename Reply>
void Plane::deliver(std::unordered_map<uint64_t, Asked<Reply>>& asked, uint64_t ticket, Reply reply) {
  Asked<Reply> waiting;
  {
    std::lock_guard lock(asked_mutex_);
    auto found = asked.find(ticket);
    if (found == asked.end()) return;
    waiting = std::move(found->second);
    asked.erase(found);
  }
  seats_[waiting.reactor].reactor->loop().post(
      [call = std::move(waiting.reply), reply = std::move(reply)] { call(reply); });
}

void Plane::list(unsigned reactor, const Peer& peer, std::function<void(std::vector<ExportName>)> reply) {
  const uint64_t ticket = next_ticket_.fetch_add(1);
  {
    std::lock_guard lock(asked_mutex_);
    lists_[ticket] = {reactor, std::move(reply)};
  }
  sink_.push(ListAsked{ticket, peer});
}

void Plane::describe(unsigned reactor, const Peer& peer, const std::string& name,
                     std::function<void(ExportDescription)> reply) {
  const uint64_t ticket = next_ticket_.fetch_add(1);
  {
    std::lock_guard lock(asked_mutex_);
    descriptions_[ticket] = {reactor, std::move(reply)};
  }
  sink_.push(DescribeAsked{ticket, peer, name});
}

void Plane::open(unsigned reactor, const Peer& peer, const std::string& name,
                 const std::vector<std::string>& changed_since, std::function<void(Lease)> reply) {
  const uint64_t ticket = next_ticket_.fetch_add(1);
  {
    std::lock_guard lock(asked_mutex_);
    opens_[ticket] = {reactor, std::move(reply)};
  }
  sink_.push(OpenAsked{ticket, peer, name, changed_since});
}

void Plane::close(uint64_t lease) { sink_.push(LeaseClosed{lease}); }

void Plane::list_reply(uint64_t ticket, std::vector<ExportName> exports) {
  deliver(lists_, ticket, std::move(exports));
}

void Plane::describe_reply(uint64_t ticket, ExportDescription description) {
  deliver(descriptions_, ticket, std::move(description));
}

void Plane::open_reply(uint64_t ticket, LeaseReply reply, int error, const std::string& refusal) {
  Lease lease;
  lease.error = error;
  lease.refusal = refusal;
  lease.id = reply.lease;
  lease.changed_contexts = std::move(reply.contexts);
  if (!error) {
    lease.device = find(reply.handle);
    if (!lease.device) lease.error = ENOENT;
  }
  deliver(opens_, ticket, std::move(lease));
}

// ---- the stop, and what is left to another process ----

void Plane::resume(KeptClient client) {
  Seat& seat = seats_[next_listener_++ % seats_.size()];
  // A closure has to be copyable.
  auto shared = std::make_shared<KeptClient>(std::move(client));
  seat.reactor->loop().post([&seat, shared] { seat.reactor->resume(std::move(*shared)); });
}

void Plane::stop_serving(uint64_t ticket, uint64_t deadline_ms) {
  stop(deadline_ms, Reactor::Clients::end, [this, ticket](std::vector<KeptClient>) { answer(ticket, 0); });
}

void Plane::keep_clients(uint64_t ticket, uint64_t deadline_ms) {
  stop(deadline_ms, Reactor::Clients::keep, [this, ticket](std::vector<KeptClient> kept) {
    sink_.push(ClientsKept{ticket, std::move(kept)});
  });
}

void Plane::stop(uint64_t deadline_ms, Reactor::Clients what,
                 std::function<void(std::vector<KeptClient>)> done) {
  struct Stop {
    std::mutex lock;
    size_t remaining;
    std::vector<KeptClient> kept;
    std::function<void(std::vector<KeptClient>)> done;
  };
  auto stop = std::make_shared<Stop>();
  stop->remaining = seats_.size();
  stop->done = std::move(done);
  for (Seat& seat : seats_) {
    seat.reactor->loop().post([&seat, stop, deadline_ms, what] {
      seat.listeners.clear();
      const auto stopped = [&seat, stop](size_t) {
        std::lock_guard lock(stop->lock);
        std::ranges::move(seat.reactor->take_kept(), std::back_inserter(stop->kept));
        if (--stop->remaining == 0) stop->done(std::move(stop->kept));
      };
      seat.reactor->stop_serving(deadline_ms, stopped, what);
    });
  }
}

}  // namespace cellblock::plane
