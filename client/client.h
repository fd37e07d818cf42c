// The client: the engine, one stream per node, and the thread that turns
// completions of gRPC into the engine's inputs.
//
// Threads: Submit() may be called from anywhere. What it makes ready is sent
// from the calling thread when the stream is idle. While a message is being
// written, or answers are being given out, more collects and travels in the
// next message, started by the reply thread. `mutex_` guards the engine and the
// streams' flags; it is never held while bytes are built, sent or received, or
// while a callback runs.
//
// gRPC's log: this library prints nothing. gRPC's own log belongs to the
// process; see Silence() in client.cc.
#ifndef KV739_CLIENT_CLIENT_H_
#define KV739_CLIENT_CLIENT_H_

#include <grpcpp/grpcpp.h>
#include <semaphore.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "client/engine.h"
#include "client/node_stream.h"
#include "client/operation.h"
#include "kv/cluster_map.h"

namespace kv739::client {

inline constexpr int kDefaultTimeoutMs = 5000;
inline constexpr int kMaxTimeoutMs = 24 * 3600 * 1000;
// Of start and leave, which move data between servers.
inline constexpr int kDefaultMembershipTimeoutMs = 120'000;

// Where a finished operation is waited for. A semaphore, since the wait() of
// std::atomic first gives up the processor four times: of many threads that
// wait, each is run four times for nothing.
class SyncOperation : public Operation {
 public:
  explicit SyncOperation(Request r);
  ~SyncOperation() override;
  SyncOperation(const SyncOperation&) = delete;
  SyncOperation& operator=(const SyncOperation&) = delete;

  void Finished() override;
  // Returns after Finished().
  void Wait();

 private:
  sem_t done_;
};

class Client : private StreamOwner {
 public:
  struct Options {
    int timeout_ms = kDefaultTimeoutMs;
    size_t max_pending = 65536;
    std::string config_file;  // for messages
  };

  static std::unique_ptr<Client> Make(kv::ClusterMap map,
                                      const Options& options);
  // Close() must have returned.
  ~Client() override;
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Ends what waits with KV739_E_CLOSED and the thread. Again: does nothing.
  void Close();

  // timeout_ms from now; 0: the default.
  Instant DeadlineIn(int timeout_ms) const;
  // Takes the operation, whose deadline is set: KV739_OK, and Finished() is
  // called once; or an error, with outcome.message set, and it is not.
  int Submit(const std::shared_ptr<Operation>& operation);
  // Stops a server (die.cc), takes one out of the cluster (leave.cc), starts
  // one (start.cc). KV739_OK or an error with `message` set.
  int Die(const std::string& server, bool clean, int timeout_ms,
          std::string* message);
  int Leave(const std::string& server, bool clean, int timeout_ms,
            std::string* message);
  int Start(const std::string& server, bool is_new, int timeout_ms,
            std::string* message);

  // The newest map that is known here.
  kv::ClusterMap KnownMap();
  void LearnMap(kv::ClusterMap map);
  // Lets time pass; false, and sooner, when the client is being closed.
  bool PauseFor(std::chrono::milliseconds time);

  // The calling thread is in a Finished() of some client.
  static bool InCallback();
  // The process was forked since the client was made: nothing can be done
  // with it but leave it alone.
  bool Forked() const;

  const kv::ClusterMap& file_map() const { return file_map_; }
  const std::string& config_file() const { return options_.config_file; }
  int timeout_ms() const { return options_.timeout_ms; }

 private:
  struct MapFetch;
  struct WakeUp;

  Client(kv::ClusterMap map, const Options& options);

  // The thread.
  void Run();
  void Tick();
  void Finish();
  bool Quiet();

  void SendGathered() ABSL_LOCKS_EXCLUDED(mutex_);
  // Does the engine's outputs.
  void Perform(Effects effects) ABSL_LOCKS_EXCLUDED(mutex_);
  Effects TakeEffects() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WakeIfAsleep() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  NodeStream* StreamOf(NodeIndex node) ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<NodeStream*> Streams() ABSL_LOCKS_EXCLUDED(mutex_);
  void StartMapFetch(NodeIndex node) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnMapFetched() ABSL_LOCKS_EXCLUDED(mutex_);

  // StreamOwner.
  size_t Waiting(NodeIndex node) override;
  std::vector<Outgoing> TakeBatch(NodeIndex node) override;
  void OnAnswers(NodeIndex node, std::vector<Answer> answers,
                 uint64_t map_epoch) override;
  void OnBroken(NodeIndex node, const std::string& why) override;

  // gRPC is in use as long as this lives, and gone when the last of them is
  // destroyed, not some time later on another thread: a fork may follow. It is
  // waited for, not for ever, unless others used it before. Declared first.
  struct Network {
    Network();
    ~Network();
  };

  const Network network_;
  const kv::ClusterMap file_map_;
  const Options options_;
  const uint64_t fork_count_;
  grpc::CompletionQueue queue_;

  // std::mutex: Debian's abseil is not built for the thread sanitizer.
  std::mutex mutex_;
  Engine engine_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<NodeStream>> streams_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<MapFetch> map_fetch_ ABSL_GUARDED_BY(mutex_);
  // Operations that ended on a thread that is not the library's.
  std::vector<std::shared_ptr<Operation>> late_ ABSL_GUARDED_BY(mutex_);
  // Finished() of some operations is being called.
  bool delivering_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::condition_variable closes_;
  bool waking_ ABSL_GUARDED_BY(mutex_) = false;  // the alarm is set
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;   // the thread is at its end
  // The thread waits without an end: whoever has something for it wakes it.
  bool asleep_ ABSL_GUARDED_BY(mutex_) = false;
  std::unique_ptr<WakeUp> wake_up_ ABSL_GUARDED_BY(mutex_);

  std::mutex close_mutex_;
  std::thread thread_;
};

}  // namespace kv739::client

#endif  // KV739_CLIENT_CLIENT_H_
