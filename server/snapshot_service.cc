#include "server/snapshot_service.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/async_stream.h>

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/grpc_status.h"
#include "server/snapshot_codec.h"

namespace kv739::server {

namespace wire = ::raft::v1;

// One call. The loop thread accepts and ends it; its own thread runs Run().
class SnapshotService::Send : public std::enable_shared_from_this<Send> {
 public:
  explicit Send(SnapshotService* service)
      : service_(service),
        shared_(service->loop_->shared()),
        accepted_tag_(this, &Send::OnAccepted),
        over_tag_(this, &Send::OnOver),
        written_tag_(this, &Send::OnWritten),
        finished_tag_(this, &Send::OnFinished) {}

  void Arm() {
    OpPass pass(&shared_->gate);
    if (!pass) return;
    context_.emplace();
    writer_.emplace(&*context_);
    context_->AsyncNotifyWhenDone(&over_tag_);
    grpc::ServerCompletionQueue* queue = service_->loop_->queue();
    service_->service_->RequestFetchSnapshot(&*context_, &request_, &*writer_,
                                             queue, queue, &accepted_tag_);
  }
  // Ends it before its time; what waits is dropped. Loop thread.
  void Break(const absl::Status& status) {
    if (!open_) return;
    {
      const std::lock_guard lock(mutex_);
      if (broken_) return;
      broken_ = true;
      part_.reset();
      if (!result_.has_value()) result_ = ToGrpcStatus(status);
    }
    changed_.notify_all();
    Pump();
  }
  // Reads and sends all of it. Its own thread.
  void Run() {
    const absl::Status status = Transfer();
    if (!status.ok()) ++service_->failed_;
    --service_->active_;  // before the receiver may come again
    {
      const std::lock_guard lock(mutex_);
      if (!result_.has_value()) result_ = ToGrpcStatus(status);
    }
    Pump();
  }
  // After the loop has ended, or when the call has.
  void Release() {
    writer_.reset();
    context_.reset();
  }

  PeerIdentity identity() const {
    return {request_.cluster_id(), raft::NodeId(request_.from()),
            raft::NodeId(request_.to()), request_.from_incarnation()};
  }

 private:
  class Tag : public Event {
   public:
    using Method = void (Send::*)(bool ok);
    Tag(Send* send, Method method) : send_(send), method_(method) {}
    void Complete(bool ok) override { (send_->*method_)(ok); }

   private:
    Send* const send_;
    const Method method_;
  };

  void OnAccepted(bool ok) {
    if (!ok) {  // no call ever came, so nothing else will
      service_->sends_.erase(shared_from_this());
      return;
    }
    open_ = true;
    service_->Arm();
    const absl::Status status = service_->Admit(shared_from_this());
    if (!status.ok()) Break(status);
  }
  // The receiver has gone, or the call has ended.
  void OnOver(bool) {
    over_ = true;
    Break(absl::CancelledError("the receiver has gone"));
    EndIfOver();
  }
  void OnWritten(bool ok) {
    {
      const std::lock_guard lock(mutex_);
      writing_ = false;
      if (ok) {
        written_bytes_ += part_bytes_;
        service_->sent_bytes_ += part_bytes_;
      }
    }
    changed_.notify_all();
    if (!ok) Break(absl::CancelledError("the receiver has gone"));
    Pump();
  }
  void OnFinished(bool) {
    finished_ = true;
    EndIfOver();
  }
  void EndIfOver() {
    if (!finished_ || !over_) return;
    const std::shared_ptr<Send> self = shared_from_this();
    Release();
    service_->sends_.erase(self);
  }

  // Starts what is to be done next with the call. Any thread.
  void Pump() {
    OpPass pass(&shared_->gate);
    if (!pass) return;
    std::optional<wire::SnapshotPart> part;
    grpc::Status result;
    {
      const std::lock_guard lock(mutex_);
      if (writing_ || finishing_) return;
      if (part_.has_value()) {
        part = std::exchange(part_, std::nullopt);
        part_bytes_ = part->chunk().size();
        writing_ = true;
      } else if (result_.has_value()) {
        finishing_ = true;
        result = *result_;
      } else {
        return;
      }
    }
    if (!part.has_value()) {
      writer_->Finish(result, &finished_tag_);
      return;
    }
    writer_->Write(*part, &written_tag_);  // copies it
    // There is room for the next one now.
    part.reset();
    changed_.notify_all();
  }

  absl::Status Transfer() {
    absl::StatusOr<SnapshotRequest> request = DecodeSnapshotRequest(request_);
    if (!request.ok()) return request.status();
    absl::StatusOr<std::unique_ptr<SnapshotCursor>> cursor =
        service_->provider_->OpenSnapshot(raft::NodeId(request_.from()),
                                          *request);
    if (!cursor.ok()) return cursor.status();
    wire::SnapshotPart part;
    EncodeSnapshotInfo((*cursor)->info(), part.mutable_info());
    Offer(std::move(part));
    for (;;) {
      absl::Status status =
          Wait((*cursor).get(), [this] { return !part_.has_value(); });
      if (!status.ok()) return status;
      std::string chunk;
      const absl::StatusOr<bool> more = (*cursor)->Next(&chunk);
      if (!more.ok()) return more.status();
      if (!*more) break;
      status = WaitForRate(chunk.size());
      if (!status.ok()) return status;
      wire::SnapshotPart next;
      next.set_chunk(std::move(chunk));
      Offer(std::move(next));
    }
    return Wait((*cursor).get(),
                [this] { return !part_.has_value() && !writing_; });
  }

  void Offer(wire::SnapshotPart part) {
    {
      const std::lock_guard lock(mutex_);
      if (broken_) return;
      part_ = std::move(part);
    }
    Pump();
  }

  // Until the condition holds or the call is over, telling what has left.
  template <typename Condition>
  absl::Status Wait(SnapshotCursor* cursor, Condition condition) {
    uint64_t written = 0;
    bool in_time;
    bool broken;
    {
      std::unique_lock lock(mutex_);
      in_time = changed_.wait_for(
          lock, absl::ToChronoMilliseconds(service_->options_.max_stall),
          [&] { return broken_ || condition(); });
      broken = broken_;
      std::swap(written, written_bytes_);
    }
    if (written > 0) cursor->Sent(written);
    if (broken) return absl::CancelledError("broken off");
    if (in_time) return absl::OkStatus();
    // A write under way would hold the end of the call back.
    service_->loop_->Post([self = shared_from_this()] {
      if (self->context_.has_value()) self->context_->TryCancel();
    });
    return absl::UnavailableError("the receiver takes nothing");
  }

  absl::Status WaitForRate(uint64_t bytes) {
    const uint64_t nanos =
        service_->rate_.Take(bytes, service_->loop_->now_nanos());
    std::unique_lock lock(mutex_);
    if (nanos > 0) {
      changed_.wait_for(lock, std::chrono::nanoseconds(nanos),
                        [this] { return broken_; });
    }
    return broken_ ? absl::CancelledError("broken off") : absl::OkStatus();
  }

  SnapshotService* const service_;  // outlives all events and threads
  const std::shared_ptr<RpcShared> shared_;
  Tag accepted_tag_, over_tag_, written_tag_, finished_tag_;
  std::optional<grpc::ServerContext> context_;
  std::optional<grpc::ServerAsyncWriter<wire::SnapshotPart>> writer_;
  wire::FetchSnapshotRequest request_;

  // Loop thread.
  bool open_ = false;
  bool over_ = false;
  bool finished_ = false;

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::optional<wire::SnapshotPart> part_;  // the next to be written
  bool writing_ = false;
  uint64_t part_bytes_ = 0;     // being written
  uint64_t written_bytes_ = 0;  // and not told to the cursor
  bool broken_ = false;
  std::optional<grpc::Status> result_;  // to finish with
  bool finishing_ = false;
};

SnapshotService::SnapshotService(RpcLoop* loop,
                                 wire::Raft::AsyncService* service,
                                 CheckCaller check_caller, Options options)
    : loop_(loop),
      service_(service),
      check_caller_(std::move(check_caller)),
      options_(options),
      rate_(options.bytes_per_second) {}

SnapshotService::~SnapshotService() = default;

void SnapshotService::Start(SnapshotProvider* provider) {
  provider_ = provider;
  for (int i = 0; provider != nullptr && i < kMaxSends; ++i) {
    threads_.emplace_back([this] { Work(); });
  }
  for (int i = 0; i < kArmedCalls; ++i) Arm();
}

void SnapshotService::Arm() {
  auto send = std::make_shared<Send>(this);
  sends_.insert(send);
  send->Arm();
}

absl::Status SnapshotService::Admit(const std::shared_ptr<Send>& send) {
  absl::Status status = check_caller_(send->identity());
  if (status.ok() && provider_ == nullptr) {
    status = absl::UnavailableError("there are no snapshots here");
  }
  if (status.ok() && stopping_) {
    status = absl::UnavailableError("server is stopping");
  }
  if (status.ok() && active_.load() >= kMaxSends) {
    status = absl::UnavailableError(
        absl::StrCat(kMaxSends, " snapshots are being sent already"));
  }
  if (!status.ok()) {
    ++refused_;
    return status;
  }
  ++opened_;
  ++active_;
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(send);
  }
  changed_.notify_one();
  return absl::OkStatus();
}

void SnapshotService::Work() {
  for (;;) {
    std::shared_ptr<Send> send;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return over_ || !waiting_.empty(); });
      if (over_) return;
      send = std::move(waiting_.front());
      waiting_.pop_front();
    }
    send->Run();
  }
}

void SnapshotService::BeginStop() {
  stopping_ = true;
  for (const std::shared_ptr<Send>& send : sends_) {
    send->Break(absl::UnavailableError("server is stopping"));
  }
}

void SnapshotService::Release() {
  // The gate is closed: this only wakes the threads.
  BeginStop();
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
    waiting_.clear();
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  for (const std::shared_ptr<Send>& send : sends_) send->Release();
  sends_.clear();
}

SnapshotService::Stats SnapshotService::stats() const {
  Stats stats;
  stats.active = static_cast<uint64_t>(active_.load());
  stats.opened = opened_.load();
  stats.refused = refused_.load();
  stats.failed = failed_.load();
  stats.sent_bytes = sent_bytes_.load();
  return stats;
}

}  // namespace kv739::server
