// Linearizable reads by ReadIndex: thesis section 6.4.
#include "raft/core_impl.h"
#include "raft/planted.h"
#include "raft/quorum.h"

namespace kv739::raft {

void Core::Impl::ReadIndex(ReadId id) {
  auto* leader = std::get_if<Leader>(&role_);
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
  if (!CanStartRead()) return;
  auto& leader = std::get<Leader>(role_);
  if (IsAlone()) {
    leader.reads.AnswerWaiting(log_.committed(), &ready_.reads);
    return;
  }
  // Steps 2 and 3: note the commit index, then have it confirmed.
  leader.reads.Start(log_.committed());
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
