// Linearizable reads by ReadIndex: thesis section 6.4.
#include "raft/core_impl.h"
#include "raft/planted.h"
#include "raft/quorum.h"

namespace kv739::raft {

void Core::Impl::ReadIndex(ReadId id) {
  auto* leader = std::get_if<Leader>(&role_);
  if (leader != nullptr) Wake();
  if (leader == nullptr || !leader->reads.Add(id)) {
    ready_.failed_reads.push_back(id);
  }
}

bool Core::Impl::CanStartRead() const {
  // Thesis 6.4, step 1: before an entry of its own term is committed, a leader
  // does not know which entries are committed.
  const auto* leader = std::get_if<Leader>(&role_);
  return leader != nullptr && leader->reads.CanStart() &&
         (CommittedInOwnTerm() || KV739_PLANTED(R2_read_before_own_commit));
}

void Core::Impl::StartReads() {
  if (CanReadByLease()) {
    std::get<Leader>(role_).reads.AnswerWaiting(log_.committed(),
                                                &ready_.reads);
  }
  if (!CanStartRead()) return;
  auto& leader = std::get<Leader>(role_);
  if (IsAlone() || KV739_PLANTED(R6_read_without_confirmation)) {
    leader.reads.AnswerWaiting(log_.committed(), &ready_.reads);
    return;
  }
  // Steps 2 and 3: note the commit index, then have it confirmed.
  leader.reads.Start(log_.committed());
  if (LeasesKept()) leader.lease.Sent(leader.reads.newest(), nanos_);
  SendReadRound();
}

// Step 3 asks for the answers of a majority only, and every message costs a
// wake-up there and here. Those who have answered the round before are asked,
// so whoever is slow or gone is not among them for long.
void Core::Impl::SendReadRound() {
  auto& leader = std::get<Leader>(role_);
  leader.partial_round = false;
  const Configuration& members = configuration();
  if (!options_.read_rounds_to_majority || members.joint()) {
    return SendHeartbeats();
  }
  const uint64_t previous = leader.reads.newest() - 1;
  size_t missing = members.voters.size() / 2 + 1;
  if (members.IsVoter(self())) --missing;
  std::vector<const Progress*> asked;
  for (const Progress& peer : leader.peers) {
    const bool prompt = previous > 0 && peer.round() >= previous;
    if (asked.size() < missing && prompt && members.IsVoter(peer.id())) {
      asked.push_back(&peer);
    }
  }
  if (asked.size() < missing) return SendHeartbeats();
  leader.partial_round = true;
  for (const Progress* peer : asked) SendHeartbeat(*peer);
}

void Core::Impl::TickReads() {
  auto& leader = std::get<Leader>(role_);
  if (!leader.partial_round || !leader.reads.HasRounds()) return;
  leader.partial_round = false;
  SendHeartbeats();
}

void Core::Impl::ConfirmReads() {
  auto& leader = std::get<Leader>(role_);
  const uint64_t round = QuorumValue(configuration(), [&](NodeId node) {
    if (node == self()) return leader.reads.newest();
    const Progress* peer = leader.Find(node);
    return peer != nullptr ? peer->round() : 0;
  });
  leader.reads.Confirm(round, &ready_.reads);
}

}  // namespace kv739::raft
