// What is said about snapshots, in its form on the wire. Values, no threads.
#ifndef KV739_SERVER_SNAPSHOT_CODEC_H_
#define KV739_SERVER_SNAPSHOT_CODEC_H_

#include "absl/status/statusor.h"
#include "raft/v1/raft.pb.h"
#include "server/snapshot_exchange.h"

namespace kv739::server {

// Identities are not touched.
void EncodeSnapshotRequest(const SnapshotRequest& request,
                           ::raft::v1::FetchSnapshotRequest* out);
// INVALID_ARGUMENT: half a position, or a key that is longer than any is.
absl::StatusOr<SnapshotRequest> DecodeSnapshotRequest(
    const ::raft::v1::FetchSnapshotRequest& in);

void EncodeSnapshotInfo(const SnapshotInfo& info,
                        ::raft::v1::SnapshotInfo* out);
// INVALID_ARGUMENT: no position, or a configuration that is none.
absl::StatusOr<SnapshotInfo> DecodeSnapshotInfo(
    const ::raft::v1::SnapshotInfo& in);

}  // namespace kv739::server

#endif  // KV739_SERVER_SNAPSHOT_CODEC_H_
