#include "server/wal/wal_thread.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

namespace kv739::wal {
namespace {

uint64_t PayloadBytes(const WalTask& task) {
  uint64_t bytes = 0;
  for (const GroupWrite& write : task.writes) {
    for (const raft::Entry& entry : write.entries) {
      bytes += entry.data->size();
    }
  }
  return bytes;
}

class WalThreadImpl : public WalThread {
 public:
  WalThreadImpl(Wal* wal, absl::AnyInvocable<void(absl::Status)> on_failure,
                AppendObserver observer)
      : wal_(wal),
        on_failure_(std::move(on_failure)),
        observer_(std::move(observer)),
        maintenance_wanted_(wal->wants_maintenance()),
        writer_([this] { Write(); }),
        background_([this] { Background(); }) {}

  ~WalThreadImpl() override {
    {
      std::unique_lock lock(queue_mu_);
      stopping_ = true;
      queue_cv_.notify_one();
    }
    writer_.join();
    {
      std::unique_lock lock(background_mu_);
      background_stopping_ = true;
      background_cv_.notify_one();
    }
    background_.join();
  }

  void Submit(WalTask task) override;
  void ReadAsync(raft::GroupId group, raft::Index first, raft::Index last,
                 uint64_t max_bytes, ReadCallback done) override;
  bool busy() const override {
    return pending_tasks_.load(std::memory_order_acquire) > 0 &&
           !failed_.load(std::memory_order_acquire);
  }
  uint64_t log_bytes(raft::GroupId group) const override {
    return wal_->log_bytes(group);
  }
  uint64_t queued_bytes() const override {
    return queued_bytes_.load(std::memory_order_relaxed);
  }

 private:
  struct ReadTask {
    raft::GroupId group;
    raft::Index first;
    raft::Index last;
    uint64_t max_bytes;
    ReadCallback done;
  };

  void Write();
  absl::Status AppendAll(std::vector<WalTask>& tasks);
  void Fail(const absl::Status& status);
  void Background();
  void AskForMaintenance();

  Wal* const wal_;
  absl::AnyInvocable<void(absl::Status)> on_failure_;
  AppendObserver observer_;  // writer thread
  std::atomic<bool> failed_{false};
  std::atomic<uint64_t> pending_tasks_{0};
  std::atomic<uint64_t> queued_bytes_{0};

  std::mutex queue_mu_;
  std::condition_variable queue_cv_;
  std::vector<WalTask> queue_;
  bool idle_ = false;
  bool stopping_ = false;

  std::vector<GroupWrite> writes_;  // of one append, reused; writer thread

  std::mutex background_mu_;
  std::condition_variable background_cv_;
  std::deque<ReadTask> reads_;
  bool maintenance_wanted_;
  bool background_stopping_ = false;

  // Last: they use all of the above.
  std::thread writer_;
  std::thread background_;
};

void WalThreadImpl::Submit(WalTask task) {
  if (failed_.load(std::memory_order_acquire)) return;
  pending_tasks_.fetch_add(1, std::memory_order_acq_rel);
  queued_bytes_.fetch_add(PayloadBytes(task), std::memory_order_relaxed);
  std::unique_lock lock(queue_mu_);
  queue_.push_back(std::move(task));
  if (idle_) {
    idle_ = false;
    queue_cv_.notify_one();
  }
}

// Takes all that waits, makes it durable, completes it, and looks again: what
// came meanwhile is the next batch. Sleeps only when nothing came.
void WalThreadImpl::Write() {
  std::vector<WalTask> tasks;
  while (true) {
    {
      std::unique_lock lock(queue_mu_);
      while (queue_.empty() && !stopping_) {
        idle_ = true;
        queue_cv_.wait(lock);
      }
      idle_ = false;
      if (queue_.empty()) return;
      tasks.swap(queue_);
    }
    if (!failed_.load(std::memory_order_acquire)) {
      if (absl::Status s = AppendAll(tasks); !s.ok()) Fail(s);
    }
    for (WalTask& task : tasks) {
      // The background thread may have met a failure meanwhile.
      if (failed_.load(std::memory_order_acquire)) break;
      pending_tasks_.fetch_sub(1, std::memory_order_acq_rel);
      if (task.done) std::move(task.done)();
    }
    tasks.clear();
  }
}

absl::Status WalThreadImpl::AppendAll(std::vector<WalTask>& tasks) {
  writes_.clear();
  AppendObservation observation;
  uint64_t payload_bytes = 0;
  observation.tasks = tasks.size();
  for (WalTask& task : tasks) {
    payload_bytes += PayloadBytes(task);
    for (GroupWrite& write : task.writes) {
      observation.entries += write.entries.size();
      if (!write.empty()) writes_.push_back(std::move(write));
    }
  }
  observation.bytes = payload_bytes;
  absl::Status status;
  if (!writes_.empty()) {
    const auto begin = std::chrono::steady_clock::now();
    status = wal_->Append(writes_);
    observation.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin)
            .count();
    if (status.ok()) {
      if (observer_) observer_(observation);
      if (wal_->wants_maintenance()) AskForMaintenance();
    }
  }
  queued_bytes_.fetch_sub(payload_bytes, std::memory_order_relaxed);
  writes_.clear();
  return status;
}

void WalThreadImpl::Fail(const absl::Status& status) {
  if (!failed_.exchange(true)) on_failure_(status);
}

void WalThreadImpl::AskForMaintenance() {
  std::unique_lock lock(background_mu_);
  if (maintenance_wanted_) return;
  maintenance_wanted_ = true;
  background_cv_.notify_one();
}

void WalThreadImpl::ReadAsync(raft::GroupId group, raft::Index first,
                              raft::Index last, uint64_t max_bytes,
                              ReadCallback done) {
  std::unique_lock lock(background_mu_);
  reads_.push_back({group, first, last, max_bytes, std::move(done)});
  background_cv_.notify_one();
}

// Reads go first: somebody waits for them. Each call of Maintain does a
// bounded piece of work.
void WalThreadImpl::Background() {
  while (true) {
    ReadTask read;
    {
      std::unique_lock lock(background_mu_);
      while (reads_.empty() && !maintenance_wanted_ && !background_stopping_) {
        background_cv_.wait(lock);
      }
      if (!reads_.empty()) {
        read = std::move(reads_.front());
        reads_.pop_front();
      } else if (background_stopping_) {
        return;
      } else {
        maintenance_wanted_ = false;  // an append may want it again meanwhile
      }
    }
    if (read.done) {
      std::move(read.done)(
          wal_->Read(read.group, read.first, read.last, read.max_bytes));
      continue;
    }
    const absl::Status status = wal_->Maintain();
    // A full disk is met again by Append, when it really needs the space.
    if (!status.ok() && !absl::IsResourceExhausted(status)) Fail(status);
    if (status.ok() && wal_->wants_maintenance()) AskForMaintenance();
  }
}

}  // namespace

std::unique_ptr<WalThread> WalThread::Start(
    Wal* wal, absl::AnyInvocable<void(absl::Status)> on_failure,
    AppendObserver observer) {
  return std::make_unique<WalThreadImpl>(wal, std::move(on_failure),
                                         std::move(observer));
}

}  // namespace kv739::wal
