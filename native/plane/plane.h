// The data plane put together: journal, extents, reactors, volumes and listeners; commands come in on the
// JavaScript thread, records go out. The order of the members is the order of construction; stop() takes it
// down in reverse.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "io/io.h"
#include "plane/directory.h"
#include "plane/housekeeper.h"
#include "plane/listener.h"
#include "plane/reactor.h"
#include "plane/record.h"
#include "store/extents.h"
#include "store/journal.h"
#include "volume/volume.h"

namespace cellblock::plane {

struct PlaneOptions {
  std::string directory;
  std::array<uint8_t, 16> store_id{};
  uint32_t window_bytes = 2 << 20;
  uint64_t journal_bytes = 64 << 20;
  unsigned reactors = 2;
  io::EngineChoice engine = io::EngineChoice::automatic;
  bool direct = false;
  uint64_t cache_bytes = 64 << 20;
  uint64_t reserve_bytes = 0;
  uint64_t round_after_ms = 5000;
  WireOptions wire;
  std::string boot_id;
};

struct FileName {
  uint64_t number;
  std::string path;  // relative to the store
};

struct LeaseReply {
  uint64_t lease = 0;
  uint64_t handle = 0;
  std::vector<volume::StatusContext> contexts;
};

// Bytes of a fault's records, kept until the home reactor has read them.
struct FaultAnswer {
  std::vector<std::byte> bytes;
  struct Item {
    uint64_t window;
    uint32_t layer;
    bool cut_off;
    size_t offset, length;
  };
  std::vector<Item> items;
};

struct PlaneCounters {
  const char* engine = "";
  unsigned connections = 0;
  uint64_t refused = 0, refused_per_client = 0, handshakes_timed_out = 0;
  uint64_t tls_begun = 0, tls_failed = 0;
  uint64_t journal_cells = 0, journal_used = 0, journal_syncs = 0;
  uint64_t resident_bytes = 0;
  int64_t in_flight_bytes = 0;
  uint64_t faults = 0, faulted_windows = 0, evicted_windows = 0, punches = 0;
  struct Volume {
    uint64_t handle;
    uint64_t resident_bytes;
    size_t dirty_windows;
    DeviceSnapshot wire;
  };
  std::vector<Volume> volumes;
};

class Plane final : public Directory, public volume::Keeper {
 public:
  Plane(PlaneOptions options, std::unique_ptr<io::Disk> disk, RecordSink& sink);
  ~Plane() override;

  // 0 or -errno. `what` names the step that failed.
  int open(store::Scan& scan, std::string& what);
  int start_journal(uint64_t position);
  int sync_files(const std::vector<FileName>& files);

  void open_device(volume::VolumeOptions options, const std::vector<FileName>& files);
  void close_device(uint64_t ticket, uint64_t handle);
  void add_file(uint64_t handle, const FileName& file);
  void know_file(const FileName& file) { extents_.know(file.number, file.path); }
  void drop_file(uint64_t ticket, uint64_t number);
  void fault_reply(uint64_t ticket, FaultAnswer answer, int error);

  void take_round(uint64_t ticket, uint64_t handle);
  void round_done(uint64_t handle, uint64_t position);
  void round_failed(uint64_t handle);
  void reopen(uint64_t handle, uint64_t position);
  void refuse_reads(uint64_t handle);

  struct CutRequest {
    uint64_t handle;
    store::SnapshotId snapshot;
    std::string name;
  };
  void cut(uint64_t ticket, std::vector<CutRequest> members);
  void adopt(uint64_t ticket, uint64_t handle, bool below, std::vector<volume::AdoptedRecord> records);
  void remove_layer(uint64_t handle, uint32_t layer);
  void resize(uint64_t ticket, uint64_t handle, uint64_t size_bytes);
  void set_read_only(uint64_t handle, bool read_only);
  void hold(uint64_t ticket, uint64_t handle);
  void release(uint64_t handle);
  void flush(uint64_t ticket, uint64_t handle);
  void rebase(uint64_t ticket, uint64_t handle, volume::Rebase to);
  // The agent's own reads and changes, held or not; at most kMaxRequestBytes.
  void read(uint64_t ticket, uint64_t handle, uint64_t offset, uint64_t bytes);
  void write(uint64_t ticket, uint64_t handle, uint64_t offset, std::vector<std::byte> data);
  void zero(uint64_t ticket, uint64_t handle, uint64_t offset, uint64_t bytes);
  void grace(uint64_t ticket);
  struct PunchRange {
    uint64_t file, offset, bytes;
  };
  void punch(uint64_t ticket, std::vector<PunchRange> ranges);
  void evict(uint64_t handle);
  void disconnect(uint64_t ticket, uint64_t handle);
  void limit(uint64_t handle, const Limits& limits);
  // Appends to the file at `path`, which is made when it is not there; empty: ends the log.
  void set_transaction_log(uint64_t ticket, uint64_t handle, const std::string& path, bool with_data);

  // A socket whose other end the kernel gets, and a lease on the open device `handle`; both are taken over.
  // `input`: what was received on it already.
  void serve_kernel(int fd, uint64_t handle, uint64_t lease, nbd::Negotiated negotiated,
                    std::vector<std::byte> input = {});
  // One that keep_clients() of an earlier process left.
  void resume_kernel(KeptClient client, uint64_t handle, uint64_t lease);

  void list_reply(uint64_t ticket, std::vector<ExportName> exports);
  void describe_reply(uint64_t ticket, ExportDescription description);
  void open_reply(uint64_t ticket, LeaseReply reply, int error, const std::string& refusal);

  // 0 and the address bound, or -errno and a sentence.
  int listen(const std::string& address, const ListenOptions& options, std::string& bound,
             std::string& sentence);
  // For connections that come from now on. False: the setting stays as it was, `sentence` says why.
  bool set_tls(nbd::TlsPolicy policy, const tls::ContextOptions& options, std::string& sentence);
  // The same on a listening socket that was handed to the process; it is ours from then on.
  int listen_on_descriptor(int fd, const ListenOptions& options, std::string& bound, std::string& sentence);
  PlaneCounters counters();
  void stop_serving(uint64_t ticket, uint64_t deadline_ms);
  // The same, but clients that another process can go on with are left as they are. Answered by ClientsKept.
  void keep_clients(uint64_t ticket, uint64_t deadline_ms);
  // Takes over what an earlier process was left with.
  void resume(KeptClient client);
  // Done when every reactor has come by: none hangs.
  void pulse(uint64_t ticket);
  // Joins every thread. Idempotent. `clean`: everything is in LevelDB.
  void close(bool clean);

  // Directory, on reactor threads
  void list(unsigned reactor, const Peer& peer, std::function<void(std::vector<ExportName>)> reply) override;
  void describe(unsigned reactor, const Peer& peer, const std::string& name,
                std::function<void(ExportDescription)> reply) override;
  void open(unsigned reactor, const Peer& peer, const std::string& name,
            const std::vector<std::string>& changed_since, std::function<void(Lease)> reply) override;
  void close(uint64_t lease) override;

  // volume::Keeper, on home reactors
  void fault(volume::Volume& volume, uint64_t first, uint32_t count) override;
  void round_wanted(volume::Volume& volume, bool urgent) override;
  void file_wanted(volume::Volume& volume) override;
  void released(volume::Volume& volume) override;
  void failed(volume::Volume& volume, int error, uint64_t after, std::vector<store::Entry> entries) override;

 private:
  struct Poster final : store::Poster {
    explicit Poster(Loop& loop) : loop(loop) {}
    void post(std::function<void()> run) override { loop.post(std::move(run)); }
    Loop& loop;
  };
  struct Seat {  // a reactor and what lives on it
    std::unique_ptr<Reactor> reactor;
    std::unique_ptr<Poster> poster;
    std::unique_ptr<Timer> tick;
    std::vector<std::unique_ptr<Listener>> listeners;  // its thread's
    std::vector<volume::Volume*> volumes;              // its thread's
  };
  struct Cut;
  template <typename Reply>
  struct Asked {
    unsigned reactor;
    std::function<void(Reply)> reply;
  };

  int serve(Bound socket, Visitors visitors, std::string& bound, std::string& sentence);
  void stop(uint64_t deadline_ms, Reactor::Clients what, std::function<void(std::vector<KeptClient>)> done);
  volume::Volume* find(uint64_t handle);
  // Runs on the volume's home; nothing when the handle is not open.
  bool at_home(uint64_t handle, std::function<void(volume::Volume&)> run);
  void answer(uint64_t ticket, int error) { sink_.push(Done{ticket, error}); }
  using OwnDone = std::function<void(volume::Request&)>;
  void own_request(uint64_t handle, volume::Command command, uint64_t offset, uint64_t length,
                   std::vector<std::byte> data, OwnDone done);
  void trim_journal();
  void arm_tick(Seat& seat);
  void raise_all(std::shared_ptr<Cut> cut);
  void member_settled(std::shared_ptr<Cut> cut, size_t index, int error, uint64_t position, unsigned reactor);
  void write_cut(std::shared_ptr<Cut> cut, unsigned reactor);
  void cut_written(std::shared_ptr<Cut> cut, int error);
  template <typename Reply>
  void deliver(std::unordered_map<uint64_t, Asked<Reply>>& asked, uint64_t ticket, Reply reply);

  PlaneOptions options_;
  std::unique_ptr<io::Disk> disk_;
  RecordSink& sink_;
  store::ExtentsTable extents_;
  std::unique_ptr<store::Journal> journal_;
  volume::CacheBudget budget_;
  std::unique_ptr<Wire> wire_;
  Housekeeper housekeeper_;
  std::vector<Seat> seats_;

  std::mutex volumes_mutex_;
  std::unordered_map<uint64_t, std::unique_ptr<volume::Volume>> volumes_;
  unsigned next_seat_ = 0;
  unsigned next_listener_ = 0;

  std::mutex asked_mutex_;
  std::unordered_map<uint64_t, Asked<std::vector<ExportName>>> lists_;
  std::unordered_map<uint64_t, Asked<ExportDescription>> descriptions_;
  std::unordered_map<uint64_t, Asked<Lease>> opens_;
  std::unordered_map<uint64_t, std::pair<uint64_t, uint64_t>> faults_;  // ticket -> handle, first window
  std::atomic<uint64_t> next_ticket_{1};
  std::atomic<uint64_t> fault_count_{0};
  std::atomic<uint64_t> faulted_windows_{0};
  std::atomic<uint64_t> punch_count_{0};
  bool closed_ = false;
};

}  // namespace cellblock::plane
