#include "binding/simulation.h"

#include <string>

#include "binding/convert.h"
#include "io/simulated_disk.h"

namespace cellblock::binding {
namespace {

// What the plane owns: calls go to the disk that JavaScript holds too.
class SharedDisk final : public io::Disk {
 public:
  explicit SharedDisk(std::shared_ptr<io::SimulatedDisk> disk) : disk_(std::move(disk)) {}
  int open(const std::string& path, const io::OpenOptions& options,
           std::unique_ptr<io::File>& file) override {
    return disk_->open(path, options, file);
  }
  int unlink(const std::string& path) override { return disk_->unlink(path); }
  int sync_directory(const std::string& path) override { return disk_->sync_directory(path); }
  int open_directory(const std::string& path, std::unique_ptr<io::Directory>& directory) override {
    return disk_->open_directory(path, directory);
  }
  int map(io::File& file, size_t length, io::Mapping& mapping) override {
    return disk_->map(file, length, mapping);
  }
  int sync(io::File& file) override { return disk_->sync(file); }
  int64_t free_bytes(const std::string& path) override { return disk_->free_bytes(path); }
  std::unique_ptr<io::Engine> make_engine() override { return disk_->make_engine(); }

 private:
  std::shared_ptr<io::SimulatedDisk> disk_;
};

// new SimulatedDisk({seed, cachedPercent}) or new SimulatedDisk({...}, crashed, 'power-loss' |
// 'process-death', seed)
class JsDisk : public Napi::ObjectWrap<JsDisk> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "SimulatedDisk",
                       {
                           InstanceMethod<&JsDisk::crash_at>("crashAt"),
                           InstanceMethod<&JsDisk::changes>("changes"),
                           InstanceMethod<&JsDisk::crashed>("crashed"),
                           InstanceMethod<&JsDisk::set_capacity>("setCapacity"),
                           InstanceMethod<&JsDisk::fail_writeback>("failWriteback"),
                           InstanceMethod<&JsDisk::allocated_bytes>("allocatedBytes"),
                           InstanceMethod<&JsDisk::paths>("paths"),
                       });
  }

  explicit JsDisk(const Napi::CallbackInfo& info) : Napi::ObjectWrap<JsDisk>(info) {
    const Napi::Object from = info[0].As<Napi::Object>();
    io::SimulatedOptions options;
    options.seed = number_of(from["seed"]);
    const Napi::Value cached = from["cachedPercent"];
    if (cached.IsNumber()) options.cached_percent = static_cast<unsigned>(number_of(cached));
    if (info.Length() < 4) {
      disk = std::make_shared<io::SimulatedDisk>(options);
      return;
    }
    JsDisk* crashed = Unwrap(info[1].As<Napi::Object>());
    const auto kind =
        string_of(info[2]) == "power-loss" ? io::CrashKind::power_loss : io::CrashKind::process_death;
    disk = std::make_shared<io::SimulatedDisk>(crashed->disk->crash(kind, number_of(info[3])), options);
  }

  std::shared_ptr<io::SimulatedDisk> disk;

 private:
  using Info = const Napi::CallbackInfo&;
  void crash_at(Info info) { disk->crash_at(number_of(info[0])); }
  Napi::Value changes(Info info) { return number_to(info.Env(), disk->changes()); }
  Napi::Value crashed(Info info) { return Napi::Boolean::New(info.Env(), disk->crashed()); }
  void set_capacity(Info info) { disk->set_capacity(number_of(info[0])); }
  void fail_writeback(Info info) {
    disk->fail_writeback(string_of(info[0]), static_cast<int>(number_of(info[1])));
  }
  Napi::Value allocated_bytes(Info info) { return bigint_to(info.Env(), disk->allocated_bytes()); }
  Napi::Value paths(Info info) {
    Napi::Array array = Napi::Array::New(info.Env());
    for (const std::string& path : disk->paths()) array[array.Length()] = Napi::String::New(info.Env(), path);
    return array;
  }
};

}  // namespace

Napi::Function define_simulated_disk(Napi::Env env) { return JsDisk::define(env); }

std::unique_ptr<io::Disk> simulated_disk_of(const Napi::Value& value) {
  if (!value.IsObject()) return nullptr;
  return std::make_unique<SharedDisk>(Napi::ObjectWrap<JsDisk>::Unwrap(value.As<Napi::Object>())->disk);
}

}  // namespace cellblock::binding
