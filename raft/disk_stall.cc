// A leader whose own disk hangs. Its heartbeats go on, so nobody would replace
// it, and what it commits it cannot apply: after an election timeout without
// anything becoming durable it hands over, and after two it steps down.
#include "raft/core_impl.h"
#include "raft/planted.h"

namespace kv739::raft {

void Core::Impl::TickDiskStall() {
  if (!log_.persisting() || log_.durable() != stalled_at_) {
    stalled_at_ = log_.durable();
    stalled_ticks_ = 0;
    return;
  }
  if (IsAlone()) return;  // there is nobody else
  if (KV739_PLANTED(O3_leader_with_a_dead_disk)) return;
  ++stalled_ticks_;
  if (stalled_ticks_ == options_.election_timeout_ticks) {
    // It may fail; then the second timeout decides.
    if (const NodeId target = BestTransferTarget()) {
      TransferLeadership(target).IgnoreError();
    }
  } else if (stalled_ticks_ >= 2 * options_.election_timeout_ticks) {
    stalled_ticks_ = 0;
    BecomeFollower(term_, NodeId());
  }
}

}  // namespace kv739::raft
