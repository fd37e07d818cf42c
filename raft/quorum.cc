#include "raft/quorum.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "raft/planted.h"

namespace kv739::raft {
namespace {

uint64_t MajorityValue(const std::vector<NodeId>& voters,
                       absl::FunctionRef<uint64_t(NodeId)> reached) {
  if (voters.empty()) return 0;
  absl::InlinedVector<uint64_t, 8> values;
  for (NodeId voter : voters) values.push_back(reached(voter));
  // In falling order, place n/2 is the value that n/2+1 voters have reached.
  auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end(), std::greater<>());
  return *middle;
}

VoteOutcome MajorityVote(const std::vector<NodeId>& voters,
                         absl::FunctionRef<std::optional<bool>(NodeId)> vote) {
  size_t granted = 0;
  size_t open = 0;
  for (NodeId voter : voters) {
    std::optional<bool> answer = vote(voter);
    if (!answer) {
      ++open;
    } else if (*answer) {
      ++granted;
    }
  }
  const size_t needed = voters.size() / 2 + 1;
  if (granted >= needed) return VoteOutcome::kWon;
  if (voters.empty() || granted + open >= needed) return VoteOutcome::kPending;
  return VoteOutcome::kLost;
}

}  // namespace

uint64_t QuorumValue(const Configuration& configuration,
                     absl::FunctionRef<uint64_t(NodeId)> reached) {
  const uint64_t value = MajorityValue(configuration.voters, reached);
  if (!configuration.joint() || KV739_PLANTED(M2_new_majority_alone)) {
    return value;
  }
  return std::min(value, MajorityValue(configuration.outgoing, reached));
}

Index QuorumIndex(const Configuration& configuration,
                  absl::FunctionRef<Index(NodeId)> acknowledged) {
  return Index(QuorumValue(
      configuration, [&](NodeId node) { return acknowledged(node).value(); }));
}

VoteOutcome CountVotes(const Configuration& configuration,
                       absl::FunctionRef<std::optional<bool>(NodeId)> vote) {
  const VoteOutcome incoming = MajorityVote(configuration.voters, vote);
  if (!configuration.joint()) return incoming;
  const VoteOutcome outgoing = MajorityVote(configuration.outgoing, vote);
  if (incoming == VoteOutcome::kLost || outgoing == VoteOutcome::kLost) {
    return VoteOutcome::kLost;
  }
  return incoming == outgoing ? incoming : VoteOutcome::kPending;
}

}  // namespace kv739::raft
