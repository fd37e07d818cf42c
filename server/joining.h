// Who a server is when it starts, and how it becomes a node of the cluster.
//
// Its data directory decides: the identity in it is its own, whatever the
// cluster file says. A server with an empty directory asks those of the file:
// when one of them has met a server of its address, the directory was lost, and
// it must not come back as the old one, which may have voted on what is
// forgotten now. It joins under a new id, and the directory (group 0) gives it
// the places of the old one.
//
//   BeginMembership()  takes the data directory; who am I, what map
//   (the port is bound: nobody else serves this address on this host)
//   Join()             when `joining`
//
// One thread; blocks for the disk and for other servers.
#ifndef KV739_SERVER_JOINING_H_
#define KV739_SERVER_JOINING_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "kv/cluster_file.h"
#include "kv/cluster_map.h"
#include "raft/types.h"
#include "server/data_directory.h"
#include "server/directory_client.h"
#include "server/map_holder.h"

namespace kv739::server {

// ---- what servers ask each other ----

struct InquiryReply {
  kv::ClusterMap map;
  bool met = false;  // see proto/raft/v1/raft.proto
};
struct JoinQuestion {
  uint64_t cluster_id = 0;
  kv::NodeInfo node;
};
struct JoinReply {
  std::string leader;                 // not done: ask this one, when known
  std::optional<kv::ClusterMap> map;  // done: it has the node
};

// Block, up to the timeout. Any thread, several at once.
struct ServerQuestions {
  std::function<absl::StatusOr<InquiryReply>(
      const kv::Address& to, const kv::Address& own, absl::Duration timeout)>
      inquire;
  std::function<absl::StatusOr<JoinReply>(const kv::Address& to,
                                          const JoinQuestion& question,
                                          absl::Duration timeout)>
      join;
};

// ---- the server that starts ----

inline constexpr absl::Duration kInquireTimeout = absl::Seconds(1);
inline constexpr absl::Duration kJoinAttemptTimeout = absl::Seconds(3);
// How long a server that needs the others keeps asking for them.
inline constexpr absl::Duration kJoinDeadline = absl::Seconds(60);
inline constexpr absl::Duration kJoinPause = absl::Milliseconds(100);
inline constexpr absl::Duration kJoinProgress = absl::Seconds(5);

struct MembershipConfig {
  kv::ClusterFile cluster;
  kv::Address listen;
  std::string data_dir;
  bool join = false;
  // For a server that the file does not have; 0: as for a further server of
  // the host.
  uint16_t metrics_port = 0;
  uint16_t http_port = 0;
  absl::Duration deadline = kJoinDeadline;
  const absl::Notification* cancel = nullptr;  // may be null
};

struct Membership {
  std::unique_ptr<DataDirectory> directory;
  // The newest map known. Has this node, unless it is joining.
  std::shared_ptr<const kv::ClusterMap> map;
  // The map that the cluster began with, as far as this node is concerned by it
  // still: a new directory gets these replicas.
  kv::ClusterMap first;
  bool joining = false;
  kv::NodeInfo self;  // with the ports that it is to use
};

// Errors carry the exit code (exit_code.h); CANCELLED after `cancel`.
absl::StatusOr<Membership> BeginMembership(const MembershipConfig& config,
                                           const ServerQuestions& questions);
// Asks until the directory has the node, and saves the map. The data directory
// stays when it fails: started again, the server goes on with joining.
absl::Status Join(const MembershipConfig& config,
                  const ServerQuestions& questions,
                  const DataDirectory* directory, Membership* membership);

// ---- the server that is asked ----

InquiryReply HandleInquiry(const MapHolder& maps, const DataDirectory& own,
                           absl::string_view address);
// `done` is called once, perhaps before it returns. Errors: INVALID_ARGUMENT or
// FAILED_PRECONDITION when it is refused, UNAVAILABLE to try again.
void HandleJoin(const JoinQuestion& question, const MapHolder* maps,
                const std::function<void(const kv::DirectoryChange&,
                                         DirectoryDone)>& propose,
                absl::AnyInvocable<void(absl::StatusOr<JoinReply>)> done);

}  // namespace kv739::server

#endif  // KV739_SERVER_JOINING_H_
