// The replies of a connection: an operation that is done becomes bytes in the queue of what is to be sent.
#include <algorithm>

#include "plane/connection.h"

namespace cellblock::plane {

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
    return reply_success(operation->header);
  }
  if (!reply_status(operation)) reply_error(operation->header, nbd::WireError::eio);
}

void Connection::reply_success(const nbd::RequestHeader& header) {
  std::byte* to = reserve(nbd::kExtendedChunkHeaderBytes);
  if (to) out_.commit(nbd::success_reply(to, form_, header));
}

void Connection::reply_error(const nbd::RequestHeader& header, nbd::WireError error) {
  std::byte* to = reserve(nbd::kMaxErrorBytes);
  if (to) out_.commit(nbd::error_reply(to, form_, header, error));
}

void Connection::reply_read(Operation* operation, bool in_reservation) {
  const nbd::RequestHeader& header = operation->header;
  const uint32_t length = static_cast<uint32_t>(operation->length);
  if (length == 0) {
    if (form_ != nbd::ReplyForm::structured) return reply_success(header);
    std::byte* to = reserve(nbd::kChunkHeaderBytes);
    if (!to) return;
    nbd::none_chunk(to, form_, header);
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
  const size_t head = read_head_;
  std::byte* to = operation->room ? operation->room : reserve(head);
  if (!to) return;
  if (form_ == nbd::ReplyForm::simple) {
    nbd::simple_reply(to, nbd::WireError::none, header.cookie);
  } else {
    nbd::offset_data(to, form_, header, nbd::kChunkDone, operation->offset, length);
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
    const size_t head = hole ? nbd::offset_hole_bytes(form_) : nbd::offset_data_bytes(form_);
    std::byte* to = reserve(head);
    if (!to) return;
    if (hole) {
      nbd::offset_hole(to, form_, operation->header, flags, operation->offset + at, bytes);
    } else {
      nbd::offset_data(to, form_, operation->header, flags, operation->offset + at, bytes);
    }
    out_.commit(head);
    if (!hole) out_.append(operation->data + at, bytes, operation->buffer);
    at += bytes;
  }
}

// One chunk per context. False, with nothing queued, where the device gave no extent for one of them.
bool Connection::reply_status(Operation* operation) {
  const std::vector<volume::StatusContext>& contexts = *operation->contexts;
  if (operation->extents.size() != contexts.size()) return false;
  const auto is_empty = [](const auto& list) { return list.empty(); };
  if (std::any_of(operation->extents.begin(), operation->extents.end(), is_empty)) return false;
  const nbd::StatusChunk::Query query{operation->header.length,
                                      (operation->header.flags & nbd::kCommandReqOne) != 0};
  for (size_t i = 0; i < contexts.size(); i++) {
    const auto& extents = operation->extents[i];
    // One more, for an extent that is longer than one of the wire can be.
    const size_t room =
        nbd::StatusChunk::room(form_, std::min<size_t>(extents.size() + 1, nbd::kMaxExtentsInChunk));
    const bool small = room <= OutQueue::kMaxReserve;
    const BufferRef own = small ? BufferRef() : reactor_.buffers_.take(room);
    std::byte* to = small ? reserve(room) : own ? own.bytes() : nullptr;
    if (!to) {
      broken_ = true;
      return true;
    }
    nbd::StatusChunk chunk(to, form_, query);
    for (const volume::StatusExtent& extent : extents) {
      if (!chunk.add(extent.length, extent.flags)) break;
    }
    const bool last = i + 1 == contexts.size();
    const size_t bytes = chunk.finish(operation->header, contexts[i].id, last ? nbd::kChunkDone : 0);
    if (small) {
      out_.commit(bytes);
    } else {
      out_.append(to, bytes, own);
    }
  }
  return true;
}

}  // namespace cellblock::plane
