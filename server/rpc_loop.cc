#include "server/rpc_loop.h"

#include <grpc/support/time.h>

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"

namespace kv739::server {
namespace {

// A task that came from elsewhere; frees itself.
class PostedTask : public Event {
 public:
  explicit PostedTask(absl::AnyInvocable<void()> task)
      : task_(std::move(task)) {}
  void Set(grpc::CompletionQueue* queue) {
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
  const std::lock_guard lock(mutex_);
  ++calls_;
}

void RpcShared::CallEnds() {
  const std::lock_guard lock(mutex_);
  if (--calls_ == 0) none_left_.notify_all();
}

bool RpcShared::WaitForCalls(absl::Time deadline) {
  // As a duration, since the wall clock may jump meanwhile.
  const absl::Duration patience =
      std::min(deadline - absl::Now(), absl::Hours(24));
  std::unique_lock lock(mutex_);
  return none_left_.wait_for(lock, absl::ToChronoMilliseconds(patience),
                             [this] { return calls_ == 0; });
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
  auto posted = std::make_unique<PostedTask>(std::move(task));
  OpPass pass(gate());
  if (pass) posted.release()->Set(queue_.get());  // frees itself
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
      gate()->Observe();
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
