// Runs loops in real time against a target, with threads of its own or with
// the target's. Made, started, joined once each by one thread; the others may
// be called meanwhile.
#ifndef KV739_CLIENT_COMMAND_BENCH_DRIVER_H_
#define KV739_CLIENT_COMMAND_BENCH_DRIVER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/command/bench_loop.h"
#include "client/command/bench_target.h"

namespace kv739::bench {

// Monotonic.
uint64_t NowNanos();

class Driver {
 public:
  // Threads that call the target, shared out over `loops` in turn; as many as
  // the loops have in flight together. Sources and target outlive the driver.
  Driver(BlockingTarget* target, std::vector<std::unique_ptr<LoadLoop>> loops,
         int in_flight);
  // The target's threads, and one that starts what arrives.
  Driver(AsyncTarget* target, std::unique_ptr<LoadLoop> loop, int in_flight);
  // Ended and joined.
  ~Driver();

  void Start();
  // Ends the loops now; operations in flight still end.
  void Stop();
  // Returns when the last operation has ended.
  void Join();

  struct Progress {
    uint64_t done = 0;  // warm-up included
    uint64_t failed = 0;
    uint64_t last_success = 0;  // NowNanos(); 0: none yet
  };
  Progress progress() const;
  // All operations have ended: Join() returns at once, or nearly so.
  bool finished() const { return running_.load() == 0; }
  // After Join().
  LoopStats stats();

 private:
  struct Place;
  // A loop and who waits for it.
  struct Lane {
    absl::Mutex mutex;
    absl::CondVar changed;
    std::unique_ptr<LoadLoop> loop ABSL_GUARDED_BY(mutex);
    // One thread waits for the loop's time, the others for it.
    bool waited_for ABSL_GUARDED_BY(mutex) = false;
    uint64_t waits_until ABSL_GUARDED_BY(mutex) = 0;
    std::vector<Place*> free ABSL_GUARDED_BY(mutex);
  };

  // Waits until the loop gives an operation; false when it is over.
  bool WaitToTake(Lane* lane, Operation* operation)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(lane->mutex);
  void CountDone(uint64_t now, const Result& result);
  void RunThread(Lane* lane);
  void RunPacer();
  // What a place does from the end of its operation on.
  void Continue(Place* place, Result result);

  BlockingTarget* const blocking_ = nullptr;
  AsyncTarget* const async_ = nullptr;
  const int in_flight_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::vector<std::unique_ptr<Place>> places_;
  std::vector<std::thread> threads_;
  std::atomic<int> running_ = 0;
  std::atomic<uint64_t> done_ = 0;
  std::atomic<uint64_t> failed_ = 0;
  std::atomic<uint64_t> last_success_ = 0;
};

}  // namespace kv739::bench

#endif  // KV739_CLIENT_COMMAND_BENCH_DRIVER_H_
