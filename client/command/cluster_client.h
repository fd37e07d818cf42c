// Asks servers about the cluster: all at once, each with its own short
// deadline, so that one that hangs delays the answer by that and no more.
// Thread-safe; every call blocks until its deadline at most.
#ifndef KV739_CLIENT_COMMAND_CLUSTER_CLIENT_H_
#define KV739_CLIENT_COMMAND_CLUSTER_CLIENT_H_

#include <grpcpp/channel.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "kv/cluster_file.h"
#include "kv739/v1/admin.pb.h"
#include "kv739/v1/cluster.pb.h"

namespace kv739::command {

// What one server said, or why it said nothing.
struct ServerAnswer {
  std::string address;
  absl::Status status;  // short enough for a table
  v1::GetStatusResponse response;
};

// What all servers said: those of the cluster file, in its order, then those
// that only the map names.
struct ClusterAnswers {
  std::optional<v1::GetMapResponse> map;  // the newest; none when none answered
  std::vector<ServerAnswer> servers;
};

class ClusterClient {
 public:
  explicit ClusterClient(kv::ClusterFile file) : file_(std::move(file)) {}

  // Takes at most twice `each`: servers that only the map names are asked
  // after the map is known.
  ClusterAnswers Ask(absl::Duration each);
  // One small request and its answer.
  absl::Status Ping(const std::string& address, absl::Duration timeout);
  // Asks `leader` to hand over `group`; `target` may be empty. The new
  // leader's address. FAILED_PRECONDITION and ABORTED as admin.proto says.
  absl::StatusOr<std::string> TransferLeader(const std::string& leader,
                                             uint64_t group,
                                             const std::string& target,
                                             absl::Duration timeout);

  // Asks for these voters of a group, at `first` and then at the leader of the
  // directory that it names. OK: it is recorded.
  absl::Status SetMembers(const std::string& first,
                          const v1::SetMembersRequest& request,
                          absl::Duration timeout);
  // Compares the replicas of groups that `leader` leads.
  absl::StatusOr<v1::CheckResponse> Check(const std::string& leader,
                                          const v1::CheckRequest& request,
                                          absl::Duration timeout);

  const kv::ClusterFile& file() const { return file_; }

 private:
  std::shared_ptr<grpc::Channel> ChannelTo(const std::string& address);
  // Fills the status and response of every one of `servers`, and `map` with
  // the newest map of theirs.
  void AskServers(absl::Duration each, std::vector<ServerAnswer>* servers,
                  std::optional<v1::GetMapResponse>* map);

  const kv::ClusterFile file_;
  absl::Mutex mutex_;
  std::map<std::string, std::shared_ptr<grpc::Channel>> channels_
      ABSL_GUARDED_BY(mutex_);
};

// A connection's failure in a few words: "connection refused", "no answer
// within 1s".
absl::Status Shorten(const absl::Status& status, absl::Duration timeout);

}  // namespace kv739::command

#endif  // KV739_CLIENT_COMMAND_CLUSTER_CLIENT_H_
