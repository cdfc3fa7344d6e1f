// The way of a request through a connection: from its header, through the device, to where its reply is due.
#include <algorithm>
#include <cstring>

#include "plane/connection.h"

namespace cellblock::plane {
namespace {

// Reads up to this are made in the output block, right behind their reply header.
constexpr uint64_t kInPlaceBytes = 64 << 10;
static_assert(kInPlaceBytes + nbd::kMaxOffsetDataBytes <= OutQueue::kMaxReserve);

constexpr unsigned kMaxPinnedInputs = 64;  // per reactor; beyond, payloads are copied
constexpr uint64_t kLargeWrite = 64 << 10;

volume::Command command_of(nbd::CommandType type) {
  switch (type) {
    case nbd::CommandType::read:
      return volume::Command::read;
    case nbd::CommandType::write:
      return volume::Command::write;
    case nbd::CommandType::trim:
      return volume::Command::trim;
    case nbd::CommandType::cache:
      return volume::Command::cache;
    case nbd::CommandType::write_zeroes:
      return volume::Command::write_zeroes;
    case nbd::CommandType::block_status:
      return volume::Command::block_status;
    case nbd::CommandType::flush:
    case nbd::CommandType::disc:
    case nbd::CommandType::resize:
      break;
  }
  return volume::Command::flush;
}

uint16_t flags_of(uint16_t wire) {
  unsigned flags = 0;
  if (wire & nbd::kCommandFua) flags |= volume::kFua;
  if (wire & nbd::kCommandNoHole) flags |= volume::kNoHole;
  if (wire & nbd::kCommandFastZero) flags |= volume::kFastZero;
  if (wire & nbd::kCommandReqOne) flags |= volume::kRequestOne;
  return static_cast<uint16_t>(flags);
}

bool is_known(nbd::CommandType type) { return type <= nbd::CommandType::block_status; }

}  // namespace

// ---- in ----

bool Connection::take_request(const BufferRef& block, std::byte*& at, std::byte* end) {
  nbd::RequestHeader header;
  if (!nbd::parse_request(at, extended_, header)) {
    // Behind a wrong magic nothing can be understood any more; what is in flight is still answered.
    out_of_step_ = true;
    end_input();
    return true;
  }
  if (header.type == nbd::CommandType::disc) {
    log(header);
    end_input();
    return true;
  }
  std::byte* const payload = at + header_bytes_;
  const nbd::WireError error = stopping_ ? nbd::WireError::eshutdown : nbd::validate(header, terms());
  if (error != nbd::WireError::none) [[unlikely]] {
    at = payload;
    refuse(header, error);
    return true;
  }
  if (!admitted_by_volume(header)) return false;
  const bool with_payload = header.type == nbd::CommandType::write || header.has_payload_flag();
  if (with_payload) at = payload;
  bool taken;
  switch (header.type) {
    case nbd::CommandType::read:
      taken = take_read(header);
      break;
    case nbd::CommandType::write:
      taken = take_write(header, block, at, end);
      break;
    case nbd::CommandType::block_status:
      taken = with_payload ? take_filtered_status(header, at, end) : take_status(header);
      break;
    default:
      taken = take_other(header);
      break;
  }
  if (!taken) {
    at = payload - header_bytes_;
    return false;
  }
  if (!with_payload) at = payload;
  was_taken(header);
  return true;
}

nbd::Terms Connection::terms() const {
  return {.size = device_.size(),
          .read_only = (negotiated_.transmission_flags & nbd::kReadOnly) || device_.read_only(),
          .structured = form_ != nbd::ReplyForm::simple,
          .extended = extended_,
          .contexts = contexts_.size()};
}

// The reply waits until the payload, if any, has been thrown away: clients send before they read.
void Connection::refuse(const nbd::RequestHeader& header, nbd::WireError error) {
  count_refusal(header.type);
  if (extended_ && nbd::loses_step(header)) {
    reply_error(header, error);
    out_of_step_ = true;
    return end_input();
  }
  const uint64_t payload = nbd::payload_bytes(header, extended_);
  if (payload == 0) return reply_error(header, error);
  drain_ = payload;
  drained_ = header;
  drain_error_ = error;
}

void Connection::count_refusal(nbd::CommandType type) {
  if (!is_known(type)) return;
  batch_.errors[static_cast<unsigned>(command_of(type))]++;
  batch_.any = true;
}

Operation* Connection::begin(const nbd::RequestHeader& header, volume::Command command) {
  Operation* operation = reactor_.operations_.take();
  operation->connection = this;
  operation->header = header;
  operation->command = command;
  operation->flags = flags_of(header.flags);
  operation->offset = header.offset;
  operation->length = header.length;
  operation->done = done;
  operation->received_ns = turn_ns_;
  return operation;
}

bool Connection::take_write(const nbd::RequestHeader& header, const BufferRef& block, std::byte*& at,
                            std::byte* end) {
  const uint64_t here = static_cast<uint64_t>(end - at);
  const bool whole = here >= header.length;
  const bool in_place = whole && reactor_.pinned_inputs_ < kMaxPinnedInputs;
  if (!admits(header.length + kOperationBytes)) return false;
  if (!whole && !reserve_payload(header.length)) return false;
  expect_payload_ = !whole && header.length >= kLargeWrite;
  if (header.length == 0) {
    log(header);
    reply_success(header);
    return true;
  }
  Operation* operation = begin(header, volume::Command::write);
  if (in_place) {
    operation->data = at;
    operation->buffer = block;
    operation->pins_input = true;
    reactor_.pinned_inputs_++;
    at += header.length;
    payload_complete(operation);
    return true;
  }
  collect_payload(operation, at, end);
  return true;
}

// Moves the payload, as far as it is here, into a buffer of the operation.
void Connection::collect_payload(Operation* operation, std::byte*& at, std::byte* end) {
  const uint64_t length = operation->length;
  operation->buffer = reactor_.buffers_.take(length);
  if (!operation->buffer) {
    const nbd::RequestHeader header = operation->header;
    release_payload();
    release(operation);
    return refuse(header, nbd::WireError::enomem);
  }
  operation->data = operation->buffer.bytes();
  const uint64_t part = std::min(static_cast<uint64_t>(end - at), length);
  std::memcpy(operation->data, at, part);
  at += part;
  // What has not come takes no memory yet.
  charge(operation, part + kOperationBytes);
  if (part == length) return payload_complete(operation);
  receiving_ = operation;
  received_ = part;
}

void Connection::payload_complete(Operation* operation) {
  if (operation->command == volume::Command::block_status) return submit_filtered_status(operation);
  submit(operation, operation->length + kOperationBytes);
}

bool Connection::take_read(const nbd::RequestHeader& header) {
  if (!admits(header.length + kOperationBytes)) return false;
  expect_payload_ = false;
  Operation* operation = begin(header, volume::Command::read);
  if (header.length == 0) {
    log(header);
    reply_read(operation, false);
    release(operation);
    return true;
  }
  operation->fill_holes = form_ == nbd::ReplyForm::simple || (header.flags & nbd::kCommandDf);
  if (header.length <= kInPlaceBytes && !reads_wait_) {
    operation->room = reserve(read_head_ + header.length);
    if (operation->room) operation->data = operation->room + read_head_;
  } else {
    operation->buffer = reactor_.buffers_.take(header.length);
    if (operation->buffer) operation->data = operation->buffer.bytes();
  }
  if (!operation->data) {
    release(operation);
    refuse(header, nbd::WireError::enomem);
    return true;
  }
  submit(operation, header.length + kOperationBytes);
  return true;
}

bool Connection::take_status(const nbd::RequestHeader& header) {
  if (!admits(kOperationBytes)) return false;
  expect_payload_ = false;
  Operation* operation = begin(header, volume::Command::block_status);
  operation->contexts = &contexts_;
  submit_status(operation);
  return true;
}

void Connection::submit_status(Operation* operation) {
  const nbd::RequestHeader& header = operation->header;
  operation->length = header.length;
  if (header.length == 0) {
    // Asked about nothing: answered with what follows, since an extent has at least one byte.
    operation->length = std::min<uint64_t>(nbd::kPreferredBlockBytes, device_.size() - header.offset);
  }
  submit(operation, kOperationBytes);
}

bool Connection::take_filtered_status(const nbd::RequestHeader& header, std::byte*& at, std::byte* end) {
  if (!admits(header.length + kOperationBytes)) return false;
  expect_payload_ = false;
  collect_payload(begin(header, volume::Command::block_status), at, end);
  return true;
}

// From here on it is a BLOCK_STATUS of the length the payload says, about the contexts it names.
void Connection::submit_filtered_status(Operation* operation) {
  nbd::RequestHeader& header = operation->header;
  nbd::StatusFilter filter;
  nbd::WireError error = nbd::WireError::einval;
  if (nbd::read_filter(operation->data, operation->length, contexts_.size(), filter)) {
    header.length = filter.length;
    header.flags &= static_cast<uint16_t>(~nbd::kCommandPayloadLen);
    error = nbd::validate(header, terms());
  }
  if (error != nbd::WireError::none) {
    count_refusal(header.type);
    reply_error(header, error);
    return release(operation);
  }
  for (uint32_t id : filter.ids) operation->chosen.push_back(contexts_[id - 1]);
  operation->contexts = &operation->chosen;
  operation->data = nullptr;
  operation->buffer.reset();
  submit_status(operation);
}

bool Connection::take_other(const nbd::RequestHeader& header) {
  if (!admits(kOperationBytes)) return false;
  expect_payload_ = false;
  if (header.length == 0 && header.type != nbd::CommandType::flush) {
    log(header);
    reply_success(header);
    return true;
  }
  submit(begin(header, command_of(header.type)), kOperationBytes);
  return true;
}

// ---- through the device ----

void Connection::submit(Operation* operation, uint64_t bytes) {
  const bool reading = operation->command == volume::Command::read;
  if (served_.log) [[unlikely]]
    log_request(operation);
  if (device_.submit(*operation) == volume::Submitted::done) {
    if (reading) reads_wait_ = false;
    if (operation->logged) [[unlikely]]
      log_reply(operation);
    count(*operation, nbd::wire_error(operation->error));
    reply(operation, operation->room != nullptr);
    release(operation);
    return;
  }
  if (reading) {
    reads_wait_ = true;
    if (operation->room)
      operation->buffer =
          out_.detach(static_cast<size_t>(operation->data - operation->room) + operation->length);
  }
  charge(operation, bytes);
  in_flight_++;
}

void Connection::charge(Operation* operation, uint64_t bytes) {
  pending_bytes_ += bytes - operation->charge;
  operation->charge = bytes;
}

void Connection::done(volume::Request& request) {
  auto& operation = static_cast<Operation&>(request);
  operation.connection->completed(&operation);
}

void Connection::completed(Operation* operation) {
  in_flight_--;
  if (operation->logged) [[unlikely]]
    log_reply(operation);
  const unsigned kind = static_cast<unsigned>(operation->command);
  KindCounters& counters = served_.counters.kinds[kind];
  counters.requests.add(1);
  if (operation->error) {
    counters.errors.add(1);
  } else {
    counters.bytes.add(operation->length);
  }
  served_.counters.record(kind, 1, reactor_.loop_.now_ns() - operation->received_ns);
  if (!is_open()) {
    release(operation);
    settle_budget();
    if (in_flight_ == 0) reactor_.retire(this);
    return;
  }
  reply(operation, false);
  release(operation);
  reactor_.flush_soon(this);
  if (stall_ == Stall::own_limit) reactor_.run_soon(this);
}

void Connection::release(Operation* operation) {
  pending_bytes_ -= operation->charge;
  operation->charge = 0;
  if (operation->pins_input) reactor_.pinned_inputs_--;
  operation->data = nullptr;
  reactor_.operations_.give_back(operation);
}

// ---- counting ----

void Connection::count(const Operation& operation, nbd::WireError error) {
  const unsigned kind = static_cast<unsigned>(operation.command);
  batch_.any = true;
  if (error == nbd::WireError::none) {
    batch_.answered[kind]++;
    batch_.bytes[kind] += operation.length;
  } else {
    batch_.errors[kind]++;
  }
}

// One look at the clock for everything answered in this turn.
void Connection::record_batch() {
  if (!batch_.any) return;
  const uint64_t ns = reactor_.loop_.refresh() - turn_ns_;
  for (unsigned kind = 0; kind < kKinds; kind++) {
    if (batch_.answered[kind] + batch_.errors[kind] == 0) continue;
    KindCounters& counters = served_.counters.kinds[kind];
    counters.requests.add(batch_.answered[kind] + batch_.errors[kind]);
    counters.bytes.add(batch_.bytes[kind]);
    counters.errors.add(batch_.errors[kind]);
    if (batch_.answered[kind]) served_.counters.record(kind, batch_.answered[kind], ns);
  }
  batch_ = Batch{};
}

}  // namespace cellblock::plane
