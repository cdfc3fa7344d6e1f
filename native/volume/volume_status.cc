// BLOCK_STATUS and CACHE: answered from the maps alone.
#include <fcntl.h>

#include <algorithm>
#include <cerrno>

#include "base/units.h"
#include "volume/volume.h"

namespace cellblock::volume {
namespace {

constexpr size_t kMaxExtents = 1 << 16;  // per context and reply; the client asks on behind them
// Looked at for one reply, for the same reason: a request of 64 bits may ask about more than there is time
// for.
constexpr uint64_t kMaxStatusWindows = 1 << 16;
constexpr uint64_t kMaxCachedBytes = uint64_t{4} << 30;  // of one request; the rest of the hint is not taken
constexpr uint32_t kAllocationHole = 1 << 0;
constexpr uint32_t kAllocationZero = 1 << 1;
constexpr uint32_t kChanged = 1 << 0;

void add_extent(std::vector<StatusExtent>& extents, uint64_t bytes, uint32_t flags) {
  if (!extents.empty() && extents.back().flags == flags)
    extents.back().length += bytes;
  else
    extents.push_back({bytes, flags});
}

// Splits [offset, offset + bytes) by the ranges that changed besides what the layers say.
void add_changed(std::vector<StatusExtent>& extents, const StatusContext& context, uint64_t offset,
                 uint64_t bytes) {
  static const std::vector<std::pair<uint64_t, uint64_t>> kNone;
  const auto& ranges = context.also_changed ? *context.also_changed : kNone;
  auto at = std::upper_bound(
      ranges.begin(), ranges.end(), offset,
      [](uint64_t value, const std::pair<uint64_t, uint64_t>& range) { return value < range.first; });
  if (at != ranges.begin()) --at;
  const uint64_t end = offset + bytes;
  for (; offset < end && at != ranges.end() && at->first < end; ++at) {
    const uint64_t from = std::max(offset, at->first);
    const uint64_t to = std::min(end, at->first + at->second);
    if (to <= from) continue;
    if (from > offset) add_extent(extents, from - offset, 0);
    add_extent(extents, to - from, kChanged);
    offset = to;
  }
  if (offset < end) add_extent(extents, end - offset, 0);
}

}  // namespace

uint32_t Volume::depth_of(uint32_t layer) const {
  if (layer == 0) return 0;
  const auto at = std::lower_bound(layers_.begin(), layers_.end(), layer);
  // A layer that was merged away counts as the next one that is there.
  return std::max<uint32_t>(1, static_cast<uint32_t>(layers_.end() - at));
}

Volume::Walk Volume::advance_status(Request& request) {
  const auto& contexts = *request.contexts;
  if (request.cursor == request.offset) request.extents.assign(contexts.size(), {});
  const uint64_t end =
      request.offset + std::min<uint64_t>(request.length, kMaxStatusWindows << window_shift_);
  const bool one = (request.flags & kRequestOne) != 0;
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
    for (uint16_t i = w.runs.find(static_cast<uint16_t>(at / kBlockBytes)); at < stop; i++) {
      const Run& run = w.runs[i];
      const uint32_t run_end = std::min<uint32_t>(stop, uint32_t{w.runs.end(i, blocks())} * kBlockBytes);
      for (size_t c = 0; c < contexts.size(); c++) {
        auto& extents = request.extents[c];
        switch (contexts[c].kind) {
          case ContextKind::allocation:
            add_extent(extents, run_end - at,
                       run.kind == RunKind::data ? 0 : kAllocationHole | kAllocationZero);
            break;
          case ContextKind::depth:
            add_extent(extents, run_end - at, depth_of(run.layer));
            break;
          case ContextKind::changed:
            if (run.layer > contexts[c].since_layer || contexts[c].since_layer < rebased_layer_)
              add_extent(extents, run_end - at, kChanged);
            else
              add_changed(extents, contexts[c], (span.window << window_shift_) + at, run_end - at);
            break;
        }
      }
      at = run_end;
    }
    request.cursor += span.bytes;
    size_t most = 0, least = SIZE_MAX;
    for (const auto& extents : request.extents) {
      most = std::max(most, extents.size());
      least = std::min(least, extents.size());
    }
    if (most >= kMaxExtents || (one && least > 1)) break;
  }
  if (one) {
    for (auto& extents : request.extents) {
      if (extents.size() > 1) extents.erase(extents.begin() + 1, extents.end());
    }
  }
  return Walk::finished;
}

// Brings maps and, where the system takes the hint, data nearer.
Volume::Walk Volume::advance_cache(Request& request) {
  const uint64_t end = request.offset + std::min(request.length, kMaxCachedBytes);
  while (request.cursor < end && !request.error) {
    const Span span = span_at(request, end);
    Region* region = resident(span.window, &request);
    if (!region) return Walk::waiting;
    const Window& w = window_of(*region, span.window);
    uint32_t at = span.offset;
    const uint32_t stop = span.offset + span.bytes;
    for (uint16_t i = w.runs.find(static_cast<uint16_t>(at / kBlockBytes)); at < stop; i++) {
      const Run& run = w.runs[i];
      const uint32_t run_end = std::min<uint32_t>(stop, uint32_t{w.runs.end(i, blocks())} * kBlockBytes);
      int error = 0;
      io::File* file = run.kind == RunKind::data ? file_of(run.slot, error) : nullptr;
      if (file && file->descriptor() >= 0) {
        posix_fadvise(file->descriptor(), static_cast<off_t>(byte_of(run.slot, at)), run_end - at,
                      POSIX_FADV_WILLNEED);
      }
      at = run_end;
    }
    request.cursor += span.bytes;
  }
  return Walk::finished;
}

}  // namespace cellblock::volume
