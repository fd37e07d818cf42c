// How a group's snapshot gets from one node to another.
//
// The receiver fetches: it opens a stream, says which snapshot and where to go
// on, and reads chunks (kv/snapshot.h) as fast as it takes them; a stream that
// breaks is opened again at the same place. The sender keeps the view that the
// snapshot is made of (SnapshotProvider) and decides about the rate. So the
// pace, the memory and the place of a transfer have one owner each, and neither
// end buffers more than the stream's window.
//
// The gRPC side is server/snapshot_service.h (sender) and
// server/snapshot_fetcher.h (receiver); what is behind the interfaces here is
// the host's.
#ifndef KV739_SERVER_SNAPSHOT_EXCHANGE_H_
#define KV739_SERVER_SNAPSHOT_EXCHANGE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "raft/configuration.h"
#include "raft/types.h"

namespace kv739::server {

struct SnapshotInfo {
  raft::SnapshotMeta meta;
  uint64_t keys = 0;   // estimates
  uint64_t bytes = 0;  // before compression
};

struct SnapshotRequest {
  raft::GroupId group;
  raft::LogPosition position;  // none: the newest there is
  uint64_t next_chunk = 0;     // where to go on
  std::string last_key;
};

// ---- sender ----

// One stream's place in a snapshot. One thread at a time; blocks for the disk.
class SnapshotCursor {
 public:
  virtual ~SnapshotCursor() = default;
  virtual const SnapshotInfo& info() const = 0;
  // True and *chunk set; false after the last one.
  virtual absl::StatusOr<bool> Next(std::string* chunk) = 0;
  // So many bytes have left: for progress.
  virtual void Sent(uint64_t bytes) = 0;
};

class SnapshotProvider {
 public:
  virtual ~SnapshotProvider() = default;
  // NOT_FOUND: no such group, or the snapshot of that position is not there any
  // more (begin anew with another one). UNAVAILABLE: not now, not by this
  // replica. Called on the thread that then reads; blocks for the disk.
  virtual absl::StatusOr<std::unique_ptr<SnapshotCursor>> OpenSnapshot(
      raft::NodeId to, const SnapshotRequest& request) = 0;
};

// ---- receiver ----

// Takes what comes on one stream. Called by the fetcher's thread, one call at
// a time, and blocks for the disk; the stream waits meanwhile.
class SnapshotSink {
 public:
  virtual ~SnapshotSink() = default;
  // Comes first. An error ends the stream with it.
  virtual absl::Status OnInfo(const SnapshotInfo& info) = 0;
  virtual absl::Status OnChunk(absl::string_view chunk) = 0;
  // Comes last, once, after everything else: OK when the sender had no more;
  // else the sink's own error, or what the sender or the connection ended with.
  virtual void OnEnd(const absl::Status& status) = 0;
};

class SnapshotFetcher {
 public:
  virtual ~SnapshotFetcher() = default;
  // Opens a stream to `from`. Never blocks, any thread. At most
  // kMaxFetches run at once, the others wait for their turn.
  virtual void Fetch(raft::NodeId from, SnapshotRequest request,
                     std::shared_ptr<SnapshotSink> sink) = 0;
  // Ends the stream of this sink, wherever it is; OnEnd follows. Nothing when
  // it has ended. Any thread.
  virtual void Cancel(const SnapshotSink* sink) = 0;
};

// Of one node.
inline constexpr int kMaxFetches = 2;
inline constexpr int kMaxSends = 4;

}  // namespace kv739::server

#endif  // KV739_SERVER_SNAPSHOT_EXCHANGE_H_
