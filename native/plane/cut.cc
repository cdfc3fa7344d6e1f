// Snapshots of one or several volumes in one instant: stop admission of all, raise all, settle each, one
// journal entry. Each step runs on the home reactor of its member; who finishes a step last begins the next.
// A member that somebody holds stays held: whoever holds it says when its clients go on.
#include <algorithm>
#include <cerrno>

#include "plane/plane.h"

namespace cellblock::plane {

struct Plane::Cut {
  struct Member {
    uint64_t handle;
    volume::Volume* volume;
    store::CutMember entry;
    int error = 0;
    bool held_here = false;  // its admission was stopped by this cut
  };
  uint64_t ticket;
  std::vector<Member> members;
  std::atomic<size_t> remaining{0};
  uint64_t position = 0;
};

void Plane::cut(uint64_t ticket, std::vector<CutRequest> requests) {
  auto cut = std::make_shared<Cut>();
  cut->ticket = ticket;
  for (CutRequest& request : requests) {
    volume::Volume* volume = find(request.handle);
    if (!volume) {
      sink_.push(CutDone{ticket, ENOENT, 0, {}, {}});
      return;
    }
    Cut::Member member{request.handle, volume, {}, 0, false};
    member.entry.snapshot = request.snapshot;
    member.entry.name = std::move(request.name);
    cut->members.push_back(std::move(member));
  }
  if (cut->members.size() == 1) {
    raise_all(std::move(cut));
    return;
  }
  cut->remaining = cut->members.size();
  for (Cut::Member& member : cut->members) {
    seats_[member.volume->home()].reactor->loop().post([this, cut, &member] {
      member.held_here = !member.volume->held();
      member.volume->hold();
      if (cut->remaining.fetch_sub(1) == 1) raise_all(cut);
    });
  }
}

void Plane::raise_all(std::shared_ptr<Cut> cut) {
  cut->remaining = cut->members.size();
  for (size_t i = 0; i < cut->members.size(); i++) {
    volume::Volume* volume = cut->members[i].volume;
    const unsigned home = volume->home();
    seats_[home].reactor->loop().post([this, cut, i, volume, home] {
      Cut::Member& member = cut->members[i];
      member.entry.line = volume->line();
      member.entry.version = volume->version();
      volume->raise();
      if (member.held_here) volume->release();
      volume->settle_raised([this, cut, i, volume, home](int error, uint64_t position) {
        volume->about_to_append();
        member_settled(cut, i, error, position, home);
      });
    });
  }
}

void Plane::member_settled(std::shared_ptr<Cut> cut, size_t index, int error, uint64_t position,
                           unsigned reactor) {
  cut->members[index].error = error;
  cut->members[index].entry.up_to = position;
  if (cut->remaining.fetch_sub(1) == 1) write_cut(std::move(cut), reactor);
}

void Plane::write_cut(std::shared_ptr<Cut> cut, unsigned reactor) {
  store::Entry entry;
  entry.type = store::EntryType::cut;
  const bool whole = std::none_of(cut->members.begin(), cut->members.end(),
                                  [](const Cut::Member& m) { return m.error != 0; });
  for (Cut::Member& member : cut->members) {
    // All or none: without one of them the others' versions end too, but as hidden ones, and a crash must not
    // list them.
    if (!whole) {
      member.entry.name.clear();
      member.entry.snapshot = {};
    }
    if (!member.error) entry.members.push_back(member.entry);
  }
  if (entry.members.empty()) {
    cut_written(std::move(cut), 0);
    return;
  }
  if (!journal_->append_kept(entry, cut->position)) {
    cut_written(std::move(cut), ENOSPC);
    return;
  }
  Seat& seat = seats_[reactor];
  journal_->sync(*seat.reactor->engine(), *seat.poster, [this, cut](int error) { cut_written(cut, error); });
}

void Plane::cut_written(std::shared_ptr<Cut> cut, int error) {
  if (error == EIO) sink_.push(StoreFailed{error});
  CutDone done{cut->ticket, error, cut->position, {}, {}};
  for (Cut::Member& member : cut->members) {
    done.errors.push_back(member.error ? member.error : error);
    done.members.push_back(member.entry);
    if (error || member.error) continue;
    seats_[member.volume->home()].reactor->loop().post(
        [volume = member.volume, position = cut->position, up_to = member.entry.up_to] {
          volume->cut_committed(position, up_to);
        });
  }
  sink_.push(std::move(done));
}

}  // namespace cellblock::plane
