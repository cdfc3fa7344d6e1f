#include "plane/transaction_log.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "nbd/log_record.h"

namespace cellblock::plane {
namespace {

constexpr size_t kKeptBytes = 1 << 20;  // of a collection that one large request made large

}  // namespace

TransactionLog::TransactionLog(std::unique_ptr<io::File> file, uint64_t position, bool with_data,
                               io::Engine& engine, Hooks hooks)
    : file_(std::move(file)),
      with_data_(with_data),
      engine_(engine),
      hooks_(std::move(hooks)),
      position_(position) {
  // Said in any case: an earlier part of the file may have been written the other way.
  nbd::log_mark(add(nbd::kLogRequestBytes), with_data_);
}

bool TransactionLog::wants(nbd::CommandType type) const {
  const bool changes_nothing = type == nbd::CommandType::cache || type == nbd::CommandType::block_status;
  return !ended_ && !(with_data_ && changes_nothing);
}

void TransactionLog::request(const nbd::RequestHeader& header, const std::byte* payload) {
  uint64_t at = 0;
  do {
    const uint64_t part = std::min(header.length - at, nbd::kMostLoggedLength);
    nbd::log_request(add(nbd::kLogRequestBytes), header, header.offset + at, static_cast<uint32_t>(part));
    at += part;
  } while (at < header.length);
  if (!with_data_ || header.type != nbd::CommandType::write || header.length == 0) return;
  std::memcpy(add(header.length), payload, header.length);
}

void TransactionLog::reply(uint64_t cookie, nbd::WireError error) {
  if (!ended_) nbd::simple_reply(add(nbd::kLogReplyBytes), error, cookie);
}

std::byte* TransactionLog::add(size_t bytes) {
  const size_t at = collected_.size();
  collected_.resize(at + bytes);
  return collected_.data() + at;
}

void TransactionLog::write() {
  if (writing_ || collected_.empty()) return;
  being_written_.swap(collected_);
  collected_.clear();
  written_ = 0;
  submit();
}

void TransactionLog::submit() {
  writing_ = true;
  write_.operation = io::Operation::write;
  write_.file = file_.get();
  write_.offset = position_ + written_;
  write_.length = being_written_.size() - written_;
  write_.data = being_written_.data() + written_;
  write_.owner = this;
  write_.done = written;
  engine_.submit(write_);
}

void TransactionLog::written(io::Request& request) {
  static_cast<TransactionLog*>(request.owner)->continued(request.result);
}

void TransactionLog::continued(int64_t result) {
  writing_ = false;
  if (result <= 0) {
    lose(result < 0 ? static_cast<int>(-result) : EIO);
  } else {
    written_ += static_cast<size_t>(result);
    if (written_ < being_written_.size()) return submit();
    position_ += written_;
    being_written_.clear();
    if (being_written_.capacity() > kKeptBytes) being_written_.shrink_to_fit();
    const bool had_room = has_room();
    write();
    if (!had_room) hooks_.room();
  }
  if (!writing_ && finished_) std::exchange(finished_, nullptr)();
}

void TransactionLog::lose(int error) {
  const bool had_room = has_room();
  ended_ = true;
  being_written_ = {};
  collected_ = {};
  hooks_.lost(error);
  if (!had_room) hooks_.room();
}

void TransactionLog::finish(std::function<void()> done) {
  ended_ = true;
  write();
  if (!writing_) return done();
  finished_ = std::move(done);
}

}  // namespace cellblock::plane
