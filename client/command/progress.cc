#include "client/command/progress.h"

#include <thread>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

namespace kv739::command {
namespace {

constexpr absl::Duration kBetweenLines = absl::Milliseconds(500);
// Back to the line's begin, and away with what stands there.
constexpr char kClear[] = "\r\x1b[K";

}  // namespace

int WithProgress(const Context& context, const std::function<int()>& work,
                 const std::function<std::string()>& tell) {
  if (!context.io.out_terminal || context.options.json) return work();
  absl::Notification done;
  std::thread teller([&] {
    while (!done.WaitForNotificationWithTimeout(kBetweenLines)) {
      const std::string line = tell();
      if (done.HasBeenNotified()) break;
      context.io.err << kClear << line << std::flush;
    }
    context.io.err << kClear << std::flush;
  });
  const int code = work();
  done.Notify();
  teller.join();
  return code;
}

}  // namespace kv739::command
