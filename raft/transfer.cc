// Handing leadership over: thesis section 3.10.
#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "raft/core_impl.h"
#include "raft/planted.h"

namespace kv739::raft {

absl::Status Core::Impl::TransferLeadership(NodeId target) {
  auto* leader = std::get_if<Leader>(&role_);
  if (leader == nullptr) return absl::FailedPreconditionError("not the leader");
  if (!configuration().IsVoter(target)) {
    return absl::NotFoundError("the target is no voter of the group");
  }
  if (target == self()) return absl::OkStatus();
  const Progress* peer = leader->Find(target);
  if (peer->state() == Progress::State::kSnapshot ||
      now_ - peer->last_heard() >= options_.election_timeout_ticks) {
    return absl::UnavailableError(
        "the target is down or needs a snapshot first");
  }
  if (leader->transfer && leader->transfer->target == target) {
    return absl::OkStatus();
  }
  Wake();
  leader->transfer = Transfer{target};
  ContinueTransfer();
  return absl::OkStatus();
}

void Core::Impl::ContinueTransfer() {
  auto& leader = std::get<Leader>(role_);
  if (!leader.transfer) return;
  const Progress* peer = leader.Find(leader.transfer->target);
  if (peer == nullptr) {
    leader.transfer.reset();
  } else if (peer->match() == log_.last() ||
             (KV739_PLANTED(E7_transfer_to_one_that_lags) &&
              leader.transfer->elapsed == 0)) {
    // It has everything, and proposals are held back: it wins at once.
    if (!KV739_PLANTED(R3_lease_after_handing_over)) leader.lease.End();
    Send(peer->id(), TimeoutNow{term_});
  }
}

void Core::Impl::TickTransfer() {
  auto& leader = std::get<Leader>(role_);
  // After an election timeout the target is not going to do it; being led by
  // nobody would be worse than staying.
  bool gave_up = false;
  if (leader.transfer &&
      ++leader.transfer->elapsed >= options_.election_timeout_ticks &&
      !KV739_PLANTED(E6_transfer_never_given_up)) {
    leader.transfer_failed = leader.transfer->target;
    leader.transfer.reset();
    gave_up = true;
  }
  // Section 6: who is no longer a member does not go on leading.
  if (!Removed()) return;
  if (!gave_up && !leader.transfer) HandOver();
  if (!leader.transfer) BecomeFollower(term_, NodeId());
}

void Core::Impl::OnTimeoutNow(NodeId from, const TimeoutNow& m) {
  if (m.term < term_) return;
  if (m.term > term_) BecomeFollower(m.term, from);
  if (leader() != from || is_leader()) return Drop();
  // The leader cannot know that we must not lead; it will ask another.
  if (!fit_ && !IsAlone()) return;
  if (!MayCampaign()) return Drop();
  StartElection(/*transfer=*/true);
}

NodeId Core::Impl::BestTransferTarget() const {
  const auto* leader = std::get_if<Leader>(&role_);
  if (leader == nullptr) return NodeId();
  const Progress* best = nullptr;
  for (const Progress& peer : leader->peers) {
    // Of a joint configuration, one that stays.
    if (!absl::c_binary_search(configuration().voters, peer.id()) ||
        now_ - peer.last_heard() >= options_.election_timeout_ticks) {
      continue;
    }
    // The one that just failed only when there is no other.
    const bool failed = peer.id() == leader->transfer_failed;
    if (best == nullptr || best->id() == leader->transfer_failed ||
        (!failed && peer.match() > best->match())) {
      best = &peer;
    }
  }
  return best != nullptr ? best->id() : NodeId();
}

}  // namespace kv739::raft
