// Reads: resident and cached data is copied inline, the rest goes to the engine.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/units.h"
#include "volume/volume.h"

namespace cellblock::volume {
namespace {

constexpr uint32_t kInlineReadBytes = 1 << 20;

}  // namespace

Volume::Walk Volume::advance_read(Request& request) {
  const uint64_t end = request.offset + request.length;
  while (request.cursor < end && !request.error) {
    const Span span = span_at(request, end);
    Region* region = resident(span.window, &request);
    if (!region) return Walk::waiting;
    const Window& w = window_of(*region, span.window);
    if (w.damaged) {
      request.error = EIO;
      break;
    }
    uint32_t at = span.offset;
    const uint32_t stop = span.offset + span.bytes;
    for (uint16_t i = w.runs.find(static_cast<uint16_t>(at / kBlockBytes)); at < stop && !request.error;
         i++) {
      const uint32_t run_end = std::min<uint32_t>(stop, uint32_t{w.runs.end(i, blocks())} * kBlockBytes);
      std::byte* to = request.data + (request.cursor - request.offset) + (at - span.offset);
      read_run(request, w.runs[i], at, run_end - at, to);
      at = run_end;
    }
    request.cursor += span.bytes;
  }
  return Walk::finished;
}

void Volume::read_run(Request& request, const Run& run, uint64_t in_window, uint32_t bytes, std::byte* to) {
  if (run.kind != RunKind::data) {
    if (request.fill_holes) std::memset(to, 0, bytes);
    add_segment(request, bytes, !request.fill_holes);
    return;
  }
  int error = 0;
  io::File* file = file_of(run.slot, error);
  if (!file) {
    request.error = EIO;
    return;
  }
  add_segment(request, bytes, false);
  const uint64_t offset = byte_of(run.slot, in_window);
  uint32_t got = 0;
  if (!direct_ && bytes <= kInlineReadBytes) {
    const ssize_t result = file->try_read(to, bytes, offset);
    if (result == static_cast<ssize_t>(bytes)) return;
    if (result < 0 && result != -EAGAIN) {
      request.error = EIO;
      return;
    }
    if (result > 0) got = static_cast<uint32_t>(result);
  }
  const bool aligned = offset % kBlockBytes == 0 && bytes % kBlockBytes == 0 &&
                       reinterpret_cast<uintptr_t>(to) % kBlockBytes == 0;
  const uint64_t first = offset / kBlockBytes * kBlockBytes;
  const uint64_t last = (offset + bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
  std::byte* bounce = nullptr;
  if (direct_ && !aligned) {
    bounce = static_cast<std::byte*>(std::aligned_alloc(kBlockBytes, last - first));
    if (!bounce) {
      request.error = ENOMEM;
      return;
    }
  }
  Part& part = new_part(&request);
  part.io.operation = io::Operation::read;
  part.io.file = file;
  part.io.done = read_part_done;
  part.to = to;
  part.bytes = bytes;
  if (bounce) {
    part.bounce = bounce;
    part.skip = static_cast<uint32_t>(offset - first);
    part.io.offset = first;
    part.io.length = last - first;
    part.io.data = part.bounce;
  } else {
    part.io.offset = offset + got;
    part.io.length = bytes - got;
    part.io.data = to + got;
  }
  submit_part(part);
}

void Volume::read_part_done(io::Request& io) {
  Part& part = *static_cast<Part*>(io.owner);
  Volume& volume = *part.volume;
  if (io.result > 0 && static_cast<uint64_t>(io.result) < io.length) {
    io.offset += static_cast<uint64_t>(io.result);
    io.length -= static_cast<uint64_t>(io.result);
    io.data = static_cast<std::byte*>(io.data) + io.result;
    volume.submit_part(part);
    return;
  }
  // A place that a map names is inside its file: nothing read means the file was damaged from outside.
  if (io.result <= 0)
    part.request->error = EIO;
  else if (part.bounce)
    std::memcpy(part.to, part.bounce + part.skip, part.bytes);
  volume.end_part(part);
}

void Volume::add_segment(Request& request, uint32_t bytes, bool hole) {
  if (!request.segments.empty() && request.segments.back().hole == hole) {
    request.segments.back().length += bytes;
    return;
  }
  request.segments.push_back({bytes, hole});
}

}  // namespace cellblock::volume
