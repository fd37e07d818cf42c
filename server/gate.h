// Keeps callbacks of other threads out of what is about to end. Whoever calls
// back enters first; Close() lets nobody in any more and waits for those who
// are inside. Entering again from inside is fine. Any thread.
#ifndef KV739_SERVER_GATE_H_
#define KV739_SERVER_GATE_H_

#include <condition_variable>
#include <mutex>

namespace kv739::server {

class Gate {
 public:
  // False once closed.
  bool Enter() {
    const std::lock_guard lock(mutex_);
    if (closed_) return false;
    ++inside_;
    return true;
  }
  void Leave() {
    const std::lock_guard lock(mutex_);
    if (--inside_ == 0) left_.notify_all();
  }
  // Not from inside.
  void Close() {
    std::unique_lock lock(mutex_);
    closed_ = true;
    left_.wait(lock, [this] { return inside_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable left_;
  bool closed_ = false;
  int inside_ = 0;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_GATE_H_
