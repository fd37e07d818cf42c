// Stories about a small cluster of cores, as text: commands after "> ", and
// below each the full outcome. See the verbs at RaftScript::Run.
//
// Nothing happens unless the story says so: messages wait until they are
// delivered or dropped, writes until they are synced.
#ifndef KV739_TESTS_SUPPORT_RAFT_SCRIPT_H_
#define KV739_TESTS_SUPPORT_RAFT_SCRIPT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "raft/core.h"
#include "tests/support/sim_disk.h"
#include "tests/support/sim_random.h"

namespace kv739::sim {

class RaftScript {
 public:
  // Runs one command and returns what it prints, a line each. IDS is a list of
  // nodes ("1 3"); none means all.
  //   cluster N [no-pre-vote] [no-check-quorum] [spares=M]
  //                           nodes 1..N, all running; N+1.. know no group yet
  //   disk ID term=T vote=V T1 T2 ...   restarts ID with a log of such terms
  //   tick ID [N]             time passes for one node
  //   campaign ID             ticks until its election timeout
  //   propose ID DATA...      read ID NUMBER      transfer ID TARGET
  //   members ID V... [learners L...]   proposes a configuration
  //   offer A B               A tells B of a snapshot of what A has applied
  //   install ID A            ID switched to the snapshot that A would offer
  //   sent A B INDEX          A hears how its snapshot for B went
  //   ready IDS               one turn: prints the Ready and starts its writes
  //   sync ID [N]             its N oldest writes become durable (all)
  //   deliver IDS             what is on the way to these nodes arrives
  //   append A B TERM P T...  an AppendEntries of A arrives at B, with entries
  //                           of terms T... behind entry P of B's log
  //   late ID                 the last message that ID was sent arrives again
  //   drop IDS                what is on the way to these nodes is lost
  //   cut ID | cut A->B       from now on messages there are lost; heal
  //   stabilize IDS           turns, writes and deliveries until all is quiet
  //   crash ID [N]            N pending writes survive (none);  restart ID
  //   compact ID INDEX        status IDS          log IDS
  std::string Run(absl::string_view command);

 private:
  struct Node {
    raft::Options options;
    SimDisk disk{raft::SnapshotMeta()};
    SimRandom random{1};
    std::unique_ptr<raft::Core> core;
    raft::Index applied;
    raft::Configuration at_snapshot;  // of the one installed last
    raft::Envelope last_received;
  };
  using Words = std::vector<std::string>;

  Node& At(uint64_t id) { return nodes_.at(id); }
  std::vector<uint64_t> Ids(const Words& words, size_t from);
  void Start(Node* node);
  void Cluster(const Words& words);
  void Disk(const Words& words);
  void Members(const Words& words);
  // What `id` would send: all that it has applied.
  raft::SnapshotMeta SnapshotOf(uint64_t id);
  void Turn(uint64_t id, bool quiet);
  void Sync(uint64_t id, size_t count, bool quiet);
  // True when anything was delivered.
  bool Deliver(const std::vector<uint64_t>& to);
  void Append(const Words& words);
  void Drop(const std::vector<uint64_t>& to);
  void Stabilize(const std::vector<uint64_t>& ids);
  void Post(std::vector<raft::Envelope> messages);
  void PrintStatus(uint64_t id);
  void PrintLog(uint64_t id);
  template <typename... Parts>
  void Print(const Parts&... parts);

  std::map<uint64_t, Node> nodes_;
  std::vector<raft::Envelope> flying_;  // in the order of sending
  std::set<std::pair<uint64_t, uint64_t>> cut_;
  std::string out_;
};

// Runs a whole story and returns it with the outcomes that were seen.
std::string RunStory(absl::string_view text);

}  // namespace kv739::sim

#endif  // KV739_TESTS_SUPPORT_RAFT_SCRIPT_H_
