// The transaction log of one volume: what its clients asked and what they were answered, in nbd-server's
// format. Records are collected in memory and written by the reactor's disk engine, one write at a time.
//
// Invariants: a request is in the log before the volume has it, so the log holds whatever may have changed
// the volume; memory is bounded, by two collections of kRoomBytes and one request each: without room no
// request of the volume is taken. A log that cannot be written ends at a whole record as far as it is known,
// and the volume goes on without it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "io/io.h"
#include "nbd/request.h"

namespace cellblock::plane {

class TransactionLog {
 public:
  static constexpr size_t kRoomBytes = 4 << 20;

  struct Hooks {
    std::function<void()> room;           // there is room again
    std::function<void(int error)> lost;  // it could not be written: it has ended
  };

  // Appends from `position` on. `with_data`: payloads of writes are in it, and it can be played back, so what
  // nbd-trplay stops at is left out: CACHE and BLOCK_STATUS, which change nothing.
  TransactionLog(std::unique_ptr<io::File> file, uint64_t position, bool with_data, io::Engine& engine,
                 Hooks hooks);
  // Nothing is being written.
  ~TransactionLog() = default;
  TransactionLog(const TransactionLog&) = delete;
  TransactionLog& operator=(const TransactionLog&) = delete;

  bool has_room() const { return collected_.size() < kRoomBytes; }
  // Is such a request logged? Then log its header (and payload), and its reply when there is one.
  bool wants(nbd::CommandType type) const;
  void request(const nbd::RequestHeader& header, const std::byte* payload);
  void reply(uint64_t cookie, nbd::WireError error);

  // Writes what was collected, unless a write is under way: then what came meanwhile is written behind it.
  void write();
  // Nothing more is logged; `done` when everything is written or lost.
  void finish(std::function<void()> done);

 private:
  static void written(io::Request& request);
  void submit();
  void continued(int64_t result);
  void lose(int error);
  std::byte* add(size_t bytes);

  const std::unique_ptr<io::File> file_;
  const bool with_data_;
  io::Engine& engine_;
  const Hooks hooks_;
  uint64_t position_;
  std::vector<std::byte> collected_;
  std::vector<std::byte> being_written_;
  size_t written_ = 0;  // of being_written_
  bool writing_ = false;
  bool ended_ = false;
  io::Request write_;
  std::function<void()> finished_;
};

}  // namespace cellblock::plane
