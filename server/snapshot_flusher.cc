#include "server/snapshot_flusher.h"

#include "kv/snapshot.h"
#include "raft/planted.h"
#include "server/logging.h"

namespace kv739::server {

void Flusher::Join(raft::GroupId group, Done done) {
  const std::lock_guard lock(mutex_);
  waiting_.emplace_back(group, std::move(done));
}

void Flusher::Start() {
  {
    const std::lock_guard lock(mutex_);
    if (scheduled_) return;
    scheduled_ = true;
  }
  background_->Run([this, gate = gate_] {
    if (!gate->Enter()) return;
    Run();
    gate->Leave();
  });
}

void Flusher::Run() {
  std::vector<std::pair<raft::GroupId, Done>> served;
  {
    const std::lock_guard lock(mutex_);
    scheduled_ = false;  // who comes from now on may have applied more
    served.swap(waiting_);
  }
  absl::Status flushed;
  if (!KV739_PLANTED(C2_log_cut_before_durable)) flushed = engine_->Flush();
  flushes_.fetch_add(1, std::memory_order_relaxed);
  if (!flushed.ok()) {
    LogWarn("the store could not be flushed, logs are kept: ",
            flushed.ToString());
  }
  for (auto& [group, done] : served) {
    if (!flushed.ok()) {
      std::move(done)(flushed);
    } else {
      std::move(done)(kv::DurablePosition(*engine_, group));
    }
  }
}

}  // namespace kv739::server
