// One completion queue and the one thread that serves it: requests of
// clients and the tick.
//
// A turn takes everything that is there (at most kMaxEventsPerTurn), gathers
// operations, and hands them over together at its end: that is what makes
// batches without ever waiting for one.
//
// Threads: the methods of Turn and everything marked "loop thread" belong to
// the loop's thread. Answers start gRPC operations from any thread; OpGate
// keeps them from touching a queue that is shut down.
#ifndef KV739_SERVER_RPC_LOOP_H_
#define KV739_SERVER_RPC_LOOP_H_

#include <grpc/support/time.h>
#include <grpcpp/alarm.h>
#include <grpcpp/completion_queue.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "server/clock.h"
#include "server/request_handler.h"

namespace kv739::server {

// What a tag of the completion queue points to.
class Event {
 public:
  virtual ~Event() = default;
  // Loop thread.
  virtual void Complete(bool ok) = 0;
};

// Starting a gRPC operation on a queue that was shut down aborts the process,
// and answers come from threads that know nothing of it. So whoever starts an
// operation enters here first, and the queue is shut down after Close().
class OpGate {
 public:
  // False: closed, start nothing. True: call Leave() after the start.
  bool Enter() {
    inside_.fetch_add(1);
    if (!closed_.load()) return true;
    Leave();
    return false;
  }
  void Leave() {
    if (inside_.fetch_sub(1) == 1 && closed_.load()) inside_.notify_all();
  }
  // What was written before an Enter() is seen after this, once the event of
  // the operation has come.
  void Observe() const { (void)inside_.load(); }
  // Returns once nobody is inside; nobody gets in any more.
  void Close();
  bool closed() const { return closed_.load(); }

 private:
  std::atomic<int64_t> inside_{0};
  std::atomic<bool> closed_{false};
};

// Enters for the length of a scope.
class OpPass {
 public:
  explicit OpPass(OpGate* gate) : gate_(gate->Enter() ? gate : nullptr) {}
  ~OpPass() {
    if (gate_ != nullptr) gate_->Leave();
  }
  OpPass(const OpPass&) = delete;
  OpPass& operator=(const OpPass&) = delete;
  explicit operator bool() const { return gate_ != nullptr; }

 private:
  OpGate* gate_;
};

// Shared by the loop and by every call, which may outlive it: an answer may
// come when all is gone.
struct RpcShared {
  OpGate gate;
  std::atomic<uint64_t> map_epoch{0};  // newest known here
  std::atomic<bool> stopping{false};   // new requests are refused

  // Calls whose end an orderly stop waits for.
  void CallBegins();
  void CallEnds();
  // False when some were left at the deadline.
  bool WaitForCalls(absl::Time deadline);

 private:
  std::mutex mutex_;  // guards calls_
  std::condition_variable none_left_;
  int64_t calls_ = 0;
};

class RpcLoop {
 public:
  static constexpr int kMaxEventsPerTurn = 512;

  RpcLoop(std::unique_ptr<grpc::ServerCompletionQueue> queue,
          std::shared_ptr<RpcShared> shared, Clock* clock);
  // Shut down by then, or never started.
  ~RpcLoop();
  RpcLoop(const RpcLoop&) = delete;
  RpcLoop& operator=(const RpcLoop&) = delete;

  // `on_tick` runs after each tick, in the loop thread.
  void Start(RequestHandler* handler, uint32_t tick_ms,
             absl::AnyInvocable<void()> on_tick);
  // Closes the gate, shuts the queue down, drains it and joins the thread.
  // All that uses the queue must have been made to end before.
  void Shutdown();

  // Runs `task` in the loop thread, soon. Any thread. Not run when the gate
  // is closed already.
  void Post(absl::AnyInvocable<void()> task);

  grpc::ServerCompletionQueue* queue() { return queue_.get(); }
  const std::shared_ptr<RpcShared>& shared() { return shared_; }
  OpGate* gate() { return &shared_->gate; }

  // ---- loop thread ----

  RequestHandler* handler() { return handler_; }
  uint64_t now_nanos() const { return clock_->MonotonicNanos(); }
  // Handed over at the end of the turn, in order.
  void AddOperation(Operation operation) {
    operations_.push_back(std::move(operation));
  }

 private:
  void Run();
  void EndTurn();
  void SetNextTick();

  const std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  const std::shared_ptr<RpcShared> shared_;
  Clock* const clock_;
  RequestHandler* handler_ = nullptr;
  uint32_t tick_ms_ = 0;
  absl::AnyInvocable<void()> on_tick_;
  std::thread thread_;

  // Loop thread.
  std::vector<Operation> operations_;
  gpr_timespec tick_due_at_{};
  bool tick_due_ = false;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_RPC_LOOP_H_
