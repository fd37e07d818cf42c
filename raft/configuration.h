// Who belongs to a group: voters, learners, and while a change is under way
// the voters before it (joint consensus, Raft paper section 6).
#ifndef KV739_RAFT_CONFIGURATION_H_
#define KV739_RAFT_CONFIGURATION_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "raft/types.h"

namespace kv739::raft {

// Each list is sorted and without repetition. A learner is no voter of either
// list. `outgoing` is empty unless the configuration is joint.
struct Configuration {
  std::vector<NodeId> voters;
  std::vector<NodeId> outgoing;
  std::vector<NodeId> learners;
  bool operator==(const Configuration&) const = default;

  bool joint() const { return !outgoing.empty(); }
  // True when `node` votes in either half.
  bool IsVoter(NodeId node) const;
  bool IsLearner(NodeId node) const;
  bool Contains(NodeId node) const { return IsVoter(node) || IsLearner(node); }
  // Everyone, sorted, each once.
  std::vector<NodeId> Members() const;
  // OK, or what is wrong: no voter, an unsorted list, a learner that votes.
  absl::Status Validate() const;
};

// The form in entries of kind kConfiguration and in snapshot metadata; begins
// with a version byte. Decode refuses trailing bytes and invalid lists.
std::string EncodeConfiguration(const Configuration& configuration);
absl::StatusOr<Configuration> DecodeConfiguration(absl::string_view bytes);

// What a snapshot says about the log that it replaces: all three values are
// of exactly one instant.
struct SnapshotMeta {
  LogPosition position;
  Configuration configuration;
  bool operator==(const SnapshotMeta&) const = default;
};

}  // namespace kv739::raft

#endif  // KV739_RAFT_CONFIGURATION_H_
