#include "server/background.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

namespace kv739::server {
namespace {

class BackgroundThread : public Background {
 public:
  BackgroundThread() : thread_([this] { Run(); }) {}
  ~BackgroundThread() override { BackgroundThread::Stop(); }

  bool Submit(Work work) override {
    const std::lock_guard lock(mutex_);
    if (stopping_ || queue_.size() >= kMaxBackgroundWork) return false;
    queue_.push_back(std::move(work));
    changed_.notify_one();
    return true;
  }

  void Stop() override {
    std::deque<Work> dropped;
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      dropped.swap(queue_);
      changed_.notify_one();
    }
    const std::lock_guard lock(join_mutex_);
    if (thread_.joinable()) thread_.join();
  }

 private:
  void Run() {
    while (true) {
      Work work;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
        if (stopping_) return;
        work = std::move(queue_.front());
        queue_.pop_front();
      }
      std::move(work)();
    }
  }

  std::mutex mutex_;  // guards the queue and stopping_
  std::condition_variable changed_;
  std::deque<Work> queue_;
  bool stopping_ = false;
  std::mutex join_mutex_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace

std::unique_ptr<Background> StartBackground() {
  return std::make_unique<BackgroundThread>();
}

}  // namespace kv739::server
