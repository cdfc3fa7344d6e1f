// The addon: class NativePlane, the treaty of src/plane/treaty.ts. Nothing here decides; it converts and
// passes on.
//
// Stopping is one idempotent function, reached from close() and from the environment's clean-up hook: it
// joins the threads, then lets the thread-safe function go.
#include <napi.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "binding/convert.h"
#include "binding/file_extents.h"
#include "binding/hand_over.h"
#include "binding/service_manager.h"
#include "binding/simulation.h"
#include "io/io.h"
#include "plane/kernel_devices.h"
#include "plane/plane.h"

namespace cellblock::binding {
namespace {

// Collects records from any thread and hands them to JavaScript in batches.
class Stream final : public plane::RecordSink {
 public:
  void start(Napi::Env env, Napi::Function callback) {
    function_ = Function::New(env, callback, "cellblock records", 0, 1, this);
    open_ = true;
  }

  void push(plane::Record record) override {
    std::lock_guard lock(mutex_);
    if (!open_) return;
    records_.push_back(std::move(record));
    if (records_.size() == 1) function_.NonBlockingCall();
  }

  void stop() {
    std::lock_guard lock(mutex_);
    if (!open_) return;
    open_ = false;
    records_.clear();
    function_.Release();
  }

 private:
  static void call(Napi::Env env, Napi::Function callback, Stream* stream, void*) {
    if (env != nullptr && callback != nullptr) stream->deliver(env, callback);
  }
  using Function = Napi::TypedThreadSafeFunction<Stream, void, call>;

  void deliver(Napi::Env env, Napi::Function callback) {
    std::vector<plane::Record> records;
    {
      std::lock_guard lock(mutex_);
      records.swap(records_);
    }
    if (records.empty()) return;
    Napi::HandleScope scope(env);
    Napi::Array array = Napi::Array::New(env, records.size());
    for (uint32_t i = 0; i < records.size(); i++) array[i] = record_to(env, records[i]);
    callback.Call({array});
  }

  std::mutex mutex_;
  std::vector<plane::Record> records_;
  bool open_ = false;
  Function function_;
};

class NativePlane : public Napi::ObjectWrap<NativePlane> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "NativePlane",
                       {
                           InstanceMethod<&NativePlane::open>("open"),
                           InstanceMethod<&NativePlane::start_journal>("startJournal"),
                           InstanceMethod<&NativePlane::sync_files>("syncFiles"),
                           command<&NativePlane::open_device>("openDevice"),
                           command<&NativePlane::close_device>("closeDevice"),
                           command<&NativePlane::add_file>("addFile"),
                           command<&NativePlane::know_file>("knowFile"),
                           command<&NativePlane::drop_file>("dropFile"),
                           command<&NativePlane::fault_reply>("faultReply"),
                           command<&NativePlane::take_round>("takeRound"),
                           command<&NativePlane::round_done>("roundDone"),
                           command<&NativePlane::round_failed>("roundFailed"),
                           command<&NativePlane::reopen>("reopen"),
                           command<&NativePlane::refuse_reads>("refuseReads"),
                           command<&NativePlane::cut>("cut"),
                           command<&NativePlane::adopt>("adopt"),
                           command<&NativePlane::remove_layer>("removeLayer"),
                           command<&NativePlane::resize>("resize"),
                           command<&NativePlane::set_read_only>("setReadOnly"),
                           command<&NativePlane::hold>("hold"),
                           command<&NativePlane::release>("release"),
                           command<&NativePlane::flush>("flush"),
                           command<&NativePlane::rebase>("rebase"),
                           command<&NativePlane::read>("read"),
                           command<&NativePlane::write>("write"),
                           command<&NativePlane::zero>("zero"),
                           command<&NativePlane::grace>("grace"),
                           command<&NativePlane::punch>("punch"),
                           command<&NativePlane::evict>("evict"),
                           command<&NativePlane::disconnect>("disconnect"),
                           command<&NativePlane::limit>("limit"),
                           command<&NativePlane::set_transaction_log>("setTransactionLog"),
                           command<&NativePlane::kernel_connect>("kernelConnect"),
                           command<&NativePlane::kernel_reconfigure>("kernelReconfigure"),
                           command<&NativePlane::kernel_disconnect>("kernelDisconnect"),
                           command<&NativePlane::kernel_status>("kernelStatus"),
                           command<&NativePlane::claim_node>("claimNode"),
                           command<&NativePlane::reread_node>("rereadNode"),
                           command<&NativePlane::unclaim_node>("unclaimNode"),
                           command<&NativePlane::list_reply>("listReply"),
                           command<&NativePlane::describe_reply>("describeReply"),
                           command<&NativePlane::open_reply>("openReply"),
                           InstanceMethod<&NativePlane::listen>("listen"),
                           InstanceMethod<&NativePlane::set_tls>("setTls"),
                           InstanceMethod<&NativePlane::counters>("counters"),
                           command<&NativePlane::resume_client>("resumeClient"),
                           command<&NativePlane::resume_kernel>("resumeKernel"),
                           command<&NativePlane::pulse>("pulse"),
                           command<&NativePlane::stop_serving>("stopServing"),
                           command<&NativePlane::keep_clients>("keepClients"),
                           InstanceMethod<&NativePlane::close>("close"),
                       });
  }

  explicit NativePlane(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<NativePlane>(info), env_(info.Env()) {
    napi_add_env_cleanup_hook(env_, clean_up, this);
  }
  ~NativePlane() override {
    napi_remove_env_cleanup_hook(env_, clean_up, this);
    stop(false);
  }

 private:
  using Info = const Napi::CallbackInfo&;

  // After a stop that did not wait for everybody commands may still come: they do nothing.
  template <void (NativePlane::*method)(Info)>
  void when_open(Info info) {
    if (plane_) (this->*method)(info);
  }
  template <void (NativePlane::*method)(Info)>
  static Napi::ClassPropertyDescriptor<NativePlane> command(const char* name) {
    return InstanceMethod<&NativePlane::when_open<method>>(name);
  }
  // The same for what answers at once: an error.
  bool refuse_closed() {
    if (!plane_) throw_errno(env_, ESHUTDOWN, "the data plane");
    return !plane_;
  }

  static void clean_up(void* self) { static_cast<NativePlane*>(self)->stop(false); }

  void stop(bool clean) {
    kernel_.reset();
    if (plane_) plane_->close(clean);
    stream_.stop();
    plane_.reset();
  }

  static plane::PlaneOptions options_of(const Napi::Object& from) {
    plane::PlaneOptions options;
    options.directory = string_of(from["directory"]);
    options.store_id = id_of(from["storeId"]);
    options.window_bytes = static_cast<uint32_t>(number_of(from["windowBytes"]));
    options.journal_bytes = number_of(from["journalBytes"]);
    options.reactors = static_cast<unsigned>(number_of(from["reactors"]));
    const std::string engine = string_of(from["engine"]);
    if (engine == "io_uring") options.engine = io::EngineChoice::io_uring;
    if (engine == "workers") options.engine = io::EngineChoice::workers;
    options.direct = bool_of(from["direct"]);
    options.cache_bytes = number_of(from["cacheBytes"]);
    options.reserve_bytes = number_of(from["reserveBytes"]);
    options.round_after_ms = number_of(from["roundAfterMs"]);
    options.wire.max_connections = static_cast<unsigned>(number_of(from["maxConnections"]));
    options.wire.max_connections_per_client =
        static_cast<unsigned>(number_of(from["maxConnectionsPerClient"]));
    options.wire.handshake_timeout_ms = number_of(from["handshakeTimeoutMs"]);
    options.boot_id = string_of(from["bootId"]);
    return options;
  }

  Napi::Value open(Info info) {
    const Napi::Object from = info[0].As<Napi::Object>();
    plane::PlaneOptions options = options_of(from);
    std::unique_ptr<io::Disk> disk = simulated_disk_of(from["simulation"]);
    if (!disk) disk = io::make_real_disk(options.engine);
    if (!disk) {
      throw_errno(env_, ENOSYS, "io_uring");
      return env_.Undefined();
    }
    plane_ = std::make_unique<plane::Plane>(std::move(options), std::move(disk), stream_);
    kernel_ = std::make_unique<plane::KernelDevices>(*plane_, stream_);
    stream_.start(env_, info[1].As<Napi::Function>());
    store::Scan scan;
    std::string what;
    const int result = plane_->open(scan, what);
    if (result < 0) {
      stop(false);
      throw_errno(env_, -result, what);
      return env_.Undefined();
    }
    return scan_to(env_, scan);
  }

  void start_journal(Info info) {
    if (refuse_closed()) return;
    const int result = plane_->start_journal(number_of(info[0]));
    if (result < 0) throw_errno(env_, -result, "journal");
  }
  void sync_files(Info info) {
    if (refuse_closed()) return;
    const int result = plane_->sync_files(files_of(info[0]));
    if (result < 0) throw_errno(env_, -result, "extents");
  }

  void open_device(Info info) {
    const Napi::Object from = info[0].As<Napi::Object>();
    volume::VolumeOptions options;
    options.handle = number_of(from["handle"]);
    options.container = number_of(from["container"]);
    options.line = number_of(from["line"]);
    options.version = static_cast<uint32_t>(number_of(from["version"]));
    options.size_bytes = number_of(from["sizeBytes"]);
    options.read_only = bool_of(from["readOnly"]);
    options.empty = bool_of(from["empty"]);
    options.unclean = bool_of(from["unclean"]);
    for (uint64_t layer : numbers_of(from["layers"])) options.layers.push_back(static_cast<uint32_t>(layer));
    plane_->open_device(std::move(options), files_of(from["files"]));
  }
  void close_device(Info info) { plane_->close_device(number_of(info[0]), number_of(info[1])); }
  void add_file(Info info) { plane_->add_file(number_of(info[0]), file_of(info[1])); }
  void know_file(Info info) { plane_->know_file(file_of(info[0])); }
  void drop_file(Info info) { plane_->drop_file(number_of(info[0]), number_of(info[1])); }

  void fault_reply(Info info) {
    plane::FaultAnswer answer;
    const Napi::Array records = info[1].As<Napi::Array>();
    answer.items.reserve(records.Length());
    for (uint32_t i = 0; i < records.Length(); i++) {
      Napi::HandleScope scope(env_);
      const Napi::Object from = Napi::Value(records[i]).As<Napi::Object>();
      plane::FaultAnswer::Item item{};
      item.window = number_of(from["window"]);
      item.layer = static_cast<uint32_t>(number_of(from["layer"]));
      const Napi::Value record = from["record"];
      item.cut_off = !record.IsTypedArray();
      item.offset = answer.bytes.size();
      if (!item.cut_off) {
        const Napi::Uint8Array bytes = record.As<Napi::Uint8Array>();
        item.length = bytes.ByteLength();
        const auto* data = reinterpret_cast<const std::byte*>(bytes.Data());
        answer.bytes.insert(answer.bytes.end(), data, data + item.length);
      }
      answer.items.push_back(item);
    }
    plane_->fault_reply(number_of(info[0]), std::move(answer), static_cast<int>(number_of(info[2])));
  }

  void take_round(Info info) { plane_->take_round(number_of(info[0]), number_of(info[1])); }
  void round_done(Info info) { plane_->round_done(number_of(info[0]), number_of(info[1])); }
  void round_failed(Info info) { plane_->round_failed(number_of(info[0])); }
  void reopen(Info info) { plane_->reopen(number_of(info[0]), number_of(info[1])); }
  void refuse_reads(Info info) { plane_->refuse_reads(number_of(info[0])); }

  void cut(Info info) {
    std::vector<plane::Plane::CutRequest> members;
    const Napi::Array array = info[1].As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); i++) {
      const Napi::Object from = Napi::Value(array[i]).As<Napi::Object>();
      members.push_back({number_of(from["handle"]), id_of(from["snapshotId"]), string_of(from["name"])});
    }
    plane_->cut(number_of(info[0]), std::move(members));
  }

  void adopt(Info info) {
    std::vector<volume::AdoptedRecord> records;
    const Napi::Array array = info[3].As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); i++) {
      Napi::HandleScope scope(env_);
      const Napi::Object from = Napi::Value(array[i]).As<Napi::Object>();
      const Napi::Uint8Array bytes = Napi::Value(from["record"]).As<Napi::Uint8Array>();
      const auto* data = reinterpret_cast<const std::byte*>(bytes.Data());
      records.push_back({number_of(from["window"]), std::vector<std::byte>(data, data + bytes.ByteLength())});
    }
    plane_->adopt(number_of(info[0]), number_of(info[1]), bool_of(info[2]), std::move(records));
  }
  void remove_layer(Info info) {
    plane_->remove_layer(number_of(info[0]), static_cast<uint32_t>(number_of(info[1])));
  }
  void resize(Info info) { plane_->resize(number_of(info[0]), number_of(info[1]), number_of(info[2])); }
  void set_read_only(Info info) { plane_->set_read_only(number_of(info[0]), bool_of(info[1])); }
  void hold(Info info) { plane_->hold(number_of(info[0]), number_of(info[1])); }
  void release(Info info) { plane_->release(number_of(info[0])); }
  void flush(Info info) { plane_->flush(number_of(info[0]), number_of(info[1])); }
  void rebase(Info info) {
    const Napi::Object from = info[2].As<Napi::Object>();
    volume::Rebase to;
    to.line = number_of(from["line"]);
    to.version = static_cast<uint32_t>(number_of(from["version"]));
    to.size_bytes = number_of(from["sizeBytes"]);
    to.empty = bool_of(from["empty"]);
    to.discard = bool_of(from["discard"]);
    for (uint64_t layer : numbers_of(from["layers"])) to.layers.push_back(static_cast<uint32_t>(layer));
    plane_->rebase(number_of(info[0]), number_of(info[1]), std::move(to));
  }
  void read(Info info) {
    plane_->read(number_of(info[0]), number_of(info[1]), number_of(info[2]), number_of(info[3]));
  }
  void write(Info info) {
    const Napi::Uint8Array bytes = info[3].As<Napi::Uint8Array>();
    const auto* data = reinterpret_cast<const std::byte*>(bytes.Data());
    plane_->write(number_of(info[0]), number_of(info[1]), number_of(info[2]),
                  std::vector<std::byte>(data, data + bytes.ByteLength()));
  }
  void zero(Info info) {
    plane_->zero(number_of(info[0]), number_of(info[1]), number_of(info[2]), number_of(info[3]));
  }
  void grace(Info info) { plane_->grace(number_of(info[0])); }
  void evict(Info info) { plane_->evict(number_of(info[0])); }
  void disconnect(Info info) { plane_->disconnect(number_of(info[0]), number_of(info[1])); }

  void limit(Info info) {
    const Napi::Object from = info[1].As<Napi::Object>();
    plane::Limits limits;
    limits.iops = number_of(from["iops"]);
    limits.iops_burst = number_of(from["iopsBurst"]);
    limits.bandwidth = number_of(from["bandwidth"]);
    limits.bandwidth_burst = number_of(from["bandwidthBurst"]);
    plane_->limit(number_of(info[0]), limits);
  }
  void set_transaction_log(Info info) {
    plane_->set_transaction_log(number_of(info[0]), number_of(info[1]), string_of(info[2]), bool_of(info[3]));
  }

  void kernel_connect(Info info) {
    const Napi::Object from = info[1].As<Napi::Object>();
    kernel::ConnectOptions options;
    if (from.Get("index").IsNumber()) options.index = static_cast<uint32_t>(number_of(from["index"]));
    options.size_bytes = number_of(from["sizeBytes"]);
    options.block_bytes = number_of(from["blockBytes"]);
    options.io_timeout_s = number_of(from["ioTimeoutSeconds"]);
    options.dead_timeout_s = number_of(from["deadTimeoutSeconds"]);
    options.identifier = string_of(from["identifier"]);
    kernel_->connect(number_of(info[0]), std::move(options), backend_of(info[2]));
  }
  void kernel_reconfigure(Info info) {
    const Napi::Object from = info[1].As<Napi::Object>();
    kernel::ReconfigureOptions options;
    options.index = static_cast<uint32_t>(number_of(from["index"]));
    options.identifier = string_of(from["identifier"]);
    if (from.Get("sizeBytes").IsBigInt()) options.size_bytes = number_of(from["sizeBytes"]);
    kernel_->reconfigure(number_of(info[0]), std::move(options), backend_of(info[2]));
  }
  void kernel_disconnect(Info info) {
    kernel_->disconnect(number_of(info[0]), static_cast<uint32_t>(number_of(info[1])));
  }
  void kernel_status(Info info) { kernel_->status(number_of(info[0])); }
  void claim_node(Info info) { kernel_->claim(number_of(info[0]), string_of(info[1])); }
  void reread_node(Info info) { kernel_->reread(number_of(info[0]), string_of(info[1])); }
  void unclaim_node(Info info) { kernel_->unclaim(number_of(info[0]), string_of(info[1])); }

  static plane::KernelBackend backend_of(const Napi::Value& value) {
    const Napi::Object from = value.As<Napi::Object>();
    return {number_of(from["handle"]), bool_of(from["readOnly"]), numbers_of(from["leases"])};
  }

  void punch(Info info) {
    std::vector<plane::Plane::PunchRange> ranges;
    const Napi::Array array = info[1].As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); i++) {
      const Napi::Object from = Napi::Value(array[i]).As<Napi::Object>();
      ranges.push_back({number_of(from["file"]), number_of(from["offset"]), number_of(from["bytes"])});
    }
    plane_->punch(number_of(info[0]), std::move(ranges));
  }

  void list_reply(Info info) {
    std::vector<plane::ExportName> exports;
    const Napi::Array array = info[1].As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); i++) {
      Napi::HandleScope scope(env_);
      const Napi::Object from = Napi::Value(array[i]).As<Napi::Object>();
      exports.push_back({string_of(from["name"]), string_of(from["description"])});
    }
    plane_->list_reply(number_of(info[0]), std::move(exports));
  }

  void describe_reply(Info info) {
    plane::ExportDescription description;
    description.exists = info[1].IsObject();
    description.refusal = string_of(info[2]);
    description.error = static_cast<int>(number_of(info[3]));
    if (description.exists) {
      const Napi::Object from = info[1].As<Napi::Object>();
      description.name = string_of(from["name"]);
      description.size = number_of(from["sizeBytes"]);
      description.read_only = bool_of(from["readOnly"]);
      description.rotational = bool_of(from["rotational"]);
      description.description = string_of(from["description"]);
      const Napi::Array snapshots = Napi::Value(from["snapshots"]).As<Napi::Array>();
      for (uint32_t i = 0; i < snapshots.Length(); i++)
        description.snapshots.push_back(string_of(snapshots[i]));
    }
    plane_->describe_reply(number_of(info[0]), std::move(description));
  }

  void open_reply(Info info) {
    plane::LeaseReply reply;
    if (info[1].IsObject()) {
      const Napi::Object from = info[1].As<Napi::Object>();
      reply.lease = number_of(from["lease"]);
      reply.handle = number_of(from["handle"]);
      const Napi::Array contexts = Napi::Value(from["contexts"]).As<Napi::Array>();
      for (uint32_t i = 0; i < contexts.Length(); i++) reply.contexts.push_back(context_of(contexts[i]));
    }
    plane_->open_reply(number_of(info[0]), std::move(reply), static_cast<int>(number_of(info[2])),
                       string_of(info[3]));
  }

  static volume::StatusContext context_of(const Napi::Value& value) {
    const Napi::Object from = value.As<Napi::Object>();
    volume::StatusContext context;
    context.kind = volume::ContextKind::changed;
    context.since_layer = static_cast<uint32_t>(number_of(from["sinceLayer"]));
    const Napi::Value ranges = from["alsoChanged"];
    if (ranges.IsTypedArray()) {
      const Napi::BigUint64Array pairs = ranges.As<Napi::BigUint64Array>();
      std::vector<std::pair<uint64_t, uint64_t>> changed;
      for (size_t i = 0; i + 1 < pairs.ElementLength(); i += 2) changed.emplace_back(pairs[i], pairs[i + 1]);
      context.also_changed = std::make_shared<const decltype(changed)>(std::move(changed));
    }
    return context;
  }

  Napi::Value listen(Info info) {
    if (refuse_closed()) return env_.Undefined();
    const Napi::Object options = info[1].As<Napi::Object>();
    plane::ListenOptions how;
    how.mode = static_cast<unsigned>(number_of(options["mode"]));
    how.allow_remote = bool_of(options["allowRemote"]);
    if (string_of(options["visitors"]) == "handovers") how.visitors = plane::Visitors::handovers;
    std::string bound, sentence;
    const int result = info[0].IsNumber() ? plane_->listen_on_descriptor(static_cast<int>(number_of(info[0])),
                                                                         how, bound, sentence)
                                          : plane_->listen(string_of(info[0]), how, bound, sentence);
    if (result < 0) {
      throw_errno(env_, -result, sentence);
      return env_.Undefined();
    }
    return Napi::String::New(env_, bound);
  }

  void set_tls(Info info) {
    if (refuse_closed()) return;
    const Napi::Object from = info[0].As<Napi::Object>();
    const std::string mode = string_of(from["mode"]);
    const std::string clients = string_of(from["clients"]);
    tls::ContextOptions options;
    options.certificate = text_of(from["certificate"]);
    options.key = text_of(from["key"]);
    options.client_ca = text_of(from["clientCa"]);
    options.host_ca = text_of(from["hostCa"]);
    options.keys = text_of(from["psk"]);
    if (clients == "optional") options.clients = tls::ClientCertificates::optional;
    if (clients == "required") options.clients = tls::ClientCertificates::required;
    nbd::TlsPolicy policy = nbd::TlsPolicy::none;
    if (mode == "selective") policy = nbd::TlsPolicy::offered;
    if (mode == "forced") policy = nbd::TlsPolicy::required;
    std::string sentence;
    const bool set = plane_->set_tls(policy, options, sentence);
    for (std::string* secret : {&options.key, &options.keys}) OPENSSL_cleanse(secret->data(), secret->size());
    if (!set) throw_errno(env_, EINVAL, sentence);
  }

  // The bytes of a file; none: empty.
  static std::string text_of(const Napi::Value& value) {
    if (!value.IsTypedArray()) return {};
    const Napi::Uint8Array bytes = value.As<Napi::Uint8Array>();
    return std::string(reinterpret_cast<const char*>(bytes.Data()), bytes.ByteLength());
  }

  Napi::Value counters(Info) {
    return counters_to(env_, plane_ ? plane_->counters() : plane::PlaneCounters{});
  }
  void stop_serving(Info info) { plane_->stop_serving(number_of(info[0]), number_of(info[1])); }
  void keep_clients(Info info) { plane_->keep_clients(number_of(info[0]), number_of(info[1])); }
  void resume_client(Info info) { plane_->resume(kept_of(info[0])); }
  void resume_kernel(Info info) {
    plane_->resume_kernel(kept_of(info[0]), number_of(info[1]), number_of(info[2]));
  }
  void pulse(Info info) { plane_->pulse(number_of(info[0])); }
  void close(Info info) { stop(bool_of(info[0])); }

  Napi::Env env_;
  Stream stream_;
  std::unique_ptr<plane::Plane> plane_;
  std::unique_ptr<plane::KernelDevices> kernel_;
};

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports["NativePlane"] = NativePlane::define(env);
  exports["SimulatedDisk"] = define_simulated_disk(env);
  exports["nextExtent"] = Napi::Function::New(env, next_extent);
  exports["punchHole"] = Napi::Function::New(env, punch_hole);
  exports["handOver"] = Napi::Function::New(env, hand_over);
  exports["shutDown"] = Napi::Function::New(env, shut_down);
  exports["listeningAddress"] = Napi::Function::New(env, listening_address);
  exports["notifyServiceManager"] = Napi::Function::New(env, notify_service_manager);
  exports["sealedFile"] = Napi::Function::New(env, sealed_file);
  exports["socketCookie"] = Napi::Function::New(env, socket_cookie);
  exports["ioUringAvailable"] = Napi::Function::New(env, [](const Napi::CallbackInfo& info) {
    return Napi::Boolean::New(info.Env(), io::io_uring_available());
  });
  return exports;
}

}  // namespace

Napi::Object make_exports(Napi::Env env, Napi::Object exports) { return init(env, exports); }

}  // namespace cellblock::binding

static Napi::Object init_cellblock(Napi::Env env, Napi::Object exports) {
  return cellblock::binding::make_exports(env, exports);
}

NODE_API_MODULE(cellblock, init_cellblock)
