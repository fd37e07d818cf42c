// A server's way to the supervisor that runs it: what others ask of this host
// through its Admin service.
#ifndef KV739_SERVER_SUPERVISOR_CLIENT_H_
#define KV739_SERVER_SUPERVISOR_CLIENT_H_

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "kv/supervisor_protocol.h"

namespace kv739::server {

// Both ask the supervisor of this process, named by kSupervisorVariable in the
// environment, and wait for kv::kSupervisorTimeout at most. FAILED_PRECONDITION
// when there is none; other errors are the supervisor's.
absl::StatusOr<kv::ServerProcess> AskSupervisor(const kv::Address& server,
                                                bool is_new);
absl::StatusOr<kv::ServerProcess> AskSupervisorStatus(
    const kv::Address& server);

// The same for threads that must not wait: a thread of its own, made at the
// first question, asks one after the other.
class SupervisorRelay {
 public:
  using Done = std::function<void(absl::StatusOr<kv::ServerProcess>)>;
  // Questions that may wait.
  static constexpr size_t kMaxWaiting = 16;

  SupervisorRelay() = default;
  // Waits for the question under way; those that wait end with CANCELLED.
  ~SupervisorRelay();
  SupervisorRelay(const SupervisorRelay&) = delete;
  SupervisorRelay& operator=(const SupervisorRelay&) = delete;

  // Calls `done` once, on the relay's thread, or here with RESOURCE_EXHAUSTED.
  void Ask(kv::SupervisorRequest request, Done done);

 private:
  struct Question {
    kv::SupervisorRequest request;
    Done done;
  };
  void Run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Question> waiting_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kv739::server

#endif  // KV739_SERVER_SUPERVISOR_CLIENT_H_
