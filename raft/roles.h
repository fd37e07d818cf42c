// What a replica is at the moment, with exactly the state that belongs to it:
// stepping down destroys what only a leader knows.
#ifndef KV739_RAFT_ROLES_H_
#define KV739_RAFT_ROLES_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "raft/lease.h"
#include "raft/progress.h"
#include "raft/read_index.h"
#include "raft/thrift.h"
#include "raft/types.h"

namespace kv739::raft {

struct Follower {
  NodeId leader;      // none when unknown
  bool gone = false;  // and we do not expect to hear from it any more
};

// Also before the candidacy proper, while asking for pre-votes.
struct Candidate {
  bool pre_vote = false;
  std::vector<std::pair<NodeId, bool>> votes;

  // The first answer counts.
  void Record(NodeId from, bool granted) {
    if (!VoteOf(from)) votes.emplace_back(from, granted);
  }
  std::optional<bool> VoteOf(NodeId node) const {
    for (const auto& [id, granted] : votes) {
      if (id == node) return granted;
    }
    return std::nullopt;
  }
};

// Bytes of the leader's log that are not committed yet, by batch: a commit
// then costs a step per batch and not per entry.
class UncommittedBytes {
 public:
  uint64_t total() const { return total_; }
  void Add(Index last, uint64_t bytes) {
    batches_.emplace_back(last, bytes);
    total_ += bytes;
  }
  void CommittedTo(Index index) {
    while (!batches_.empty() && batches_.front().first <= index) {
      total_ -= batches_.front().second;
      batches_.pop_front();
    }
  }

 private:
  std::deque<std::pair<Index, uint64_t>> batches_;
  uint64_t total_ = 0;
};

struct Transfer {
  NodeId target;
  uint32_t elapsed = 0;  // ticks
};

struct Leader {
  Leader(uint32_t max_rounds, uint32_t max_pending)
      : reads(max_rounds, max_pending) {}

  std::vector<Progress> peers;  // every other member, by id
  ReadIndexQueue reads;
  Lease lease;
  std::optional<Transfer> transfer;
  UncommittedBytes uncommitted;
  Thrift thrift;
  NodeId transfer_failed;          // the last target that did not take over
  bool partial_round = false;      // the newest round for reads: not to all
  uint32_t heartbeat_elapsed = 0;  // ticks
  uint32_t unfit_ticks = 0;        // since it must not lead any more

  Progress* Find(NodeId id) {
    for (Progress& peer : peers) {
      if (peer.id() == id) return &peer;
    }
    return nullptr;
  }
  const Progress* Find(NodeId id) const {
    return const_cast<Leader*>(this)->Find(id);
  }
};

using RoleState = std::variant<Follower, Candidate, Leader>;

}  // namespace kv739::raft

#endif  // KV739_RAFT_ROLES_H_
