#include "raft/lease.h"

#include <algorithm>

#include "raft/core_impl.h"
#include "raft/planted.h"
#include "raft/quorum.h"

namespace kv739::raft {

void Lease::Sent(uint64_t round, uint64_t nanos) {
  if (KV739_PLANTED(R4_lease_from_the_answer)) sent_.clear();
  if (!sent_.empty() && sent_.back().first >= round) return;
  if (sent_.size() >= kMaxRounds) sent_.pop_front();
  sent_.emplace_back(round, nanos);
}

void Lease::Promised(uint64_t round) {
  while (!sent_.empty() && sent_.front().first <= round) {
    since_ = std::max(since_, sent_.front().second);
    sent_.pop_front();
  }
}

// ---- a leader's side ----

// Plain heartbeats belong to a round as well, or there would be no lease where
// there were no reads.
void Core::Impl::StartLeaseRound() {
  auto& leader = std::get<Leader>(role_);
  // Reads that wait go into the round, so it is not to begin before theirs may.
  if (!LeasesKept() || !CommittedInOwnTerm() || leader.reads.HasRounds()) {
    return;
  }
  leader.reads.Start(log_.committed());
  leader.lease.Sent(leader.reads.newest(), nanos_);
}

void Core::Impl::RenewLease() {
  auto& leader = std::get<Leader>(role_);
  if (!LeasesKept()) return;
  const uint64_t round = QuorumValue(configuration(), [&](NodeId node) {
    if (node == self()) return leader.reads.newest();
    const Progress* peer = leader.Find(node);
    return peer != nullptr ? peer->promised_round() : 0;
  });
  if (KV739_PLANTED(R4_lease_from_the_answer)) leader.lease.Sent(round, nanos_);
  leader.lease.Promised(round);
}

bool Core::Impl::HoldsLease() const {
  const auto& leader = std::get<Leader>(role_);
  return LeasesKept() && CommittedInOwnTerm() &&
         leader.lease.HoldsAt(nanos_, options_.lease_nanos);
}

bool Core::Impl::CanReadByLease() const {
  const auto* leader = std::get_if<Leader>(&role_);
  return leader != nullptr && leader->reads.HasWaiting() && HoldsLease();
}

// ---- a follower's side ----

bool Core::Impl::MayHavePromised() const {
  return LeasesKept() && now_ < options_.election_timeout_ticks &&
         !KV739_PLANTED(R4_vote_right_after_the_start);
}

}  // namespace kv739::raft
