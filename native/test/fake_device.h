// Devices and a directory for tests of the wire: a RAM disk that answers at once or when told to, and a table
// of exports that answers at once or when told to.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "plane/directory.h"
#include "volume/device.h"

namespace cellblock::test {

class FakeDevice : public volume::Device {
 public:
  explicit FakeDevice(uint64_t bytes, unsigned home = 0) : bytes_(bytes), home_(home) {}

  // `wait`: requests stay here until complete(). `hole_at`: what a read calls a hole, in units of 4 KiB.
  bool wait = false;
  bool hold = false;
  bool is_read_only = false;
  int fail_with = 0;  // errno of every request
  std::function<bool(uint64_t block)> hole_at;
  std::function<std::vector<std::vector<volume::StatusExtent>>(const volume::Request&)> status;
  std::deque<volume::Request*> waiting;
  std::vector<volume::Command> seen;  // commands, when `remember`
  bool remember = false;
  uint64_t moved_bytes = 0;  // asked for by reads and writes
  uint16_t last_flags = 0;
  uint64_t last_length = 0;

  volume::Submitted submit(volume::Request& request) override {
    last_flags = request.flags;
    last_length = request.length;
    if (request.command == volume::Command::read || request.command == volume::Command::write) {
      moved_bytes += request.length;
    }
    if (remember) seen.push_back(request.command);
    if (wait) {
      waiting.push_back(&request);
      return volume::Submitted::pending;
    }
    perform(request);
    return volume::Submitted::done;
  }

  // Answers the oldest that wait; returns how many there were.
  size_t complete(size_t most = SIZE_MAX) {
    size_t count = 0;
    for (; count < most && !waiting.empty(); count++) {
      volume::Request* request = waiting.front();
      waiting.pop_front();
      finish(*request);
    }
    return count;
  }
  void complete_last() {
    volume::Request* request = waiting.back();
    waiting.pop_back();
    finish(*request);
  }

  uint64_t size() const override { return bytes_.size(); }
  bool read_only() const override { return is_read_only; }
  bool held() const override { return hold; }
  unsigned home() const override { return home_; }
  std::vector<std::byte>& bytes() { return bytes_; }

 private:
  void finish(volume::Request& request) {
    perform(request);
    request.done(request);
  }

  void perform(volume::Request& request) {
    request.error = fail_with;
    if (fail_with) return;
    std::byte* const here = bytes_.data() + request.offset;
    switch (request.command) {
      case volume::Command::read:
        return read(request);
      case volume::Command::write:
        std::memcpy(here, request.data, request.length);
        return;
      case volume::Command::trim:
      case volume::Command::write_zeroes:
        std::memset(static_cast<void*>(here), 0, request.length);
        return;
      case volume::Command::block_status:
        return answer_status(request);
      case volume::Command::flush:
      case volume::Command::cache:
        return;
    }
  }

  void read(volume::Request& request) {
    if (!hole_at) {
      std::memcpy(request.data, bytes_.data() + request.offset, request.length);
      return;
    }
    for (uint64_t at = 0; at < request.length;) {
      const uint64_t from = request.offset + at;
      const uint64_t part = std::min<uint64_t>(4096 - from % 4096, request.length - at);
      const bool hole = hole_at(from / 4096);
      if (!hole) std::memcpy(request.data + at, bytes_.data() + from, part);
      if (hole && request.fill_holes) std::memset(static_cast<void*>(request.data + at), 0, part);
      request.segments.push_back({static_cast<uint32_t>(part), hole});
      at += part;
    }
  }

  void answer_status(volume::Request& request) {
    if (status) {
      request.extents = status(request);
      return;
    }
    request.extents.assign(request.contexts->size(), {{request.length, 0}});
  }

  std::vector<std::byte> bytes_;
  unsigned home_;
};

// `later`: answers wait for answer().
class TableDirectory : public plane::Directory {
 public:
  struct Entry {
    volume::Device* device = nullptr;
    std::string description;
    bool rotational = false;
    std::vector<std::string> snapshots;
    int open_error = 0;
    bool tls_only = false;  // there is none for a client in clear
  };

  std::map<std::string, Entry> table;
  bool later = false;
  std::deque<std::function<void()>> questions;
  size_t leases_open = 0;
  plane::Peer last_peer;
  std::vector<std::string> last_changed_since;

  void list(unsigned, const plane::Peer& peer,
            std::function<void(std::vector<plane::ExportName>)> reply) override {
    last_peer = peer;
    ask([this, tls = peer.tls, reply] {
      std::vector<plane::ExportName> names;
      for (const auto& [name, entry] : table) {
        if (tls || !entry.tls_only) names.push_back({name, entry.description});
      }
      reply(names);
    });
  }

  void describe(unsigned, const plane::Peer& peer, const std::string& name,
                std::function<void(plane::ExportDescription)> reply) override {
    last_peer = peer;
    ask([this, tls = peer.tls, name, reply] {
      plane::ExportDescription description;
      const auto found = table.find(name);
      if (found != table.end() && found->second.tls_only && !tls) {
        description.error = ENOKEY;
      } else if (found != table.end()) {
        const Entry& entry = found->second;
        description.exists = true;
        description.size = entry.device->size();
        description.read_only = entry.device->read_only();
        description.rotational = entry.rotational;
        description.description = entry.description;
        description.snapshots = entry.snapshots;
      } else {
        description.refusal = "no export '" + name + "' in the table";
      }
      reply(description);
    });
  }

  void open(unsigned, const plane::Peer& peer, const std::string& name,
            const std::vector<std::string>& changed_since, std::function<void(plane::Lease)> reply) override {
    last_peer = peer;
    last_changed_since = changed_since;
    ask([this, tls = peer.tls, name, changed_since, reply] {
      plane::Lease lease;
      const auto found = table.find(name);
      if (found != table.end() && found->second.tls_only && !tls) {
        lease.error = ENOKEY;
        return reply(lease);
      }
      if (found == table.end() || found->second.open_error) {
        lease.error = found == table.end() ? ENOENT : found->second.open_error;
        lease.refusal = "cannot open '" + name + "'";
        return reply(lease);
      }
      lease.device = found->second.device;
      lease.id = ++last_lease_;
      leases_open++;
      for (size_t i = 0; i < changed_since.size(); i++) {
        volume::StatusContext context;
        context.since_layer = static_cast<uint32_t>(100 + i);
        lease.changed_contexts.push_back(context);
      }
      reply(lease);
    });
  }

  void close(uint64_t) override { leases_open--; }

  bool answer() {
    if (questions.empty()) return false;
    const auto one = std::move(questions.front());
    questions.pop_front();
    one();
    return true;
  }

 private:
  void ask(std::function<void()> question) {
    if (later) {
      questions.push_back(std::move(question));
    } else {
      question();
    }
  }

  uint64_t last_lease_ = 0;
};

}  // namespace cellblock::test
