// Servers that answer GetMap, GetStatus and TransferLeader with what a test
// gives them, on ports of 127.0.0.1 that were free.
#ifndef KV739_TESTS_UNIT_COMMAND_FAKE_CLUSTER_H_
#define KV739_TESTS_UNIT_COMMAND_FAKE_CLUSTER_H_

#include <memory>
#include <string>
#include <vector>

#include "kv739/v1/admin.pb.h"
#include "kv739/v1/cluster.pb.h"

namespace kv739::command {

class FakeCluster {
 public:
  enum class Kind {
    kUp,
    kDown,   // its port refuses connections
    kHangs,  // accepts the call and answers nothing until it is cancelled
  };
  // Server i (from 0) has node id i + 1. Fives form groups 0, 1, ...; three
  // servers one group. The first server of each group that is up leads it, in
  // term 7, with 100 entries of which 99 are committed.
  explicit FakeCluster(const std::vector<Kind>& kinds);
  ~FakeCluster();

  const std::string& address(size_t server) const;
  std::string ConfigText() const;
  // What server says of itself; to be changed before anyone asks.
  v1::GetStatusResponse* status(size_t server);
  // Lists the members of group 0 from last to first; before anyone asks.
  void ReverseMembers();
  // Of the last TransferLeader that a server got: "server group target".
  std::string last_transfer() const;
  // What every server says; to be changed before anyone asks.
  v1::GetMapResponse* map() { return &map_; }
  // The answer to Check, of the groups that are asked for.
  v1::CheckResponse* check() { return &check_; }
  // SetMembers: the first server is the directory's leader, the others name
  // it. It gives the group these voters at once, unless they are not what is
  // expected: ABORTED then.
  // RemoveServer: likewise; the node has left at once.

 private:
  struct Server;
  void Describe();
  std::vector<std::unique_ptr<Server>> servers_;
  v1::GetMapResponse map_;
  v1::CheckResponse check_;
};

}  // namespace kv739::command

#endif  // KV739_TESTS_UNIT_COMMAND_FAKE_CLUSTER_H_
