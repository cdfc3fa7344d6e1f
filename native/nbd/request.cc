#include "nbd/request.h"

#include <cerrno>

#include "base/units.h"

namespace cellblock::nbd {
namespace {

// Flags that mean something for the command; -1 for an unknown command. FUA is accepted on all of them.
int flags_of(const RequestHeader& header, const Terms& terms) {
  switch (header.type) {
    case CommandType::read:
      return kCommandFua | (terms.structured ? kCommandDf : 0);
    case CommandType::write_zeroes:
      return kCommandFua | kCommandNoHole | kCommandFastZero;
    case CommandType::block_status:
      return kCommandFua | kCommandReqOne | (terms.extended && terms.contexts ? kCommandPayloadLen : 0);
    case CommandType::write:
      return kCommandFua | (terms.extended ? kCommandPayloadLen : 0);
    case CommandType::flush:
    case CommandType::trim:
    case CommandType::cache:
      return kCommandFua;
    case CommandType::disc:
    case CommandType::resize:
      break;
  }
  return -1;
}

bool changes_data(CommandType type) {
  return type == CommandType::write || type == CommandType::trim || type == CommandType::write_zeroes;
}

bool past_the_end(const RequestHeader& header, const Terms& terms) {
  return header.offset > terms.size || header.length > terms.size - header.offset;
}

WireError out_of_range(const RequestHeader& header) {
  const bool full = header.type == CommandType::write || header.type == CommandType::write_zeroes;
  return full ? WireError::enospc : WireError::einval;
}

WireError oversized_read(const Terms& terms) {
  // The protocol lets EOVERFLOW stand only where DF exists, which is with structured replies.
  return terms.structured ? WireError::eoverflow : WireError::einval;
}

// A status needs an extent of at least one byte, so an empty query has an answer only where a byte follows
// and the extent may be longer than asked.
bool status_has_answer(const RequestHeader& header, const Terms& terms) {
  if (terms.contexts == 0) return false;
  return header.length > 0 || (header.offset < terms.size && !(header.flags & kCommandReqOne));
}

// Longer than all contexts once each, it would name one twice.
bool is_filter(uint64_t bytes, const Terms& terms) {
  return bytes > kStatusFilterBytes && bytes % 4 == 0 && bytes <= kStatusFilterBytes + 4 * terms.contexts;
}

}  // namespace

bool loses_step(const RequestHeader& header) {
  if (header.has_payload_flag()) return header.length > kMaxRequestBytes;
  return header.type == CommandType::write && header.length > 0;
}

WireError validate(const RequestHeader& header, const Terms& terms) {
  const int flags = flags_of(header, terms);
  if (flags < 0 || (header.flags & ~flags)) return WireError::einval;
  if (terms.extended && header.type == CommandType::write && !header.has_payload_flag()) {
    return WireError::einval;
  }
  if (header.type == CommandType::block_status && header.has_payload_flag()) {
    return is_filter(header.length, terms) ? WireError::none : WireError::einval;
  }
  if (terms.read_only && changes_data(header.type)) return WireError::eperm;
  if (header.type == CommandType::write && header.length > kMaxRequestBytes) return WireError::einval;
  if (header.type == CommandType::flush) {
    return header.offset == 0 && header.length == 0 ? WireError::none : WireError::einval;
  }
  if (past_the_end(header, terms)) return out_of_range(header);
  if (header.type == CommandType::read && header.length > kMaxRequestBytes) return oversized_read(terms);
  if (header.type == CommandType::block_status && !status_has_answer(header, terms)) return WireError::einval;
  return WireError::none;
}

bool read_filter(const std::byte* from, size_t bytes, size_t contexts, StatusFilter& filter) {
  filter.length = load_be<uint64_t>(from);
  std::vector<bool> named(contexts + 1);
  named[0] = true;  // no context has this id
  for (size_t at = kStatusFilterBytes; at < bytes; at += 4) {
    const uint32_t id = load_be<uint32_t>(from + at);
    if (id > contexts || named[id]) return false;
    named[id] = true;
    filter.ids.push_back(id);
  }
  return true;
}

WireError wire_error(int error) {
  switch (error) {
    case 0:
      return WireError::none;
    case EPERM:
    case EACCES:
    case EROFS:
      return WireError::eperm;
    case ENOMEM:
      return WireError::enomem;
    case EINVAL:
      return WireError::einval;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return WireError::enospc;
    case EOVERFLOW:
      return WireError::eoverflow;
    case ENOTSUP:
      return WireError::enotsup;
    case ESHUTDOWN:
      return WireError::eshutdown;
    default:
      return WireError::eio;
  }
}

const char* describe(WireError error) {
  switch (error) {
    case WireError::none:
      return "success";
    case WireError::eperm:
      return "the export is read-only";
    case WireError::eio:
      return "the store could not read or write";
    case WireError::enomem:
      return "out of memory";
    case WireError::einval:
      return "the request is not valid for this export";
    case WireError::enospc:
      return "no space left, or behind the end of the export";
    case WireError::eoverflow:
      return "the request is longer than the maximum payload";
    case WireError::enotsup:
      return "not possible faster than writing";
    case WireError::eshutdown:
      return "the server is shutting down";
  }
  return "unknown error";
}

}  // namespace cellblock::nbd
