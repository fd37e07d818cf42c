#include "tests/simulation/sim_log.h"

#include <utility>

namespace kv739::world {

void SimLog::Submit(wal::WalTask task) {
  if (failed_) return;
  for (const wal::GroupWrite& write : task.writes) {
    if (!write.empty()) parts_.on_submit(write);
  }
  queue_.push_back(std::move(task));
  if (!writing_) StartWrite();
}

void SimLog::StartWrite() {
  writing_ = true;
  tasks_.swap(queue_);
  AwaitWrite();
}

void SimLog::AwaitWrite() {
  parts_.after(parts_.write_nanos(), [this, number = ++awaited_] {
    if (number == awaited_) FinishWrite();
  });
}

void SimLog::StallEnds() {
  if (writing_ && !failed_) AwaitWrite();
}

std::vector<wal::GroupWrite> SimLog::TakeWrites() {
  std::vector<wal::GroupWrite> writes;
  for (wal::WalTask& task : tasks_) {
    for (wal::GroupWrite& write : task.writes) {
      if (!write.empty()) writes.push_back(std::move(write));
    }
  }
  return writes;
}

void SimLog::FinishWrite() {
  const std::vector<wal::GroupWrite> writes = TakeWrites();
  if (!writes.empty()) {
    const absl::Status status = parts_.wal->Append(writes);
    if (!status.ok()) {
      failed_ = true;
      parts_.on_failure(status, {writes.begin(), writes.end()});
      return;
    }
    for (const wal::GroupWrite& write : writes) parts_.on_durable(write);
  }
  std::vector<wal::WalTask> done;
  done.swap(tasks_);
  for (wal::WalTask& task : done) {
    if (failed_) return;
    if (task.done) std::move(task.done)();
  }
  writing_ = false;
  if (!queue_.empty()) StartWrite();
  Maintain();
}

std::deque<wal::GroupWrite> SimLog::WriteInVain() {
  if (!writing_ || failed_) return {};
  failed_ = true;
  const std::vector<wal::GroupWrite> writes = TakeWrites();
  if (!writes.empty()) parts_.wal->Append(writes).IgnoreError();
  return {writes.begin(), writes.end()};
}

void SimLog::Maintain() {
  if (maintaining_ || failed_ || !parts_.wal->wants_maintenance()) return;
  maintaining_ = true;
  parts_.after(parts_.random->Between(100, 5'000) * kMicrosecond, [this] {
    maintaining_ = false;
    if (failed_) return;
    const absl::Status status = parts_.wal->Maintain();
    // A full disk is met again by Append, when it really needs the space.
    if (!status.ok() && !absl::IsResourceExhausted(status)) {
      failed_ = true;
      parts_.on_failure(status, {});
      return;
    }
    if (status.ok()) Maintain();
  });
}

void SimLog::ReadAsync(raft::GroupId group, raft::Index first, raft::Index last,
                       uint64_t max_bytes, wal::ReadCallback done) {
  parts_.after(
      parts_.random->Between(50, 3'000) * kMicrosecond,
      [this, group, first, last, max_bytes, done = std::move(done)]() mutable {
        if (failed_) return;
        std::move(done)(parts_.wal->Read(group, first, last, max_bytes));
      });
}

}  // namespace kv739::world
