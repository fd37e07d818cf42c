// A node's thread for work that blocks on the disk and that nobody waits for:
// flushes, removals, the building of snapshots. One job after the other, in
// the order in which they were given.
//
// Bounded: what may be given twice is given once (see the users); each group
// has at most a few jobs under way.
#ifndef KV739_SERVER_BACKGROUND_H_
#define KV739_SERVER_BACKGROUND_H_

#include <sys/resource.h>
#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/functional/any_invocable.h"

namespace kv739::server {

// What the users need; tests run the jobs when they want to.
class Background {
 public:
  using Job = absl::AnyInvocable<void()>;
  virtual ~Background() = default;
  // Never blocks; any thread, also from a job.
  virtual void Run(Job job) = 0;
};

class BackgroundThread : public Background {
 public:
  // Clients wait for the other threads. Not more: these share a lock with it
  // now and then, and memory is full when it falls behind.
  static constexpr int kNice = 5;

  BackgroundThread() : thread_([this] { Work(); }) {}
  ~BackgroundThread() override { Stop(); }

  void Run(Job job) override {
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      jobs_.push_back(std::move(job));
    }
    changed_.notify_one();
  }
  // Finishes the job under way, drops the others and takes no more.
  void Stop() {
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      stopping_ = true;
    }
    changed_.notify_one();
    thread_.join();
    jobs_.clear();
  }

 private:
  void Work() {
    // Of this thread alone, on Linux. Where it cannot be had, it is done
    // without.
    (void)setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (stopping_) return;
      Job job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job();
      job = nullptr;
      lock.lock();
    }
  }

  std::mutex mutex_;  // guards jobs_ and stopping_
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_BACKGROUND_H_
