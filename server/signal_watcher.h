// SIGINT and SIGTERM as calls on a thread, not as interruptions.
#ifndef KV739_SERVER_SIGNAL_WATCHER_H_
#define KV739_SERVER_SIGNAL_WATCHER_H_

#include <functional>
#include <memory>

#include "absl/status/statusor.h"

namespace kv739::server {

class SignalWatcher {
 public:
  // Blocks both signals, and ignores SIGPIPE, in this thread and those that
  // it starts from now on: call it before any thread is started. Calls back
  // on a thread of its own with the signal and how many came so far, from 1.
  static absl::StatusOr<std::unique_ptr<SignalWatcher>> Start(
      std::function<void(int signal, int count)> on_signal);
  // No more calls once it returns. The signals stay blocked.
  virtual ~SignalWatcher() = default;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_SIGNAL_WATCHER_H_
