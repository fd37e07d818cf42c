#include "server/poller_timer.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

namespace kv739::server {
namespace {

class Alarm final : public Poller::Watcher {
 public:
  explicit Alarm(std::function<void()> wake)
      : wake_(std::move(wake)),
        fd_(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) {
    if (fd_ < 0) {  // a lack of descriptors at the start
      std::perror("timerfd_create");
      std::abort();
    }
  }
  ~Alarm() override { close(fd_); }
  Alarm(const Alarm&) = delete;
  Alarm& operator=(const Alarm&) = delete;

  int fd() const { return fd_; }
  // 0: never.
  void Set(uint64_t at_nanos) const {
    constexpr uint64_t kSecond = 1'000'000'000;
    itimerspec at = {};
    at.it_value.tv_sec = static_cast<time_t>(at_nanos / kSecond);
    at.it_value.tv_nsec = static_cast<long>(at_nanos % kSecond);
    timerfd_settime(fd_, TFD_TIMER_ABSTIME, &at, nullptr);
  }
  // Watched for edges: setting it again clears what was not read.
  void OnReady(uint32_t) override { wake_(); }

 private:
  const std::function<void()> wake_;
  const int fd_;
};

class PollerTimer final : public WakeTimer {
 public:
  explicit PollerTimer(std::shared_ptr<Alarm> alarm)
      : alarm_(std::move(alarm)) {}
  ~PollerTimer() override { alarm_->Set(0); }
  void Set(uint64_t at_nanos) override { alarm_->Set(at_nanos); }

 private:
  const std::shared_ptr<Alarm> alarm_;
};

}  // namespace

std::unique_ptr<WakeTimer> MakePollerTimer(Poller* poller,
                                           std::function<void()> wake) {
  auto alarm = std::make_shared<Alarm>(std::move(wake));
  poller->Post([poller, alarm] {
    poller->Watch(alarm->fd(), uint32_t{EPOLLIN} | uint32_t{EPOLLET}, alarm);
  });
  return std::make_unique<PollerTimer>(std::move(alarm));
}

}  // namespace kv739::server
