// See the header. Every fault counts the operations that match it, whether or not another fault decides them.
#include "io/fault_plan.h"

namespace cellblock::io {
namespace {

bool matches(const Fault& fault, Action action, const std::string& path, uint64_t length) {
  if (!(fault.actions & only(action))) return false;
  if (path.find(fault.path) == std::string::npos) return false;
  return fault.error != 0 ||
         (action <= Action::write_dsync && length > 1);  // else there is nothing to shorten
}

}  // namespace

const char* name_of(Action action) {
  switch (action) {
    case Action::read:
      return "read";
    case Action::write:
      return "write";
    case Action::write_dsync:
      return "write_dsync";
    case Action::sync:
      return "sync";
    case Action::punch:
      return "punch";
    case Action::zero_range:
      return "zero_range";
    case Action::journal_sync:
      return "journal_sync";
    case Action::open:
      return "open";
    case Action::unlink:
      return "unlink";
    case Action::map:
      return "map";
    case Action::sync_directory:
      return "sync_directory";
  }
  return "unknown";
}

void FaultPlan::add(const Fault& fault) {
  std::lock_guard hold(lock_);
  faults_.push_back(fault);
}

void FaultPlan::clear() {
  std::lock_guard hold(lock_);
  faults_.clear();
}

size_t FaultPlan::left() const {
  std::lock_guard hold(lock_);
  size_t left = 0;
  for (const Fault& fault : faults_) left += fault.times > 0;
  return left;
}

FaultPlan::Verdict FaultPlan::next(Action action, const std::string& path, uint64_t length) {
  std::lock_guard hold(lock_);
  Verdict verdict{0, length};
  for (Fault& fault : faults_) {
    if (!matches(fault, action, path, length)) continue;
    if (fault.skip > 0) {
      fault.skip--;
      continue;
    }
    if (fault.times == 0) continue;
    fault.times--;
    if (fault.error) {
      verdict.error = fault.error;
    } else {
      verdict.length = 1 + random_.below(verdict.length - 1);
    }
  }
  return verdict;
}

}  // namespace cellblock::io
