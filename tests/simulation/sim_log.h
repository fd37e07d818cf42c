// The thread of a node's write-ahead log, on virtual time: what was submitted
// while one write was under way goes into the next, as wal::WalThread does it.
// The log itself is the real one, on a file system in memory.
#ifndef KV739_TESTS_SIMULATION_SIM_LOG_H_
#define KV739_TESTS_SIMULATION_SIM_LOG_H_

#include <deque>
#include <functional>
#include <vector>

#include "server/wal/wal.h"
#include "server/wal/wal_thread.h"
#include "tests/simulation/sim_shadow.h"
#include "tests/simulation/world_queue.h"
#include "tests/support/sim_random.h"

namespace kv739::world {

class SimLog : public wal::LogWriter {
 public:
  struct Parts {
    wal::Wal* wal = nullptr;
    sim::SimRandom* random = nullptr;
    // Runs the task in this process, so much later.
    std::function<void(uint64_t delay, Task task)> after;
    // What one write takes.
    std::function<uint64_t()> write_nanos;
    std::function<void(const wal::GroupWrite&)> on_submit;
    std::function<void(const wal::GroupWrite&)> on_durable;
    // The write of these failed, or the log cannot go on.
    std::function<void(const absl::Status&, std::deque<wal::GroupWrite>)>
        on_failure;
  };
  explicit SimLog(Parts parts) : parts_(std::move(parts)) { Maintain(); }

  void Submit(wal::WalTask task) override;
  void ReadAsync(raft::GroupId group, raft::Index first, raft::Index last,
                 uint64_t max_bytes, wal::ReadCallback done) override;
  bool busy() const override { return writing_ || !queue_.empty(); }
  uint64_t log_bytes(raft::GroupId group) const override {
    return parts_.wal->log_bytes(group);
  }

  // What is under way takes as long as a write does now, not as long as was
  // thought when it began.
  void StallEnds();

  // For a process that dies in the middle: does the write that is under way,
  // as far as the file system lets it, and tells nobody.
  std::deque<wal::GroupWrite> WriteInVain();

 private:
  void StartWrite();
  void AwaitWrite();
  void FinishWrite();
  void Maintain();
  std::vector<wal::GroupWrite> TakeWrites();

  const Parts parts_;
  std::vector<wal::WalTask> queue_;
  std::vector<wal::WalTask> tasks_;  // of the write under way
  bool writing_ = false;
  uint64_t awaited_ = 0;  // the newest end of a write that is waited for
  bool failed_ = false;
  bool maintaining_ = false;
};

}  // namespace kv739::world

#endif  // KV739_TESTS_SIMULATION_SIM_LOG_H_
