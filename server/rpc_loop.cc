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
  tick_due_at_ = gpr_now(GPR_CLOCK_MONOTONIC);
  SetNextTick();
  thread_ = std::thread([this] { Run(); });
}

void RpcLoop::Shutdown() {
  gate()->Close();
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

void RpcLoop::SetNextTick() {
  tick_due_at_ =
      gpr_time_add(tick_due_at_, gpr_time_from_millis(tick_ms_, GPR_TIMESPAN));
  // A late tick is not made up for: many at once would look like a leader
  // that was silent for as many election timeouts.
  const gpr_timespec now = gpr_now(GPR_CLOCK_MONOTONIC);
  if (gpr_time_cmp(tick_due_at_, now) < 0) tick_due_at_ = now;
}

// The tick is the deadline of the wait: an alarm of gRPC's would wake two of
// its timer threads for each.
void RpcLoop::Run() {
  using Queue = grpc::CompletionQueue;
  const gpr_timespec past = gpr_inf_past(GPR_CLOCK_MONOTONIC);
  const gpr_timespec never = gpr_inf_future(GPR_CLOCK_MONOTONIC);
  void* tag;
  bool ok;
  while (true) {
    // Ticks have no place in a queue that is shut down.
    const gpr_timespec until = gate()->closed() ? never : tick_due_at_;
    Queue::NextStatus status = queue_->AsyncNext(&tag, &ok, until);
    if (status == Queue::SHUTDOWN) return;
    for (int events = 0; status == Queue::GOT_EVENT; ++events) {
      gate()->Observe();
      static_cast<Event*>(tag)->Complete(ok);
      if (events + 1 == kMaxEventsPerTurn) break;
      status = queue_->AsyncNext(&tag, &ok, past);
    }
    if (!gate()->closed() &&
        gpr_time_cmp(gpr_now(GPR_CLOCK_MONOTONIC), tick_due_at_) >= 0) {
      tick_due_ = true;
      SetNextTick();
    }
    EndTurn();
  }
}

void RpcLoop::EndTurn() {
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
