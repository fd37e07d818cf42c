// Unary methods on a completion queue: a pool of call objects that are armed,
// run, finished and armed again, with their messages.
//
// A pool keeps `armed` calls waiting for requests and grows up to `max_calls`
// while calls run. When no more than `armed` are left, requests are marked as
// too many, for the handler to refuse: they would wait inside gRPC without a
// bound otherwise. The objects are kept for reuse, without large values.
//
// Threads: everything in the loop thread except UnaryCall::Finish().
#ifndef KV739_SERVER_UNARY_CALL_H_
#define KV739_SERVER_UNARY_CALL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/async_unary_call.h>

#include <atomic>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "server/rpc_loop.h"

namespace kv739::server {

template <typename Request, typename Response>
class UnaryPool;

template <typename Request, typename Response>
class UnaryCall
    : public Event,
      public std::enable_shared_from_this<UnaryCall<Request, Response>> {
 public:
  using Pool = UnaryPool<Request, Response>;
  using Writer = grpc::ServerAsyncResponseWriter<Response>;

  explicit UnaryCall(Pool* pool) : pool_(pool), shared_(pool->shared()) {}

  // While the call runs.
  Request& request() { return request_; }
  Response& response() { return response_; }
  const grpc::ServerContext& context() const { return *context_; }
  RpcLoop* loop() { return pool_->loop(); }
  // Runs in the loop thread once the answer has left.
  void RunAfterwards(absl::AnyInvocable<void()> task) {
    afterwards_ = std::move(task);
  }

  // More calls run than may: answer that, at once.
  bool overloaded() const { return overloaded_; }

  // Sends the response or the error, once. Any thread, and at any time: after
  // the loop has ended it does nothing.
  void Finish(const grpc::Status& status) {
    OpPass pass(&shared_->gate);
    if (!pass) return;
    if (status.ok()) {
      writer_->Finish(response_, status, this);
    } else {
      writer_->FinishWithError(status, this);
    }
  }
  void AddTrailer(const std::string& key, const std::string& value) {
    OpPass pass(&shared_->gate);
    if (pass) context_->AddTrailingMetadata(key, value);
  }

  void Complete(bool ok) override {
    if (armed_) {
      armed_ = false;
      if (ok) {
        shared_->CallBegins();
        pool_->OnArrived(this);
      }
      return;
    }
    shared_->CallEnds();
    if (afterwards_) std::exchange(afterwards_, nullptr)();
    pool_->OnFinished(this);
  }

 protected:
  const std::shared_ptr<RpcShared>& shared() const { return shared_; }

 private:
  friend Pool;

  void Reset() {
    writer_.reset();
    context_.reset();
  }

  Pool* const pool_;  // outlives all events, not the object
  const std::shared_ptr<RpcShared> shared_;
  bool armed_ = false;
  bool overloaded_ = false;
  std::optional<grpc::ServerContext> context_;
  std::optional<Writer> writer_;
  Request request_;
  Response response_;
  absl::AnyInvocable<void()> afterwards_;
};

template <typename Request, typename Response>
class UnaryPool {
 public:
  using Call = UnaryCall<Request, Response>;
  // Asks gRPC for the next request of the method.
  using Arm = absl::AnyInvocable<void(grpc::ServerContext*, Request*,
                                      typename Call::Writer*,
                                      grpc::ServerCompletionQueue*, void* tag)>;
  // Answers, now or later, by Call::Finish().
  using Handle = absl::AnyInvocable<void(Call*)>;
  using Make = absl::AnyInvocable<std::shared_ptr<Call>(UnaryPool*)>;

  // `make` may give objects of a class of its own.
  UnaryPool(
      RpcLoop* loop, int armed, int max_calls, Arm arm, Handle handle,
      Make make = [](UnaryPool* pool) { return std::make_shared<Call>(pool); })
      : loop_(loop),
        armed_target_(armed),
        max_calls_(max_calls),
        arm_(std::move(arm)),
        handle_(std::move(handle)),
        make_(std::move(make)) {}

  void Start() {
    for (int i = 0; i < armed_target_; ++i) ArmOne();
  }
  // After the loop has ended: lets go of what belongs to gRPC.
  void Release() {
    for (const std::shared_ptr<Call>& call : calls_) call->Reset();
  }

  RpcLoop* loop() { return loop_; }
  const std::shared_ptr<RpcShared>& shared() { return loop_->shared(); }

 private:
  friend Call;
  static constexpr size_t kKeptResponseBytes = 1024;

  void ArmOne() {
    Call* call = nullptr;
    if (!idle_.empty()) {
      call = idle_.back();
      idle_.pop_back();
    } else if (static_cast<int>(calls_.size()) < max_calls_) {
      calls_.push_back(make_(this));
      call = calls_.back().get();
    } else {
      return;
    }
    OpPass pass(loop_->gate());
    if (!pass) return;
    call->context_.emplace();
    call->writer_.emplace(&*call->context_);
    call->request_.Clear();
    call->response_.Clear();
    call->armed_ = true;
    ++armed_;
    arm_(&*call->context_, &call->request_, &*call->writer_, loop_->queue(),
         call);
  }
  void OnArrived(Call* call) {
    --armed_;
    ++running_;
    call->overloaded_ = running_ > max_calls_ - armed_target_;
    ArmOne();
    handle_(call);
  }
  void OnFinished(Call* call) {
    --running_;
    call->Reset();
    // Clear() would keep the memory of the largest value ever answered.
    if (call->response_.ByteSizeLong() > kKeptResponseBytes) {
      Response().Swap(&call->response_);
    }
    idle_.push_back(call);
    if (armed_ < armed_target_) ArmOne();
  }

  RpcLoop* const loop_;
  const int armed_target_;
  const int max_calls_;
  Arm arm_;
  Handle handle_;
  Make make_;
  int armed_ = 0;
  int running_ = 0;
  std::vector<std::shared_ptr<Call>> calls_;
  std::vector<Call*> idle_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_UNARY_CALL_H_
