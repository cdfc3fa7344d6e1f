// The face of the simulation: Disk's calls and the tests' levers, all carried out by SimulatedCore.
#include "io/simulated_disk.h"

#include <cerrno>
#include <mutex>

#include "io/simulated_core.h"

namespace cellblock::io {

SimulatedDisk::SimulatedDisk(const Options& options)
    : core_(std::make_shared<SimulatedCore>(options, DiskImage{})) {}
SimulatedDisk::SimulatedDisk(const DiskImage& image, const Options& options)
    : core_(std::make_shared<SimulatedCore>(options, image.copy())) {}
SimulatedDisk::~SimulatedDisk() = default;

int SimulatedDisk::open(const std::string& path, const OpenOptions& options, std::unique_ptr<File>& file) {
  bool exists;
  {
    std::lock_guard hold(core_->lock);
    exists = core_->image.names.contains(path);
  }
  if (exists && options.create && options.exclusive) return -EEXIST;
  if (!exists && !options.create) return -ENOENT;
  SimulatedCore::Call call{Action::open, nullptr, path};
  call.creates = !exists;
  const auto result = static_cast<int>(core_->run(call));
  if (result < 0) return result;
  std::lock_guard hold(core_->lock);
  file = std::make_unique<SimulatedFile>(core_, path, core_->image.names[path], options);
  return 0;
}

int SimulatedDisk::unlink(const std::string& path) {
  return static_cast<int>(core_->run({Action::unlink, nullptr, path}));
}

int SimulatedDisk::sync_directory(const std::string& path) {
  return static_cast<int>(core_->run({Action::sync_directory, nullptr, path}));
}

int SimulatedDisk::open_directory(const std::string& path, std::unique_ptr<Directory>& directory) {
  const auto result = static_cast<int>(core_->run({Action::open, nullptr, path}));
  if (result < 0) return result;
  directory = std::make_unique<SimulatedDirectory>(core_, path);
  return 0;
}

int SimulatedDisk::map(File& file, size_t length, Mapping& mapping) {
  auto& mapped = static_cast<SimulatedFile&>(file);
  const auto result = static_cast<int>(core_->run({Action::map, &mapped, mapped.path_, 0, length}));
  if (result < 0) return result;
  std::lock_guard hold(core_->lock);
  std::byte* bytes = mapped.image_->map(length);
  if (!bytes) return -ENOMEM;
  mapping = {bytes, length};
  return 0;
}

int SimulatedDisk::sync(File& file) {
  auto& synced = static_cast<SimulatedFile&>(file);
  return static_cast<int>(core_->run({Action::sync, &synced, synced.path_}));
}

int64_t SimulatedDisk::free_bytes(const std::string&) {
  std::lock_guard hold(core_->lock);
  return core_->dead ? -EIO : static_cast<int64_t>(core_->room() * kPageBytes);
}

std::unique_ptr<Engine> SimulatedDisk::make_engine() { return std::make_unique<SimulatedEngine>(core_); }

FaultPlan& SimulatedDisk::faults() { return core_->faults; }

void SimulatedDisk::before(std::function<Order(const Event&)> hook) {
  std::lock_guard hold(core_->lock);
  core_->hook = std::move(hook);
}

void SimulatedDisk::set_capacity(uint64_t bytes) {
  std::lock_guard hold(core_->lock);
  core_->options.capacity_bytes = bytes;
}

void SimulatedDisk::fail_writeback(const std::string& path, int error) {
  std::lock_guard hold(core_->lock);
  const auto found = core_->image.names.find(path);
  if (found != core_->image.names.end()) found->second->fail_writeback(core_->random, error);
}

void SimulatedDisk::set_hold(bool hold_requests) {
  std::lock_guard hold(core_->lock);
  core_->options.hold = hold_requests;
}

std::vector<Event> SimulatedDisk::pending() const {
  std::lock_guard hold(core_->lock);
  std::vector<Event> events;
  for (const SimulatedCore::Pending& one : core_->pending) {
    const SimulatedCore::Call call = core_->call_of(*one.request);
    events.push_back({0, call.action, call.path, call.offset, call.length, true});
  }
  return events;
}

Request* SimulatedDisk::pending_at(size_t index) const {
  std::lock_guard hold(core_->lock);
  return index < core_->pending.size() ? core_->pending[index].request : nullptr;
}

bool SimulatedDisk::execute(size_t index) {
  Request* request = pending_at(index);
  return request && core_->execute(*request, SimulatedCore::Delivery::demanded);
}

bool SimulatedDisk::deliver(size_t index) {
  Request* request = pending_at(index);
  return request && core_->deliver(*request);
}

bool SimulatedDisk::step() {
  size_t index;
  {
    std::lock_guard hold(core_->lock);
    if (core_->pending.empty()) return false;
    index = core_->random.below(core_->pending.size());
  }
  return deliver(index);
}

void SimulatedDisk::crash_at(uint64_t change) {
  std::lock_guard hold(core_->lock);
  core_->crash_at = change;
}

bool SimulatedDisk::crashed() const {
  std::lock_guard hold(core_->lock);
  return core_->dead;
}

uint64_t SimulatedDisk::changes() const {
  std::lock_guard hold(core_->lock);
  return core_->changes;
}

DiskImage SimulatedDisk::crash(CrashKind kind, uint64_t seed) {
  std::lock_guard hold(core_->lock);
  if (!core_->dead) core_->trip(nullptr);
  DiskImage left = core_->image.copy();
  Random random(seed);
  if (kind == CrashKind::power_loss) left.lose_power(random);
  return left;
}

uint64_t SimulatedDisk::allocated_bytes() const {
  std::lock_guard hold(core_->lock);
  return core_->image.allocated();
}

uint64_t SimulatedDisk::unsynced_sectors(const std::string& path) const {
  std::lock_guard hold(core_->lock);
  const auto found = core_->image.names.find(path);
  return found == core_->image.names.end() ? 0 : found->second->unsynced_sectors();
}

std::vector<std::string> SimulatedDisk::paths() const {
  std::lock_guard hold(core_->lock);
  std::vector<std::string> all;
  for (const auto& [name, file] : core_->image.names) all.push_back(name);
  return all;
}

}  // namespace cellblock::io
