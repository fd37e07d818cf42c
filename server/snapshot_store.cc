#include "server/snapshot_store.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kv/snapshot.h"

namespace kv739::server {
namespace {

// One view. The maps are guarded by the store's mutex.
struct Kept {
  raft::GroupId group;
  SnapshotInfo info;
  std::unique_ptr<const kv::SnapshotReader> root;
  // Of streams that have ended: they know the places that they have passed.
  std::map<raft::NodeId, std::unique_ptr<kv::SnapshotReader>> readers;
  std::map<raft::NodeId, std::shared_ptr<OutgoingSnapshot>> outgoing;
  int streams = 0;
  uint64_t used_nanos = 0;
};

absl::Status NotServing(raft::GroupId group) {
  return absl::UnavailableError(absl::StrCat(
      "group ", group.value(), ": this replica has no whole state to copy"));
}

}  // namespace

class SnapshotStore::Impl {
 public:
  Impl(kv::Engine* its_engine, Clock* its_clock)
      : engine(its_engine), clock(its_clock) {}

  // With the mutex held. Null when there is none.
  std::shared_ptr<Kept> Find(raft::GroupId group,
                             raft::LogPosition position) const {
    for (const auto& entry : kept) {
      if (entry->group == group && entry->info.meta.position == position) {
        return entry;
      }
    }
    return nullptr;
  }
  absl::StatusOr<std::shared_ptr<Kept>> Open(raft::GroupId group);
  absl::StatusOr<std::shared_ptr<Kept>> Keep(std::shared_ptr<Kept> fresh);
  std::shared_ptr<OutgoingSnapshot> OutgoingTo(Kept* entry, raft::NodeId peer);

  kv::Engine* const engine;
  Clock* const clock;
  mutable std::mutex mutex;  // guards what follows
  std::vector<std::shared_ptr<Kept>> kept;
  std::set<raft::GroupId> serving;
  std::map<raft::GroupId, SnapshotCounts> sent;
};

absl::StatusOr<std::shared_ptr<Kept>> SnapshotStore::Impl::Open(
    raft::GroupId group) {
  auto reader = kv::SnapshotReader::Open(engine, group);
  if (!reader.ok()) return reader.status();
  auto entry = std::make_shared<Kept>();
  entry->group = group;
  const kv::SnapshotDescription& meta = (*reader)->meta();
  entry->info.meta = {meta.applied, meta.configuration};
  entry->info.keys = meta.keys;
  entry->info.bytes = meta.bytes;
  entry->root = *std::move(reader);
  return entry;
}

// The one that is kept from now on: another thread may have been first.
absl::StatusOr<std::shared_ptr<Kept>> SnapshotStore::Impl::Keep(
    std::shared_ptr<Kept> fresh) {
  std::shared_ptr<Kept> dropped;  // let go without the mutex
  const std::lock_guard lock(mutex);
  if (!serving.contains(fresh->group)) return NotServing(fresh->group);
  if (auto known = Find(fresh->group, fresh->info.meta.position)) return known;
  if (kept.size() >= kMaxKeptSnapshots) {
    auto oldest = kept.end();
    for (auto it = kept.begin(); it != kept.end(); ++it) {
      if ((*it)->streams > 0) continue;
      if (oldest == kept.end() || (*it)->used_nanos < (*oldest)->used_nanos) {
        oldest = it;
      }
    }
    if (oldest == kept.end()) {
      return absl::ResourceExhaustedError(absl::StrCat(
          kMaxKeptSnapshots, " snapshots are being sent by this server"));
    }
    dropped = std::move(*oldest);
    kept.erase(oldest);
  }
  fresh->used_nanos = clock->MonotonicNanos();
  kept.push_back(fresh);
  return fresh;
}

std::shared_ptr<OutgoingSnapshot> SnapshotStore::Impl::OutgoingTo(
    Kept* entry, raft::NodeId peer) {
  std::shared_ptr<OutgoingSnapshot>& outgoing = entry->outgoing[peer];
  if (outgoing == nullptr) {
    outgoing = std::make_shared<OutgoingSnapshot>();
    outgoing->group = entry->group;
    outgoing->peer = peer;
    outgoing->info = entry->info;
    outgoing->begin_nanos = clock->MonotonicNanos();
  }
  outgoing->active_nanos.store(clock->MonotonicNanos());
  return outgoing;
}

class SnapshotStore::Cursor : public SnapshotCursor {
 public:
  Cursor(std::shared_ptr<Impl> store, std::shared_ptr<Kept> kept,
         std::unique_ptr<kv::SnapshotReader> reader,
         std::shared_ptr<OutgoingSnapshot> outgoing)
      : store_(std::move(store)),
        kept_(std::move(kept)),
        reader_(std::move(reader)),
        outgoing_(std::move(outgoing)),
        begin_nanos_(store_->clock->MonotonicNanos()) {
    outgoing_->streams.fetch_add(1);
  }

  ~Cursor() override {
    outgoing_->streams.fetch_sub(1);
    const uint64_t now = store_->clock->MonotonicNanos();
    const std::lock_guard lock(store_->mutex);
    --kept_->streams;
    kept_->used_nanos = now;
    SnapshotCounts& counts = store_->sent[kept_->group];
    counts.nanos += now - begin_nanos_;
    counts.bytes += bytes_;
    ++(ended_ ? counts.done : counts.failures);
    kept_->readers[outgoing_->peer] = std::move(reader_);
  }

  const SnapshotInfo& info() const override { return kept_->info; }

  absl::StatusOr<bool> Next(std::string* chunk) override {
    {
      const std::lock_guard lock(store_->mutex);
      if (!store_->serving.contains(kept_->group)) {
        return NotServing(kept_->group);
      }
      kept_->used_nanos = store_->clock->MonotonicNanos();
    }
    absl::StatusOr<bool> more = reader_->Next(chunk);
    if (!more.ok()) return more;
    outgoing_->active_nanos.store(store_->clock->MonotonicNanos());
    outgoing_->keys.store(reader_->made().records);
    if (!*more) {
      ended_ = true;
      outgoing_->complete.store(true);
    }
    return more;
  }

  void Sent(uint64_t bytes) override {
    bytes_ += bytes;
    outgoing_->bytes.fetch_add(bytes);
    outgoing_->active_nanos.store(store_->clock->MonotonicNanos());
  }

 private:
  const std::shared_ptr<Impl> store_;
  const std::shared_ptr<Kept> kept_;
  std::unique_ptr<kv::SnapshotReader> reader_;
  const std::shared_ptr<OutgoingSnapshot> outgoing_;
  const uint64_t begin_nanos_;
  uint64_t bytes_ = 0;
  bool ended_ = false;
};

SnapshotStore::SnapshotStore(kv::Engine* engine, Clock* clock)
    : impl_(std::make_shared<Impl>(engine, clock)) {}

// The views go now; what cursors still hold of it goes with them.
SnapshotStore::~SnapshotStore() {
  std::vector<std::shared_ptr<Kept>> dropped;
  const std::lock_guard lock(impl_->mutex);
  impl_->serving.clear();
  dropped.swap(impl_->kept);
}

absl::StatusOr<std::shared_ptr<OutgoingSnapshot>> SnapshotStore::Prepare(
    raft::GroupId group, raft::NodeId peer, raft::Index at_least) {
  {
    const std::lock_guard lock(impl_->mutex);
    Kept* best = nullptr;
    for (const auto& entry : impl_->kept) {
      const raft::Index index = entry->info.meta.position.index;
      if (entry->group != group || index < at_least) continue;
      if (best == nullptr || best->info.meta.position.index < index) {
        best = entry.get();
      }
    }
    if (best != nullptr) return impl_->OutgoingTo(best, peer);
  }
  auto fresh = impl_->Open(group);
  if (fresh.ok()) fresh = impl_->Keep(*std::move(fresh));
  if (!fresh.ok()) return fresh.status();
  if ((*fresh)->info.meta.position.index < at_least) {
    return absl::UnavailableError(
        absl::StrCat("the state has not got to entry ", at_least.value(),
                     " yet, which made it a member"));
  }
  const std::lock_guard lock(impl_->mutex);
  return impl_->OutgoingTo(fresh->get(), peer);
}

absl::StatusOr<std::unique_ptr<SnapshotCursor>> SnapshotStore::OpenSnapshot(
    raft::NodeId to, const SnapshotRequest& request) {
  std::shared_ptr<Kept> entry;
  {
    const std::lock_guard lock(impl_->mutex);
    if (!impl_->serving.contains(request.group)) {
      return NotServing(request.group);
    }
    if (request.position.index) {
      entry = impl_->Find(request.group, request.position);
    }
  }
  if (entry == nullptr) {
    // States of equal positions are equal, so another node's snapshot goes on
    // from a view of ours that happens to stand there.
    auto fresh = impl_->Open(request.group);
    if (fresh.ok() && request.position.index &&
        (*fresh)->info.meta.position != request.position) {
      return absl::NotFoundError(
          absl::StrCat("group ", request.group.value(), ": the snapshot at ",
                       request.position.index.value(), " is not kept"));
    }
    if (fresh.ok()) fresh = impl_->Keep(*std::move(fresh));
    if (!fresh.ok()) return fresh.status();
    entry = *std::move(fresh);
  }
  std::unique_ptr<kv::SnapshotReader> reader;
  std::shared_ptr<OutgoingSnapshot> outgoing;
  {
    const std::lock_guard lock(impl_->mutex);
    ++entry->streams;
    entry->used_nanos = impl_->clock->MonotonicNanos();
    outgoing = impl_->OutgoingTo(entry.get(), to);
    const auto known = entry->readers.find(to);
    if (known != entry->readers.end()) {
      reader = std::move(known->second);
      entry->readers.erase(known);
    }
  }
  if (reader == nullptr) reader = entry->root->Fork();
  absl::Status status = reader->Seek(request.next_chunk, request.last_key);
  // From here on it ends as any stream does.
  auto cursor = std::make_unique<Cursor>(impl_, std::move(entry),
                                         std::move(reader), outgoing);
  if (!status.ok()) return status;
  return cursor;
}

void SnapshotStore::SetServing(raft::GroupId group, bool serving) {
  std::vector<std::shared_ptr<Kept>> dropped;
  const std::lock_guard lock(impl_->mutex);
  if (serving) {
    impl_->serving.insert(group);
    return;
  }
  impl_->serving.erase(group);
  // What it was, it may not have been rightly.
  auto gone = std::partition(impl_->kept.begin(), impl_->kept.end(),
                             [&](const auto& e) { return e->group != group; });
  dropped.assign(gone, impl_->kept.end());
  impl_->kept.erase(gone, impl_->kept.end());
}

bool SnapshotStore::Keeps(raft::GroupId group,
                          raft::LogPosition position) const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->Find(group, position) != nullptr;
}

void SnapshotStore::Expire() {
  const uint64_t now = impl_->clock->MonotonicNanos();
  std::vector<std::shared_ptr<Kept>> dropped;
  const std::lock_guard lock(impl_->mutex);
  auto gone = std::partition(
      impl_->kept.begin(), impl_->kept.end(), [&](const auto& entry) {
        return entry->streams > 0 || now - entry->used_nanos < kKeptIdleNanos;
      });
  dropped.assign(gone, impl_->kept.end());
  impl_->kept.erase(gone, impl_->kept.end());
}

void SnapshotStore::AddStats(raft::GroupId group, ReplicaStats* stats) const {
  const uint64_t now = impl_->clock->MonotonicNanos();
  const std::lock_guard lock(impl_->mutex);
  if (const auto sent = impl_->sent.find(group); sent != impl_->sent.end()) {
    stats->sent = sent->second;
  }
  for (const auto& entry : impl_->kept) {
    if (entry->group != group) continue;
    for (const auto& [peer, outgoing] : entry->outgoing) {
      if (outgoing->streams.load() == 0) continue;
      SnapshotTransferStats transfer;
      transfer.peer = peer;
      transfer.index = entry->info.meta.position.index;
      transfer.bytes = outgoing->bytes.load();
      transfer.keys = outgoing->keys.load();
      transfer.total_bytes = entry->info.bytes;
      transfer.total_keys = entry->info.keys;
      transfer.nanos = now - outgoing->begin_nanos;
      stats->sending.push_back(transfer);
    }
  }
}

}  // namespace kv739::server
