#include "raft/core.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "raft/check.h"
#include "raft/core_impl.h"
#include "raft/planted.h"

namespace kv739::raft {
namespace {

absl::Status ValidateConfiguration(const Configuration& configuration) {
  // Wholly empty: a replica that is to join and does not know its group yet.
  if (configuration == Configuration()) return absl::OkStatus();
  return configuration.Validate();
}

Log::Start LogStart(InitialState* state) {
  return {state->snapshot.position, state->applied,
          state->hard_state.commit, std::move(state->terms),
          state->last_index,        std::move(state->entries)};
}

absl::Status ValidateState(const InitialState& state) {
  InitialState copy = state;
  const Log::Start start = LogStart(&copy);
  if (absl::Status s = Log::Validate(start); !s.ok()) return s;
  const Term last_term =
      start.terms.empty() ? start.snapshot.term : start.terms.back().term;
  if (state.hard_state.term < last_term) {
    return absl::InvalidArgumentError(
        "raft state: the log has a term above the hard state's");
  }
  if (absl::Status s = ValidateConfiguration(state.snapshot.configuration);
      !s.ok()) {
    return s;
  }
  if (absl::Status s = ValidateConfiguration(state.applied_configuration);
      !s.ok()) {
    return s;
  }
  for (const Entry& entry : start.entries) {
    if (entry.kind != EntryKind::kConfiguration) continue;
    auto decoded = DecodeConfiguration(*entry.data);
    if (!decoded.ok()) return decoded.status();
  }
  return absl::OkStatus();
}

}  // namespace

// ---- the public face ----

absl::StatusOr<std::unique_ptr<Core>> Core::Create(const Options& options,
                                                   InitialState state,
                                                   Random* random) {
  if (absl::Status s = options.Validate(); !s.ok()) return s;
  if (absl::Status s = ValidateState(state); !s.ok()) return s;
  return std::unique_ptr<Core>(
      new Core(std::make_unique<Impl>(options, std::move(state), random)));
}

Core::Core(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Core::~Core() = default;
void Core::Tick() { impl_->Tick(); }
void Core::SetTime(uint64_t nanos) { impl_->SetTime(nanos); }
void Core::Step(const Envelope& envelope) { impl_->Step(envelope); }
void Core::PeerGone(NodeId peer) { impl_->PeerGone(peer); }
absl::StatusOr<LogPosition> Core::Propose(std::vector<Payload> commands) {
  return impl_->Propose(std::move(commands));
}
absl::StatusOr<LogPosition> Core::ProposeConfiguration(Configuration target) {
  return impl_->ProposeConfiguration(std::move(target));
}
void Core::ReadIndex(ReadId id) { impl_->ReadIndex(id); }
void Core::Persisted(const PersistedPosition& position) {
  impl_->Persisted(position);
}
void Core::Applied(Index index) { impl_->Applied(index); }
void Core::Fetched(NodeId peer, std::vector<Entry> entries) {
  impl_->Fetched(peer, std::move(entries));
}
void Core::SnapshotSent(NodeId peer, Index index) {
  impl_->SnapshotSent(peer, index);
}
void Core::SnapshotInstalled(const SnapshotMeta& meta) {
  impl_->SnapshotInstalled(meta);
}
void Core::SetFit(bool fit) { impl_->SetFit(fit); }
void Core::Compact(Index index) { impl_->Compact(index); }
absl::Status Core::TransferLeadership(NodeId target) {
  return impl_->TransferLeadership(target);
}
NodeId Core::BestTransferTarget() const { return impl_->BestTransferTarget(); }
bool Core::CanBeQuiet() const { return impl_->CanBeQuiet(); }
void Core::BecomeQuiet() { impl_->BecomeQuiet(); }
bool Core::quiet() const { return impl_->quiet(); }
void Core::Wake() { impl_->Wake(); }
bool Core::AllPeers(absl::FunctionRef<bool(NodeId)> holds) const {
  return impl_->AllPeers(holds);
}
uint64_t Core::HeldBackUntil() const { return impl_->HeldBackUntil(); }
bool Core::HasReady() const { return impl_->HasReady(); }
Ready Core::TakeReady() { return impl_->TakeReady(); }
bool Core::IsLeader() const { return impl_->is_leader(); }
bool Core::transferring() const { return impl_->transferring(); }
Term Core::term() const { return impl_->term(); }
NodeId Core::leader() const { return impl_->leader(); }
Index Core::applied() const { return impl_->log().applied(); }
Index Core::commit() const { return impl_->log().committed(); }
Index Core::last_index() const { return impl_->log().last(); }
LogPosition Core::log_start() const { return impl_->log().snapshot(); }
Index Core::MemberSince(NodeId peer) const { return impl_->MemberSince(peer); }
uint64_t Core::dropped() const { return impl_->dropped(); }
CoreStatus Core::Status() const { return impl_->Status(); }

// ---- inputs ----

Core::Impl::Impl(const Options& options, InitialState state, Random* random)
    : options_(options),
      random_(random),
      term_(state.hard_state.term),
      vote_(state.hard_state.vote),
      persisted_hard_state_(state.hard_state),
      log_(LogStart(&state), options.max_cached_bytes) {
  // Without anything applied behind the snapshot the two are one.
  const bool at_snapshot = state.applied == state.snapshot.position.index;
  configurations_.push_back(
      {state.applied, at_snapshot ? std::move(state.snapshot.configuration)
                                  : std::move(state.applied_configuration)});
  // A configuration counts from when it is in the log, committed or not.
  for (Index i = log_.applied() + 1; i <= log_.last(); ++i) {
    if (KV739_PLANTED(M3_uncommitted_configuration_forgotten)) break;
    const Entry& entry = log_.At(i);
    if (entry.kind != EntryKind::kConfiguration) continue;
    configurations_.push_back({i, *DecodeConfiguration(*entry.data)});
  }
  ResetElectionTimer();
}

void Core::Impl::Tick() {
  if (quiet_) return;
  ++now_;
  if (is_leader()) {
    TickLeader();
  } else {
    TickElection();
  }
}

void Core::Impl::Step(const Envelope& envelope) {
  const NodeId from = envelope.from;
  if (envelope.to != self() || from == self() || !from) return Drop();
  struct Dispatch {
    Impl* core;
    NodeId from;
    void operator()(const RequestVote& m) { core->OnRequestVote(from, m); }
    void operator()(const RequestVoteResponse& m) {
      core->OnRequestVoteResponse(from, m);
    }
    void operator()(const AppendEntries& m) { core->OnAppendEntries(from, m); }
    void operator()(const AppendEntriesResponse& m) {
      core->OnAppendEntriesResponse(from, m);
    }
    void operator()(const Heartbeat& m) { core->OnHeartbeat(from, m); }
    void operator()(const HeartbeatResponse& m) {
      core->OnHeartbeatResponse(from, m);
    }
    void operator()(const TimeoutNow& m) { core->OnTimeoutNow(from, m); }
    void operator()(const InstallSnapshot& m) {
      core->OnInstallSnapshot(from, m);
    }
  };
  const Term term =
      std::visit([](const auto& m) { return m.term; }, envelope.message);
  if (!term || term.value() >= kNumberLimit) return Drop();
  if (quiet_ && RepeatsQuiescence(envelope)) return;
  const bool beat = std::holds_alternative<Heartbeat>(envelope.message) ||
                    std::holds_alternative<HeartbeatResponse>(envelope.message);
  if (quiet_ || !beat) Wake(from);
  std::visit(Dispatch{this, from}, envelope.message);
}

absl::StatusOr<LogPosition> Core::Impl::Propose(std::vector<Payload> commands) {
  Leader* leader = std::get_if<Leader>(&role_);
  if (leader == nullptr) return absl::FailedPreconditionError("not the leader");
  if (leader->transfer) {
    return absl::UnavailableError("leadership is being handed over");
  }
  if (commands.empty()) return absl::InvalidArgumentError("nothing to propose");
  uint64_t bytes = 0;
  for (const Payload& command : commands) {
    if (!command) return absl::InvalidArgumentError("a command without data");
    bytes += command->size() + kEntryOverhead;
  }
  const uint64_t waiting = leader->uncommitted.total();
  if (waiting > 0 && waiting + bytes > options_.max_uncommitted_bytes) {
    return absl::ResourceExhaustedError("too much is not committed yet");
  }
  Wake();
  const Index first = log_.last() + 1;
  for (Payload& command : commands) {
    log_.Append(
        {term_, log_.last() + 1, EntryKind::kCommand, std::move(command)});
  }
  leader->uncommitted.Add(log_.last(), bytes);
  return LogPosition{term_, first};
}

void Core::Impl::Persisted(const PersistedPosition& position) {
  // A write that was asked for in an earlier term proves nothing now: it may
  // have been overwritten since, and what overwrote it overwritten by its like
  // (the ABA race). Whoever moves to a new term persists that, so another
  // answer is on its way.
  if (position.hard_state_term != term_ &&
      !KV739_PLANTED(L2_late_completion_believed)) {
    return;
  }
  log_.PersistedTo(position.last);
  if (is_leader()) {
    AdvanceCommit();
  } else if (auto* candidate = std::get_if<Candidate>(&role_)) {
    // Our own vote counts now that it cannot be forgotten (section 5.2).
    if (!candidate->pre_vote && vote_ == self()) {
      candidate->Record(self(), true);
      CountCandidateVotes();
    }
  }
}

// ---- output ----

bool Core::Impl::HasReady() const {
  if (log_.HasUnpersisted() || log_.HasUnapplied() || MustPersistHardState() ||
      !ready_.empty() || soft_state() != reported_soft_state_) {
    return true;
  }
  if (const auto* leader = std::get_if<Leader>(&role_)) {
    if (CanStartRead() || CanReadByLease()) return true;
    for (const Progress& peer : leader->peers) {
      if (peer.CanSend(log_.last()) && !IsHeldBack(peer)) return true;
    }
  }
  return false;
}

Ready Core::Impl::TakeReady() {
  // Left to this moment so that all proposals of one turn share a message per
  // follower, and all reads a round.
  if (is_leader()) {
    StartReads();
    SendToPeers();
  }
  Ready ready = std::move(ready_);
  ready_ = Ready();
  // The log may have arrived there by itself since.
  if (ready.wants_snapshot &&
      ready.wants_snapshot->position.index <= log_.committed()) {
    ready.wants_snapshot.reset();
  }
  ready.persist.entries = log_.TakeUnpersisted();
  // The commit index alone is not worth a sync; it goes along when there is
  // one anyway.
  const HardState now = hard_state();
  if (MustPersistHardState() ||
      (!ready.persist.empty() && now != persisted_hard_state_)) {
    if (!KV739_PLANTED(E3_vote_in_memory_only) || !ready.persist.empty()) {
      ready.persist.hard_state = now;
    }
    persisted_hard_state_ = now;
  }
  ready.persist.position = {term_, log_.end()};
  ready.committed = log_.TakeUnapplied(options_.max_apply_bytes);
  if (const SoftState soft = soft_state(); soft != reported_soft_state_) {
    ready.soft_state = soft;
    reported_soft_state_ = soft;
  }
  return ready;
}

// ---- what is known ----

NodeId Core::Impl::leader() const {
  if (is_leader()) return self();
  const auto* follower = std::get_if<Follower>(&role_);
  return follower != nullptr ? follower->leader : NodeId();
}

SoftState Core::Impl::soft_state() const {
  const Role role = is_leader() ? Role::kLeader
                    : std::holds_alternative<Candidate>(role_)
                        ? Role::kCandidate
                        : Role::kFollower;
  return {role, term_, leader()};
}

CoreStatus Core::Impl::Status() const {
  CoreStatus status;
  status.soft = soft_state();
  status.hard = hard_state();
  status.first_index = log_.first();
  status.last_index = log_.last();
  status.durable = log_.durable();
  status.commit = log_.committed();
  status.applied = log_.applied();
  status.configuration = configuration();
  status.configuration_index = configurations_.back().index;
  status.fit = fit_;
  status.quiet = quiet_;
  status.changing = Changing();
  const auto* leader = std::get_if<Leader>(&role_);
  if (leader == nullptr) return status;
  status.transferring = leader->transfer.has_value();
  for (const Progress& peer : leader->peers) {
    PeerProgress p;
    p.id = peer.id();
    p.match = peer.match();
    p.next = peer.next();
    p.learner = configuration().IsLearner(peer.id());
    p.silent_ticks = now_ - peer.last_heard();
    p.recently_active =
        now_ - peer.last_heard() < options_.election_timeout_ticks;
    p.needs_snapshot = peer.state() == Progress::State::kSnapshot;
    p.inflight_bytes = peer.inflights().bytes();
    status.peers.push_back(p);
  }
  return status;
}

}  // namespace kv739::raft
