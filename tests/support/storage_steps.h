// The storage steps of one simulated node: everything that its log's disk and
// its store are asked to do, counted in one row, so that a test can stop the
// node at each of them.
//
// A step at which the node stops has happened, has not, or in part: for the
// disk FakeFileSystem::PowerLoss() decides, for the store (whose steps are
// whole or nothing) the callback given to SetDone(). From then on nothing of
// the node reaches anybody: all storage calls fail with ABORTED, and whoever
// runs the node asks down() before he lets a message or an answer out.
//
// One thread.
#ifndef KV739_TESTS_SUPPORT_STORAGE_STEPS_H_
#define KV739_TESTS_SUPPORT_STORAGE_STEPS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "kv/engine.h"
#include "tests/support/fake_file_system.h"

namespace kv739::testing {

class StorageSteps {
 public:
  // Stops the node in step `step` from now on counted; 0: in none.
  void CrashIn(uint64_t step) { crash_at_ = step == 0 ? 0 : count_ + step; }
  // Stops it now, between two steps.
  void Stop() { down_ = true; }
  // Is the store's step at which the node stops still done? Asked for steps
  // that change what is durable.
  void SetDone(std::function<bool()> done) { done_ = std::move(done); }
  bool Done() const { return done_ && done_(); }

  uint64_t count() const { return count_; }
  bool down() const { return down_; }
  const std::string& crashed_in() const { return crashed_in_; }
  // The store takes no writes: RESOURCE_EXHAUSTED, as when it must first write
  // out what it holds.
  void SetFull(bool full) { full_ = full; }
  bool full() const { return full_; }
  // The next start of the node.
  void PowerOn() { down_ = false; }

  // One step; true: the node stops in it, or has stopped before.
  bool Next(absl::string_view what);
  // Counts what `disk` is asked to do.
  void Watch(wal::FakeFileSystem* disk);

 private:
  uint64_t count_ = 0;
  uint64_t crash_at_ = 0;
  bool down_ = false;
  bool full_ = false;
  std::string crashed_in_;
  std::function<bool()> done_;
};

// A store in memory whose changes are steps. `steps` must outlive it.
std::unique_ptr<kv::MemoryEngine> NewSteppingEngine(StorageSteps* steps);

}  // namespace kv739::testing

#endif  // KV739_TESTS_SUPPORT_STORAGE_STEPS_H_
