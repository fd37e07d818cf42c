#include "server/snapshot_replica.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "raft/planted.h"
#include "server/logging.h"
#include "server/replica.h"

namespace kv739::server {
namespace {

// How often views that nobody reads are looked for.
constexpr uint64_t kExpireNanos = 1'000'000'000;

}  // namespace

ReplicaSnapshots::ReplicaSnapshots(const SnapshotContext* context,
                                   Replica* replica)
    : context_(context),
      replica_(replica),
      compaction_(context, replica->group_, replica->machine_->applied().index),
      offers_(context, replica->group_),
      receiver_(context, replica->group_) {
  context_->store->SetServing(replica->group_, !replica->vacant());
}

ReplicaSnapshots::~ReplicaSnapshots() { Stop(); }

void ReplicaSnapshots::Stop() {
  context_->store->SetServing(replica_->group_, false);
  offers_.Clear();
  receiver_.Drop();
}

// ---- a turn ----

absl::Status ReplicaSnapshots::Advance(Turn& turn) {
  if (std::exchange(ticked_, false)) Tick(turn);
  if (!failure_.ok()) return failure_;
  raft::Core* core = replica_->core_.get();
  compaction_.Cut(turn.now_nanos, offers_.Held(turn.now_nanos), core, turn);
  // One of a later term than ours (its leader was elected anew, and we have not
  // heard) waits until we are there: our log never has a term above our own.
  if (state_ == State::kNormal && receiver_.ready(turn.now_nanos) &&
      receiver_.position().term <= core->term()) {
    state_ = State::kWaiting;
    barrier_ = submitted_;
  }
  if (state_ == State::kWaiting &&
      (persisted_ >= barrier_ ||
       KV739_PLANTED(S3_installed_beside_log_writes))) {
    StartCommit();
  }
  return absl::OkStatus();
}

void ReplicaSnapshots::Tick(Turn& turn) {
  raft::Core* core = replica_->core_.get();
  const uint64_t now = turn.now_nanos;
  if (fault_.empty()) compaction_.Tick(now, *core);
  offers_.Tick(now, core, turn);
  receiver_.Tick(now);
  if (now - expired_at_ >= kExpireNanos) {
    expired_at_ = now;
    context_->store->Expire();
  }
  if (!fault_.empty()) {
    if (core->leader() && !core->IsLeader()) {
      receiver_.OfferNewest(core->leader(), now);
    }
  } else if (state_ == State::kNormal && !StillWanted()) {
    receiver_.Drop();
  }
}

// The log may have got us there meanwhile.
bool ReplicaSnapshots::StillWanted() const {
  if (receiver_.state() == SnapshotReceiver::State::kIdle) return true;
  const raft::LogPosition position = receiver_.position();
  return !position.index || position.index > replica_->core_->commit();
}

void ReplicaSnapshots::OnReady(const raft::Ready& ready, Turn& turn) {
  if (!ready.persist.empty() || !ready.send_after_persist.empty()) {
    ++submitted_;
  }
  if (ready.soft_state) {
    if (soft_.term != ready.soft_state->term ||
        ready.soft_state->role != raft::Role::kLeader) {
      offers_.Clear();
    }
    soft_ = *ready.soft_state;
  }
  const raft::Core& core = *replica_->core_;
  for (raft::NodeId peer : ready.needs_snapshot) offers_.Need(peer, core);
  if (ready.wants_snapshot && core.leader()) {
    receiver_.Offer(core.leader(), *ready.wants_snapshot, turn.now_nanos);
  }
}

// ---- a snapshot is put in place ----

// Applying has stopped, and all that the core had handed to the log is there.
void ReplicaSnapshots::StartCommit() {
  const raft::Index index = receiver_.position().index;
  const raft::Index applied = replica_->machine_->applied().index;
  // A leader has all that is committed, whatever somebody offered before.
  const bool useful = !replica_->core_->IsLeader() &&
                      (fault_.empty() ? index > applied : index >= applied);
  if (!useful) {
    state_ = State::kNormal;
    LogInfo("group ", replica_->group_.value(), ": the snapshot at ",
            index.value(), " is of no use at ", applied.value());
    receiver_.Drop();
    return;
  }
  state_ = State::kCommitting;
  const uint64_t number = ++commit_;
  context_->background->Run([context = *context_, group = replica_->group_,
                             incoming = receiver_.incoming(), number] {
    if (!context.gate->Enter()) return;
    absl::Status status = incoming->Commit();
    context.post(group, [number, status](Replica& replica, Turn& after) {
      ReplicaSnapshots& self = replica.snapshots();
      if (self.state_ != State::kCommitting || self.commit_ != number) return;
      self.OnCommitted(status, after);
    });
    context.gate->Leave();
  });
}

void ReplicaSnapshots::OnCommitted(absl::Status status, Turn& turn) {
  state_ = State::kNormal;
  if (!status.ok()) {
    LogWarn("group ", replica_->group_.value(),
            ": a snapshot could not be put in place: ", status.ToString());
    if (absl::IsFailedPrecondition(status)) return receiver_.Drop();
    // Which of the two states the disk has, the next start will show. A full
    // disk has room again some time.
    const absl::Status error = context_->engine->background_error();
    if (!absl::IsResourceExhausted(error)) failure_ = error;
    return receiver_.Retry(turn.now_nanos);
  }
  failure_ = Switch(receiver_.position(), turn);
  if (failure_.ok()) receiver_.Done(turn.now_nanos);
}

// The engine holds the snapshot, durably. Nothing goes back from here.
absl::Status ReplicaSnapshots::Switch(raft::LogPosition position, Turn& turn) {
  Replica& replica = *replica_;
  absl::Status status = replica.machine_->Reload();
  if (!status.ok()) return status;
  if (replica.machine_->applied() != position) {
    return absl::InternalError(
        absl::StrCat("group ", replica.group_.value(), ": a snapshot of ",
                     position.index.value(), " left the state machine at ",
                     replica.machine_->applied().index.value()));
  }
  if (position.index > replica.core_->applied()) {
    replica.core_->SnapshotInstalled(
        {position, replica.machine_->configuration()});
  }
  while (!replica.unapplied_.empty() &&
         replica.unapplied_.front().index <= position.index) {
    replica.unapplied_.pop_front();
  }
  replica.FailPendingTo(position.index, turn);
  replica.versions_.Observe(replica.machine_->last_version());
  replica.TellDirectory();
  compaction_.Installed(position.index);
  if (!fault_.empty()) {
    LogInfo("group ", replica.group_.value(), ": rebuilt at ",
            position.index.value());
    fault_.clear();
    replica.core_->SetFit(true);
  } else {
    LogInfo("group ", replica.group_.value(), ": a snapshot is in place, at ",
            position.index.value());
  }
  context_->store->SetServing(replica.group_, true);
  return absl::OkStatus();
}

// ---- rebuilding ----

void ReplicaSnapshots::Rebuild(std::string why, Turn& turn) {
  LogWarn("group ", replica_->group_.value(),
          ": this replica serves no more until it is rebuilt: ", why);
  fault_ = std::move(why);
  context_->store->SetServing(replica_->group_, false);
  offers_.Clear();
  replica_->core_->SetFit(false);
  replica_->RefuseReads(fault_, turn);
}

void ReplicaSnapshots::AddStats(ReplicaStats* stats) const {
  stats->snapshot_index = compaction_.durable();
  stats->compactions = compaction_.compactions();
  stats->fault = fault_;
  receiver_.AddStats(expired_at_, stats);
  context_->store->AddStats(replica_->group_, stats);
}

}  // namespace kv739::server
