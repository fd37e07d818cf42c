#include "server/snapshot_codec.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kv/snapshot_chunk.h"

namespace kv739::server {

namespace wire = ::raft::v1;
using raft::Index;
using raft::Term;

void EncodeSnapshotRequest(const SnapshotRequest& request,
                           wire::FetchSnapshotRequest* out) {
  out->set_group(request.group.value());
  out->set_last_term(request.position.term.value());
  out->set_last_index(request.position.index.value());
  out->set_next_chunk(request.next_chunk);
  out->set_last_key(request.last_key);
}

absl::StatusOr<SnapshotRequest> DecodeSnapshotRequest(
    const wire::FetchSnapshotRequest& in) {
  SnapshotRequest request;
  request.group = raft::GroupId(in.group());
  request.position = {Term(in.last_term()), Index(in.last_index())};
  if ((in.last_term() == 0) != (in.last_index() == 0)) {
    return absl::InvalidArgumentError("half a position");
  }
  if (in.last_key().size() > kv::kMaxSnapshotKeyBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a key of ", in.last_key().size(), " bytes"));
  }
  request.next_chunk = in.next_chunk();
  request.last_key = in.last_key();
  return request;
}

void EncodeSnapshotInfo(const SnapshotInfo& info, wire::SnapshotInfo* out) {
  out->set_last_term(info.meta.position.term.value());
  out->set_last_index(info.meta.position.index.value());
  out->set_configuration(raft::EncodeConfiguration(info.meta.configuration));
  out->set_keys(info.keys);
  out->set_bytes(info.bytes);
}

absl::StatusOr<SnapshotInfo> DecodeSnapshotInfo(const wire::SnapshotInfo& in) {
  SnapshotInfo info;
  info.meta.position = {Term(in.last_term()), Index(in.last_index())};
  if (!info.meta.position.term || !info.meta.position.index) {
    return absl::InvalidArgumentError("snapshot of no position");
  }
  auto configuration = raft::DecodeConfiguration(in.configuration());
  if (!configuration.ok()) return configuration.status();
  info.meta.configuration = *std::move(configuration);
  info.keys = in.keys();
  info.bytes = in.bytes();
  return info;
}

}  // namespace kv739::server
