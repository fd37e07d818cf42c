#include "server/replica.h"

#include "absl/strings/str_cat.h"
#include "raft/planted.h"
#include "server/snapshot_replica.h"

namespace kv739::server {
namespace {

kv::Op CommandOp(OpKind kind) {
  switch (kind) {
    case OpKind::kDelete:
      return kv::Op::kDelete;
    case OpKind::kAppend:
      return kv::Op::kAppend;
    case OpKind::kCompareAndSwap:
      return kv::Op::kCompareAndSwap;
    case OpKind::kOpenSession:
      return kv::Op::kOpenSession;
    case OpKind::kDirectory:
      return kv::Op::kDirectory;
    case OpKind::kAudit:
      return kv::Op::kAudit;
    case OpKind::kPut:
    case OpKind::kGet:
    case OpKind::kGetStale:
    case OpKind::kScan:
    case OpKind::kScanStale:
      break;
  }
  return kv::Op::kPut;
}

raft::Payload EncodeRequest(const Operation& operation, kv::Version stamp) {
  kv::Command command;
  command.op = CommandOp(operation.kind);
  command.stamp = stamp;
  command.session = operation.session;
  command.sequence = operation.sequence;
  command.floor = operation.floor;
  command.expected = operation.expected;
  command.key = operation.key;
  command.value = operation.value;
  return raft::MakePayload(kv::EncodeCommand(command));
}

}  // namespace

Replica::Replica(const HostOptions& options, HostedReplica hosted,
                 MapHolder* maps, Clock* clock)
    : options_(options),
      group_(hosted.group),
      maps_(maps),
      clock_(clock),
      machine_(std::move(hosted.machine)),
      keeper_(options.keeper),
      gathered_(options.gather_from),
      audits_(options.audit, hosted.group, 0) {
  versions_.Observe(machine_->last_version());
  if (machine_->directory() != nullptr) TellDirectory();
}

absl::StatusOr<std::unique_ptr<Replica>> Replica::Create(
    const HostOptions& options, HostedReplica hosted, MapHolder* maps,
    raft::Random* random, Clock* clock, const SnapshotContext* snapshots) {
  raft::Options raft_options = options.raft;
  raft_options.self = options.self;
  auto core = raft::Core::Create(raft_options, std::move(hosted.state), random);
  if (!core.ok()) return core.status();
  std::unique_ptr<Replica> replica(
      new Replica(options, std::move(hosted), maps, clock));
  replica->core_ = *std::move(core);
  replica->snapshots_ =
      std::make_unique<ReplicaSnapshots>(snapshots, replica.get());
  return replica;
}

Replica::~Replica() = default;

// ---- inputs ----

void Replica::Request(Operation operation, Turn& turn) {
  if (vacant() || !snapshots_->fault().empty()) {
    const bool away = core_->leader() && !core_->IsLeader();
    Reply reply =
        away && !IsStale(operation.kind)
            ? NotLeader(operation)
            : Refusal(operation, ReplyCode::kUnavailable,
                      vacant() ? "this replica waits for its first snapshot"
                               : snapshots_->fault());
    turn.Answer(operation, std::move(reply));
    return;
  }
  if (!core_->IsLeader() && !IsStale(operation.kind)) {
    Reply reply = NotLeader(operation);
    turn.Answer(operation, std::move(reply));
    return;
  }
  if (KV739_PLANTED(R1_scan_not_confirmed) && operation.kind == OpKind::kScan) {
    operation.kind = OpKind::kScanStale;
  }
  switch (operation.kind) {
    case OpKind::kGetStale:
    case OpKind::kScanStale: {
      ReadyReads ready;
      ready.machine = machine_;
      ready.reads.push_back(std::move(operation));
      turn.reads.push_back(std::move(ready));
      return;
    }
    case OpKind::kGet:
    case OpKind::kScan:
      requested_reads_.push_back(std::move(operation));
      return;
    default:
      break;
  }
  if (apply_stalled_ || pending_.size() + requested_writes_.size() >=
                            options_.max_pending_proposals) {
    Reply reply =
        Refusal(operation, ReplyCode::kOverloaded,
                apply_stalled_
                    ? "the store must write out data first"
                    : absl::StrCat("more than ", options_.max_pending_proposals,
                                   " writes wait in this group"));
    turn.Answer(operation, std::move(reply));
    return;
  }
  requested_writes_.push_back(std::move(operation));
}

void Replica::Persisted(const raft::PersistedPosition& position) {
  snapshots_->OnPersisted();
  core_->Persisted(position);
}

void Replica::Step(raft::NodeId from, raft::Message message) {
  // Every group's log begins behind kFirstPosition, so nobody who knows the
  // group has entries from the very beginning; here, where there may be no
  // state yet, they could be applied to nothing.
  const auto* append = std::get_if<raft::AppendEntries>(&message);
  if (append != nullptr && append->previous.index < kv::kFirstPosition.index) {
    return;
  }
  // Who does not know its group yet has no vote in it: it may have been here
  // before and have forgotten, with its log, what it acknowledged. Whoever asks
  // goes by an old configuration, in which it still counts; a member that is to
  // vote has had a snapshot first.
  if (vacant() && std::holds_alternative<raft::RequestVote>(message) &&
      !KV739_PLANTED(M6_vote_without_a_log)) {
    return;
  }
  core_->Step(raft::Envelope{from, options_.self, std::move(message)});
}

void Replica::Transfer(raft::NodeId target, TransferDone done) {
  if (transfer_done_) {
    done(absl::FailedPreconditionError(absl::StrCat(
        "group ", group_.value(), " is handing over its leadership already")));
    return;
  }
  if (!target) target = core_->BestTransferTarget();
  absl::Status status = core_->TransferLeadership(target);
  if (!status.ok()) {
    done(status);
    return;
  }
  transfer_done_ = std::move(done);
  transfer_ticks_ = 0;
}

void Replica::Fetched(raft::NodeId peer, std::vector<raft::Entry> entries) {
  // What was dropped while it was read is not in the core's log any more.
  const raft::Index start = core_->log_start().index;
  std::erase_if(entries, [&](const auto& e) { return e.index <= start; });
  core_->Fetched(peer, std::move(entries));
}

void Replica::HandOverTo(absl::FunctionRef<bool(raft::NodeId)> suits) {
  if (core_->transferring()) return;
  const raft::CoreStatus status = core_->Status();
  const raft::PeerProgress* best = nullptr;
  for (const raft::PeerProgress& peer : status.peers) {
    if (peer.learner || !peer.recently_active || !suits(peer.id)) continue;
    if (best == nullptr || peer.match > best->match) best = &peer;
  }
  if (best != nullptr) core_->TransferLeadership(best->id).IgnoreError();
}

void Replica::Tick(uint64_t now_nanos, uint64_t now, const NodePulse& nodes) {
  core_->SetTime(now_nanos);
  audit_ticks_ += ticked_at_ == 0 ? 1 : now - ticked_at_;
  ticked_at_ = now;
  if (core_->quiet()) {
    WatchNodes(nodes);
  } else if (core_->CanBeQuiet() && HasNoDuties() &&
             core_->AllPeers(
                 [&](raft::NodeId peer) { return nodes.IsHeard(peer); })) {
    core_->BecomeQuiet();
  }
  core_->Tick();
  snapshots_->Tick();
  if (transfer_done_) ++transfer_ticks_;
}

void Replica::WatchNodes(const NodePulse& nodes) {
  raft::NodeId silent;
  core_->AllPeers([&](raft::NodeId peer) {
    if (!nodes.IsHeard(peer)) silent = peer;
    return !silent;
  });
  if (silent) core_->PeerGone(silent);
}

bool Replica::HasNoDuties() const {
  const bool requests = !requested_writes_.empty() ||
                        !requested_reads_.empty() || !pending_.empty() ||
                        !unconfirmed_.empty() || !confirmed_.empty();
  // A report that is sent again has time.
  const bool audits = audits_.open() || audit_duty_.running() ||
                      !audit_waiters_.empty() || !next_audit_waiters_.empty();
  if (requests || audits || !unapplied_.empty() || transfer_done_ ||
      !snapshots_->HasNoDuties()) {
    return false;
  }
  if (!core_->IsLeader()) return true;
  const bool bootstrapped =
      group_ != kv::kDirectoryGroup || machine_->directory() != nullptr;
  return bootstrapped && keeper_.status().state == KeeperState::kSettled;
}

raft::Index Replica::VotesSince() const {
  const raft::CoreStatus core = core_->Status();
  return core.configuration.IsVoter(options_.self) ? core.configuration_index
                                                   : raft::Index();
}

void Replica::Retire(Turn& turn) {
  snapshots_->Stop();
  AbandonAll(turn);
  retired_ = true;
}

void Replica::AbandonAll(Turn& turn) {
  for (Operation& operation : requested_writes_) {
    Reply reply =
        Refusal(operation, ReplyCode::kUnavailable, "the server is stopping");
    turn.Answer(operation, std::move(reply));
  }
  requested_writes_.clear();
  RefuseReads("the server is stopping", turn);
  FailPending(turn);
  StopAudits("the server is stopping");
  if (transfer_done_) {
    std::exchange(transfer_done_,
                  nullptr)(absl::UnavailableError("the server is stopping"));
  }
}

// ---- a turn ----

absl::Status Replica::Finish(Turn& turn) {
  // The requests of this turn came before this moment.
  core_->SetTime(turn.now_nanos);
  ProposeRequested(turn);
  StartReads(turn);
  absl::Status advanced = snapshots_->Advance(turn);
  if (!advanced.ok()) return advanced;
  // Applying can make more ready (a leader's commit follows from what it has
  // applied only rarely), so go on until nothing is left.
  do {
    TakeReady(turn);
    absl::Status status = ApplyCommitted(turn);
    if (!status.ok()) return status;
  } while (core_->HasReady());
  ReleaseReads(turn);
  CheckTransfer();
  const uint64_t held_back_until = core_->HeldBackUntil();
  if (held_back_until > 0) turn.WakeAt(held_back_until);
  return absl::OkStatus();
}

bool Replica::MayGather(Turn& turn) {
  if (!core_->IsLeader()) return false;
  if (requested_writes_.size() > kMaxGathered) return false;
  uint64_t bytes = 0;
  for (const Operation& operation : requested_writes_) {
    bytes += operation.value.size();
  }
  if (bytes > kMaxGatheredBytes) return false;
  if (turn.log_busy) return true;
  if (!turn.may_wait || options_.gather_from == 0 ||
      !gathered_.Waits(requested_writes_.size(), pending_.size(),
                       turn.now_nanos)) {
    return false;
  }
  turn.WakeAt(gathered_.wait_ends());
  return true;
}

// While the log is busy, requests wait for those that come meanwhile: one
// message to each follower, one log write there and one here serve them all.
// They would have had to wait for the log anyway. And while many are in flight
// a batch waits to be worth its while.
void Replica::ProposeRequested(Turn& turn) {
  if (requested_writes_.empty() || MayGather(turn)) return;
  std::vector<Operation> writes = std::exchange(requested_writes_, {});
  std::vector<raft::Payload> commands;
  commands.reserve(writes.size());
  const uint64_t wall = clock_->WallMillis();
  for (const Operation& operation : writes) {
    commands.push_back(EncodeRequest(operation, versions_.Next(wall)));
  }
  turn.stats->proposals_per_turn.Observe(commands.size());
  auto position = core_->Propose(std::move(commands));
  if (!position.ok()) {
    for (Operation& operation : writes) {
      Reply reply = absl::IsFailedPrecondition(position.status())
                        ? NotLeader(operation)
                        : Refusal(operation,
                                  absl::IsResourceExhausted(position.status())
                                      ? ReplyCode::kOverloaded
                                      : ReplyCode::kUnavailable,
                                  std::string(position.status().message()));
      turn.Answer(operation, std::move(reply));
    }
    return;
  }
  raft::LogPosition at = *position;
  for (Operation& operation : writes) {
    pending_.push_back(Pending{at, operation.kind, operation.tag,
                               operation.start_nanos,
                               std::move(operation.sink)});
    ++at.index;
  }
  gathered_.Proposed(writes.size(), turn.now_nanos);
}

void Replica::StartReads(Turn& turn) {
  if (requested_reads_.empty()) return;
  // All reads of a turn share one id: they began before its round does.
  const raft::ReadId id = next_read_++;
  turn.stats->reads_per_round.Observe(requested_reads_.size());
  unconfirmed_.emplace(id, std::exchange(requested_reads_, {}));
  core_->ReadIndex(id);
}

void Replica::TakeReady(Turn& turn) {
  if (!core_->HasReady()) return;
  raft::Ready ready = core_->TakeReady();
  if (ready.soft_state) OnSoftState(*ready.soft_state, turn);
  for (raft::Envelope& envelope : ready.send_now) {
    turn.outbox[envelope.to].push_back(
        GroupMessage{group_, std::move(envelope.message)});
  }
  snapshots_->OnReady(ready, turn);
  if (ready.persist.snapshot) {
    // Before the rest: a write's own compaction would come last.
    wal::GroupWrite write;
    write.group = group_;
    write.compact = ready.persist.snapshot;
    turn.writes.push_back(std::move(write));
  }
  if (!ready.persist.empty() || !ready.send_after_persist.empty()) {
    wal::GroupWrite write;
    write.group = group_;
    write.hard_state = ready.persist.hard_state;
    write.entries = std::move(ready.persist.entries);
    if (!write.empty()) turn.writes.push_back(std::move(write));
    turn.durable.push_back(DurableGroup{this, ready.persist.position,
                                        std::move(ready.send_after_persist)});
  }
  for (raft::Entry& entry : ready.committed) {
    unapplied_.push_back(std::move(entry));
  }
  for (const raft::ReadReady& read : ready.reads) {
    auto it = unconfirmed_.find(read.id);
    if (it == unconfirmed_.end()) continue;
    confirmed_.emplace_back(read.index, std::move(it->second));
    unconfirmed_.erase(it);
  }
  for (raft::ReadId id : ready.failed_reads) {
    auto it = unconfirmed_.find(id);
    if (it == unconfirmed_.end()) continue;
    for (Operation& operation : it->second) {
      Reply reply = NotLeader(operation);
      turn.Answer(operation, std::move(reply));
    }
    unconfirmed_.erase(it);
  }
  for (const raft::LogFetch& fetch : ready.fetch) {
    turn.fetches.push_back(FetchRequest{group_, fetch});
  }
}

void Replica::OnSoftState(const raft::SoftState& soft, Turn& turn) {
  const bool led = soft_.role == raft::Role::kLeader;
  if (soft.role == raft::Role::kCandidate &&
      soft_.role != raft::Role::kCandidate) {
    ++elections_started_;
  }
  const bool leads = soft.role == raft::Role::kLeader;
  if (leads && !led) {
    ++elections_won_;
    versions_.Observe(machine_->last_version());
  }
  // Another leader, or this one again in a later term, decides what becomes
  // of the writes under way; their clients ask again under their sessions.
  if (led && (!leads || soft.term != soft_.term)) {
    FailPending(turn);
    gathered_.Reset();
    StopAudits("leadership changed before the end of the audit");
  }
  soft_ = soft;
}

absl::Status Replica::ApplyCommitted(Turn& turn) {
  apply_stalled_ = false;
  if (snapshots_->applying_stopped()) return absl::OkStatus();
  if (KV739_PLANTED(C5_followers_do_not_apply) && !core_->IsLeader()) {
    return absl::OkStatus();
  }
  while (!unapplied_.empty()) {
    // One batch of what is there; the core bounds it too (max_apply_bytes). It
    // ends where the state is to be hashed.
    const AuditBatch batch = NextAuditBatch(unapplied_, kMaxApplied);
    const auto end = unapplied_.begin() + static_cast<ptrdiff_t>(batch.count);
    std::vector<raft::Entry> entries(
        std::make_move_iterator(unapplied_.begin()),
        std::make_move_iterator(end));
    const bool asked = !pending_.empty();
    std::vector<kv::ApplyResult> results;
    if (asked) results.reserve(entries.size());
    absl::Status status = machine_->Apply(entries, asked ? &results : nullptr);
    if (absl::IsResourceExhausted(status)) {
      std::move(entries.begin(), entries.end(), unapplied_.begin());
      apply_stalled_ = true;
      ++turn.stats->apply_stalls;
      return absl::OkStatus();
    }
    if (!status.ok()) return status;
    unapplied_.erase(unapplied_.begin(), end);
    turn.stats->entries_per_apply.Observe(entries.size());
    turn.now_nanos = clock_->MonotonicNanos();
    for (size_t i = 0; i < results.size(); ++i) {
      AnswerApplied(entries[i], std::move(results[i]), turn);
    }
    core_->Applied(entries.back().index);
    if (asked) gathered_.Answered(turn.now_nanos);
    TellDirectory();
    if (batch.audit) BeginHash(turn);
  }
  return absl::OkStatus();
}

void Replica::TellDirectory() {
  if (machine_->directory() == directory_) return;
  directory_ = machine_->directory();
  maps_->Offer(directory_);
}

void Replica::ReleaseReads(Turn& turn) {
  const raft::Index applied = core_->applied();
  while (!confirmed_.empty() && (confirmed_.front().first <= applied ||
                                 KV739_PLANTED(R5_read_before_it_is_applied))) {
    turn.reads.push_back(
        ReadyReads{machine_, std::move(confirmed_.front().second)});
    confirmed_.pop_front();
  }
}

void Replica::CheckTransfer() {
  if (!transfer_done_) return;
  const bool leads = core_->IsLeader();
  if (leads && core_->transferring()) return;
  if (leads) {
    std::exchange(transfer_done_, nullptr)(absl::AbortedError(
        absl::StrCat("the leadership of group ", group_.value(),
                     " was not taken over in time; it stays here")));
  } else if (core_->leader()) {
    std::exchange(transfer_done_, nullptr)(core_->leader());
  } else if (transfer_ticks_ >= 2 * options_.raft.election_timeout_ticks) {
    // It left here and arrived nowhere: the others are gone, perhaps.
    std::exchange(transfer_done_, nullptr)(absl::AbortedError(
        absl::StrCat("group ", group_.value(), " has no known leader now")));
  }
}

ReplicaStats Replica::Stats() const {
  ReplicaStats stats;
  stats.group = group_;
  stats.core = core_->Status();
  stats.log_entries =
      stats.core.last_index.value() + 1 - stats.core.first_index.value();
  stats.sessions = machine_->session_count();
  stats.pending_proposals = pending_.size();
  for (const auto& [id, reads] : unconfirmed_) {
    stats.pending_reads += reads.size();
  }
  for (const auto& [index, reads] : confirmed_) {
    stats.pending_reads += reads.size();
  }
  stats.elections_started = elections_started_;
  stats.elections_won = elections_won_;
  snapshots_->AddStats(&stats);
  stats.audits = audit_count_;
  stats.audit_mismatches = audit_mismatches_;
  if (core_->IsLeader()) stats.keeper = keeper_.status();
  stats.resting = Rests();
  return stats;
}

}  // namespace kv739::server
