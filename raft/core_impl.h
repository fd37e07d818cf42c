// The inside of raft::Core; included by its sources only.
//
//   core.cc         inputs of the owner, ticks, dispatch of messages, Ready
//   election.cc     pre-votes, votes, changes of role
//   replication.cc  AppendEntries both ways, commit, heartbeats, fetches
//   holding_back.cc entries that wait for those whom no majority needs
//   snapshot.cc     InstallSnapshot both ways, compaction
//   membership.cc   configurations: in force, cut off, changes under way
//   reads.cc        ReadIndex
//   lease.cc        reads by lease
//   transfer.cc     leadership transfer
//   quiescence.cc  idle groups, whose timers rest
//   fitness.cc      replicas that must not lead
//   disk_stall.cc   leaders whose disk hangs
#ifndef KV739_RAFT_CORE_IMPL_H_
#define KV739_RAFT_CORE_IMPL_H_

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "raft/core.h"
#include "raft/log.h"
#include "raft/roles.h"

namespace kv739::raft {

class Core::Impl {
 public:
  Impl(const Options& options, InitialState state, Random* random);

  // Inputs and outputs: see raft/core.h.
  void Tick();
  void SetTime(uint64_t nanos) { nanos_ = std::max(nanos_, nanos); }
  void Step(const Envelope& envelope);
  void PeerGone(NodeId peer);
  absl::StatusOr<LogPosition> Propose(std::vector<Payload> commands);
  absl::StatusOr<LogPosition> ProposeConfiguration(Configuration target);
  void ReadIndex(ReadId id);
  void Persisted(const PersistedPosition& position);
  void Applied(Index index) { log_.AppliedTo(index); }
  void Fetched(NodeId peer, std::vector<Entry> entries);
  void SnapshotSent(NodeId peer, Index index);
  void SnapshotInstalled(const SnapshotMeta& meta);
  void Compact(Index index);
  absl::Status TransferLeadership(NodeId target);
  NodeId BestTransferTarget() const;
  bool HasReady() const;
  uint64_t HeldBackUntil() const;
  Ready TakeReady();
  CoreStatus Status() const;
  Index MemberSince(NodeId peer) const;

  bool is_leader() const { return std::holds_alternative<Leader>(role_); }
  bool transferring() const {
    const auto* leader = std::get_if<Leader>(&role_);
    return leader != nullptr && leader->transfer.has_value();
  }
  Term term() const { return term_; }
  NodeId leader() const;
  const Log& log() const { return log_; }
  uint64_t dropped() const { return dropped_; }

  void SetFit(bool fit);

  bool CanBeQuiet() const;
  void BecomeQuiet();
  bool quiet() const { return quiet_; }
  void Wake(NodeId by = NodeId());
  bool AllPeers(absl::FunctionRef<bool(NodeId)> holds) const;

 private:
  // A configuration and the index from which on it is in force.
  struct ConfigurationAt {
    Index index;
    Configuration configuration;
  };

  // ---- core.cc ----
  void Send(NodeId to, Message message) {
    ready_.send_now.push_back({self(), to, std::move(message)});
  }
  // Says something about our durable state.
  void SendAfterPersist(NodeId to, Message message) {
    ready_.send_after_persist.push_back({self(), to, std::move(message)});
  }
  void Drop() { ++dropped_; }
  NodeId self() const { return options_.self; }
  HardState hard_state() const { return {term_, vote_, log_.committed()}; }
  bool MustPersistHardState() const {
    return persisted_hard_state_.term != term_ ||
           persisted_hard_state_.vote != vote_;
  }
  SoftState soft_state() const;
  const Configuration& configuration() const {
    return configurations_.back().configuration;
  }

  // ---- membership.cc ----
  bool IsAlone() const;
  bool ConfigurationCommitted() const {
    return configurations_.back().index <= log_.committed();
  }
  // Joint, or in force but not known to be committed.
  bool Changing() const {
    return configuration().joint() || !ConfigurationCommitted();
  }
  // A committed configuration leaves us out.
  bool Removed() const {
    return ConfigurationCommitted() && !configuration().IsVoter(self());
  }
  bool MayCampaign() const;
  // Appends to the log; a configuration takes effect (section 6).
  void AppendToLog(Entry entry);
  void TruncateLog(Index from);
  LogPosition AppendConfiguration(const Configuration& configuration);
  void OnConfigurationChanged();
  // The commit index of a leader has moved: the next step of a change.
  void ContinueChange();
  void HandOver();

  // ---- election.cc ----
  void OnRequestVote(NodeId from, const RequestVote& message);
  void OnRequestVoteResponse(NodeId from, const RequestVoteResponse& message);
  void TickElection();
  void ResetElectionTimer();
  bool HasLiveLeader() const;
  void StartPreVote();
  void StartElection(bool transfer);
  void EnterTerm(Term term);  // a later one
  void AskForVotes(bool pre_vote, bool transfer);
  void CountCandidateVotes();
  void BecomeFollower(Term term, NodeId leader);
  void BecomeLeader();
  // For messages that only a leader of `term` sends. False: go no further.
  bool AcceptLeader(NodeId from, Term term);
  bool QuorumHeardWithin(uint64_t ticks) const;

  // ---- replication.cc ----
  void OnAppendEntries(NodeId from, const AppendEntries& message);
  void OnAppendEntriesResponse(NodeId from,
                               const AppendEntriesResponse& message);
  void OnHeartbeat(NodeId from, const Heartbeat& message);
  void OnHeartbeatResponse(NodeId from, const HeartbeatResponse& message);
  void Acknowledge(NodeId to, Index index);
  void TickLeader();
  void SendHeartbeat(const Progress& peer);
  void SendHeartbeats();
  void SendAppends(Progress* peer);
  void SendAppend(Progress* peer, std::vector<Entry> entries, uint64_t bytes);
  void AskForFetch(Progress* peer);
  void AdvanceCommit();
  bool CommittedInOwnTerm() const {
    return log_.TermAt(log_.committed()) == term_;
  }

  // ---- holding_back.cc ----
  void SendToPeers();
  void ObservePace();
  void ChoosePrompt();
  bool MayHoldBack(const Progress& peer) const;
  bool IsHeldBack(const Progress& peer) const;
  // Begins or ends to hold back what the peer is to get; false: send now.
  bool GoesOnHolding(Progress* peer);
  void TickHoldingBack();

  // ---- snapshot.cc ----
  void OnInstallSnapshot(NodeId from, const InstallSnapshot& message);
  void AskForSnapshot(Progress* peer);

  // ---- reads.cc ----
  bool CanStartRead() const;
  void StartReads();
  void SendReadRound();
  void TickReads();
  void ConfirmReads();

  // ---- lease.cc ----
  bool LeasesKept() const { return options_.lease_nanos > 0; }
  void StartLeaseRound();
  void RenewLease();
  bool HoldsLease() const;
  bool CanReadByLease() const;
  // To the leader of a time before this process.
  bool MayHavePromised() const;

  // ---- disk_stall.cc ----
  void TickDiskStall();

  // ---- quiescence.cc ----
  bool AllIsDone() const;
  bool AgreesToBeQuiet(const Heartbeat& message) const;
  bool RepeatsQuiescence(const Envelope& envelope) const;

  // ---- fitness.cc ----
  void TickUnfit();

  // ---- transfer.cc ----
  void OnTimeoutNow(NodeId from, const TimeoutNow& message);
  void TickTransfer();
  void ContinueTransfer();

  const Options options_;
  Random* const random_;

  Term term_;
  NodeId vote_;
  HardState persisted_hard_state_;  // last handed out in a Persist
  SoftState reported_soft_state_;   // last handed out
  Log log_;
  std::vector<ConfigurationAt> configurations_;  // oldest first, never empty
  RoleState role_;

  uint64_t now_ = 0;               // ticks, but for those of quiet times
  uint64_t nanos_ = 0;             // the owner's clock
  uint64_t active_at_ = 0;         // when more than heartbeats last happened
  bool quiet_ = false;             // time stands still
  uint64_t election_elapsed_ = 0;  // ticks
  uint64_t election_timeout_ = 0;  // drawn anew for each wait
  uint64_t hurry_until_ = 0;       // a leader went: shorter timeouts till then
  Index stalled_at_;               // durable when last looked at, by a leader
  uint64_t stalled_ticks_ = 0;     // since then, with a write under way
  bool fit_ = true;
  uint64_t dropped_ = 0;
  Ready ready_;  // being collected
};

}  // namespace kv739::raft

#endif  // KV739_RAFT_CORE_IMPL_H_
