// Majorities of a configuration, simple or joint (Raft paper section 6).
//
// Pure functions of the configuration and of what each voter said. A joint
// configuration decides only where both of its halves do; learners never
// count. A configuration without voters decides nothing.
#ifndef KV739_RAFT_QUORUM_H_
#define KV739_RAFT_QUORUM_H_

#include <cstdint>
#include <optional>

#include "absl/functional/function_ref.h"
#include "raft/configuration.h"
#include "raft/types.h"

namespace kv739::raft {

// The largest number that a quorum has reached, where `reached` says how far
// one voter is. Used for log indexes, rounds of heartbeats and times.
uint64_t QuorumValue(const Configuration& configuration,
                     absl::FunctionRef<uint64_t(NodeId)> reached);

// The highest index that is on a quorum.
Index QuorumIndex(const Configuration& configuration,
                  absl::FunctionRef<Index(NodeId)> acknowledged);

enum class VoteOutcome : uint8_t { kPending, kWon, kLost };

// `vote` is true, false, or nothing while a voter has not answered.
VoteOutcome CountVotes(const Configuration& configuration,
                       absl::FunctionRef<std::optional<bool>(NodeId)> vote);

}  // namespace kv739::raft

#endif  // KV739_RAFT_QUORUM_H_
