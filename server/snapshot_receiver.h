// A replica's way to another replica's state: it fetches what its leader
// offers, one snapshot at a time, goes on where a stream broke, and begins
// anew where that is not possible. What arrives is built beside the old state;
// putting it in place is the replica's (server/snapshot_replica.h).
//
// A newer offer takes the place of the one that is being fetched only when that
// does not move: otherwise a group that is written to would never arrive.
//
//   idle -> fetching <-> pausing -> complete -> (commit) -> idle
//
// Owned by the replica, with the loop; what the stream's thread does is in
// IncomingSnapshot.
#ifndef KV739_SERVER_SNAPSHOT_RECEIVER_H_
#define KV739_SERVER_SNAPSHOT_RECEIVER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "kv/snapshot.h"
#include "raft/configuration.h"
#include "raft/types.h"
#include "server/snapshot_context.h"
#include "server/snapshot_exchange.h"
#include "server/stats.h"

namespace kv739::server {

// Between two streams: doubled each time without a new chunk.
inline constexpr uint64_t kFirstPauseNanos = 200'000'000;
inline constexpr uint64_t kLongestPauseNanos = 10'000'000'000;
// A stream on which nothing came for so long does not move.
inline constexpr uint64_t kStalledNanos = 10'000'000'000;

// What has arrived, over all streams. The mutex is for Close() alone, which
// may come while a chunk is being written; else one thread at a time has it.
class IncomingSnapshot {
 public:
  IncomingSnapshot(kv::Engine* engine, raft::GroupId group, std::string dir)
      : engine_(engine), group_(group), dir_(std::move(dir)) {}

  // ---- the stream's thread; blocks for the disk ----
  // Keeps what is there when it is of this snapshot.
  absl::Status Begin(const SnapshotInfo& info);
  absl::Status Add(absl::string_view chunk);

  // ---- the background ----
  absl::Status Commit();
  // Removes all of it; nothing is taken any more.
  void Close();

  // ---- while no stream is open ----
  // True when it is of this snapshot (of any, for none): then what the next
  // stream is to go on with is filled in.
  bool Continue(raft::LogPosition position, SnapshotRequest* request) const;
  bool complete() const;
  raft::LogPosition position() const;

  // ---- any thread ----
  std::atomic<uint64_t> bytes{0};      // of this snapshot, as they travelled
  std::atomic<uint64_t> all_bytes{0};  // and of those before it
  std::atomic<uint64_t> keys{0};
  std::atomic<uint64_t> total_bytes{0};
  std::atomic<uint64_t> total_keys{0};
  std::atomic<uint64_t> moves{0};  // chunks taken

 private:
  kv::Engine* const engine_;
  const raft::GroupId group_;
  const std::string dir_;
  mutable std::mutex mutex_;  // guards what follows
  std::unique_ptr<kv::SnapshotWriter> writer_;
  raft::LogPosition position_;
  bool closed_ = false;
};

class SnapshotReceiver {
 public:
  enum class State : uint8_t { kIdle, kFetching, kPausing, kComplete };

  SnapshotReceiver(const SnapshotContext* context, raft::GroupId group);
  ~SnapshotReceiver();

  // Ready::wants_snapshot, of the present leader.
  void Offer(raft::NodeId from, const raft::SnapshotMeta& meta, uint64_t now);
  // Whatever is newest there. Repeat it, like an offer, while it is wanted.
  void OfferNewest(raft::NodeId from, uint64_t now);
  // At every tick.
  void Tick(uint64_t now);
  // Not needed any more, or of no use.
  void Drop();
  // It did not go in: again after a pause, or not at all.
  void Retry(uint64_t now);
  // Put in place.
  void Done(uint64_t now);

  State state() const { return state_; }
  // All of it is here, and it is time to put it in place.
  bool ready(uint64_t now) const {
    return state_ == State::kComplete && now >= resume_at_;
  }
  // Of what is being fetched, or has been; none while that is not known.
  raft::LogPosition position() const;
  std::shared_ptr<IncomingSnapshot> incoming() const { return incoming_; }
  void AddStats(uint64_t now, ReplicaStats* stats) const;

 private:
  class Sink;
  struct Offered {
    raft::NodeId from;
    raft::LogPosition position;  // none: the newest
  };

  void Begin(uint64_t now);
  void OpenStream(uint64_t now);
  void Ended(uint64_t stream, const absl::Status& status, uint64_t now);
  void Pause(uint64_t now);
  void Discard();
  bool Stalled(uint64_t now);

  const SnapshotContext* const context_;
  const raft::GroupId group_;
  State state_ = State::kIdle;
  std::optional<Offered> latest_;
  Offered wanted_;                              // what is being fetched
  std::shared_ptr<IncomingSnapshot> incoming_;  // null when idle
  std::shared_ptr<SnapshotSink> sink_;          // of the open stream
  uint64_t stream_ = 0;                         // its number
  bool replace_ = false;  // begin anew when the stream has ended
  uint64_t resume_at_ = 0;
  uint64_t pause_ = kFirstPauseNanos;
  uint64_t failures_ = 0;  // streams in a row that brought nothing
  uint64_t moves_ = 0;     // when last looked at
  uint64_t moved_at_ = 0;
  uint64_t begun_at_ = 0;
  SnapshotCounts counts_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_SNAPSHOT_RECEIVER_H_
