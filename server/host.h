// Hosts the replicas of a node. Groups are spread over loops; at any moment
// one thread owns a loop and with it all its groups, so groups need no locks.
//
// A thread that has something for a loop puts it into the loop's inbox and,
// when nobody owns the loop, becomes its owner until the inbox is empty: the
// gRPC thread for requests and messages, the WAL thread for what became
// durable. Nobody waits for anybody, and there is no hand-over to a worker
// thread. What a turn makes (messages, log writes, answers) is carried out
// as raft/ready.h demands; answers leave after the loop is given up.
//
//   inbox -> turn { Step, Propose, ... ; TakeReady of every touched group }
//         -> transport (one call per peer), log (one task), apply, answers
#ifndef KV739_SERVER_HOST_H_
#define KV739_SERVER_HOST_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "kv/cluster_map.h"
#include "kv/engine.h"
#include "kv/state_machine.h"
#include "raft/options.h"
#include "server/audit.h"
#include "server/background.h"
#include "server/clock.h"
#include "server/directory_client.h"
#include "server/disk_monitor.h"
#include "server/group_keeper.h"
#include "server/leader_balance.h"
#include "server/map_holder.h"
#include "server/operation.h"
#include "server/request_handler.h"
#include "server/snapshot_compaction.h"
#include "server/snapshot_exchange.h"
#include "server/stats.h"
#include "server/transport.h"
#include "server/wake_timer.h"
#include "server/wal/wal_thread.h"

namespace kv739::server {

class ClientSockets;

struct HostOptions {
  raft::NodeId self;
  raft::Options raft;  // `self` is filled in
  int loops = 1;
  // Requests and messages that may wait in one loop's inbox; beyond it
  // requests are answered kOverloaded and messages dropped.
  uint64_t max_inbox_events = 65536;
  // Limits on what clients send.
  uint32_t max_key_bytes = kv::kMaxKeyBytes;
  uint32_t max_value_bytes = kv::kMaxValueBytes;
  // Keys of letters, digits and - _ . / only.
  bool portable_keys = false;
  KeeperOptions keeper;
  BalanceOptions balance;
  AuditOptions audit;
  // Writes of a group in flight from which on they wait for others
  // (WriteGathering); 0: never.
  uint32_t gather_from = 16;
  // Proposals of one group whose answers are due.
  uint32_t max_pending_proposals = 65536;
  SnapshotOptions snapshot;
};

// What Host needs of the node around it; all must outlive it.
struct HostParts {
  kv::Engine* engine = nullptr;
  wal::LogWriter* log = nullptr;
  Transport* transport = nullptr;
  Clock* clock = nullptr;
  MakeWakeTimer make_timer;  // may be none: no write waits for others then
  MapHolder* maps = nullptr;
  Background* background = nullptr;
  DiskMonitor* disk = nullptr;  // may be null: there is always room
  // By which answers leave; may be null.
  ClientSockets* client_sockets = nullptr;
  // On the file system of the store, for files under way.
  std::string install_dir;
  raft::Random* random = nullptr;
  // Brings snapshots of other nodes; null: none are received. All streams have
  // ended before the host does, at latest after Stop().
  SnapshotFetcher* fetcher = nullptr;
  // Called when a replica cannot go on (its store failed): the node must
  // stop. Any thread.
  std::function<void(const absl::Status&)> on_failure;
};

// One replica as it is found on disk, or a vacant one. Of a group that the map
// does not give to this node only the hard state counts: should it get a place
// in the group again, it goes on with the vote that it has given.
struct HostedReplica {
  raft::GroupId group;
  std::unique_ptr<kv::StateMachine> machine;
  raft::InitialState state;
};

class Replica;

class Host : public RequestHandler {
 public:
  static absl::StatusOr<std::unique_ptr<Host>> Create(
      const HostOptions& options, const HostParts& parts,
      std::vector<HostedReplica> replicas);
  ~Host() override;

  // Any thread, all of these. Each operation is answered once through its
  // sink. Limits and slot ownership are checked here.
  void Submit(std::vector<Operation> operations) override;
  void OnPeerMessages(raft::NodeId from,
                      std::vector<GroupMessage> messages) override;
  void OnNodeMessage(raft::NodeId from, NodeMessage message) override;
  void OnPeerEpoch(raft::NodeId peer, uint64_t map_epoch) override;
  void OnPeerGone(raft::NodeId peer) override;
  void Tick() override;

  // Calls back with a consistent copy, on some thread.
  void CollectStats(absl::AnyInvocable<void(HostStats)> done) override;

  // Hands over the leadership of one group; target none: the member that has
  // caught up most. `done` gets the new leader, FAILED_PRECONDITION when not
  // leader, NOT_FOUND for no voter, ABORTED when it did not happen.
  void TransferLeadership(
      raft::GroupId group, raft::NodeId target,
      absl::AnyInvocable<void(absl::StatusOr<raft::NodeId>)> done) override;

  // Compares the replicas of a group that this node leads, in an audit that
  // begins now. `done` gets what was found once all have reported or the time
  // is up; FAILED_PRECONDITION when not leader, NOT_FOUND for a group that is
  // not here, UNAVAILABLE when leadership changes meanwhile. It must not block.
  void Check(raft::GroupId group,
             absl::AnyInvocable<void(absl::StatusOr<AuditResult>)> done);

  // From now on new requests are refused as kUnavailable; leaderships are
  // handed over; `done` is called with the number of groups still led once
  // none is left or all transfers have ended.
  void BeginStop(absl::AnyInvocable<void(int still_led)> done);
  // Answers everything that waits (kUnknown for writes under way,
  // kUnavailable for reads) and refuses all input from then on.
  void Stop();

  // Changes the directory, if this node leads it; see DirectoryAnswer.
  void ProposeDirectoryChange(const kv::DirectoryChange& change,
                              DirectoryDone done);

  // What peers fetch snapshots from; ends with the host.
  SnapshotProvider* snapshots();
  // Takes a replica whose state is in doubt out of service and has it rebuilt
  // from its leader's newest snapshot. Any thread.
  void RebuildReplica(raft::GroupId group, std::string why);

  std::shared_ptr<const kv::ClusterMap> map() const override;
  // True when every group here knows a leader.
  bool AllGroupsHaveLeader() override;
  // Shows every replica as it is. Only for an owner that makes all its calls
  // from one thread, between two of them: a simulator looks on with it.
  void ForEachReplica(absl::FunctionRef<void(const Replica&)> visit) const;

 private:
  class Impl;
  explicit Host(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_HOST_H_
