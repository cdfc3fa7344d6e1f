// The way of a request through a connection: from its header to its reply.
#include <algorithm>
#include <cstring>

#include "nbd/reply.h"
#include "plane/connection.h"

namespace cellblock::plane {
namespace {

// Reads up to this are made in the output block, right behind their reply header.
constexpr uint64_t kInPlaceBytes = 64 << 10;
static_assert(kInPlaceBytes + nbd::kMaxErrorBytes <= OutQueue::kMaxReserve);

constexpr uint64_t kOperationBytes = 512;  // what a request in flight costs besides its data
constexpr size_t kMaxInFlight = 4096;
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
  if (!nbd::parse_request(at, header) || header.type == nbd::CommandType::disc) {
    // Behind a wrong magic nothing can be understood any more; what is in flight is still answered.
    end_input();
    return true;
  }
  std::byte* const payload = at + nbd::kRequestHeaderBytes;
  const nbd::WireError error = stopping_ ? nbd::WireError::eshutdown : nbd::validate(header, terms());
  if (error != nbd::WireError::none) [[unlikely]] {
    at = payload;
    refuse(header, error);
    return true;
  }
  bool taken;
  switch (header.type) {
    case nbd::CommandType::read:
      taken = take_read(header);
      break;
    case nbd::CommandType::write:
      at = payload;
      taken = take_write(header, block, at, end);
      if (!taken) at = payload - nbd::kRequestHeaderBytes;
      return taken;
    case nbd::CommandType::block_status:
      taken = take_status(header);
      break;
    default:
      taken = take_other(header);
      break;
  }
  if (taken) at = payload;
  return taken;
}

nbd::Terms Connection::terms() const {
  return {.size = device_.size(),
          .read_only = (negotiated_.transmission_flags & nbd::kReadOnly) || device_.read_only(),
          .structured = structured_,
          .contexts = !contexts_.empty()};
}

// The reply waits until the payload, if any, has been thrown away: clients send before they read.
void Connection::refuse(const nbd::RequestHeader& header, nbd::WireError error) {
  if (is_known(header.type)) {
    batch_.errors[static_cast<unsigned>(command_of(header.type))]++;
    batch_.any = true;
  }
  const uint64_t payload = nbd::payload_bytes(header);
  if (payload == 0) return reply_error(header, error);
  drain_ = payload;
  drained_ = header;
  drain_error_ = error;
}

bool Connection::admits(uint64_t bytes) {
  const uint64_t held = pending_bytes_ + out_.bytes();
  if (in_flight_ >= kMaxInFlight ||
      (held > 0 && held + bytes > reactor_.wire_.options.bytes_per_connection)) {
    stall_ = Stall::own_limit;
    return false;
  }
  if (!reactor_.wire_.budget.admits(held, bytes)) {
    stall_ = Stall::budget;
    reactor_.retry_when_budget_allows();
    return false;
  }
  return true;
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
  expect_payload_ = !whole && header.length >= kLargeWrite;
  if (header.length == 0) {
    reply_simple(header.cookie, nbd::WireError::none);
    return true;
  }
  Operation* operation = begin(header, volume::Command::write);
  if (in_place) {
    operation->data = at;
    operation->buffer = block;
    operation->pins_input = true;
    reactor_.pinned_inputs_++;
    at += header.length;
    submit_write(operation);
    return true;
  }
  operation->buffer = reactor_.buffers_.take(header.length);
  if (!operation->buffer) {
    release(operation);
    refuse(header, nbd::WireError::enomem);
    return true;
  }
  operation->data = operation->buffer.bytes();
  const uint64_t part = std::min(here, header.length);
  std::memcpy(operation->data, at, part);
  at += part;
  charge(operation, header.length + kOperationBytes);
  if (whole) {
    submit_write(operation);
  } else {
    receiving_ = operation;
    received_ = part;
  }
  return true;
}

void Connection::submit_write(Operation* operation) {
  submit(operation, operation->length + kOperationBytes);
}

bool Connection::take_read(const nbd::RequestHeader& header) {
  if (!admits(header.length + kOperationBytes)) return false;
  expect_payload_ = false;
  Operation* operation = begin(header, volume::Command::read);
  if (header.length == 0) {
    reply_read(operation, false);
    release(operation);
    return true;
  }
  operation->fill_holes = !structured_ || (header.flags & nbd::kCommandDf);
  if (header.length <= kInPlaceBytes && !reads_wait_) {
    const size_t head = structured_ ? nbd::kOffsetDataBytes : nbd::kSimpleReplyBytes;
    operation->room = reserve(head + header.length);
    if (operation->room) operation->data = operation->room + head;
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
  if (header.length == 0) {
    // Asked about nothing: answered with what follows, since an extent has at least one byte.
    operation->length = std::min<uint64_t>(nbd::kPreferredBlockBytes, device_.size() - header.offset);
  }
  submit(operation, kOperationBytes);
  return true;
}

bool Connection::take_other(const nbd::RequestHeader& header) {
  if (!admits(kOperationBytes)) return false;
  expect_payload_ = false;
  if (header.length == 0 && header.type != nbd::CommandType::flush) {
    reply_simple(header.cookie, nbd::WireError::none);
    return true;
  }
  submit(begin(header, command_of(header.type)), kOperationBytes);
  return true;
}

// ---- through the device ----

void Connection::submit(Operation* operation, uint64_t bytes) {
  const bool reading = operation->command == volume::Command::read;
  if (device_.submit(*operation) == volume::Submitted::done) {
    if (reading) reads_wait_ = false;
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

// ---- out ----

std::byte* Connection::reserve(size_t bytes) {
  std::byte* room = out_.reserve(bytes);
  if (!room) broken_ = true;
  return room;
}

// `in_reservation`: the operation's room is the queue's present reservation.
void Connection::reply(Operation* operation, bool in_reservation) {
  if (operation->error) return reply_error(operation->header, nbd::wire_error(operation->error));
  if (operation->command == volume::Command::read) return reply_read(operation, in_reservation);
  if (operation->command != volume::Command::block_status) {
    return reply_simple(operation->header.cookie, nbd::WireError::none);
  }
  if (!reply_status(operation)) reply_error(operation->header, nbd::WireError::eio);
}

void Connection::reply_simple(uint64_t cookie, nbd::WireError error) {
  std::byte* to = reserve(nbd::kSimpleReplyBytes);
  if (!to) return;
  nbd::simple_reply(to, error, cookie);
  out_.commit(nbd::kSimpleReplyBytes);
}

void Connection::reply_error(const nbd::RequestHeader& header, nbd::WireError error) {
  std::byte* to = reserve(nbd::kMaxErrorBytes);
  if (to) out_.commit(nbd::error_reply(to, structured_, header.cookie, error));
}

void Connection::reply_read(Operation* operation, bool in_reservation) {
  const uint64_t cookie = operation->header.cookie;
  const uint32_t length = static_cast<uint32_t>(operation->length);
  if (length == 0) {
    if (!structured_) return reply_simple(cookie, nbd::WireError::none);
    std::byte* to = reserve(nbd::kChunkHeaderBytes);
    if (!to) return;
    nbd::none_chunk(to, cookie);
    return out_.commit(nbd::kChunkHeaderBytes);
  }
  const auto is_hole = [](const volume::Segment& segment) { return segment.hole; };
  if (!operation->fill_holes &&
      std::any_of(operation->segments.begin(), operation->segments.end(), is_hole)) {
    if (in_reservation && !std::all_of(operation->segments.begin(), operation->segments.end(), is_hole)) {
      operation->buffer = out_.detach(static_cast<size_t>(operation->data - operation->room) + length);
    }
    return reply_fragments(operation);
  }
  const size_t head = structured_ ? nbd::kOffsetDataBytes : nbd::kSimpleReplyBytes;
  std::byte* to = operation->room ? operation->room : reserve(head);
  if (!to) return;
  if (structured_) {
    nbd::offset_data(to, nbd::kChunkDone, cookie, operation->offset, length);
  } else {
    nbd::simple_reply(to, nbd::WireError::none, cookie);
  }
  if (in_reservation) return out_.commit(head + length);
  if (operation->room) return out_.append(to, head + length, operation->buffer);
  out_.commit(head);
  out_.append(operation->data, length, operation->buffer);
}

// A read with holes: a chunk for each run of data and each hole.
void Connection::reply_fragments(Operation* operation) {
  const auto& segments = operation->segments;
  uint64_t at = 0;
  for (size_t i = 0; i < segments.size();) {
    const bool hole = segments[i].hole;
    uint32_t bytes = 0;
    for (; i < segments.size() && segments[i].hole == hole; i++) bytes += segments[i].length;
    if (bytes == 0) continue;
    const uint16_t flags = at + bytes >= operation->length ? nbd::kChunkDone : 0;
    const size_t head = hole ? nbd::kOffsetHoleBytes : nbd::kOffsetDataBytes;
    std::byte* to = reserve(head);
    if (!to) return;
    if (hole) {
      nbd::offset_hole(to, flags, operation->header.cookie, operation->offset + at, bytes);
    } else {
      nbd::offset_data(to, flags, operation->header.cookie, operation->offset + at, bytes);
    }
    out_.commit(head);
    if (!hole) out_.append(operation->data + at, bytes, operation->buffer);
    at += bytes;
  }
}

// One chunk per context. False, with nothing queued, where the device gave no extent for one of them.
bool Connection::reply_status(Operation* operation) {
  if (operation->extents.size() != contexts_.size()) return false;
  const auto is_empty = [](const auto& list) { return list.empty(); };
  if (std::any_of(operation->extents.begin(), operation->extents.end(), is_empty)) return false;
  const nbd::StatusChunk::Query query{operation->header.length,
                                      (operation->header.flags & nbd::kCommandReqOne) != 0};
  for (size_t i = 0; i < contexts_.size(); i++) {
    const auto& extents = operation->extents[i];
    // One more, for an extent that is longer than one of the wire can be.
    const size_t room = nbd::StatusChunk::room(std::min<size_t>(extents.size() + 1, nbd::kMaxExtentsInChunk));
    const bool small = room <= OutQueue::kMaxReserve;
    const BufferRef own = small ? BufferRef() : reactor_.buffers_.take(room);
    std::byte* to = small ? reserve(room) : own ? own.bytes() : nullptr;
    if (!to) {
      broken_ = true;
      return true;
    }
    nbd::StatusChunk chunk(to, query);
    for (const volume::StatusExtent& extent : extents) {
      if (!chunk.add(extent.length, extent.flags)) break;
    }
    const bool last = i + 1 == contexts_.size();
    const size_t bytes = chunk.finish(contexts_[i].id, operation->header.cookie, last ? nbd::kChunkDone : 0);
    if (small) {
      out_.commit(bytes);
    } else {
      out_.append(to, bytes, own);
    }
  }
  return true;
}

}  // namespace cellblock::plane
