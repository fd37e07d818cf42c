// Quiet groups: where nothing happens, nobody's timers run. An idle group then
// costs no message and no tick. Not from the thesis; other stores with many
// groups have the like.
//
// A leader whose members all have all there is, applied here, and with nothing
// under way, may be sent to rest by its owner (BecomeQuiet). It tells its
// followers with a last heartbeat, `quiesce`. A follower that has just that
// much, committed and applied, rests too and says nothing: silence is the
// answer that the leader hopes for. Any answer, as of one that lags, or of a
// server too old to know the flag, wakes the leader, and it goes on with
// heartbeats. When the last heartbeat gets lost, the follower's timer runs out
// and its pre-vote wakes the leader.
//
// Everything that happens to a quiet replica wakes it, but for a repetition of
// the last heartbeat. It has its whole timeout again then: a follower for a
// leader that is late, a leader for answers. Time stands still in between, so
// nobody seems silent for having had nothing to say. A follower that somebody
// else has woken says so to its leader with a HeartbeatResponse: those who are
// awake need heartbeats, or enough of them would replace a leader that rests.
//
// Safety never rests on timers, so it does not suffer. For liveness the owner
// answers: while a replica is quiet it watches the nodes themselves, and calls
// PeerGone() when one is not heard of. A leader is not to rest while a member's
// node is silent, so a group with a dead member never does.
#include "raft/core_impl.h"
#include "raft/planted.h"

namespace kv739::raft {

bool Core::Impl::CanBeQuiet() const {
  if (options_.quiesce_after_ticks == 0 || quiet_ ||
      now_ - active_at_ < options_.quiesce_after_ticks) {
    return false;
  }
  const auto* leader = std::get_if<Leader>(&role_);
  // In the place of a heartbeat: the answers to those before it have come.
  if (leader == nullptr ||
      leader->heartbeat_elapsed + 1 < options_.heartbeat_ticks) {
    return false;
  }
  if (!fit_ || leader->transfer || leader->reads.HasWaiting() ||
      leader->reads.HasRounds() || Changing() ||
      !configuration().IsVoter(self())) {
    return false;
  }
  if (!AllIsDone() || !CommittedInOwnTerm() || !ready_.empty()) return false;
  for (const Progress& peer : leader->peers) {
    if (KV739_PLANTED(Q2_quiet_though_one_lags)) break;
    if (peer.state() != Progress::State::kReplicate ||
        peer.match() != log_.last() || !peer.inflights().empty() ||
        peer.fetching() || peer.last_heard() <= active_at_) {
      return false;
    }
  }
  return true;
}

// Of our own log: durable, committed and applied to its end.
bool Core::Impl::AllIsDone() const {
  return !log_.HasUnpersisted() && !log_.persisting() &&
         log_.committed() == log_.last() && log_.applied() == log_.last() &&
         !MustPersistHardState();
}

void Core::Impl::BecomeQuiet() {
  if (!CanBeQuiet()) return;
  const auto& leader = std::get<Leader>(role_);
  for (const Progress& peer : leader.peers) {
    Send(peer.id(), Heartbeat{term_, log_.committed(), leader.reads.newest(),
                              /*quiesce=*/true});
  }
  quiet_ = true;
}

// After the heartbeat was taken in.
bool Core::Impl::AgreesToBeQuiet(const Heartbeat& m) const {
  if (!m.quiesce || options_.quiesce_after_ticks == 0) return false;
  if (KV739_PLANTED(Q2_quiet_though_one_lags)) return true;
  return fit_ && log_.last() && log_.last() == m.commit && AllIsDone();
}

bool Core::Impl::RepeatsQuiescence(const Envelope& envelope) const {
  const auto* m = std::get_if<Heartbeat>(&envelope.message);
  return m != nullptr && m->quiesce && m->term == term_ && !is_leader() &&
         envelope.from == leader() && m->commit == log_.last();
}

void Core::Impl::Wake(NodeId by) {
  active_at_ = now_;
  if (!quiet_) return;
  quiet_ = false;
  auto* leader = std::get_if<Leader>(&role_);
  if (leader == nullptr) {
    if (this->leader() && by != this->leader()) {
      Send(this->leader(), HeartbeatResponse{term_, 0});
    }
    return ResetElectionTimer();
  }
  for (Progress& peer : leader->peers) peer.Heard(now_);
  leader->heartbeat_elapsed = options_.heartbeat_ticks;  // at the next tick
}

bool Core::Impl::AllPeers(absl::FunctionRef<bool(NodeId)> holds) const {
  if (const auto* leader = std::get_if<Leader>(&role_)) {
    for (const Progress& peer : leader->peers) {
      if (!holds(peer.id())) return false;
    }
    return true;
  }
  const NodeId leader = this->leader();
  return !leader || holds(leader);
}

}  // namespace kv739::raft
