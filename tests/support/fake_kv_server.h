// Servers that speak proto/kv739/v1 and keep their keys in memory, all in this
// process, for tests of clients. They are honest by default: one leader per
// group, sessions with exactly-once, slots owned by groups. A script may
// decide otherwise for each operation.
//
// Threads: everything may be called from anywhere; the script runs under the
// cluster's lock.
#ifndef KV739_TESTS_SUPPORT_FAKE_KV_SERVER_H_
#define KV739_TESTS_SUPPORT_FAKE_KV_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "kv/cluster_map.h"
#include "kv739/v1/admin.grpc.pb.h"
#include "kv739/v1/cluster.grpc.pb.h"
#include "kv739/v1/kv.grpc.pb.h"

namespace kv739::testing {

// An operation as a server sees it, before it does anything.
struct Seen {
  int server = 0;
  v1::Operation::KindCase kind{};
  raft::GroupId group;
  std::string key;
  uint64_t session = 0;
  uint64_t sequence = 0;
  uint64_t floor = 0;
};

struct Reaction {
  enum What {
    kHonest,
    kError,          // answer `error`, do nothing
    kDrop,           // break the stream, do nothing
    kApplyAndDrop,   // do it, break the stream instead of an answer
    kSilent,         // do nothing, never answer
    kApplySilently,  // do it, never answer
    kHold,           // do it and answer at Release()
  };
  What what = kHonest;
  v1::Error error;
};
Reaction ErrorReaction(v1::ErrorCode code, const std::string& leader = "",
                       uint64_t map_epoch = 0);

class FakeCluster {
 public:
  // Starts `count` servers on free ports of 127.0.0.1. Server i leads group
  // i / 5 when i is the first of its five.
  explicit FakeCluster(int count);
  ~FakeCluster();

  // The cluster file of the servers.
  const std::string& config_file() const { return config_file_; }
  std::string address(int server) const;
  kv::ClusterMap map();

  using Script = std::function<Reaction(const Seen&)>;
  void SetScript(Script script);
  void SetLeader(raft::GroupId group, int server);
  // The servers know this map from now on; its clients hear of its epoch.
  void SetMap(kv::ClusterMap map);
  void Stop(int server);
  void Start(int server);
  // Answers what kHold held.
  void Release();
  // Forgets every session.
  void ForgetSessions();
  void RefuseDie(bool refuse);

  // ---- membership ----

  // The leader of group 0 answers RemoveServer with this sentence; "" no more.
  void RefuseRemoval(const std::string& why);
  // A server that leaves has left when the map was asked for so often; -1:
  // never.
  void SetMapsUntilLeft(int maps);
  // What a server says of each of its groups: the leaders have committed 100.
  void SetApplied(int server, uint64_t applied);
  void SetHealthy(int server, bool healthy);
  // What servers answer to StartServer; without, they have no supervisor.
  // Called without the lock.
  using Starter = std::function<grpc::Status(
      int asked, const v1::StartServerRequest&, v1::StartServerResponse*)>;
  void SetStarter(Starter starter);
  // Servers that were asked for the map or for how they are.
  std::map<int, int> asked();

  std::vector<Seen> seen();
  // Waits until `count` operations were seen.
  void AwaitSeen(size_t count);
  uint64_t messages();
  uint64_t operations();
  int map_fetches();
  // How often a write to the key was done, and its value.
  int writes(const std::string& key);
  std::optional<std::string> value(const std::string& key);
  void SetValue(const std::string& key, const std::string& value);
  // What the servers' sessions saw that no client should do; "" when nothing.
  std::string violation();

 private:
  class Node;
  struct Stream;
  struct Held;

  struct Entry {
    std::string value;
    uint64_t version = 0;
    int writes = 0;
  };
  struct Session {
    uint64_t floor = 1;
    std::map<uint64_t, v1::WriteResponse> answers;
  };

  // With the lock held.
  Seen Look(int server, const v1::Operation& operation);
  v1::OperationResult Do(const Seen& seen, const v1::Operation& operation);
  v1::ScanResponse DoScan(const v1::ScanRequest& request);
  v1::OperationResult DoWrite(const Seen& seen, const v1::Operation& operation);

  // False: the stream is to be broken.
  bool Handle(int server, const v1::OperationBatch& batch,
              const std::shared_ptr<Stream>& stream);
  v1::GetMapResponse MapResponse(int server);
  v1::GetStatusResponse StatusResponse(int server);
  grpc::Status Remove(int server, const v1::RemoveServerRequest& request,
                      v1::RemoveServerResponse* response);
  // With the lock held.
  void FinishRemovals();

  std::string config_file_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<std::string> addresses_;

  // std::mutex: Debian's abseil is not built for the thread sanitizer.
  std::mutex mutex_;
  std::condition_variable seen_more_;
  kv::ClusterMap map_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, int> leaders_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Entry> data_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, std::map<uint64_t, Session>> sessions_
      ABSL_GUARDED_BY(mutex_);
  uint64_t next_session_ ABSL_GUARDED_BY(mutex_) = 100;
  uint64_t next_version_ ABSL_GUARDED_BY(mutex_) = 1;
  Script script_ ABSL_GUARDED_BY(mutex_);
  std::vector<Seen> seen_ ABSL_GUARDED_BY(mutex_);
  std::vector<Held> held_ ABSL_GUARDED_BY(mutex_);
  uint64_t messages_ ABSL_GUARDED_BY(mutex_) = 0;
  int map_fetches_ ABSL_GUARDED_BY(mutex_) = 0;
  bool refuse_die_ ABSL_GUARDED_BY(mutex_) = false;
  std::string refuse_removal_ ABSL_GUARDED_BY(mutex_);
  int maps_until_left_ ABSL_GUARDED_BY(mutex_) = 2;
  std::map<int, uint64_t> applied_ ABSL_GUARDED_BY(mutex_);
  std::map<int, bool> unhealthy_ ABSL_GUARDED_BY(mutex_);
  std::map<int, int> asked_ ABSL_GUARDED_BY(mutex_);
  Starter starter_ ABSL_GUARDED_BY(mutex_);
  std::string violation_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> stoppers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kv739::testing

#endif  // KV739_TESTS_SUPPORT_FAKE_KV_SERVER_H_
