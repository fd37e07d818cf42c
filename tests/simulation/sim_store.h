// The store of a node in the simulator: kv::NewMemoryEngine below the state
// machine's seam, with what may go wrong in a real one.
//
// It stands in the place of RocksDB, which has threads of its own, so that a
// run on it would not be repeatable. What the code above relies on is kept:
// what is applied is seen at once and durable only after a flush, which RocksDB
// may also do by itself at any time; a group's content is replaced in one
// durable step; a full write buffer refuses for a while; the process may die
// before or after any durable step.
#ifndef KV739_TESTS_SIMULATION_SIM_STORE_H_
#define KV739_TESTS_SIMULATION_SIM_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "kv/engine.h"

namespace kv739::world {

class SimStore : public kv::Engine {
 public:
  // Called when a step is the one to die at; nothing is durable from then on.
  using Die = std::function<void()>;

  SimStore() : engine_(kv::NewMemoryEngine()) {}

  std::unique_ptr<kv::Batch> NewBatch() override { return engine_->NewBatch(); }
  absl::Status Apply(kv::Batch* batch) override {
    if (stalled_) return absl::ResourceExhaustedError("the buffers are full");
    return engine_->Apply(batch);
  }
  absl::StatusOr<bool> Get(absl::string_view key,
                           std::string* value) const override {
    return engine_->Get(key, value);
  }
  std::unique_ptr<kv::View> NewView() const override {
    return engine_->NewView();
  }
  absl::Status Flush() override {
    return Step([this] { return engine_->Flush(); });
  }
  absl::StatusOr<bool> GetDurable(absl::string_view key,
                                  std::string* value) const override {
    return engine_->GetDurable(key, value);
  }
  absl::StatusOr<std::unique_ptr<kv::Ingestion>> NewIngestion(
      absl::string_view begin, absl::string_view end,
      const std::string& dir) override;
  absl::Status background_error() const override { return absl::OkStatus(); }

  // ---- faults ----
  void Stall(bool stalled) { stalled_ = stalled; }
  // Dies at the `steps`-th durable step from now, before or after it took
  // effect.
  void DieAt(uint64_t steps, bool after, Die die) {
    die_in_ = steps;
    die_after_ = after;
    die_ = std::move(die);
  }
  // The process is gone, and with it what was not flushed.
  void Crash() {
    engine_->Crash();
    dead_ = stalled_ = false;
    die_in_ = 0;
    die_ = nullptr;
  }
  // The rest of a process that dies: nothing becomes durable any more.
  void Kill() { dead_ = true; }

 private:
  class SimIngestion;

  template <typename F>
  absl::Status Step(F&& step) {
    if (dead_) return absl::AbortedError("the process is dead");
    const bool last = die_in_ > 0 && --die_in_ == 0;
    if (last && !die_after_) {
      die_();
      return absl::AbortedError("the process is dead");
    }
    absl::Status status = step();
    if (last) die_();
    return status;
  }

  const std::unique_ptr<kv::MemoryEngine> engine_;
  bool stalled_ = false;
  bool dead_ = false;
  uint64_t die_in_ = 0;
  bool die_after_ = false;
  Die die_;
};

}  // namespace kv739::world

#endif  // KV739_TESTS_SIMULATION_SIM_STORE_H_
