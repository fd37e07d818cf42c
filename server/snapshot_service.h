// raft.v1.Raft/FetchSnapshot, the sending end: see snapshot_exchange.h.
//
// At most kMaxSends streams at once, each with a thread of its own that reads
// the snapshot and waits for the disk, for the rate and for the receiver; the
// others are told UNAVAILABLE. The thread makes one chunk while gRPC has the
// one before, so a stream holds two of them at most. A receiver that takes
// nothing for kMaxStall is given up: what it holds costs the disk.
//
// Errors travel with their code. Threads: Start() before the loop runs,
// BeginStop() in the loop thread, Release() after the loop has ended;
// stats() any. The provider must live until Release() has returned.
#ifndef KV739_SERVER_SNAPSHOT_SERVICE_H_
#define KV739_SERVER_SNAPSHOT_SERVICE_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "raft/v1/raft.grpc.pb.h"
#include "server/byte_rate.h"
#include "server/peer_frame.h"
#include "server/rpc_loop.h"
#include "server/snapshot_exchange.h"

namespace kv739::server {

class SnapshotService {
 public:
  static constexpr absl::Duration kMaxStall = absl::Seconds(60);

  struct Options {
    uint64_t bytes_per_second = 0;  // of all streams together; 0: no limit
    absl::Duration max_stall = kMaxStall;
  };
  // All rise from the start but `active`.
  struct Stats {
    uint64_t active = 0;
    uint64_t opened = 0;
    uint64_t refused = 0;  // too many, or not one of us
    uint64_t failed = 0;   // opened and not sent to the end
    uint64_t sent_bytes = 0;
  };
  // Loop thread.
  using CheckCaller = std::function<absl::Status(const PeerIdentity&)>;

  SnapshotService(RpcLoop* loop, ::raft::v1::Raft::AsyncService* service,
                  CheckCaller check_caller, Options options);
  ~SnapshotService();
  SnapshotService(const SnapshotService&) = delete;
  SnapshotService& operator=(const SnapshotService&) = delete;

  // Without a provider every call is answered UNAVAILABLE.
  void Start(SnapshotProvider* provider);
  // Ends all streams and takes none any more.
  void BeginStop();
  void Release();

  Stats stats() const;

 private:
  static constexpr int kArmedCalls = 2;
  class Send;

  void Arm();
  // OK: `send` has a thread from now on.
  absl::Status Admit(const std::shared_ptr<Send>& send);
  void Work();

  RpcLoop* const loop_;
  ::raft::v1::Raft::AsyncService* const service_;
  const CheckCaller check_caller_;
  const Options options_;
  ByteRate rate_;
  SnapshotProvider* provider_ = nullptr;
  std::vector<std::thread> threads_;

  // Loop thread.
  absl::flat_hash_set<std::shared_ptr<Send>> sends_;
  bool stopping_ = false;

  std::atomic<int> active_{0};  // with a thread
  std::atomic<uint64_t> opened_{0};
  std::atomic<uint64_t> refused_{0};
  std::atomic<uint64_t> failed_{0};
  std::atomic<uint64_t> sent_bytes_{0};

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Send>> waiting_;  // for a thread; kMaxSends
  bool over_ = false;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_SNAPSHOT_SERVICE_H_
