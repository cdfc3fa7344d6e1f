#include "fuzz/pattern_device.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/units.h"
#include "fuzz/fail.h"
#include "plane/operation.h"

namespace cellblock::fuzz {
namespace {

// Larger reads, and more than so much in one session, fail: they would only make runs slow.
constexpr uint64_t kMostOfOneRead = 144 << 10;
constexpr uint64_t kMostOfASession = 2 << 20;

constexpr size_t kPageBytes = 4096;

// Two pages alike, so that a page can begin at any byte of the first.
const std::array<std::byte, 2 * kPageBytes>& pages() {
  static const std::array<std::byte, 2 * kPageBytes> filled = [] {
    std::array<std::byte, 2 * kPageBytes> bytes;
    for (size_t i = 0; i < bytes.size(); i++) {
      bytes[i] = static_cast<std::byte>((i % kPageBytes) * 167 + (i % kPageBytes >> 8) * 29 + 1);
    }
    return bytes;
  }();
  return filled;
}

// Calls with each piece that lies within a page: its place in the piece asked for, its content, its length.
template <typename Each>
void each_page(uint64_t offset, size_t bytes, Each each) {
  for (size_t at = 0; at < bytes;) {
    const uint64_t place = offset + at;
    const size_t in_page = static_cast<size_t>(place % kPageBytes);
    const size_t part = std::min(bytes - at, kPageBytes - in_page);
    const size_t shift = static_cast<size_t>(place / kPageBytes * 17 % kPageBytes);
    each(at, pages().data() + (in_page + shift) % kPageBytes, part);
    at += part;
  }
}

}  // namespace

void put_content(uint64_t offset, std::byte* to, size_t bytes) {
  each_page(offset, bytes,
            [&](size_t at, const std::byte* from, size_t n) { std::memcpy(to + at, from, n); });
}

bool is_content(uint64_t offset, std::string_view bytes) {
  bool same = true;
  each_page(offset, bytes.size(), [&](size_t at, const std::byte* from, size_t n) {
    same = same && std::memcmp(bytes.data() + at, from, n) == 0;
  });
  return same;
}

volume::Submitted PatternDevice::submit(volume::Request& request) {
  admit(request);
  if (told_.wait) {
    waiting_.push_back(&request);
    return volume::Submitted::pending;
  }
  perform(request);
  return volume::Submitted::done;
}

bool PatternDevice::complete_first() {
  if (waiting_.empty()) return false;
  volume::Request* request = waiting_.front();
  waiting_.pop_front();
  perform(*request);
  request->done(*request);
  return true;
}

bool PatternDevice::complete_last() {
  if (waiting_.empty()) return false;
  volume::Request* request = waiting_.back();
  waiting_.pop_back();
  perform(*request);
  request->done(*request);
  return true;
}

// Behind the wire's own check: what comes here was sent, comes once, and is within the device's bounds.
void PatternDevice::admit(const volume::Request& request) {
  using volume::Command;
  const uint64_t cookie = static_cast<const plane::Operation&>(request).header.cookie;
  const SentRequest* sent = told_.conversation->find(cookie);
  expect(sent != nullptr, "the device got a request that nobody sent");
  expect(!told_.submitted[cookie - 1], "the device got a request twice");
  told_.submitted[cookie - 1] = true;
  const bool changes = request.command == Command::write || request.command == Command::trim ||
                       request.command == Command::write_zeroes;
  expect(!changes || !known_.read_only, "a change of a read-only device was let through");
  if (request.command == Command::flush) return;
  expect(request.offset <= known_.size && request.length <= known_.size - request.offset,
         "a request past the end was let through");
  expect(request.offset == sent->offset, "the offset is another than was sent");
  const bool empty_status = request.command == Command::block_status && sent->length == 0;
  expect(empty_status || request.length == sent->length, "the length is another than was sent");
  if (request.command == Command::read || request.command == Command::write) {
    expect(request.length <= kMaxRequestBytes, "a payload beyond the maximum was let through");
  }
}

void PatternDevice::perform(volume::Request& request) {
  const uint64_t cookie = static_cast<plane::Operation&>(request).header.cookie;
  Outcome& outcome = told_.outcomes[cookie - 1];
  if (request.command == volume::Command::read) told_.read_bytes += request.length;
  const bool too_much = request.command == volume::Command::read &&
                        (request.length > kMostOfOneRead || told_.read_bytes > kMostOfASession);
  request.error = told_.fail ? told_.fail : too_much ? EIO : 0;
  told_.errors[cookie - 1] = request.error;
  outcome = request.error ? Outcome::failed : Outcome::succeeded;
  if (request.error) return;
  switch (request.command) {
    case volume::Command::read:
      return read(request);
    case volume::Command::write:
      return compare_payload(request);
    case volume::Command::block_status:
      return answer_status(request);
    default:
      return;
  }
}

void PatternDevice::read(volume::Request& request) {
  if (!told_.holes) return put_content(request.offset, request.data, request.length);
  for (uint64_t at = 0; at < request.length;) {
    const uint64_t from = request.offset + at;
    const uint64_t part = std::min<uint64_t>(kPageBytes - from % kPageBytes, request.length - at);
    const bool hole = is_hole(from);
    if (!hole) put_content(from, request.data + at, part);
    if (hole && request.fill_holes) std::memset(static_cast<void*>(request.data + at), 0, part);
    request.segments.push_back({static_cast<uint32_t>(part), hole});
    at += part;
  }
}

void PatternDevice::compare_payload(const volume::Request& request) const {
  const auto& operation = static_cast<const plane::Operation&>(request);
  const SentRequest& sent = *told_.conversation->find(operation.header.cookie);
  const std::string_view payload = told_.stream.substr(sent.payload, request.length);
  expect(payload.size() == request.length, "a write came to the device before all of its payload was sent");
  expect(std::memcmp(payload.data(), request.data, payload.size()) == 0,
         "a write has other bytes than were sent");
}

// As long extents as a device gives them: up to all that was asked for, and at most so many.
void PatternDevice::answer_status(volume::Request& request) const {
  constexpr size_t kMostExtents = 9000;  // more than a reply holds that is built in place
  for (const volume::StatusContext& context : *request.contexts) {
    std::vector<volume::StatusExtent> extents;
    const bool fine = told_.holes && context.kind == volume::ContextKind::allocation;
    uint64_t at = 0;
    while (at < request.length && extents.size() < kMostExtents) {
      const uint64_t from = request.offset + at;
      const uint64_t part =
          fine ? std::min(kPageBytes - from % kPageBytes, request.length - at) : request.length;
      extents.push_back({part, fine && is_hole(from) ? 3u : 0u});
      at += part;
    }
    request.extents.push_back(std::move(extents));
  }
}

}  // namespace cellblock::fuzz
