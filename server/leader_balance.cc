#include "server/leader_balance.h"

#include <algorithm>
#include <utility>

#include "absl/algorithm/container.h"

namespace kv739::server {
namespace {

// Of what a node leads, so much at one look.
constexpr size_t kShareOfLook = 16;

}  // namespace

bool LeaderBalance::Due(uint64_t now) {
  if (!options_.enabled || now < next_look_) return false;
  next_look_ =
      now + options_.look_ticks + random_->Next() % options_.look_ticks;
  return true;
}

void LeaderBalance::FollowTerms(absl::Span<const Group> groups, uint64_t now) {
  absl::flat_hash_map<raft::GroupId, Seen> seen;
  seen.reserve(groups.size());
  for (const Group& group : groups) {
    const auto before = seen_.find(group.id);
    seen[group.id] = before != seen_.end() && before->second.term == group.term
                         ? before->second
                         : Seen{group.term, now};
  }
  seen_ = std::move(seen);
}

bool LeaderBalance::Rested(raft::GroupId group, uint64_t now) const {
  return now - seen_.at(group).since >= options_.rest_ticks;
}

LeaderBalance::Lead LeaderBalance::LeadOverOthers(
    absl::Span<const Group> groups) const {
  Lead lead;
  for (const Group& group : groups) {
    if (!absl::c_linear_search(group.voters, self_)) continue;
    if (group.leader == self_) {
      for (raft::NodeId voter : group.voters) ++lead[voter];
    } else if (absl::c_linear_search(group.voters, group.leader)) {
      --lead[group.leader];
    }
  }
  return lead;
}

std::vector<LeaderBalance::Move> LeaderBalance::Look(
    absl::Span<const Group> groups, uint64_t now) {
  FollowTerms(groups, now);
  Lead lead = LeadOverOthers(groups);
  const size_t led = absl::c_count_if(
      groups, [this](const Group& group) { return group.leader == self_; });
  const size_t most = std::max<size_t>(1, led / kShareOfLook);

  std::vector<Move> moves;
  // Not always the same ones first.
  const size_t begin = groups.empty() ? 0 : random_->Next() % groups.size();
  for (size_t n = 0; n < groups.size() && moves.size() < most; ++n) {
    const Group& group = groups[(begin + n) % groups.size()];
    if (group.leader != self_ || !Rested(group.id, now)) continue;
    raft::NodeId best;
    for (raft::NodeId able : group.able) {
      if (able == self_ || lead[able] < 2) continue;
      if (!best || lead[able] > lead[best]) best = able;
    }
    if (!best) continue;
    moves.push_back({group.id, best});
    // As if it were done: we lead one less, and it one more.
    for (raft::NodeId voter : group.voters) --lead[voter];
    --lead[best];
  }
  return moves;
}

}  // namespace kv739::server
