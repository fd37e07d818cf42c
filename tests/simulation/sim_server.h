// One machine with one server: a disk that stays and a process that comes and
// goes. The process is put together as server/node.cc does it, with the
// simulator's clock, network and disk in the place of the real ones.
//
// Everything that a process does happens in a step (After, Deliver). At the end
// of a step what it wants to send leaves, sorted by receiver, since the host
// keeps some of it in hash tables; and the checks look at it. A process that
// dies within a step sends nothing of it.
#ifndef KV739_TESTS_SIMULATION_SIM_SERVER_H_
#define KV739_TESTS_SIMULATION_SIM_SERVER_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "client/engine.h"
#include "kv/cluster_map.h"
#include "server/disk_monitor.h"
#include "server/host.h"
#include "server/joining.h"
#include "server/map_holder.h"
#include "tests/simulation/sim_checks.h"
#include "tests/simulation/sim_disk_directory.h"
#include "tests/simulation/sim_log.h"
#include "tests/simulation/sim_net.h"
#include "tests/simulation/sim_shadow.h"
#include "tests/simulation/sim_store.h"
#include "tests/simulation/world_queue.h"
#include "tests/support/fake_file_system.h"

namespace kv739::world {

class World;

// Time as one machine has it: `rate` is in 1/1000.
class SimClock : public server::Clock {
 public:
  explicit SimClock(const EventQueue* queue) : queue_(queue) {}
  uint64_t MonotonicNanos() const override {
    return kSecond + queue_->now() / 1000 * rate_;
  }
  uint64_t WallMillis() const override {
    return 1'700'000'000'000 + queue_->now() / kMillisecond + wall_offset_;
  }
  void SetRate(uint64_t rate) { rate_ = rate; }  // before anybody looks
  uint64_t rate() const { return rate_; }
  void StepWall(int64_t ms) { wall_offset_ += static_cast<uint64_t>(ms); }

 private:
  const EventQueue* const queue_;
  uint64_t rate_ = 1000;
  uint64_t wall_offset_ = 0;
};

// Whom an answer is for.
struct AnswerTo {
  int client = 0;
  uint64_t life = 0;           // of the client
  client::NodeIndex node = 0;  // what it calls this server
  bool operator==(const AnswerTo&) const = default;
};

class SimServer {
 public:
  enum class State { kDown, kStarting, kRunning, kStopping };

  // `later`: not one of the cluster file.
  SimServer(World* world, int index, kv::Address address, bool later);
  ~SimServer();

  int index() const { return index_; }
  const kv::Address& address() const { return address_; }
  State state() const { return state_; }
  bool running() const {
    return state_ == State::kRunning || state_ == State::kStopping;
  }
  bool paused() const { return paused_; }
  uint64_t life() const { return life_; }
  raft::NodeId id() const { return disk_->directory.identity().node; }
  bool has_identity() const { return disk_->directory.has_identity(); }
  SimDirectory& directory() { return disk_->directory; }
  SimClock& clock() { return clock_; }
  server::Host* host() { return process_ ? process_->host.get() : nullptr; }
  server::MapHolder* maps() {
    return process_ ? process_->maps.get() : nullptr;
  }
  const ShadowLog* DurableLog(raft::GroupId group) const;
  const SeenReplica* Seen(raft::GroupId group) const;

  // ---- its course ----
  // `join`: not one of the cluster file. Nothing when it runs.
  void Start(bool join = false);
  // Dies; starts again after `down` (0: not by itself).
  void Crash(bool power_loss, uint64_t down);
  // In order, and starts again.
  void Restart(uint64_t down);
  void Pause(uint64_t nanos);
  void Resume();
  // Loses the disk; while it is down.
  void Wipe();
  // Has left, or may not come back as it is: stays down until it is wiped.
  bool gone() const { return gone_; }
  bool joins() const { return join_; }
  bool later() const { return later_; }

  // ---- faults ----
  // Dies in the middle of a write to its disk, soon.
  void DieInWrite(uint64_t steps);
  void FailWrite();
  void FailReads(uint64_t nanos);
  void StallDisk(uint64_t nanos);
  void StallStore(uint64_t nanos);
  void FillDisk(uint64_t nanos, bool really);
  bool FlipBit();
  bool MisdirectWrite();
  // Its disk was damaged since it started last.
  bool suspect() const { return suspect_; }
  // No fault: a store may write out what it holds at any time.
  void FlushStore();
  void EndFaults();

  // ---- steps ----
  // In this process, after a time; late when it is paused.
  void After(uint64_t delay, Task task);
  // In the process that runs now, if any.
  void Deliver(Task task, bool of_client = false);
  // Within a step: an answer for a client leaves at its end.
  void Answer(const AnswerTo& to, client::Answer answer);

 private:
  friend class Joining;
  class Transport;
  class Timer;
  class Jobs;
  class Fetcher;

  struct Disk {
    Disk(bool direct, uint64_t incarnation)
        : files(direct), directory(incarnation) {}
    wal::FakeFileSystem files;
    SimStore store;
    SimDirectory directory;
    ShadowLogs durable;
    std::deque<wal::GroupWrite> under_way;  // when the process died
  };
  struct Process {
    ~Process();
    std::unique_ptr<server::MapHolder> maps;
    std::unique_ptr<sim::SimRandom> random;
    std::unique_ptr<wal::Wal> wal;
    std::unique_ptr<SimLog> log;
    std::unique_ptr<Transport> transport;
    std::unique_ptr<Jobs> jobs;
    std::unique_ptr<Fetcher> fetcher;
    std::unique_ptr<server::DiskMonitor> monitor;
    std::unique_ptr<server::Host> host;
    bool saving_map = false;
    uint64_t epoch = 0;  // last seen
    std::map<raft::GroupId, SeenReplica> seen;
  };
  struct Reply {
    AnswerTo to;
    client::Answer answer;
  };

  void Run(uint64_t life, Task task, bool of_client = false);
  void FinishStep();
  void Look();
  void Send();
  // Within a step: the process ends with it.
  void Doom(bool power_loss);
  void EndProcess();

  // The rest of a start, once it is known who this is.
  void Serve(std::shared_ptr<const kv::ClusterMap> map,
             const kv::ClusterMap& first);
  absl::StatusOr<std::vector<server::HostedReplica>> OpenStorage(
      const kv::ClusterMap& first);
  void StartFailed(const absl::Status& status);
  void CheckFound(const std::vector<server::HostedReplica>& replicas);
  void StartLog();
  void WatchDisk();
  absl::Status StartHost(std::vector<server::HostedReplica> replicas);
  void Tick();
  void OnNewMap();
  void StopInOrder(uint64_t down);
  void StartAfter(uint64_t down);
  uint64_t WriteNanos();
  void Note(const char* what, uint64_t a = 0, uint64_t b = 0);

  World* const world_;
  const int index_;
  const kv::Address address_;
  const bool later_;
  SimClock clock_;
  bool upgraded_;  // writes the newest format
  std::unique_ptr<Disk> disk_;
  std::unique_ptr<Process> process_;
  ShadowLogs written_;  // to the log of this process

  State state_ = State::kDown;
  uint64_t life_ = 0;
  bool join_ = false;
  bool gone_ = false;
  bool paused_ = false;
  struct Deferred {
    Task task;
    bool of_client = false;
  };
  std::vector<Deferred> deferred_;
  bool doomed_ = false;
  bool doom_power_loss_ = false;
  bool suspect_ = false;
  bool injected_ = false;  // a failure of its disk, since it started
  bool full_ = false;
  uint64_t stalled_until_ = 0;
  uint64_t unreadable_until_ = 0;
  bool sync_fails_ = false;  // the next one

  std::vector<std::pair<raft::NodeId, PeerBatch>> outbox_;
  std::vector<Reply> replies_;
};

}  // namespace kv739::world

#endif  // KV739_TESTS_SIMULATION_SIM_SERVER_H_
