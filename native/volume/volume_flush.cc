// FLUSH, commit and failure. A flush: note the position, make this container's files stable, append its
// commit record for the noted position, sync the journal. Flushes that come meanwhile share the next one.
#include <algorithm>
#include <cerrno>

#include "volume/volume.h"

namespace cellblock::volume {

void Volume::mark_written(uint64_t file) {
  if (std::find(written_files_.begin(), written_files_.end(), file) == written_files_.end())
    written_files_.push_back(file);
}

void Volume::flush(std::function<void(int)> done) {
  flush_next_.push_back(std::move(done));
  start_flush();
}

void Volume::start_flush() {
  if (flush_running_) return;
  if (flush_next_.empty() && flush_requests_next_.empty()) return;
  flush_running_ = true;
  flush_error_ = flush_open_error_ = 0;
  flush_current_ = std::move(flush_next_);
  flush_next_.clear();
  flush_requests_current_ = flush_requests_next_;
  flush_requests_next_ = {};
  flush_position_ = last_position_;
  if (failed_ || home_.journal->broken()) {
    // Answered from the loop: a flush that starts in the middle of a submit must not answer inside it.
    home_.poster->post([this] { flush_finished(EIO); });
    return;
  }
  if (written_files_.empty() && flush_position_ <= committed_) {
    home_.poster->post([this] { flush_finished(0); });
    return;
  }
  sync_files();
}

void Volume::sync_files() {
  const std::vector<uint64_t> files = std::move(written_files_);
  written_files_.clear();
  syncs_running_ = 1;
  if (const int opened = home_.extents->open_directory(); opened < 0)
    flush_open_error_ = -opened;
  else if (const int made = home_.extents->sync_created(); made < 0)
    flush_error_ = -made;
  for (uint64_t number : files) {
    int error = 0;
    io::File* file = home_.extents->open(number, false, error);
    if (!file) {
      if (error == ENOENT) continue;
      flush_open_error_ = error;
      mark_written(number);  // for the next flush
      continue;
    }
    if (syncs_running_ > sync_requests_.size()) sync_requests_.push_back(std::make_unique<io::Request>());
    io::Request& request = *sync_requests_[syncs_running_ - 1];
    request = {};
    request.operation = io::Operation::sync;
    request.file = file;
    request.owner = this;
    request.done = file_synced;
    syncs_running_++;
    home_.engine->submit(request);
  }
  if (--syncs_running_ == 0) home_.poster->post([this] { files_synced(); });
}

void Volume::file_synced(io::Request& io) {
  Volume& volume = *static_cast<Volume*>(io.owner);
  if (io.result < 0) volume.flush_error_ = static_cast<int>(-io.result);
  if (--volume.syncs_running_ == 0) volume.files_synced();
}

// A file that could not be opened (no descriptor left) says nothing about what was written to it: that fails
// this flush, and not the container.
void Volume::files_synced() {
  const int error = flush_error_ ? flush_error_ : flush_open_error_;
  if (error)
    flush_finished(error);
  else
    commit(flush_position_);
}

// The data of every entry up to `position` is stable.
void Volume::commit(uint64_t position) {
  // A FUA write may have taken the error that was for the sync to hear: the kernel tells one of the two.
  if (failed_) {
    flush_finished(EIO);
    return;
  }
  if (position <= committed_ || frozen()) {
    flush_finished(0);
    return;
  }
  store::Entry entry;
  entry.type = store::EntryType::commit;
  entry.line = options_.line;
  entry.argument = position;
  uint64_t at = 0;
  if (!home_.journal->append_kept(entry, at)) {
    flush_finished(ENOSPC);
    return;
  }
  home_.journal->sync(*home_.engine, *home_.poster, [this, position](int error) {
    // Failed meanwhile: the FAILED entry voids what this record was to commit.
    if (!error && failed_) error = EIO;
    if (!error) committed_ = std::max(committed_, position);
    flush_finished(error);
  });
}

void Volume::flush_finished(int error) {
  // A data file that could not be written back fails the container. A journal that could not is the whole
  // store's business.
  if (error && (flush_error_ || failed_) && !failed_durable_) {
    fail(error, [this] { flush_finished(EIO); });
    return;
  }
  flush_running_ = false;
  auto callbacks = std::move(flush_current_);
  flush_current_.clear();
  Request* requests = flush_requests_current_.take_all();
  while (requests) {
    Request* next = requests->next;
    if (error) requests->error = error == ENOSPC ? ENOSPC : EIO;
    complete(*requests);
    requests = next;
  }
  for (auto& callback : callbacks) callback(error);
  start_flush();
  check_drained();
}

// D8: a write-back error leaves it unknown which of the unsynced bytes are there. What was committed counts,
// the rest is void from now on, and that is written down before anybody hears of the error (`then`).
void Volume::fail(int error, std::function<void()> then) {
  if (failed_durable_) {
    then();
    return;
  }
  failure_waiters_.push_back(std::move(then));
  if (failed_) return;
  failed_ = true;
  reopening_ = true;
  read_only_.store(true);
  store::Entry entry;
  entry.type = store::EntryType::failed;
  entry.line = options_.line;
  entry.argument = committed_;
  uint64_t at = 0;
  about_to_append();
  if (home_.journal->append_kept(entry, at)) last_position_ = std::max(last_position_, at);
  resume_all(journal_waiters_.take_all());
  resume_all(space_waiters_.take_all());
  home_.journal->sync(*home_.engine, *home_.poster, [this, error](int) {
    failed_durable_ = true;
    auto waiters = std::move(failure_waiters_);
    failure_waiters_.clear();
    for (auto& waiter : waiters) waiter();
    drained([this, error] { forget_uncommitted(error); });
  });
}

// Nothing is in flight: the maps in memory go, what counts of them is told to the keeper.
void Volume::forget_uncommitted(int error) {
  const uint64_t from = oldest_unapplied_.load();
  std::vector<store::Entry> entries;
  if (from != UINT64_MAX) entries = home_.journal->entries_of(options_.line, from, last_position_);
  frozen_.clear();
  pending_cut_offs_.clear();
  dirty_windows_ = 0;
  round_running_ = false;
  regions_.clear(true);
  options_.empty = false;
  home_.keeper->failed(*this, error, committed_, std::move(entries));
}

void Volume::reopen(uint64_t position) {
  round_position_ = std::max(round_position_, position);
  oldest_unapplied_.store(UINT64_MAX);
  reopening_ = false;
  reads_refused_ = false;
  resume_all(reopen_waiters_.take_all());
}

void Volume::refuse_reads() {
  if (!reopening_) return;
  reads_refused_ = true;
  refuse_reopen_waiters();
}

void Volume::refuse_reopen_waiters() {
  if (!reads_refused_) return;  // reopened meanwhile, which has resumed them
  Request* waiters = reopen_waiters_.take_all();
  for (Request* request = waiters; request; request = request->next) request->error = EIO;
  resume_all(waiters);
}

}  // namespace cellblock::volume
