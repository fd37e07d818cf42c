// Spreads the leaders of the groups that nodes share, without being asked: a
// node that leads two or more of the groups that it shares with another one
// than that one leads of them, hands it the leadership of one. So pairs come to
// differ by one at most, and groups with the same members are led by all of
// them alike.
//
// Gently: one look in every so many ticks hands over one leadership, or a
// sixteenth of what the node leads, each to a voter that has the log and was
// just heard from; a leadership rests for a while after each change of leaders,
// so that a server that comes and goes is not followed at every step, and
// neither is an operator's own choice undone at once. Handing over holds back
// the writes of one group for about two message delays.
//
// Nodes decide by themselves, from what they see of their own groups, and may
// do so at the same time; the looks are as far apart as drawn by lot, and where
// two have given to the same node, that one hands back.
//
// Threads: one caller at a time. Time: ticks.
#ifndef KV739_SERVER_LEADER_BALANCE_H_
#define KV739_SERVER_LEADER_BALANCE_H_

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "raft/options.h"
#include "raft/types.h"

namespace kv739::server {

struct BalanceOptions {
  bool enabled = true;
  // Looks are between this and twice this apart.
  uint64_t look_ticks = 50;
  // For so long a leader stays where it has come to be.
  uint64_t rest_ticks = 500;
};

class LeaderBalance {
 public:
  // A group with a replica here.
  struct Group {
    raft::GroupId id;
    raft::Term term;
    raft::NodeId leader;  // none: not known
    std::vector<raft::NodeId> voters;
    // Of a group led here that may be handed over now: to whom.
    std::vector<raft::NodeId> able;
  };
  struct Move {
    raft::GroupId group;
    raft::NodeId to;
  };

  LeaderBalance(const BalanceOptions& options, raft::NodeId self,
                raft::Random* random)
      : options_(options), self_(self), random_(random) {}

  // Is it time for a look? Asked once a tick.
  bool Due(uint64_t now);
  // What to hand over now. To be given all groups at every look: a leader's
  // rest begins when it is first seen.
  std::vector<Move> Look(absl::Span<const Group> groups, uint64_t now);

 private:
  // Led by us less led by the other, of the groups that have both as voters.
  using Lead = absl::flat_hash_map<raft::NodeId, int64_t>;
  Lead LeadOverOthers(absl::Span<const Group> groups) const;
  void FollowTerms(absl::Span<const Group> groups, uint64_t now);
  bool Rested(raft::GroupId group, uint64_t now) const;

  struct Seen {
    raft::Term term;
    uint64_t since = 0;
  };

  const BalanceOptions options_;
  const raft::NodeId self_;
  raft::Random* const random_;
  uint64_t next_look_ = 0;
  absl::flat_hash_map<raft::GroupId, Seen> seen_;  // those of the last look
};

}  // namespace kv739::server

#endif  // KV739_SERVER_LEADER_BALANCE_H_
