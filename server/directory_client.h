// Changes of the directory on their way to the leader of group 0: proposed here
// when that is this node, sent to the members of group 0 otherwise. The answers
// are for requests that came to this node; what a node wants by itself (the
// keeper of a group) it asks again and again until its map shows it.
//
// Threads: any.
#ifndef KV739_SERVER_DIRECTORY_CLIENT_H_
#define KV739_SERVER_DIRECTORY_CLIENT_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "kv/directory.h"
#include "server/clock.h"
#include "server/map_holder.h"
#include "server/operation.h"
#include "server/transport.h"

namespace kv739::server {

struct DirectoryAnswer {
  // OK, and the map has the change from `epoch` on. FAILED_PRECONDITION: the
  // directory refuses it, the message says why. UNAVAILABLE: not the leader
  // (`leader` is who is, host:port, when known), or not now. UNKNOWN: it may
  // have been done.
  absl::Status status;
  uint64_t epoch = 0;
  std::string leader;
};
using DirectoryDone = absl::AnyInvocable<void(DirectoryAnswer)>;

class DirectoryClient {
 public:
  using Submit = std::function<void(std::vector<Operation>)>;

  // All must outlive it.
  DirectoryClient(raft::NodeId self, MapHolder* maps, Transport* transport,
                  Clock* clock, Submit submit)
      : self_(self),
        maps_(maps),
        transport_(transport),
        clock_(clock),
        submit_(std::move(submit)) {}

  // Proposes it here. `done` is called once, on some thread, perhaps before
  // this returns.
  void Propose(const kv::DirectoryChange& change, DirectoryDone done);
  // Sees to it that the leader of the directory gets it, if it can be reached.
  void Send(const kv::DirectoryChange& change);
  // One that another node has sent.
  void OnReceived(const std::string& encoded);

 private:
  void ProposeEncoded(std::string encoded, DirectoryDone done);

  const raft::NodeId self_;
  MapHolder* const maps_;
  Transport* const transport_;
  Clock* const clock_;
  const Submit submit_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_DIRECTORY_CLIENT_H_
