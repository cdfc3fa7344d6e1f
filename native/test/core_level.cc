// See the header.
#include "test/core_level.h"

#include <algorithm>

namespace cellblock::test {
namespace {

bool inside(uint64_t window, uint64_t first, uint64_t end) { return first <= window && window < end; }

}  // namespace

Says Says::from(const Bytes& record, uint32_t blocks) {
  Says says;
  says.blocks.assign(blocks, kSilent);
  store::WindowRecord decoded;
  if (record.empty() || !store::decode_window_record(record, blocks, decoded)) return says;
  says.own = decoded.own_slot;
  for (const store::RecordRun& run : decoded.runs) {
    for (uint32_t i = 0; i < run.count; i++) says.blocks[run.start + i] = run.slot;
  }
  return says;
}

Bytes Says::record() const {
  store::WindowRecord record;
  record.own_slot = own;
  for (uint16_t block = 0; block < blocks.size(); block++) {
    if (blocks[block] == kSilent) continue;
    if (!record.runs.empty() && record.runs.back().slot == blocks[block] &&
        record.runs.back().start + record.runs.back().count == block) {
      record.runs.back().count++;
    } else {
      record.runs.push_back({block, 1, blocks[block]});
    }
  }
  Bytes bytes;
  store::encode_window_record(record, bytes);
  return bytes;
}

std::vector<VersionId> Level::chain(VersionId at) const {
  std::vector<VersionId> chain;
  for (; at.line != 0; at = lines.at(at.line).base) chain.push_back(at);
  return chain;
}

Layers Level::layers(VersionId at) const {
  Layers layers;
  uint32_t next = 1;
  std::vector<VersionId> links = chain(at);
  for (auto link = links.rbegin(); link != links.rend(); ++link) {
    for (uint32_t version : lines.at(link->line).live) {
      if (version <= link->version) layers[{link->line, version}] = next++;
    }
  }
  return layers;
}

bool Level::empty(VersionId at) const {
  for (const VersionId& link : chain(at)) {
    if (!lines.at(link.line).records.empty()) return false;
  }
  return true;
}

bool Level::has_below(VersionId at) const {
  const Line& line = lines.at(at.line);
  return line.base.line != 0 || *line.live.begin() < at.version;
}

std::vector<VersionId> Level::dependents(VersionId at) const {
  std::vector<VersionId> found;
  const Line& own = lines.at(at.line);
  const auto next = own.live.upper_bound(at.version);
  if (next != own.live.end()) found.push_back({at.line, *next});
  for (const auto& [id, line] : lines) {
    if (line.base == at) found.push_back({id, *line.live.begin()});
  }
  return found;
}

uint64_t Level::add_container(uint64_t size, VersionId base) {
  const uint64_t id = next_id++;
  Container& container = containers[id];
  container.size = size;
  container.line = next_id++;
  lines[container.line].container = id;
  lines[container.line].base = base;
  add_file(id);
  return id;
}

void Level::add_file(uint64_t container) { containers.at(container).files.push_back(next_id++); }

void Level::end_version(uint64_t id, const std::string& snapshot, bool listed) {
  Line& line = lines.at(id);
  const uint32_t ended = line.current();
  if (listed)
    snapshots[snapshot] = {line.container, {id, ended}, containers.at(line.container).size};
  else
    line.deleted.insert(ended);
  line.live.insert(ended + 1);
}

void Level::punch_dropped(const Says& old, const Says& now, const std::set<store::Slot>& kept) {
  for (uint32_t block = 0; block < blocks; block++) {
    const store::Slot slot = old.blocks[block];
    if (slot == Says::kSilent || slot == store::kNoSlot || slot == now.blocks[block] || kept.contains(slot))
      continue;
    punches.push_back({slot, block, 1});
  }
}

// ---- rounds ----

void Level::put_cut_off(uint64_t id, const volume::RoundCutOff& cut,
                        const std::vector<volume::RoundRecord>& in_round) {
  Line& line = lines.at(id);
  line.cut_offs.push_back({cut.first, cut.end, cut.version});
  std::erase_if(line.records, [&](const auto& stored) {
    const auto& [window, version] = stored.first;
    if (version != cut.version || !inside(window, cut.first, cut.end)) return false;
    for (const auto& record : in_round) {
      if (record.window == window && record.version == version) return false;
    }
    punch_dropped(Says::from(stored.second, blocks), Says::from({}, blocks), {});
    return true;
  });
}

void Level::put_record(uint64_t id, const volume::RoundRecord& record, bool cut) {
  Line& line = lines.at(id);
  const auto key = std::pair(record.window, record.version);
  const Says now = Says::from(record.bytes, blocks);
  if (record.compare || cut) {
    const Says old = Says::from(line.records[key], blocks);
    // A place of the window's own slot may be written again at any time; a cut-off takes the old own slot
    // away for good. But a round that failed may have stored the new own slot already, and when nothing lies
    // in it now, it is not named: then the old one is left alone.
    punch_dropped(old, now,
                  cut && now.own != store::kNoSlot ? std::set{now.own} : std::set{now.own, old.own});
  }
  if (record.bytes.empty())
    line.records.erase(key);
  else
    line.records[key] = record.bytes;
}

// ---- deletion ----

void Level::merge(VersionId at, VersionId into, uint64_t window) {
  Line& line = lines.at(at.line);
  const auto stored = line.records.find({window, at.version});
  if (stored == line.records.end()) return;
  const Says deleted = Says::from(stored->second, blocks);
  const bool below = has_below(at);
  line.records.erase(stored);
  if (into.line == 0) {
    punch_dropped(deleted, Says::from({}, blocks), {});
    return;
  }
  Line& reader = lines.at(into.line);
  Bytes& target = reader.records[{window, into.version}];
  Says merged = Says::from(target, blocks);
  const uint32_t above = into.line == at.line ? at.version : 0;
  const bool hidden = std::any_of(reader.cut_offs.begin(), reader.cut_offs.end(), [&](const CutOff& cut) {
    return cut.version > above && cut.version <= into.version && inside(window, cut.first, cut.end);
  });
  for (uint32_t block = 0; block < blocks && !hidden; block++) {
    if (merged.blocks[block] != Says::kSilent) continue;
    if (deleted.blocks[block] == store::kNoSlot && !below) continue;
    merged.blocks[block] = deleted.blocks[block];
  }
  punch_dropped(deleted, merged, {});
  target = merged.record();
  if (target.empty()) reader.records.erase({window, into.version});
}

void Level::drop_adopted(VersionId at, VersionId into, uint64_t window) {
  Line& line = lines.at(at.line);
  const Says deleted = Says::from(line.records.at({window, at.version}), blocks);
  const auto mine = lines.at(into.line).records.find({window, into.version});
  const Says now = Says::from(mine == lines.at(into.line).records.end() ? Bytes{} : mine->second, blocks);
  line.records.erase({window, at.version});
  punch_dropped(deleted, now, {now.own});
}

void Level::leave(VersionId at, VersionId into) {
  Line& line = lines.at(at.line);
  const auto self = line.live.find(at.version);
  const uint32_t below = self == line.live.begin() ? 0 : *std::prev(self);
  if (into.line == at.line) {
    for (CutOff& cut : line.cut_offs) {
      if (cut.version == at.version) cut.version = into.version;
    }
  } else if (into.line != 0) {
    Line& reader = lines.at(into.line);
    reader.base = below ? VersionId{at.line, below} : line.base;
    for (const CutOff& cut : line.cut_offs) {
      if (cut.version > below && cut.version <= at.version)
        reader.cut_offs.push_back({cut.first, cut.end, into.version});
    }
  }
  if (into.line != at.line)
    std::erase_if(line.cut_offs, [&](const CutOff& cut) { return cut.version == at.version; });
  line.live.erase(self);
  line.deleted.erase(at.version);
  if (line.live.empty()) lines.erase(at.line);
}

// ---- recovery ----

std::set<uint64_t> Level::files_named(const std::vector<store::Entry>& entries) const {
  std::set<uint64_t> files;
  for (const store::Entry& entry : entries) {
    const auto line = lines.find(entry.line);
    if (entry.type != store::EntryType::own || line == lines.end() || entry.position <= line->second.applied)
      continue;
    files.insert(store::slot_file(entry.argument));
  }
  return files;
}

void Level::replay(const std::vector<store::Entry>& entries, bool power_loss) {
  struct Bounds {
    uint64_t committed = 0;
    std::vector<std::pair<uint64_t, uint64_t>> voids;
  };
  std::map<uint64_t, Bounds> bounds;
  for (const store::Entry& entry : entries) {
    if (entry.type == store::EntryType::commit) {
      bounds[entry.line].committed = std::max(bounds[entry.line].committed, entry.argument);
    } else if (entry.type == store::EntryType::failed) {
      bounds[entry.line].voids.push_back({entry.argument, entry.position});
      if (lines.contains(entry.line)) containers.at(lines.at(entry.line).container).failed = true;
    } else if (entry.type == store::EntryType::cut) {
      for (const store::CutMember& member : entry.members) {
        bounds[member.line].committed = std::max(bounds[member.line].committed, member.up_to);
        const auto line = lines.find(member.line);
        if (line == lines.end() || entry.position <= line->second.applied) continue;
        if (line->second.current() == member.version) end_version(member.line, member.name, true);
      }
    }
  }
  for (const store::Entry& entry : entries) {
    const auto line = lines.find(entry.line);
    if (entry.type > store::EntryType::cut_off || line == lines.end() ||
        entry.position <= line->second.applied)
      continue;
    const Bounds& of = bounds[entry.line];
    const bool is_void = std::any_of(of.voids.begin(), of.voids.end(), [&](const auto& range) {
      return entry.position > range.first && entry.position < range.second;
    });
    if (is_void || (power_loss && entry.position > of.committed)) continue;
    // The cut that ended the version before is missing: it never happened.
    replay_change(line->second, entry, std::min(entry.version, line->second.current()));
  }
}

void Level::replay_change(Line& line, const store::Entry& entry, uint32_t version) {
  if (entry.type == store::EntryType::cut_off) {
    std::erase_if(line.records, [&](const auto& stored) {
      const auto& [window, of] = stored.first;
      return of == version && inside(window, entry.window, entry.argument);
    });
    line.cut_offs.push_back({entry.window, entry.argument, version});
    return;
  }
  Bytes& stored = line.records[{entry.window, version}];
  Says says = Says::from(stored, blocks);
  const bool own = entry.type == store::EntryType::own;
  if (own) says.own = entry.argument;
  for (uint32_t i = 0; i < entry.count; i++)
    says.blocks[entry.start + i] = own ? entry.argument : store::kNoSlot;
  stored = says.record();
}

// ---- faults ----

FaultAnswer answer_fault(const Level& level, VersionId at, const Layers& layers, uint64_t first,
                         uint32_t count) {
  FaultAnswer answer;
  const std::vector<VersionId> chain = level.chain(at);
  for (uint64_t window = first; window < first + count; window++) {
    for (const VersionId& link : chain) {
      const Level::Line& line = level.lines.at(link.line);
      uint32_t limit = 0;
      for (const Level::CutOff& cut : line.cut_offs) {
        if (cut.version <= link.version && inside(window, cut.first, cut.end))
          limit = std::max(limit, cut.version);
      }
      for (auto version = line.live.rbegin(); version != line.live.rend(); ++version) {
        const auto stored = line.records.find({window, *version});
        if (*version > link.version || *version < limit || stored == line.records.end()) continue;
        answer.storage.push_back(std::make_unique<Bytes>(stored->second));
        answer.records.push_back({window, layers.at({link.line, *version}), false, *answer.storage.back()});
      }
      if (limit == 0) continue;
      answer.records.push_back({window, layers.at({link.line, limit}), true, {}});
      break;
    }
  }
  return answer;
}

}  // namespace cellblock::test
