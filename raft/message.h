// What replicas of one group say to each other. Each message is a type of its
// own, so a handler cannot read a field that its message does not have.
//
// The core neither encodes them nor knows the group: server/ does.
#ifndef KV739_RAFT_MESSAGE_H_
#define KV739_RAFT_MESSAGE_H_

#include <cstdint>
#include <variant>
#include <vector>

#include "raft/configuration.h"
#include "raft/types.h"

namespace kv739::raft {

// Asks for a vote (paper section 5.2) or, with pre_vote, whether one would be
// given (thesis section 9.6); a pre-vote names the term that would be used.
struct RequestVote {
  Term term;
  LogPosition last;
  bool pre_vote = false;
  // Set after TimeoutNow: voters do not hold it back for their leader's sake.
  bool transfer = false;
};

struct RequestVoteResponse {
  Term term;
  bool pre_vote = false;
  bool granted = false;
};

// Replicates `entries` behind `previous` (paper section 5.3).
struct AppendEntries {
  Term term;
  LogPosition previous;
  Index commit;
  std::vector<Entry> entries;
};

// Says what is durable, never more: sent only after the entries it covers are
// on disk.
struct AppendEntriesResponse {
  Term term;
  bool success = false;
  // success: the log equals the leader's up to here and is durable.
  // refusal: the `previous.index` that did not match, to tell late refusals.
  Index index;
  // refusal: the last position at which the follower might agree
  // (the term of its entry there, paper section 5.3, fast backtracking).
  LogPosition hint;
};

// Keeps followers quiet, carries the commit index, and confirms leadership
// for reads. `round` rises within a term; a response repeats it.
struct Heartbeat {
  Term term;
  Index commit;  // never beyond what the receiver is known to have
  uint64_t round = 0;
  // There will be no more of these until something happens: `commit` is the end
  // of the log. Who has just that does not answer (raft/quiescence.cc).
  bool quiesce = false;
};

struct HeartbeatResponse {
  Term term;
  uint64_t round = 0;
  // The sender helps nobody to depose the leader for an election timeout, see
  // raft/lease.h.
  bool promise = false;
};

// Tells the receiver to campaign at once (thesis section 3.10).
struct TimeoutNow {
  Term term;
};

// Announces a snapshot; its data travels on a stream of its own, outside the
// core. The receiver answers with an AppendEntriesResponse once it is
// installed.
struct InstallSnapshot {
  Term term;
  SnapshotMeta meta;
};

using Message = std::variant<RequestVote, RequestVoteResponse, AppendEntries,
                             AppendEntriesResponse, Heartbeat,
                             HeartbeatResponse, TimeoutNow, InstallSnapshot>;

struct Envelope {
  NodeId from;
  NodeId to;
  Message message;
};

}  // namespace kv739::raft

#endif  // KV739_RAFT_MESSAGE_H_
