// One loop of a node: an inbox, and the replicas of the groups that it runs.
// See server/host.h for how loops are owned; this file is the mechanism.
#ifndef KV739_SERVER_LOOP_H_
#define KV739_SERVER_LOOP_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "server/host.h"
#include "server/leader_balance.h"
#include "server/node_conditions.h"
#include "server/node_pulse.h"
#include "server/operation.h"
#include "server/replica.h"
#include "server/scan_queue.h"
#include "server/stats.h"
#include "server/transport.h"
#include "server/wal/wal_thread.h"

namespace kv739::server {

// What may be put into an inbox.
struct PeerEvent {
  raft::NodeId from;
  std::vector<GroupMessage> messages;
};
struct TickEvent {};
struct DurableEvent {
  std::vector<DurableGroup> groups;
};
struct FetchedEvent {
  raft::GroupId group;
  raft::NodeId peer;
  std::vector<raft::Entry> entries;
};
struct WakeEvent {};  // nothing but a turn
// Writes have waited for others long enough.
struct WaitEndsEvent {};
// Anything rare: runs with the loop owned.
using CallEvent = absl::AnyInvocable<void(Turn&)>;

using InboxEvent =
    std::variant<std::vector<Operation>, PeerEvent, TickEvent, DurableEvent,
                 FetchedEvent, WakeEvent, WaitEndsEvent, CallEvent>;

class Loop {
 public:
  Loop(const HostOptions& options, const HostParts& parts,
       const NodeConditions* conditions, const NodePulse* nodes,
       DirectoryClient* directory, uint64_t seed,
       SnapshotContext snapshots);  // its options and `post` are filled in
  ~Loop();

  // Before the first Post.
  absl::Status AddReplica(HostedReplica replica);

  // Any thread. Takes the event unless the inbox is full: operations are then
  // answered kOverloaded and messages dropped; other events always fit.
  void Post(InboxEvent event);
  // For threads that have other things to do than to run a loop under load:
  // one turn, as the log thread does it.
  void PostTo(raft::GroupId group, ReplicaCall call);

  // With the loop owned (from a CallEvent): removes the replicas of groups that
  // the newest map does not give to this node. One whose own log says later
  // than the map that it votes stays until a newer map comes: a start finds a
  // map that may be older than the log.
  void TakeMap(Turn& turn);
  void PeerGone(raft::NodeId peer, Turn& turn);
  // It is not heard of, though its connection has not ended. Matters to quiet
  // groups alone; the others have timers.
  void PeerSilent(raft::NodeId peer, Turn& turn);

  // With the loop owned (from a CallEvent).
  Replica* Find(raft::GroupId group);
  const std::vector<std::unique_ptr<Replica>>& replicas() const {
    return replicas_;
  }
  void AddStats(HostStats* stats) const;
  // For the end of the process: no scan waits for another turn.
  void CloseScans(Turn& turn) { scans_.Close(turn); }
  // Refuses requests from now on; the replicas hand over.
  void BeginStop() { stopping_ = true; }
  bool stopping() const { return stopping_; }

  // Any thread.
  bool AllGroupsHaveLeader() const {
    return leaderless_.load(std::memory_order_relaxed) == 0;
  }

 private:
  // Runs turns until the inbox is empty or another thread owns the loop.
  void Run(bool on_log_thread);
  // Becomes the owner and takes what waits; false when there is nothing to do
  // or another thread does it.
  bool TakeInbox(std::vector<InboxEvent>* events);
  void GiveUp();
  void PostFrom(InboxEvent event, bool on_log_thread);
  void Handle(InboxEvent event, Turn& turn);
  void HandleOperations(std::vector<Operation> operations, Turn& turn);
  void HandlePeer(PeerEvent event, Turn& turn);
  // How often the keepers of the groups led here are asked.
  static constexpr uint64_t kKeeperTicks = 5;
  // A replica that rests is ticked and asked once in so many times that.
  static constexpr uint64_t kRestFactor = 10;

  void HandleTick(Turn& turn);
  // Those that rest are let go, some that do are taken for one tick.
  void ChooseActive();
  void Activate(Replica* replica);
  void Keep(Turn& turn);
  // Hands over what this node leads more than its share of.
  void BalanceLeaders(Turn& turn);
  // Hands what this node leads to members that have room on their disks.
  void HandOverForSpace(Turn& turn);
  void HandleDurable(DurableEvent event, Turn& turn);
  // Those in which something waits.
  void TouchWaiting(Turn& turn);
  // For the earliest turn that somebody waits for.
  void SetTimer(const Turn& turn);
  // A replica for a group that the newest map gives to this node; null when it
  // does not, or while the old one's data is being removed.
  Replica* MakeVacant(raft::GroupId group);
  absl::Status Insert(HostedReplica hosted);
  void Retire(Replica* replica, Turn& turn);
  // Its log is gone; what is left is its data.
  void RemoveData(Replica* replica);
  bool LogBusy();
  void FinishTurn(Turn& turn);
  void SendMessages(Turn& turn);
  void SubmitLog(Turn& turn);
  void StartFetches(Turn& turn);
  void StartHashes(Turn& turn);
  void StartLogWrite(std::vector<wal::GroupWrite> writes,
                     std::vector<DurableGroup> durable);
  void OnLogDone(std::vector<DurableGroup> durable);
  // Without the loop: reads the state for confirmed reads, sends answers.
  void CarryOut(Turn& turn);
  void ServeReads(Turn& turn);
  // Sees to it that there is another turn.
  void TakeTurnLater();

  const HostOptions options_;
  const HostParts parts_;
  const NodeConditions* const conditions_;
  const NodePulse* const nodes_;
  DirectoryClient* const directory_;
  std::unique_ptr<raft::Random> random_;
  SnapshotContext snapshots_;
  LeaderBalance balance_;  // the owner's

  // std::mutex throughout: Debian's abseil is not built for the thread
  // sanitizer, which would not see its locks.
  mutable std::mutex inbox_mutex_;  // guards the inbox and owned_
  std::vector<InboxEvent> inbox_;
  uint64_t inbox_weight_ = 0;
  uint64_t inbox_refused_ = 0;
  bool owned_ = false;

  // Log writes of this loop: one task is under way at most, and what comes
  // meanwhile is gathered for the next, so that one sync serves it all.
  std::mutex log_mutex_;  // guards these
  bool log_busy_ = false;
  std::vector<wal::GroupWrite> next_writes_;
  std::vector<DurableGroup> next_durable_;

  // Answers to reads; they are made without the loop.
  mutable std::mutex read_stats_mutex_;  // guards it
  LoopStats read_stats_;
  ScanQueue scans_;
  std::atomic<bool> wake_coming_{false};
  std::unique_ptr<WakeTimer> timer_;  // null: nothing waits for long

  // The owner's.
  std::vector<std::unique_ptr<Replica>> replicas_;  // by group
  absl::flat_hash_map<raft::GroupId, Replica*> by_group_;
  // Those that every tick goes to: whatever was touched, until it rests.
  std::vector<Replica*> active_;
  size_t next_resting_ = 0;  // of replicas_: the next to be looked at
  uint64_t kept_epoch_ = 0;  // of the map that all keepers were asked with
  // Replicas that this node has no more, kept until the log writes under way
  // are done and then until their data is gone.
  absl::flat_hash_map<raft::GroupId, std::unique_ptr<Replica>> retired_;
  // What replicas that are gone have voted; in the log too.
  absl::flat_hash_map<raft::GroupId, raft::HardState> hard_states_;
  // Groups whose writes wait for the end of the log write under way, or for
  // others, or whose leader holds entries back.
  std::vector<raft::GroupId> waiting_;
  uint64_t timer_set_ = 0;  // when it rings; 0: it does not
  LoopStats stats_;
  bool stopping_ = false;
  uint64_t ticks_ = 0;
  bool was_low_ = false;  // short of disk space, at the last tick
  // Who may get places, and in which map.
  MapHolder::Map candidates_of_;
  std::vector<kv::Candidate> candidates_;

  std::atomic<int> leaderless_{0};
};

}  // namespace kv739::server

#endif  // KV739_SERVER_LOOP_H_
