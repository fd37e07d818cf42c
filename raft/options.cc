#include "raft/options.h"

#include "absl/strings/str_cat.h"

namespace kv739::raft {

absl::Status Options::Validate() const {
  auto bad = [](const char* what) {
    return absl::InvalidArgumentError(absl::StrCat("raft options: ", what));
  };
  if (!self) return bad("self is none");
  if (heartbeat_ticks == 0) return bad("heartbeat_ticks is 0");
  if (election_timeout_ticks <= heartbeat_ticks) {
    return bad("election_timeout_ticks is not above heartbeat_ticks");
  }
  if (max_append_bytes == 0) return bad("max_append_bytes is 0");
  if (max_append_entries == 0) return bad("max_append_entries is 0");
  if (max_inflight_bytes == 0) return bad("max_inflight_bytes is 0");
  if (max_inflight_messages == 0) return bad("max_inflight_messages is 0");
  if (max_uncommitted_bytes == 0) return bad("max_uncommitted_bytes is 0");
  if (max_read_rounds == 0) return bad("max_read_rounds is 0");
  if (max_pending_reads == 0) return bad("max_pending_reads is 0");
  if (lease_nanos > 0 && !(pre_vote && check_quorum)) {
    return bad("leases need pre_vote and check_quorum");
  }
  if (max_apply_bytes == 0) return bad("max_apply_bytes is 0");
  return absl::OkStatus();
}

}  // namespace kv739::raft
