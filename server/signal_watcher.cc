#include "server/signal_watcher.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <thread>
#include <utility>

#include "server/durable_file.h"

namespace kv739::server {
namespace {

class SignalFdWatcher : public SignalWatcher {
 public:
  explicit SignalFdWatcher(std::function<void(int, int)> on_signal)
      : on_signal_(std::move(on_signal)) {}

  absl::Status Open() {
    ::signal(SIGPIPE, SIG_IGN);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
    signals_ = ::signalfd(-1, &set, SFD_CLOEXEC);
    end_ = ::eventfd(0, EFD_CLOEXEC);
    if (signals_ < 0 || end_ < 0) {
      return FileError("cannot watch", "signals", errno);
    }
    thread_ = std::thread([this] { Run(); });
    return absl::OkStatus();
  }

  ~SignalFdWatcher() override {
    if (thread_.joinable()) {
      const uint64_t one = 1;
      (void)!::write(end_, &one, sizeof(one));
      thread_.join();
    }
    if (signals_ >= 0) ::close(signals_);
    if (end_ >= 0) ::close(end_);
  }

 private:
  void Run() {
    for (int count = 0;;) {
      pollfd fds[] = {{signals_, POLLIN, 0}, {end_, POLLIN, 0}};
      if (::poll(fds, 2, -1) < 0 && errno != EINTR) return;
      if (fds[1].revents != 0) return;
      signalfd_siginfo info;
      if ((fds[0].revents & POLLIN) == 0 ||
          ::read(signals_, &info, sizeof(info)) != sizeof(info)) {
        continue;
      }
      on_signal_(static_cast<int>(info.ssi_signo), ++count);
    }
  }

  const std::function<void(int, int)> on_signal_;
  int signals_ = -1;
  int end_ = -1;
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<SignalWatcher>> SignalWatcher::Start(
    std::function<void(int signal, int count)> on_signal) {
  auto watcher = std::make_unique<SignalFdWatcher>(std::move(on_signal));
  if (absl::Status s = watcher->Open(); !s.ok()) return s;
  return watcher;
}

}  // namespace kv739::server
