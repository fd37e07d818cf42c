#include "server/snapshot_fetcher.h"

#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/support/sync_stream.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kv/snapshot_chunk.h"
#include "raft/v1/raft.grpc.pb.h"
#include "server/credentials.h"
#include "server/grpc_status.h"
#include "server/snapshot_codec.h"

namespace kv739::server {
namespace {

namespace wire = ::raft::v1;

// A chunk of one record that is as large as any, and what is around it.
constexpr int kMaxPartBytes = kv::kMaxSnapshotRecordBytes + (1 << 20);
// How often it is looked whether a sender is silent.
constexpr absl::Duration kSilenceCheck = absl::Seconds(1);

int Millis(absl::Duration duration) {
  return static_cast<int>(absl::ToInt64Milliseconds(duration));
}

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address) {
  using Fetcher = GrpcSnapshotFetcher;
  grpc::ChannelArguments arguments;
  // Also how long the attempt to connect may take.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS,
                   Millis(Fetcher::kConnectTimeout));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, Millis(Fetcher::kKeepalive));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                   Millis(Fetcher::kKeepaliveTimeout));
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // A connection of its own.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(kMaxPartBytes);
  return grpc::CreateCustomChannel(address, MakePeerCredentials(), arguments);
}

}  // namespace

struct GrpcSnapshotFetcher::Job {
  raft::NodeId from;
  SnapshotRequest request;
  std::shared_ptr<SnapshotSink> sink;
  grpc::ClientContext context;
  // These are guarded by the fetcher's mutex.
  bool cancelled = false;
  bool silent = false;  // and broken off for that
  absl::Time reading_since = absl::InfiniteFuture();
};

GrpcSnapshotFetcher::GrpcSnapshotFetcher(Options options)
    : options_(std::move(options)) {
  for (int i = 0; i < kThreads; ++i) {
    threads_.emplace_back([this] { Work(); });
  }
}

GrpcSnapshotFetcher::~GrpcSnapshotFetcher() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
    for (const std::shared_ptr<Job>& job : waiting_) job->cancelled = true;
    for (const std::shared_ptr<Job>& job : running_) {
      job->cancelled = true;
      job->context.TryCancel();
    }
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void GrpcSnapshotFetcher::Fetch(raft::NodeId from, SnapshotRequest request,
                                std::shared_ptr<SnapshotSink> sink) {
  auto job = std::make_shared<Job>();
  job->from = from;
  job->request = std::move(request);
  job->sink = std::move(sink);
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(job));
  }
  changed_.notify_one();
}

void GrpcSnapshotFetcher::Cancel(const SnapshotSink* sink) {
  std::shared_ptr<Job> running;
  {
    const std::lock_guard lock(mutex_);
    for (const std::shared_ptr<Job>& job : waiting_) {
      if (job->sink.get() == sink) job->cancelled = true;
    }
    for (const std::shared_ptr<Job>& job : running_) {
      if (job->sink.get() != sink) continue;
      job->cancelled = true;
      running = job;
    }
  }
  if (running != nullptr) running->context.TryCancel();
  changed_.notify_all();
}

GrpcSnapshotFetcher::Stats GrpcSnapshotFetcher::stats() const {
  Stats stats;
  {
    const std::lock_guard lock(mutex_);
    stats.active = running_.size();
    stats.waiting = waiting_.size();
  }
  stats.completed = completed_.load();
  stats.failed = failed_.load();
  stats.received_bytes = received_bytes_.load();
  return stats;
}

std::shared_ptr<GrpcSnapshotFetcher::Job> GrpcSnapshotFetcher::TakeJob() {
  auto next = std::find_if(
      waiting_.begin(), waiting_.end(),
      [](const std::shared_ptr<Job>& job) { return job->cancelled; });
  if (next == waiting_.end()) {
    if (running_.size() >= kMaxFetches) return nullptr;
    next = waiting_.begin();
  }
  if (next == waiting_.end()) return nullptr;
  std::shared_ptr<Job> taken = std::move(*next);
  waiting_.erase(next);
  if (!taken->cancelled) running_.push_back(taken);
  return taken;
}

void GrpcSnapshotFetcher::EndSilentOnes() {
  const absl::Time now = absl::Now();
  for (const std::shared_ptr<Job>& job : running_) {
    if (now - job->reading_since < options_.max_silence) continue;
    job->silent = true;
    job->context.TryCancel();
  }
}

void GrpcSnapshotFetcher::Work() {
  for (;;) {
    std::shared_ptr<Job> job;
    bool cancelled;
    {
      std::unique_lock lock(mutex_);
      while ((job = TakeJob()) == nullptr) {
        if (over_) return;
        if (running_.empty()) {
          changed_.wait(lock);
        } else {
          changed_.wait_for(lock, absl::ToChronoMilliseconds(kSilenceCheck));
          EndSilentOnes();
        }
      }
      cancelled = job->cancelled;
    }
    // Another one watches over it; it may have slept while nothing ran.
    changed_.notify_one();
    const absl::Status status =
        cancelled ? absl::CancelledError("cancelled before it began")
                  : Run(job.get());
    ++(status.ok() ? completed_ : failed_);
    job->sink->OnEnd(status);
    {
      const std::lock_guard lock(mutex_);
      std::erase(running_, job);
    }
    changed_.notify_one();
  }
}

absl::Status GrpcSnapshotFetcher::Run(Job* job) {
  const std::string address = options_.address_of(job->from);
  if (address.empty()) {
    return absl::UnavailableError(
        absl::StrCat("node ", job->from.value(), " has no known address"));
  }
  wire::FetchSnapshotRequest request;
  request.set_cluster_id(options_.self.cluster_id);
  request.set_from(options_.self.from.value());
  request.set_to(job->from.value());
  request.set_from_incarnation(options_.self.incarnation);
  EncodeSnapshotRequest(job->request, &request);
  const std::unique_ptr<wire::Raft::Stub> stub =
      wire::Raft::NewStub(MakeChannel(address));
  const auto reader = stub->FetchSnapshot(&job->context, request);
  bool has_info = false;
  const absl::Status mine = ReadAll(job, reader.get(), &has_info);
  if (!mine.ok()) {
    job->context.TryCancel();
    wire::SnapshotPart rest;
    while (reader->Read(&rest)) {
    }
    reader->Finish();
    return mine;
  }
  absl::Status theirs = FromGrpcStatus(reader->Finish());
  const std::lock_guard lock(mutex_);
  job->reading_since = absl::InfiniteFuture();
  if (theirs.ok()) {
    return has_info ? theirs : absl::DataLossError("an empty answer");
  }
  if (job->cancelled) return absl::CancelledError("cancelled");
  if (job->silent) {
    return absl::UnavailableError(
        absl::StrCat(address, " has sent nothing for ",
                     absl::FormatDuration(options_.max_silence)));
  }
  // Nobody here wanted that: the sender is going down.
  if (absl::IsCancelled(theirs)) {
    theirs = absl::UnavailableError(theirs.message());
  }
  return absl::Status(theirs.code(),
                      absl::StrCat(address, ": ", theirs.message()));
}

// An error is the receiver's own; whatever the sender ends with is OK here.
template <typename Reader>
absl::Status GrpcSnapshotFetcher::ReadAll(Job* job, Reader* reader,
                                          bool* has_info) {
  wire::SnapshotPart part;
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      job->reading_since = absl::Now();
    }
    const bool more = reader->Read(&part);
    {
      const std::lock_guard lock(mutex_);
      if (more) job->reading_since = absl::InfiniteFuture();
    }
    if (!more) break;
    absl::Status status;
    if (*has_info == part.has_info()) {
      status = absl::DataLossError("a snapshot begins with what it is, once");
    } else if (part.has_info()) {
      absl::StatusOr<SnapshotInfo> info = DecodeSnapshotInfo(part.info());
      status = info.ok() ? job->sink->OnInfo(*info)
                         : absl::DataLossError(info.status().message());
    } else {
      received_bytes_ += part.chunk().size();
      status = job->sink->OnChunk(part.chunk());
    }
    if (!status.ok()) return status;
    *has_info = true;
  }
  return absl::OkStatus();
}

}  // namespace kv739::server
