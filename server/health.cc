#include "server/health.h"

#include <optional>
#include <utility>

namespace kv739::server {

using grpc::health::v1::HealthCheckRequest;

namespace {

constexpr int kArmedChecks = 4;
constexpr int kMaxChecks = 256;
constexpr int kArmedWatches = 2;

}  // namespace

// One watcher. At most one write is under way; changes meanwhile leave only
// the newest.
class HealthService::Watch {
 public:
  explicit Watch(HealthService* health)
      : health_(health),
        arrived_(this, &Watch::OnArrived),
        written_(this, &Watch::OnWritten),
        finished_(this, &Watch::OnFinished),
        done_(this, &Watch::OnDone) {}

  void Arm() {
    OpPass pass(health_->loop_->gate());
    if (!pass) return;
    context_.emplace();
    // A watcher that goes away is noticed by this alone: nothing is written
    // to it for days.
    context_->AsyncNotifyWhenDone(&done_);
    writer_.emplace(&*context_);
    health_->service_.RequestWatch(&*context_, &request_, &*writer_,
                                   health_->loop_->queue(),
                                   health_->loop_->queue(), &arrived_);
  }
  void Update() {
    if (!open_ || writing_ || finishing_) return;
    const Response::ServingStatus status =
        health_->StatusOf(request_.service());
    if (told_ == status) return;
    OpPass pass(health_->loop_->gate());
    if (!pass) return;
    told_ = status;
    writing_ = true;
    response_.set_status(status);
    writer_->Write(response_, &written_);
  }
  void Finish(grpc::Status status) {
    if (!open_ || finishing_) return;
    if (writing_) {
      finish_with_ = std::move(status);
      return;
    }
    OpPass pass(health_->loop_->gate());
    if (!pass) return;
    finishing_ = true;
    writer_->Finish(status, &finished_);
  }
  void Release() {
    writer_.reset();
    context_.reset();
  }

 private:
  class Tag : public Event {
   public:
    Tag(Watch* watch, void (Watch::*method)(bool))
        : watch_(watch), method_(method) {}
    void Complete(bool ok) override { (watch_->*method_)(ok); }

   private:
    Watch* const watch_;
    void (Watch::*const method_)(bool);
  };

  void OnArrived(bool ok) {
    if (!ok) {
      // Never arrived: OnDone() does not come.
      Remove();
      return;
    }
    open_ = true;
    health_->ArmWatch();
    if (health_->watches_.size() > kMaxWatches) {
      Finish(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                          "too many watchers"));
      return;
    }
    Update();
  }
  void OnWritten(bool) {
    writing_ = false;
    if (finish_with_.has_value()) Finish(*std::move(finish_with_));
    Update();
  }
  void OnFinished(bool) {
    finish_seen_ = true;
    RemoveIfOver();
  }
  void OnDone(bool) {
    done_seen_ = true;
    if (!finishing_) Finish(grpc::Status::CANCELLED);
    RemoveIfOver();
  }
  void RemoveIfOver() {
    if (finish_seen_ && done_seen_) Remove();
  }
  void Remove() {
    Release();
    // A raw pointer finds its owner.
    for (auto it = health_->watches_.begin(); it != health_->watches_.end();
         ++it) {
      if (it->get() != this) continue;
      health_->watches_.erase(it);
      return;
    }
  }

  HealthService* const health_;
  Tag arrived_, written_, finished_, done_;
  std::optional<grpc::ServerContext> context_;
  std::optional<grpc::ServerAsyncWriter<Response>> writer_;
  HealthCheckRequest request_;
  Response response_;
  std::optional<Response::ServingStatus> told_;
  std::optional<grpc::Status> finish_with_;
  bool open_ = false;
  bool writing_ = false;
  bool finishing_ = false;
  bool finish_seen_ = false;
  bool done_seen_ = false;
};

HealthService::HealthService(RpcLoop* loop)
    : loop_(loop),
      check_(
          loop, kArmedChecks, kMaxChecks,
          [this](auto* context, auto* request, auto* writer, auto* queue,
                 void* tag) {
            service_.RequestCheck(context, request, writer, queue, queue, tag);
          },
          [this](CheckPool::Call* call) { Check(call); }) {}

HealthService::~HealthService() = default;

void HealthService::Start() {
  check_.Start();
  for (int i = 0; i < kArmedWatches; ++i) ArmWatch();
}

void HealthService::Release() {
  check_.Release();
  for (const std::unique_ptr<Watch>& watch : watches_) watch->Release();
}

void HealthService::SetStatus(const std::string& service, bool serving) {
  auto [it, added] = serving_.try_emplace(service, serving);
  if (!added && it->second == serving) return;
  it->second = serving;
  for (const std::unique_ptr<Watch>& watch : watches_) watch->Update();
}

void HealthService::BeginStop() {
  for (const std::unique_ptr<Watch>& watch : watches_) {
    watch->Finish(
        grpc::Status(grpc::StatusCode::UNAVAILABLE, "server is stopping"));
  }
}

void HealthService::Check(CheckPool::Call* call) {
  const Response::ServingStatus status = StatusOf(call->request().service());
  if (status == Response::SERVICE_UNKNOWN) {
    call->Finish(
        grpc::Status(grpc::StatusCode::NOT_FOUND, "no service of that name"));
    return;
  }
  call->response().set_status(status);
  call->Finish(grpc::Status::OK);
}

void HealthService::ArmWatch() {
  auto watch = std::make_unique<Watch>(this);
  Watch* raw = watch.get();
  watches_.insert(std::move(watch));
  raw->Arm();
}

HealthService::Response::ServingStatus HealthService::StatusOf(
    const std::string& service) const {
  auto it = serving_.find(service);
  if (it == serving_.end()) return Response::SERVICE_UNKNOWN;
  return it->second ? Response::SERVING : Response::NOT_SERVING;
}

}  // namespace kv739::server
