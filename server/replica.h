// One group's copy on this node: the Raft core, the state machine, and the
// clients that wait for either. Owned by its loop; every method is called by
// the loop's owner.
#ifndef KV739_SERVER_REPLICA_H_
#define KV739_SERVER_REPLICA_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "kv/cluster_map.h"
#include "kv/hybrid_clock.h"
#include "kv/state_machine.h"
#include "raft/core.h"
#include "server/audit.h"
#include "server/directory_client.h"
#include "server/group_keeper.h"
#include "server/host.h"
#include "server/leader_balance.h"
#include "server/node_pulse.h"
#include "server/operation.h"
#include "server/snapshot_context.h"
#include "server/stats.h"
#include "server/transport.h"
#include "server/wal/wal.h"
#include "server/write_gathering.h"

namespace kv739::server {

class Replica;
class ReplicaSnapshots;

// What becomes true once a log write is durable.
struct DurableGroup {
  Replica* replica = nullptr;
  raft::PersistedPosition position;
  std::vector<raft::Envelope> send;
  bool log_removed = false;  // the last of a replica that is gone
};

// Reads whose state may be read now, by any thread.
struct ReadyReads {
  // Shared: a replica may go meanwhile.
  std::shared_ptr<const kv::StateMachine> machine;
  std::vector<Operation> reads;
};

// A state to be hashed for an audit, in the background.
struct HashRequest {
  raft::GroupId group;
  AuditDuty::Work work;
};

struct FetchRequest {
  raft::GroupId group;
  raft::LogFetch fetch;
};

// Counts of one loop; merged into HostStats.
struct LoopStats {
  std::array<DoublingHistogram, kOpKinds> latency_us;
  std::array<std::array<uint64_t, kReplyCodes>, kOpKinds> replies{};
  DoublingHistogram proposals_per_turn;
  DoublingHistogram entries_per_apply;
  DoublingHistogram reads_per_round;
  uint64_t peer_messages_received = 0;
  uint64_t peer_messages_sent = 0;
  uint64_t peer_messages_dropped = 0;
  uint64_t apply_stalls = 0;
  uint64_t leader_moves = 0;
};

// What one turn of a loop has produced so far.
struct Turn {
  uint64_t now_nanos = 0;
  LoopStats* stats = nullptr;
  // A log write is under way that ends after this turn: what is proposed now
  // could not begin to be durable before.
  bool log_busy = false;
  // Something may wait, writes for others or entries for followers; somebody
  // sees to it that there is a turn at `wake_at` then (0: no need).
  bool may_wait = false;
  uint64_t wake_at = 0;
  void WakeAt(uint64_t nanos) {
    if (wake_at == 0 || nanos < wake_at) wake_at = nanos;
  }
  std::vector<Replica*> touched;  // each once
  absl::flat_hash_map<raft::NodeId, std::vector<GroupMessage>> outbox;
  std::vector<wal::GroupWrite> writes;
  std::vector<DurableGroup> durable;
  std::vector<FetchRequest> fetches;
  std::vector<HashRequest> hashes;
  std::vector<std::pair<raft::NodeId, NodeMessage>> node_messages;
  std::vector<ReadyReads> reads;
  std::vector<std::pair<std::shared_ptr<ReplySink>, Reply>> replies;

  void Answer(Operation& operation, Reply reply);
};

class Replica {
 public:
  static absl::StatusOr<std::unique_ptr<Replica>> Create(
      const HostOptions& options, HostedReplica hosted, MapHolder* maps,
      raft::Random* random, Clock* clock, const SnapshotContext* snapshots);
  ~Replica();

  raft::GroupId group() const { return group_; }
  const raft::Core& core() const { return *core_; }
  const kv::StateMachine& machine() const { return *machine_; }
  raft::Index applied() const { return core_->applied(); }
  // It holds no state yet: a snapshot has to come first.
  bool vacant() const { return !machine_->applied().index; }
  ReplicaSnapshots& snapshots() { return *snapshots_; }
  bool has_leader() const { return static_cast<bool>(soft_.leader); }
  bool IsLeader() const { return core_->IsLeader(); }

  // ---- inputs; Finish() carries out what follows from them ----
  void Request(Operation operation, Turn& turn);
  void Step(raft::NodeId from, raft::Message message);
  void PeerGone(raft::NodeId peer) { core_->PeerGone(peer); }
  // At every tick, or for one that rests now and then; `now` counts all ticks.
  void Tick(uint64_t now_nanos, uint64_t now, const NodePulse& nodes);
  void Persisted(const raft::PersistedPosition& position);
  void Fetched(raft::NodeId peer, std::vector<raft::Entry> entries);
  using TransferDone = absl::AnyInvocable<void(absl::StatusOr<raft::NodeId>)>;
  // `done` is called with the loop owned: it must not block.
  void Transfer(raft::NodeId target, TransferDone done);
  // Of a leader: the next step towards the members that the map wants.
  void Keep(const kv::ClusterMap& map, absl::Span<const SpareNode> spares,
            uint64_t now_ticks, DirectoryClient* directory);
  // Hands leadership to the most advanced voter that is heard of and `suits`,
  // if there is one. Nobody is told how it ends.
  void HandOverTo(absl::FunctionRef<bool(raft::NodeId)> suits);
  LeaderBalance::Group BalanceView() const;
  // ---- audits: replica_audit.cc ----
  using AuditDone = absl::AnyInvocable<void(absl::StatusOr<AuditResult>)>;
  // An audit that begins after this; `done` is called with the loop owned.
  // FAILED_PRECONDITION when not leader, UNAVAILABLE when leadership changes.
  void Check(AuditDone done);
  void OnAuditMessage(raft::NodeId from, const AuditMessage& message,
                      Turn& turn);
  void Hashed(raft::LogPosition at,
              const absl::StatusOr<kv::StateMachine::StateHash>& hash,
              Turn& turn);
  // After each Tick().
  void KeepAudits(Turn& turn);

  // This node has the replica no more: answers everything that waits; nothing
  // but the destructor is called afterwards.
  void Retire(Turn& turn);
  bool retired() const { return retired_; }
  // The newest configuration that is known to the log and has this node as a
  // voter: its index, or zero.
  raft::Index VotesSince() const;
  raft::HardState hard_state() const { return core_->Status().hard; }
  // Answers everything that waits; for the end of the process.
  void AbandonAll(Turn& turn);

  // Proposes what was requested, takes what the core has ready and puts it
  // into the turn, applies what is committed, releases reads.
  absl::Status Finish(Turn& turn);
  // True when writes have begun to wait, for the log write under way to end or
  // for others, or entries for followers: Finish() must come then, after
  // LookAgain().
  bool BeganToWait() {
    return (!requested_writes_.empty() || core_->HeldBackUntil() > 0) &&
           !std::exchange(waits_, true);
  }
  void LookAgain() { waits_ = false; }

  // Marks the replica as touched by the turn; true for the first time.
  bool Touch() { return !std::exchange(touched_, true); }
  void Untouch() { touched_ = false; }

  // Its group is quiet, and it has nothing to do of its own: it need not be
  // ticked before something comes in, but now and then, for what goes by long
  // times (audits, flushes, members that are to change).
  bool Rests() const { return core_->quiet() && HasNoDuties(); }
  // Whether the loop ticks it always. True when that changed.
  bool SetActive(bool active) {
    return std::exchange(active_, active) != active;
  }

  ReplicaStats Stats() const;

 private:
  friend class ReplicaSnapshots;
  // More writes than this are worth a message and a log write of their own.
  static constexpr size_t kMaxGathered = 256;
  static constexpr uint64_t kMaxGatheredBytes = 256 << 10;
  // Entries that are applied in one batch. A larger one has left the
  // processor's caches before it is done, and costs more per entry.
  static constexpr size_t kMaxApplied = 64;

  struct Pending {
    raft::LogPosition position;
    OpKind kind;
    uint64_t tag;
    uint64_t start_nanos;
    std::shared_ptr<ReplySink> sink;
  };

  Replica(const HostOptions& options, HostedReplica hosted, MapHolder* maps,
          Clock* clock);

  bool HasNoDuties() const;
  // Of a quiet one: wakes it when a node is silent that it needs.
  void WatchNodes(const NodePulse& nodes);
  void ProposeRequested(Turn& turn);
  bool MayGather(Turn& turn);
  void StartReads(Turn& turn);
  void TakeReady(Turn& turn);
  void OnSoftState(const raft::SoftState& soft, Turn& turn);
  absl::Status ApplyCommitted(Turn& turn);
  Operation TakePending();
  void AnswerApplied(const raft::Entry& entry, kv::ApplyResult result,
                     Turn& turn);
  void ReleaseReads(Turn& turn);
  void FailPending(Turn& turn);
  // Writes up to `index` whose outcome a snapshot hides.
  void FailPendingTo(raft::Index index, Turn& turn);
  // All reads that wait.
  void RefuseReads(const std::string& why, Turn& turn);
  // Tells the node of a map that the directory has got.
  void TellDirectory();
  void CheckTransfer();
  void BeginHash(Turn& turn);
  void SendReport(Turn& turn);
  void ProposeAudit();
  void EndAudit(const AuditResult& result, Turn& turn);
  void OnVerdict(const AuditVerdict& verdict, Turn& turn);
  void StopAudits(absl::string_view why);
  Reply Refusal(const Operation& operation, ReplyCode code,
                std::string message) const;
  Reply NotLeader(const Operation& operation) const;

  const HostOptions& options_;
  const raft::GroupId group_;
  MapHolder* const maps_;
  Clock* const clock_;
  std::shared_ptr<kv::StateMachine> machine_;
  std::shared_ptr<const kv::ClusterMap> directory_;  // as it was last told of
  std::unique_ptr<raft::Core> core_;
  std::unique_ptr<ReplicaSnapshots> snapshots_;
  raft::SoftState soft_;
  kv::HybridClock versions_;
  GroupKeeper keeper_;
  bool touched_ = false;
  bool active_ = false;
  uint64_t ticked_at_ = 0;
  bool retired_ = false;

  // Of this turn, and of those before it while they gather.
  std::vector<Operation> requested_writes_;
  WriteGathering gathered_;
  bool waits_ = false;  // the loop has it among those in which something waits
  std::vector<Operation> requested_reads_;  // of this turn
  std::deque<Pending> pending_;             // by index
  std::deque<raft::Entry> unapplied_;       // committed, in order
  bool apply_stalled_ = false;

  raft::ReadId next_read_ = 1;
  absl::flat_hash_map<raft::ReadId, std::vector<Operation>> unconfirmed_;
  // Confirmed, waiting for applied() to reach the index; ascending.
  std::deque<std::pair<raft::Index, std::vector<Operation>>> confirmed_;

  AuditLeader audits_;
  AuditDuty audit_duty_;
  uint64_t audit_ticks_ = 0;    // that have passed, ticked or not
  raft::LogPosition reported_;  // the state that was last reported
  // The report itself while it may be sent again: after half a second, then
  // after twice as long each time.
  static constexpr uint64_t kReportTicks = 25;
  static constexpr uint32_t kReportRepeats = 6;
  std::string report_;
  uint64_t next_report_ = 0;
  uint32_t report_repeats_ = 0;
  // Those who wait for the audit under way, and for the one after it.
  std::vector<AuditDone> audit_waiters_;
  std::vector<AuditDone> next_audit_waiters_;
  uint64_t audit_count_ = 0;       // that this replica led to an end
  uint64_t audit_mismatches_ = 0;  // replicas that they found wrong

  TransferDone transfer_done_;
  uint32_t transfer_ticks_ = 0;  // since it was asked for
  uint64_t elections_started_ = 0;
  uint64_t elections_won_ = 0;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_REPLICA_H_
