#include "server/snapshot_receiver.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/logging.h"
#include "server/replica.h"
#include "server/snapshot_replica.h"

namespace kv739::server {
namespace {

// What does not go in after so many tries is fetched anew.
constexpr uint64_t kMaxCommitFailures = 10;

// Of a stream, unique in the process.
uint64_t NewId() {
  static std::atomic<uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace

// ---- what has arrived ----

absl::Status IncomingSnapshot::Begin(const SnapshotInfo& info) {
  const std::lock_guard lock(mutex_);
  if (closed_) return absl::CancelledError("not wanted any more");
  total_bytes.store(info.bytes);
  total_keys.store(info.keys);
  if (writer_ != nullptr && position_ == info.meta.position) {
    return absl::OkStatus();
  }
  writer_.reset();  // before the next one: there is one writer of a group
  bytes.store(0);
  keys.store(0);
  auto writer = kv::SnapshotWriter::Create(engine_, group_, dir_);
  if (!writer.ok()) return writer.status();
  writer_ = *std::move(writer);
  position_ = info.meta.position;
  return absl::OkStatus();
}

absl::Status IncomingSnapshot::Add(absl::string_view chunk) {
  const std::lock_guard lock(mutex_);
  if (closed_) return absl::CancelledError("not wanted any more");
  if (writer_ == nullptr) {
    return absl::FailedPreconditionError("a chunk before its snapshot's name");
  }
  bytes.fetch_add(chunk.size());
  all_bytes.fetch_add(chunk.size());
  const uint64_t before = writer_->next_chunk();
  absl::Status status = writer_->Add(chunk);
  if (status.ok() && writer_->position() != position_) {
    status = absl::FailedPreconditionError("chunk of another snapshot");
  }
  keys.store(writer_->received().records);
  if (status.ok() && writer_->next_chunk() > before) moves.fetch_add(1);
  return status;
}

absl::Status IncomingSnapshot::Commit() {
  const std::lock_guard lock(mutex_);
  if (closed_ || writer_ == nullptr) {
    return absl::CancelledError("not wanted any more");
  }
  return writer_->Commit();
}

void IncomingSnapshot::Close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  writer_.reset();
}

bool IncomingSnapshot::Continue(raft::LogPosition position,
                                SnapshotRequest* request) const {
  const std::lock_guard lock(mutex_);
  if (writer_ == nullptr || (position.index && position != position_)) {
    return false;
  }
  request->position = position_;
  request->next_chunk = writer_->next_chunk();
  request->last_key = writer_->last_key();
  return true;
}

bool IncomingSnapshot::complete() const {
  const std::lock_guard lock(mutex_);
  return writer_ != nullptr && writer_->complete();
}

raft::LogPosition IncomingSnapshot::position() const {
  const std::lock_guard lock(mutex_);
  return position_;
}

// ---- one stream ----

class SnapshotReceiver::Sink : public SnapshotSink {
 public:
  Sink(std::shared_ptr<IncomingSnapshot> incoming, raft::GroupId group,
       raft::LogPosition wanted, uint64_t stream,
       std::function<void(raft::GroupId, ReplicaCall)> post)
      : incoming_(std::move(incoming)),
        group_(group),
        wanted_(wanted),
        stream_(stream),
        post_(std::move(post)) {}

  absl::Status OnInfo(const SnapshotInfo& info) override {
    if (wanted_.index && info.meta.position != wanted_) {
      return absl::InvalidArgumentError(
          absl::StrCat("got the snapshot at ", info.meta.position.index.value(),
                       " and asked for that at ", wanted_.index.value()));
    }
    return incoming_->Begin(info);
  }
  absl::Status OnChunk(absl::string_view chunk) override {
    return incoming_->Add(chunk);
  }
  void OnEnd(const absl::Status& status) override {
    post_(group_, [stream = stream_, status](Replica& replica, Turn& turn) {
      replica.snapshots().receiver().Ended(stream, status, turn.now_nanos);
    });
  }

 private:
  const std::shared_ptr<IncomingSnapshot> incoming_;
  const raft::GroupId group_;
  const raft::LogPosition wanted_;  // none: any
  const uint64_t stream_;
  const std::function<void(raft::GroupId, ReplicaCall)> post_;
};

// ---- the replica's side ----

SnapshotReceiver::SnapshotReceiver(const SnapshotContext* context,
                                   raft::GroupId group)
    : context_(context), group_(group) {}

SnapshotReceiver::~SnapshotReceiver() { Drop(); }

raft::LogPosition SnapshotReceiver::position() const {
  if (incoming_ == nullptr) return raft::LogPosition();
  if (wanted_.position.index) return wanted_.position;
  return sink_ == nullptr ? incoming_->position() : raft::LogPosition();
}

void SnapshotReceiver::Offer(raft::NodeId from, const raft::SnapshotMeta& meta,
                             uint64_t now) {
  if (context_->fetcher == nullptr) return;
  latest_ = Offered{from, meta.position};
  if (state_ == State::kIdle) return Begin(now);
  if (state_ == State::kComplete) return;
  // Thrown away, and the pause before the next one is not over.
  if (incoming_ == nullptr) return;
  if (meta.position == wanted_.position) {
    wanted_.from = from;
    return;
  }
  if (!Stalled(now)) return;
  if (state_ == State::kPausing) return Begin(now);
  if (std::exchange(replace_, true)) return;
  context_->fetcher->Cancel(sink_.get());
}

void SnapshotReceiver::OfferNewest(raft::NodeId from, uint64_t now) {
  if (context_->fetcher == nullptr) return;
  latest_ = Offered{from, raft::LogPosition()};
  if (state_ == State::kIdle) return Begin(now);
  if (state_ == State::kPausing) wanted_.from = from;
}

void SnapshotReceiver::Begin(uint64_t now) {
  wanted_ = *latest_;
  replace_ = false;
  failures_ = 0;
  pause_ = kFirstPauseNanos;
  begun_at_ = now;
  if (incoming_ == nullptr) {
    incoming_ = std::make_shared<IncomingSnapshot>(context_->engine, group_,
                                                   context_->install_dir);
  }
  LogInfo("group ", group_.value(), ": fetching a snapshot at ",
          wanted_.position.index.value(), " from node ",
          absl::Hex(wanted_.from.value()));
  OpenStream(now);
}

void SnapshotReceiver::OpenStream(uint64_t now) {
  SnapshotRequest request;
  request.group = group_;
  request.position = wanted_.position;
  // For "the newest" the one that has begun counts until it is thrown away.
  if (incoming_->Continue(wanted_.position, &request)) {
    wanted_.position = request.position;
  }
  state_ = State::kFetching;
  moves_ = incoming_->moves.load();
  moved_at_ = now;
  stream_ = NewId();
  sink_ = std::make_shared<Sink>(incoming_, group_, wanted_.position, stream_,
                                 context_->post);
  context_->fetcher->Fetch(wanted_.from, std::move(request), sink_);
}

bool SnapshotReceiver::Stalled(uint64_t now) {
  if (const uint64_t moves = incoming_->moves.load(); moves != moves_) {
    moves_ = moves;
    moved_at_ = now;
  }
  return failures_ > 0 || now - moved_at_ >= kStalledNanos;
}

void SnapshotReceiver::Ended(uint64_t stream, const absl::Status& status,
                             uint64_t now) {
  if (sink_ == nullptr || stream_ != stream) return;
  sink_.reset();
  if (incoming_->complete()) {
    state_ = State::kComplete;
    resume_at_ = 0;
    return;
  }
  ++counts_.failures;
  const bool moved = incoming_->moves.load() != moves_;
  LogInfo("group ", group_.value(), ": the stream of the snapshot at ",
          position().index.value(), " ended: ", status.ToString());
  if (std::exchange(replace_, false)) return Begin(now);
  if (moved) {
    failures_ = 0;
    pause_ = kFirstPauseNanos;
  } else {
    ++failures_;
  }
  // The same again brings the same end: whatever is offered then is begun anew.
  const bool anew = absl::IsNotFound(status) ||
                    absl::IsFailedPrecondition(status) ||
                    absl::IsInvalidArgument(status);
  if (anew) {
    Discard();
    latest_.reset();
  }
  Pause(now);
}

void SnapshotReceiver::Pause(uint64_t now) {
  state_ = State::kPausing;
  resume_at_ = now + pause_;
  pause_ = std::min(2 * pause_, kLongestPauseNanos);
}

void SnapshotReceiver::Tick(uint64_t now) {
  if (state_ != State::kPausing || now < resume_at_) return;
  if (incoming_ == nullptr) {  // thrown away: the next offer begins
    state_ = State::kIdle;
    return;
  }
  OpenStream(now);
}

// Files go in the background, before anything that is asked of it later.
void SnapshotReceiver::Discard() {
  if (incoming_ == nullptr) return;
  counts_.bytes += incoming_->all_bytes.load();
  context_->background->Run(
      [incoming = std::move(incoming_)] { incoming->Close(); });
  incoming_ = nullptr;
}

void SnapshotReceiver::Drop() {
  if (state_ == State::kIdle) return;
  if (sink_ != nullptr) context_->fetcher->Cancel(sink_.get());
  sink_.reset();
  latest_.reset();
  replace_ = false;
  Discard();
  state_ = State::kIdle;
}

void SnapshotReceiver::Retry(uint64_t now) {
  ++counts_.failures;
  if (++failures_ > kMaxCommitFailures) return Drop();
  resume_at_ = now + pause_;
  pause_ = std::min(2 * pause_, kLongestPauseNanos);
}

void SnapshotReceiver::Done(uint64_t now) {
  ++counts_.done;
  counts_.nanos += now - begun_at_;
  Drop();
}

void SnapshotReceiver::AddStats(uint64_t now, ReplicaStats* stats) const {
  stats->received = counts_;
  if (incoming_ == nullptr) return;
  stats->received.bytes += incoming_->all_bytes.load();
  SnapshotTransferStats transfer;
  transfer.peer = wanted_.from;
  transfer.index = wanted_.position.index;
  transfer.bytes = incoming_->bytes.load();
  transfer.keys = incoming_->keys.load();
  transfer.total_bytes = incoming_->total_bytes.load();
  transfer.total_keys = incoming_->total_keys.load();
  transfer.nanos = now > begun_at_ ? now - begun_at_ : 0;
  stats->receiving = transfer;
}

}  // namespace kv739::server
