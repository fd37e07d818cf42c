// What the gRPC side needs of whatever answers requests: the replica host in
// kv739d, a fake in tests.
#ifndef KV739_SERVER_REQUEST_HANDLER_H_
#define KV739_SERVER_REQUEST_HANDLER_H_

#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "kv/cluster_map.h"
#include "raft/types.h"
#include "server/operation.h"
#include "server/stats.h"
#include "server/transport.h"

namespace kv739::server {

// Any thread, all of these; none waits.
class RequestHandler : public PeerHandler {
 public:
  // Each operation is answered once through its sink, now or later.
  virtual void Submit(std::vector<Operation> operations) = 0;
  virtual void Tick() = 0;
  // Calls back with a consistent copy, on some thread.
  virtual void CollectStats(absl::AnyInvocable<void(HostStats)> done) = 0;
  // See Host::TransferLeadership.
  virtual void TransferLeadership(
      raft::GroupId group, raft::NodeId target,
      absl::AnyInvocable<void(absl::StatusOr<raft::NodeId>)> done) = 0;
  virtual std::shared_ptr<const kv::ClusterMap> map() const = 0;
  // True when every group here knows a leader.
  virtual bool AllGroupsHaveLeader() = 0;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_REQUEST_HANDLER_H_
