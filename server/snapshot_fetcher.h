// The receiving end of raft.v1.Raft/FetchSnapshot: see snapshot_exchange.h.
//
// Each stream has a connection of its own, so that what is small and urgent on
// the others does not wait behind it, and a thread that reads and calls the
// sink: what the sink does not take stays in the sender, but for the window of
// the connection. A sender that is dead is noticed after kKeepalive and
// kKeepaliveTimeout, one that is there and says nothing after kMaxSilence.
//
// What wait for their turn are as many as the callers have sinks.
//
// Threads: Fetch(), Cancel() and stats() any; address_of and the sinks are
// called by threads of the fetcher. The destructor ends everything: each sink
// has had its OnEnd() when it returns.
#ifndef KV739_SERVER_SNAPSHOT_FETCHER_H_
#define KV739_SERVER_SNAPSHOT_FETCHER_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "server/peer_frame.h"
#include "server/snapshot_exchange.h"

namespace kv739::server {

class GrpcSnapshotFetcher final : public SnapshotFetcher {
 public:
  static constexpr absl::Duration kConnectTimeout = absl::Seconds(3);
  // The sender's port allows a ping every 4 s.
  static constexpr absl::Duration kKeepalive = absl::Seconds(5);
  static constexpr absl::Duration kKeepaliveTimeout = absl::Seconds(3);
  // A slow rate at the sender is silence too, between two chunks.
  static constexpr absl::Duration kMaxSilence = absl::Minutes(2);

  struct Options {
    PeerIdentity self;  // `to` is filled in
    // host:port; empty: not known.
    std::function<std::string(raft::NodeId)> address_of;
    absl::Duration max_silence = kMaxSilence;
  };
  // All rise from the start but the first two.
  struct Stats {
    uint64_t active = 0;
    uint64_t waiting = 0;
    uint64_t completed = 0;
    uint64_t failed = 0;
    uint64_t received_bytes = 0;
  };

  explicit GrpcSnapshotFetcher(Options options);
  ~GrpcSnapshotFetcher() override;

  // The sink's OnEnd(): CANCELLED after Cancel() or when the fetcher ends;
  // DATA_LOSS when what came is no snapshot; UNAVAILABLE when the sender
  // cannot be reached, does not say anything, or has no room.
  void Fetch(raft::NodeId from, SnapshotRequest request,
             std::shared_ptr<SnapshotSink> sink) override;
  void Cancel(const SnapshotSink* sink) override;

  Stats stats() const;

 private:
  // One more than run, for those that are cancelled while they wait.
  static constexpr int kThreads = kMaxFetches + 1;
  struct Job;

  void Work();
  // The next one to run or to end, or null; `lock` is held.
  std::shared_ptr<Job> TakeJob();
  void EndSilentOnes();  // mutex_ is held
  absl::Status Run(Job* job);
  template <typename Reader>
  absl::Status ReadAll(Job* job, Reader* reader, bool* has_info);

  const Options options_;
  std::atomic<uint64_t> completed_{0};
  std::atomic<uint64_t> failed_{0};
  std::atomic<uint64_t> received_bytes_{0};

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Job>> waiting_;
  std::vector<std::shared_ptr<Job>> running_;
  bool over_ = false;
  std::vector<std::thread> threads_;  // not guarded
};

}  // namespace kv739::server

#endif  // KV739_SERVER_SNAPSHOT_FETCHER_H_
