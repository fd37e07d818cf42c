// Majorities against a slow and obvious version: try all subsets of voters.
#include "raft/quorum.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace kv739::raft {
namespace {

std::vector<NodeId> Range(uint64_t first, uint64_t last) {
  std::vector<NodeId> nodes;
  for (uint64_t i = first; i <= last; ++i) nodes.push_back(NodeId(i));
  return nodes;
}

// True when `yes` has more than half of `voters`.
bool IsMajority(const std::vector<NodeId>& voters, uint64_t yes) {
  size_t count = 0;
  for (NodeId id : voters) count += (yes >> id.value()) & 1;
  return count > voters.size() - count;
}

bool IsQuorum(const Configuration& c, uint64_t yes) {
  return IsMajority(c.voters, yes) &&
         (c.outgoing.empty() || IsMajority(c.outgoing, yes));
}

// Simple ones of every size, joint ones apart, equal, and overlapping.
std::vector<Configuration> Configurations() {
  std::vector<Configuration> all;
  for (uint64_t n = 1; n <= 5; ++n) all.push_back({Range(1, n), {}, {}});
  all.push_back({Range(1, 3), Range(4, 6), {}});  // 3+3
  all.push_back({Range(1, 3), Range(1, 3), {}});
  all.push_back({Range(1, 3), Range(2, 4), {}});
  all.push_back({Range(1, 3), Range(3, 5), {}});
  all.push_back({Range(2, 4), Range(1, 3), {}});  // leader 1 goes
  all.push_back({Range(1, 2), Range(1, 3), {}});
  all.push_back({Range(1, 1), Range(1, 3), {}});
  all.push_back({Range(1, 5), Range(3, 7), {}});
  all.push_back({Range(1, 5), Range(6, 10), {}});  // 5+5
  all.push_back({Range(1, 3), {}, Range(4, 5)});   // learners do not count
  return all;
}

TEST(Quorum, VotesAgreeWithAllSubsets) {
  for (const Configuration& c : Configurations()) {
    std::vector<NodeId> members = c.Members();
    const size_t n = members.size();
    uint64_t cases = 1;
    for (size_t i = 0; i < n; ++i) cases *= 3;
    for (uint64_t code = 0; code < cases; ++code) {
      // Base 3: unknown, no, yes for each member.
      std::map<NodeId, std::optional<bool>> votes;
      uint64_t yes = 0;
      uint64_t open = 0;
      uint64_t rest = code;
      for (NodeId id : members) {
        const uint64_t digit = rest % 3;
        rest /= 3;
        if (digit == 1) votes[id] = false;
        if (digit == 2) votes[id] = true;
        if (digit == 2) yes |= uint64_t{1} << id.value();
        if (digit == 0) open |= uint64_t{1} << id.value();
      }
      const VoteOutcome expected = IsQuorum(c, yes) ? VoteOutcome::kWon
                                   : IsQuorum(c, yes | open)
                                       ? VoteOutcome::kPending
                                       : VoteOutcome::kLost;
      ASSERT_EQ(CountVotes(c,
                           [&](NodeId id) -> std::optional<bool> {
                             auto found = votes.find(id);
                             if (found == votes.end()) return std::nullopt;
                             return found->second;
                           }),
                expected)
          << "case " << code << " of " << n << " members";
    }
  }
}

TEST(Quorum, CommittedIndexAgreesWithAllSubsets) {
  for (const Configuration& c : Configurations()) {
    std::vector<NodeId> members = c.Members();
    // Four values for up to seven members, two for more.
    const uint64_t base = members.size() <= 7 ? 4 : 2;
    uint64_t cases = 1;
    for (size_t i = 0; i < members.size(); ++i) cases *= base;
    for (uint64_t code = 0; code < cases; ++code) {
      std::map<NodeId, Index> acked;
      uint64_t rest = code;
      for (NodeId id : members) {
        acked[id] = Index(rest % base);
        rest /= base;
      }
      Index expected;
      for (uint64_t i = 1; i < base; ++i) {
        uint64_t have = 0;
        for (NodeId id : members) {
          if (acked[id] >= Index(i)) have |= uint64_t{1} << id.value();
        }
        if (IsQuorum(c, have)) expected = Index(i);
      }
      ASSERT_EQ(QuorumIndex(c, [&](NodeId id) { return acked[id]; }), expected)
          << "case " << code << " of " << members.size() << " members";
    }
  }
}

TEST(Quorum, NobodyDecidesNothing) {
  const Configuration none;
  EXPECT_EQ(QuorumIndex(none, [](NodeId) { return Index(9); }), Index(0));
  EXPECT_EQ(CountVotes(none, [](NodeId) { return true; }),
            VoteOutcome::kPending);
}

}  // namespace
}  // namespace kv739::raft
