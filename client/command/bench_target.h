// What a benchmark drives: puts, gets and scans, here or elsewhere. Below the
// loop, so that the loop can be tested without servers.
#ifndef KV739_CLIENT_COMMAND_BENCH_TARGET_H_
#define KV739_CLIENT_COMMAND_BENCH_TARGET_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/command/bench_workload.h"
#include "client/command/cluster_client.h"
#include "client/lib739kv.h"

namespace kv739::bench {

// Every call ends within a deadline that the target was made with.
class BlockingTarget {
 public:
  virtual ~BlockingTarget() = default;
  // From any thread.
  virtual Result Run(const Operation& operation) = 0;
};

class AsyncTarget {
 public:
  // A place in flight; made once and used again and again.
  class Call {
   public:
    explicit Call(int number) : place(number) {}
    virtual ~Call() = default;
    // Once for every Start() that was true; not within Start().
    virtual void Done(Result result) = 0;
    const int place;  // 0 ... in_flight - 1
    Operation operation;
  };
  virtual ~AsyncTarget() = default;
  // Starts call->operation, from any thread, also from within Done(). False:
  // it ended at once, as `result` says.
  virtual bool Start(Call* call, Result* result) = 0;
};

// ---- lib739kv ----

// `client` must outlive the target, and its operations must have ended before
// that is destroyed. timeout_ms 0: the library's.
std::unique_ptr<BlockingTarget> NewLibraryThreadsTarget(kv739_client* client,
                                                        int timeout_ms);
std::unique_ptr<AsyncTarget> NewLibraryAsyncTarget(kv739_client* client,
                                                   int timeout_ms);
// One read: do the servers answer at all?
absl::Status AskLibrary(kv739_client* client, int timeout_ms);

// ---- gRPC ----

// Unary calls to the leader of each key's group, who is found by asking the
// servers first. UNAVAILABLE: no server, or no leader of a group.
absl::StatusOr<std::unique_ptr<AsyncTarget>> NewUnaryTarget(
    command::ClusterClient* cluster, absl::Duration timeout, int in_flight);

struct EtcdTarget {
  std::unique_ptr<AsyncTarget> target;
  std::string endpoint;  // that is asked: the leader if it is among those given
  std::string version;
};
// Unary calls of etcd's v3 API.
absl::StatusOr<EtcdTarget> NewEtcdTarget(
    const std::vector<std::string>& endpoints, absl::Duration timeout,
    int in_flight);

}  // namespace kv739::bench

#endif  // KV739_CLIENT_COMMAND_BENCH_TARGET_H_
