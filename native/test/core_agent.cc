// The world's agent: rounds, snapshots, clones, deletion and resize, in the phases and the order that DESIGN
// demands.
#include <algorithm>
#include <cerrno>

#include "test/core_world.h"

namespace cellblock::test {
namespace {

// A container nobody else works on while this lives.
class Busy {
 public:
  Busy(std::set<uint64_t>& busy, uint64_t container)
      : busy_(busy), container_(container), mine_(busy.insert(container).second) {}
  ~Busy() {
    if (mine_) busy_.erase(container_);
  }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;

 private:
  std::set<uint64_t>& busy_;
  uint64_t container_;
  bool mine_;
};

}  // namespace

// One batch: a change of the disk before it and one after it, so that crashes and errors come at its edges. A
// batch whose sync failed is there, but nobody may count on it.
int World::commit(const std::function<void(Level&)>& batch) {
  while (!owed_.empty()) {
    const auto first = std::move(owed_.front());
    owed_.pop_front();
    if (const int error = commit_alone(first)) {
      owed_.push_front(first);
      return error;
    }
  }
  return commit_alone(batch);
}

int World::commit_alone(const std::function<void(Level&)>& batch) {
  const Bytes page(4096, std::byte{1});
  const ssize_t written = level_file_->try_write(page.data(), page.size(), 0);
  if (crashed()) return kCrashed;
  if (written < 0) return static_cast<int>(-written);
  batch(level);
  const int synced = disk_->sync(*level_file_);
  if (crashed()) return kCrashed;
  return -synced;
}

uint64_t World::create(uint64_t size) {
  uint64_t id = 0;
  if (commit([&](Level& now) { id = now.add_container(size, {}); })) return 0;
  open_[id] = open({level.containers.at(id).line, 1}, id, false, false);
  return id;
}

// ---- rounds ----

int World::round(uint64_t container) {
  const Busy busy(busy_, container);
  volume::Volume& of = volume(container);
  volume::Round round;
  bool taken = false;
  of.take_round([&](volume::Round answer) {
    round = std::move(answer);
    taken = true;
  });
  if (const int error = run_until([&] { return taken; })) return error;
  if (at) at("round taken");
  int error = round.error;
  if (!error) error = store_round(container, round, [](Level&) {});
  if (error) {
    if (error == kCrashed) return error;
    of.round_failed();
    of.set_rounds_failing(true);
    return error;
  }
  of.round_done(round.position);
  trim_journal();
  return 0;
}

int World::store_round(uint64_t container, const volume::Round& round,
                       const std::function<void(Level&)>& with_last) {
  const uint64_t line = level.containers.at(container).line;
  size_t next = 0;
  do {
    const size_t end = std::min(round.records.size(), next + options_.records_a_batch);
    const bool last = end == round.records.size();
    const int error = commit([&](Level& now) {
      if (next == 0) {
        for (const auto& cut : round.cut_offs) now.put_cut_off(line, cut, round.records);
      }
      for (size_t i = next; i < end; i++) {
        const volume::RoundRecord& record = round.records[i];
        const bool cut =
            std::any_of(round.cut_offs.begin(), round.cut_offs.end(), [&](const volume::RoundCutOff& one) {
              return one.version == record.version && one.first <= record.window && record.window < one.end;
            });
        now.put_record(line, record, cut);
      }
      if (!last) return;
      with_last(now);
      now.lines.at(line).applied = std::max(now.lines.at(line).applied, round.position);
    });
    if (error) return error;
    next = end;
    // Other things happen between two batches.
    for (unsigned i = 0; i < 3 && !last; i++) {
      if (between && !in_background_) between();
      step();
    }
  } while (next < round.records.size());
  return 0;
}

void World::trim_journal() {
  uint64_t tail = journal_->next();
  for (const auto& [id, one] : open_) tail = std::min(tail, one.volume->oldest_unapplied());
  journal_->set_tail(tail);
  for (const auto& [id, one] : open_) one.volume->journal_freed();
}

// ---- snapshots and clones ----

int World::snapshot(const std::vector<std::pair<uint64_t, std::string>>& wanted) {
  std::vector<std::unique_ptr<Busy>> busy;
  for (const auto& [id, name] : wanted) busy.push_back(std::make_unique<Busy>(busy_, id));
  store::Entry cut;
  cut.type = store::EntryType::cut;
  std::vector<store::CutMember> members(wanted.size());
  std::vector<int> errors(wanted.size(), 0);
  size_t left = wanted.size();
  if (wanted.size() > 1) {
    for (const auto& [id, name] : wanted) {
      queue_.post([this, &left, id = id] {
        volume(id).hold();
        left--;
      });
    }
    if (const int error = run_until([&] { return left == 0; })) return error;
  }
  left = wanted.size();
  for (size_t i = 0; i < wanted.size(); i++) {
    queue_.post([&, i] {
      volume::Volume& of = volume(wanted[i].first);
      members[i].line = of.line();
      members[i].version = of.version();
      members[i].name = wanted[i].second;
      of.raise();
      if (raised) raised(wanted[i].first);
      if (of.held()) of.release();
      of.settle_raised([&, i](int error, uint64_t position) {
        of.about_to_append();
        errors[i] = error;
        members[i].up_to = position;
        left--;
      });
    });
  }
  if (const int error = run_until([&] { return left == 0; })) return error;
  for (size_t i = 0; i < wanted.size(); i++) {
    if (!errors[i]) cut.members.push_back(members[i]);
  }
  uint64_t position = 0;
  int result = 0;
  if (!cut.members.empty()) {
    bool synced = false;
    result = journal_->append_kept(cut, position) ? 0 : ENOSPC;
    if (!result) {
      journal_->sync(*engine_, queue_, [&](int error) {
        result = error;
        synced = true;
      });
      if (const int error = run_until([&] { return synced; })) return error;
    }
  }
  if (at) at("cut written");
  // Nobody is listed when anybody failed: the versions have ended, hidden, and are merged away.
  const bool listed = result == 0 && cut.members.size() == wanted.size();
  for (size_t i = 0; i < wanted.size(); i++) {
    Open& one = open_.at(wanted[i].first);
    if (!result && !errors[i]) one.volume->cut_committed(position, members[i].up_to);
    one.at.version++;
    one.layers[one.at] = one.volume->current_layer();
  }
  // The cut stands in the journal: its batch may fail now and follow later, but before any other.
  owed_.push_back([members, listed](Level& now) {
    for (const store::CutMember& member : members) {
      if (now.lines.at(member.line).current() == member.version)
        now.end_version(member.line, member.name, listed);
    }
  });
  if (commit([](Level&) {}) == kCrashed) return kCrashed;
  for (const int error : errors) {
    if (error) result = error;
  }
  return result;
}

uint64_t World::clone(const std::string& name) {
  if (commit([](Level&) {})) return 0;  // its cut's batch first
  const Level::Snapshot snapshot = level.snapshots.at(name);
  if (round(snapshot.container)) return 0;
  uint64_t id = 0;
  if (commit([&](Level& now) { id = now.add_container(snapshot.size, snapshot.at); })) return 0;
  open_[id] = open({level.containers.at(id).line, 1}, id, false, false);
  return id;
}

// ---- deletion ----

int World::remove_snapshot(const std::string& name) {
  views_.erase(name);
  if (const int error = commit([](Level&) {})) return error;
  const VersionId at = level.snapshots.at(name).at;
  return commit([&](Level& now) {
    now.snapshots.erase(name);
    now.lines.at(at.line).deleted.insert(at.version);
  });
}

int World::remove_volume(uint64_t container) {
  if (const int error = round(container)) return error;
  views_.clear();
  open_.erase(container);
  return commit([&](Level& now) {
    now.containers.at(container).deleted = true;
    Level::Line& line = now.lines.at(now.containers.at(container).line);
    line.deleted = line.live;
    std::erase_if(now.snapshots, [&](const auto& one) { return one.second.container == container; });
  });
}

int World::reclaim() {
  for (bool any = true; any;) {
    any = false;
    std::vector<VersionId> dead;  // newest first: a line that goes whole is freed, not merged down
    for (const auto& [id, line] : level.lines) {
      for (auto version = line.deleted.rbegin(); version != line.deleted.rend(); ++version)
        dead.push_back({id, *version});
    }
    for (const VersionId& at : dead) {
      const auto dependents = level.dependents(at);
      if (dependents.size() > 1) continue;
      const VersionId into = dependents.empty() ? VersionId{} : dependents[0];
      if (const int error = reclaim_one(at, into)) return error;
      any = true;
      break;
    }
  }
  return 0;
}

int World::reclaim_one(VersionId at, VersionId into) {
  views_.clear();  // readers of what is merged count as dependents: there are none
  // Everything the version says is in LevelDB.
  const uint64_t owner = level.lines.at(at.line).container;
  if (open_.contains(owner)) {
    if (const int error = round(owner)) return error;
  }
  const bool into_current = into.line != 0 && level.lines.at(into.line).current() == into.version &&
                            open_.contains(level.lines.at(into.line).container);
  if (into_current) {
    if (const int error = adopt(at, into)) return error;
  } else {
    const uint64_t reader = into.line ? level.lines.at(into.line).container : 0;
    if (open_.contains(reader)) {
      if (const int error = round(reader)) return error;
    }
    std::vector<uint64_t> windows;
    for (const auto& [key, record] : level.lines.at(at.line).records) {
      if (key.second == at.version) windows.push_back(key.first);
    }
    for (uint64_t window : windows) {
      if (const int error = commit([&](Level& now) { now.merge(at, into, window); })) return error;
    }
  }
  if (const int error = commit([&](Level& now) { now.leave(at, into); })) return error;
  for (auto& [id, one] : open_) {
    const auto layer = one.layers.find(at);
    if (layer != one.layers.end()) one.volume->remove_layer(layer->second);
    one.layers.erase(at);
  }
  return 0;
}

// The reader is an open map: its data plane takes what it is silent about, the round that says so removes the
// deleted records.
int World::adopt(VersionId at, VersionId into) {
  const uint64_t container = level.lines.at(into.line).container;
  if (const int error = round(container)) return error;
  const Busy busy(busy_, container);
  Open& one = open_.at(container);
  std::vector<uint64_t> windows;
  std::vector<volume::AdoptedRecord> records;
  for (const auto& [key, record] : level.lines.at(at.line).records) {
    if (key.second != at.version) continue;
    windows.push_back(key.first);
    records.push_back({key.first, record});
  }
  for (int error = EAGAIN; error == EAGAIN;) {
    bool done = false;
    one.volume->adopt(level.has_below(at), records, [&](int result) {
      error = result;
      done = true;
    });
    if (const int stopped = run_until([&] { return done; })) return stopped;
    if (error && error != EAGAIN) return error;
    if (error && !step()) return kStuck;
  }
  if (this->at) this->at("adopted");
  volume::Round round;
  bool taken = false;
  one.volume->take_round([&](volume::Round answer) {
    round = std::move(answer);
    taken = true;
  });
  if (const int error = run_until([&] { return taken; })) return error;
  int error = round.error;
  // All in one batch: the records, what they name, and the removals.
  const size_t records_a_batch = std::exchange(options_.records_a_batch, SIZE_MAX);
  if (!error) {
    error = store_round(container, round, [&](Level& now) {
      for (uint64_t window : windows) now.drop_adopted(at, into, window);
    });
  }
  options_.records_a_batch = records_a_batch;
  if (error == kCrashed) return error;
  if (error) {
    one.volume->round_failed();
    one.volume->set_rounds_failing(true);
    return error;
  }
  one.volume->round_done(round.position);
  trim_journal();
  return 0;
}

int World::punch_pending() {
  const std::vector<Level::Punch> some = level.punches;
  size_t left = open_.size() + views_.size();
  for (auto* opened : {&open_}) {
    for (auto& [id, one] : *opened) one.volume->grace([&left] { left--; });
  }
  for (auto& [name, one] : views_) one.volume->grace([&left] { left--; });
  if (const int error = run_until([&] { return left == 0; })) return error;
  if (at) at("grace over");
  for (const Level::Punch& punch : some) {
    int error = 0;
    io::File* file = extents_->open(store::slot_file(punch.slot), false, error);
    if (!file) {
      if (crashed()) return kCrashed;
      if (error == ENOENT) continue;
      return error;
    }
    const uint64_t offset =
        store::slot_place(punch.slot) * options_.window_bytes + uint64_t{punch.start} * 4096;
    const int result = file->punch(offset, uint64_t{punch.count} * 4096);
    if (result < 0) return crashed() ? kCrashed : -result;
  }
  return commit([&](Level& now) {
    now.punches.erase(now.punches.begin(), now.punches.begin() + static_cast<long>(some.size()));
  });
}

// ---- size ----

int World::resize(uint64_t container, uint64_t size) {
  Level::Container& stored = level.containers.at(container);
  if (size < stored.size || stored.shrinking_to) {
    if (const int error = round(container)) return error;
    if (const int error = commit([&](Level& now) { now.containers.at(container).shrinking_to = size; }))
      return error;
  } else if (const int error = commit([&](Level& now) { now.containers.at(container).size = size; })) {
    return error;
  }
  const Busy busy(busy_, container);
  int result = -1;
  volume(container).resize(size, [&](int error) { result = error; });
  if (const int error = run_until([&] { return result >= 0; })) return error;
  if (result) return result;
  return commit([&](Level& now) {
    now.containers.at(container).size = size;
    now.containers.at(container).shrinking_to.reset();
  });
}

}  // namespace cellblock::test
