// From what the servers said to what is true of the cluster: groups, their
// leaders, who lags, what is wrong. Pure; shown by status_view.h.
#ifndef KV739_CLIENT_COMMAND_STATUS_MODEL_H_
#define KV739_CLIENT_COMMAND_STATUS_MODEL_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client/command/cluster_client.h"

namespace kv739::command {

enum class Verdict { kOk, kDegraded, kUnreachable };

struct ServerView {
  std::string address;
  uint64_t id = 0;  // 0: not known
  bool reachable = false;
  std::string reason;  // why it is not reachable
  bool spare = false;  // in the map and in no group
  // What the map says: "active", "leaving", "left"; "" when it is not in it.
  std::string membership;
  std::string version;
  int64_t pid = 0;
  double uptime_seconds = 0;
  uint64_t map_epoch = 0;
  bool healthy = false;
  bool stopping = false;
  std::string metrics_url;
};

// A snapshot under way.
struct TransferView {
  std::string peer;
  uint64_t bytes = 0;
  uint64_t keys = 0;
  int percent = 0;  // an estimate, below 100
  double seconds = 0;
};

struct MemberView {
  std::string server;
  // Of the group as the map has it: "voter"; "joining", on its way to be one;
  // "leaving", still one.
  std::string place;
  bool reachable = false;
  std::string reason;
  // "leader", "follower", "candidate"; "missing" when the server answers and
  // has no such replica; "unreachable".
  std::string state;
  uint64_t term = 0;
  uint64_t commit = 0;
  uint64_t applied = 0;
  uint64_t last_index = 0;
  // Entries of the leader's log that this member has not acknowledged to it;
  // none without a leader.
  std::optional<uint64_t> lag;
  // What the leader says of it.
  bool learner = false;
  bool needs_snapshot = false;
  uint64_t silent_ms = 0;  // since the leader heard from it; 0 when it does
  std::optional<TransferView> receiving;
  std::string fault;  // why this replica does not serve
};

struct GroupView {
  uint64_t id = 0;
  std::string leader;  // address; empty when no server says it leads
  uint64_t term = 0;
  uint64_t commit = 0;
  uint64_t applied = 0;
  uint64_t log_entries = 0;  // of the leader, kept after compaction
  uint64_t log_bytes = 0;
  uint32_t slots = 0;
  // Servers that may still fail before the group stops; 0 without a leader.
  int can_lose = 0;
  std::vector<MemberView> members;    // in the map's order, joining ones too
  bool changing = false;              // its members are being changed
  bool automatic = false;             // because a server was away
  bool joint = false;                 // between the old and the new voters
  std::vector<std::string> target;    // servers
  std::vector<TransferView> sending;  // by its leader
};

struct ClusterView {
  uint64_t cluster_id = 0;
  uint64_t epoch = 0;
  std::vector<ServerView> servers;
  std::vector<GroupView> groups;
  std::vector<std::string> problems;  // sentences; empty when all is well
  std::vector<std::string> changes;   // sentences; of groups and servers
  Verdict verdict = Verdict::kUnreachable;

  const GroupView* FindGroup(uint64_t id) const;
  // Every group of a known map has a leader.
  bool AllGroupsLed() const;
  // That, and every server that answers has heard of its leaders.
  bool Settled() const;
};

// `file` gives the ports of servers that no map names.
ClusterView BuildView(const ClusterAnswers& answers,
                      const kv::ClusterFile& file);

}  // namespace kv739::command

#endif  // KV739_CLIENT_COMMAND_STATUS_MODEL_H_
