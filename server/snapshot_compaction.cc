#include "server/snapshot_compaction.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "raft/planted.h"
#include "server/replica.h"
#include "server/snapshot_flusher.h"
#include "server/snapshot_replica.h"

namespace kv739::server {
namespace {

constexpr uint64_t kMillisecond = 1'000'000;
constexpr uint64_t kSecond = 1'000'000'000;
// How often the size of the log is looked at.
constexpr uint64_t kLookNanos = kSecond / 5;
// How often a cut that somebody held back is tried again.
constexpr uint64_t kHeldNanos = kSecond;
constexpr uint64_t kFlushRetryNanos = 5 * kSecond;

uint64_t NewId() {
  static std::atomic<uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

// floor(a * b / c) for products beyond 64 bits.
uint64_t Scale(uint64_t a, uint64_t b, uint64_t c) {
  return static_cast<uint64_t>(static_cast<double>(a) * static_cast<double>(b) /
                               static_cast<double>(c));
}

raft::Index Minus(raft::Index index, uint64_t less) {
  return index.value() > less ? index - less : raft::Index();
}

}  // namespace

Compaction::Compaction(const SnapshotContext* context, raft::GroupId group,
                       raft::Index durable)
    : context_(context), group_(group), id_(NewId()), durable_(durable) {}

void Compaction::Tick(uint64_t now, const raft::Core& core) {
  if (now_ == 0) flushed_at_ = applied_at_ = now;
  now_ = now;
  if (core.applied() != applied_) {
    applied_ = core.applied();
    applied_at_ = now;
    idle_ = false;
  }
  if (now - looked_at_ >= kLookNanos) {
    looked_at_ = now;
    log_bytes_ = context_->log->log_bytes(group_);
  }
  if (!idle_ && now - applied_at_ >= kIdleNanos) {
    idle_ = true;
    cut_wanted_ = true;
  }
  if (held_back_ && now - cut_at_ >= kHeldNanos) cut_wanted_ = true;
  if (applied_ <= durable_ || now < not_before_) return;
  if (!joined_) {
    joined_ = true;
    context_->flusher->Join(
        group_, [post = context_->post, group = group_,
                 id = id_](absl::StatusOr<raft::LogPosition> durable) {
          post(group, [id, durable](Replica& replica, Turn& turn) {
            Compaction& self = replica.snapshots().compaction();
            if (self.id_ != id) return;  // made anew meanwhile
            self.OnFlushed(durable, turn.now_nanos, replica.applied());
          });
        });
  }
  if (!started_ && FlushIsDue(now, applied_)) {
    started_ = true;
    context_->flusher->Start();
  }
}

bool Compaction::FlushIsDue(uint64_t now, raft::Index applied) {
  const SnapshotOptions& options = *context_->options;
  if (idle_) return true;
  if (applied - durable_ >= options.entries &&
      (compactions_ == 0 ||
       now - flushed_at_ >= options.min_gap_ms * kMillisecond)) {
    return true;
  }
  if (log_bytes_ > options.log_bytes &&
      log_bytes_ - std::min(log_bytes_, bytes_at_cut_) >
          options.log_bytes / 2) {
    return true;
  }
  return options.interval_s > 0 &&
         now - flushed_at_ >= options.interval_s * kSecond;
}

void Compaction::OnFlushed(absl::StatusOr<raft::LogPosition> durable,
                           uint64_t now, raft::Index applied) {
  joined_ = started_ = false;
  if (!durable.ok()) {
    not_before_ = now + kFlushRetryNanos;
    return;
  }
  flushed_at_ = now;
  // A snapshot that is being put in place may be durable before the core knows
  // of it; what it covers is not applied as far as the log is concerned.
  durable_ = std::max(durable_, KV739_PLANTED(C2_log_cut_before_durable)
                                    ? applied
                                    : std::min(durable->index, applied));
  cut_wanted_ = true;
}

// Without regard to those who hold it.
raft::Index Compaction::Limit(uint64_t log_bytes,
                              const raft::Core& core) const {
  const uint64_t entries = core.last_index() - core.log_start().index;
  raft::Index limit = Minus(durable_, context_->options->trailing_entries);
  uint64_t most = context_->options->log_bytes / 2;
  if (idle_) most = std::min(most, kIdleTailBytes);
  if (log_bytes > most) {
    // About; entries differ, and the next cut sees what is left.
    limit = std::max(limit,
                     Minus(core.last_index(), Scale(entries, most, log_bytes)));
  }
  return std::min({limit, durable_, core.applied()});
}

void Compaction::Cut(uint64_t now, raft::Index held, raft::Core* core,
                     Turn& turn) {
  if (!std::exchange(cut_wanted_, false)) return;
  held_back_ = false;
  cut_at_ = now;
  const raft::Index start = core->log_start().index;
  const uint64_t bytes = context_->log->log_bytes(group_);
  log_bytes_ = bytes;
  looked_at_ = now;
  raft::Index limit = Limit(bytes, *core);
  if (limit <= start) return;
  const raft::Index free = limit;
  const uint64_t most = context_->options->log_bytes;
  if (held && bytes <= kHeldLogFactor * most) limit = std::min(limit, held);
  if (core->IsLeader() && bytes <= most) {
    for (const raft::PeerProgress& peer : core->Status().peers) {
      // Who is away, or gets a snapshot, does not keep the log.
      if (!peer.recently_active || peer.needs_snapshot) continue;
      limit = std::min(limit, peer.match);
    }
  }
  held_back_ = limit < free;
  const uint64_t entries = core->last_index() - start;
  if (limit > start) {
    core->Compact(limit);
    wal::GroupWrite write;
    write.group = group_;
    write.compact = core->log_start();
    turn.writes.push_back(std::move(write));
    ++compactions_;
  }
  const raft::Index first = std::max(limit, start);
  bytes_at_cut_ = Scale(bytes, core->last_index() - first, entries);
}

}  // namespace kv739::server
