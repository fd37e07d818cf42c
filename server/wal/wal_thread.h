// Runs a Wal on a thread of its own: group commit without waiting. Whatever
// was submitted while one sync was under way goes into the next.
#ifndef KV739_SERVER_WAL_WAL_THREAD_H_
#define KV739_SERVER_WAL_WAL_THREAD_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "server/wal/wal.h"

namespace kv739::wal {

// One turn of one owner: its groups' writes, and what to do once they are
// durable.
struct WalTask {
  std::vector<GroupWrite> writes;  // may be empty: then `done` keeps the order
  // Called on the WAL thread once this task and all before it are durable.
  // Tasks of one sync are completed in order, one after the other. Must not
  // block on I/O. Not called at all after a failure.
  absl::AnyInvocable<void()> done;
};

using ReadCallback =
    absl::AnyInvocable<void(absl::StatusOr<std::vector<raft::Entry>>)>;

// What a replica host needs of the log; the simulator has its own.
class LogWriter {
 public:
  virtual ~LogWriter() = default;
  // Never blocks. Any thread; tasks of one thread keep their order.
  virtual void Submit(WalTask task) = 0;
  // Reads on a background thread and calls back there.
  virtual void ReadAsync(raft::GroupId group, raft::Index first,
                         raft::Index last, uint64_t max_bytes,
                         ReadCallback done) = 0;
  // True while submitted tasks are not durable yet: the WAL thread will come
  // back to its owner by itself.
  virtual bool busy() const = 0;
  // See Wal::log_bytes(). Any thread.
  virtual uint64_t log_bytes(raft::GroupId group) const = 0;
};

// One call of Wal::Append that wrote, for metrics.
struct AppendObservation {
  double seconds = 0;  // write and sync
  uint64_t tasks = 0;
  uint64_t entries = 0;
  uint64_t bytes = 0;  // payloads
};

// Called on the WAL thread after each append, before its tasks complete.
using AppendObserver = absl::AnyInvocable<void(const AppendObservation&)>;

class WalThread : public LogWriter {
 public:
  // `on_failure` is called once, on the thread that met it, after which
  // nothing more is completed. Failed maintenance counts, a full disk then
  // does not. `wal` must outlive this.
  static std::unique_ptr<WalThread> Start(
      Wal* wal, absl::AnyInvocable<void(absl::Status)> on_failure,
      AppendObserver observer = nullptr);
  // Completes what was submitted, then joins its threads.
  ~WalThread() override = default;

  // Payload bytes that were submitted and are not durable yet. There is no
  // bound here: what an owner may have under way is bounded by the cores'
  // limits (raft::Options::max_uncommitted_bytes, max_inflight_bytes), and
  // reads by one fetch per follower.
  virtual uint64_t queued_bytes() const = 0;
};

}  // namespace kv739::wal

#endif  // KV739_SERVER_WAL_WAL_THREAD_H_
