#include "server/rpc_loop.h"

#include <grpc/support/time.h>

#include <utility>

namespace kv739::server {
namespace {

// A task that came from elsewhere; frees itself.
class PostedTask : public Event {
 public:
  PostedTask(grpc::CompletionQueue* queue, absl::AnyInvocable<void()> task)
      : task_(std::move(task)) {
    alarm_.Set(queue, gpr_now(GPR_CLOCK_MONOTONIC), this);
  }
  void Complete(bool) override {
    std::unique_ptr<PostedTask> self(this);
    task_();
  }

 private:
  absl::AnyInvocable<void()> task_;
  grpc::Alarm alarm_;
};

}  // namespace

void OpGate::Close() {
  closed_.store(true);
  for (int64_t inside = inside_.load(); inside != 0; inside = inside_.load()) {
    inside_.wait(inside);
  }
}

void RpcShared::CallBegins() {
  absl::MutexLock lock(&mutex_);
  ++calls_;
}

void RpcShared::CallEnds() {
  absl::MutexLock lock(&mutex_);
  --calls_;
}

bool RpcShared::WaitForCalls(absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithDeadline(
      absl::Condition(
          +[](int64_t* calls) { return *calls == 0; }, &calls_),
      deadline);
}

class RpcLoop::TickEvent : public Event {
 public:
  explicit TickEvent(RpcLoop* loop)
      : loop_(loop), due_(gpr_now(GPR_CLOCK_MONOTONIC)) {}

  void Set() {
    due_ =
        gpr_time_add(due_, gpr_time_from_millis(loop_->tick_ms_, GPR_TIMESPAN));
    // A late tick is not made up for: many at once would look like a leader
    // that was silent for as many election timeouts.
    const gpr_timespec now = gpr_now(GPR_CLOCK_MONOTONIC);
    if (gpr_time_cmp(due_, now) < 0) due_ = now;
    alarm_.Set(loop_->queue_.get(), due_, this);
  }
  void Cancel() { alarm_.Cancel(); }
  void Complete(bool ok) override { loop_->OnTick(ok); }

 private:
  RpcLoop* const loop_;
  gpr_timespec due_;
  grpc::Alarm alarm_;
};

RpcLoop::RpcLoop(std::unique_ptr<grpc::ServerCompletionQueue> queue,
                 std::shared_ptr<RpcShared> shared, Clock* clock)
    : queue_(std::move(queue)), shared_(std::move(shared)), clock_(clock) {}

RpcLoop::~RpcLoop() {
  if (thread_.joinable()) Shutdown();
}

void RpcLoop::Start(RequestHandler* handler, uint32_t tick_ms,
                    absl::AnyInvocable<void()> on_tick) {
  handler_ = handler;
  tick_ms_ = tick_ms;
  on_tick_ = std::move(on_tick);
  tick_ = std::make_unique<TickEvent>(this);
  SetTickAlarm();
  thread_ = std::thread([this] { Run(); });
}

void RpcLoop::Shutdown() {
  gate()->Close();
  if (tick_ != nullptr) tick_->Cancel();
  queue_->Shutdown();
  if (thread_.joinable()) {
    thread_.join();
  } else {
    void* tag;
    bool ok;
    while (queue_->Next(&tag, &ok)) static_cast<Event*>(tag)->Complete(ok);
  }
}

void RpcLoop::Post(absl::AnyInvocable<void()> task) {
  OpPass pass(gate());
  // Freed by its own event.
  if (pass) new PostedTask(queue_.get(), std::move(task));
}

void RpcLoop::SetTickAlarm() {
  OpPass pass(gate());
  if (pass) tick_->Set();
}

void RpcLoop::OnTick(bool ok) {
  if (!ok) return;  // cancelled: the loop ends
  tick_due_ = true;
  SetTickAlarm();
}

void RpcLoop::Run() {
  void* tag;
  bool ok;
  while (queue_->Next(&tag, &ok)) {
    int events = 0;
    do {
      static_cast<Event*>(tag)->Complete(ok);
    } while (++events < kMaxEventsPerTurn &&
             queue_->AsyncNext(&tag, &ok, gpr_inf_past(GPR_CLOCK_MONOTONIC)) ==
                 grpc::CompletionQueue::GOT_EVENT);
    EndTurn();
  }
}

// Messages before the tick: a heartbeat that is already here must count
// before the clock moves on.
void RpcLoop::EndTurn() {
  for (PeerBatch& batch : peer_batches_) {
    handler_->OnPeerMessages(batch.from, std::move(batch.messages));
  }
  peer_batches_.clear();
  if (tick_due_) {
    tick_due_ = false;
    handler_->Tick();
    on_tick_();
  }
  if (!operations_.empty()) {
    // The next turn is likely to be as large as this one.
    std::vector<Operation> operations;
    operations.reserve(operations_.size());
    operations.swap(operations_);
    handler_->Submit(std::move(operations));
  }
}

}  // namespace kv739::server
