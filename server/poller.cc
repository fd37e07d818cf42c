#include "server/poller.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

namespace kv739::server {
namespace {

// Only a lack of descriptors at the start, or a mistake of ours.
[[noreturn]] void Die(const char* what) {
  std::perror(what);
  std::abort();
}

int Checked(int result, const char* what) {
  if (result < 0) Die(what);
  return result;
}

}  // namespace

uint64_t Poller::NowNanos() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<uint64_t>(now.tv_nsec);
}

Poller::Poller()
    : epoll_(Checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
      wake_(Checked(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = 0;
  Checked(epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &event), "epoll_ctl");
}

Poller::~Poller() {
  Stop();
  close(wake_);
  close(epoll_);
}

void Poller::Start() {
  thread_ = std::thread([this] { Run(); });
}

void Poller::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  const uint64_t one = 1;
  (void)!write(wake_, &one, sizeof one);
  if (thread_.joinable()) thread_.join();
  std::vector<absl::AnyInvocable<void()>> dropped;
  {
    const std::lock_guard lock(mutex_);
    dropped.swap(posted_);
  }
  timers_.clear();
  watchers_.clear();
}

bool Poller::Post(absl::AnyInvocable<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return false;
    posted_.push_back(std::move(task));
    if (posted_.size() > 1) return true;  // somebody has woken it
  }
  const uint64_t one = 1;
  (void)!write(wake_, &one, sizeof one);
  return true;
}

Poller::WatchId Poller::Watch(int fd, uint32_t events,
                              std::shared_ptr<Watcher> watcher) {
  const WatchId id = ++last_watch_;
  watchers_.emplace(id, std::move(watcher));
  epoll_event event = {};
  event.events = events;
  event.data.u64 = id;
  Checked(epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
  return id;
}

void Poller::Unwatch(WatchId id, int fd) {
  Checked(epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr), "epoll_ctl");
  watchers_.erase(id);
}

void Poller::Change(WatchId id, int fd, uint32_t events) {
  epoll_event event = {};
  event.events = events;
  event.data.u64 = id;
  Checked(epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event), "epoll_ctl");
}

Poller::TimerId Poller::After(absl::Duration delay,
                              absl::AnyInvocable<void()> task) {
  const uint64_t wait = static_cast<uint64_t>(
      std::max<int64_t>(0, absl::ToInt64Nanoseconds(delay)));
  const TimerId id{NowNanos() + wait, ++last_timer_};
  timers_.emplace(id, std::move(task));
  return id;
}

void Poller::Cancel(TimerId* timer) {
  timers_.erase(*timer);
  *timer = {};
}

int Poller::WaitMillis() const {
  if (timers_.empty()) return -1;
  const uint64_t now = NowNanos();
  const uint64_t due = timers_.begin()->first.first;
  if (due <= now) return 0;
  constexpr uint64_t kMilli = 1'000'000;
  // Rounded up, or it would turn around without sleeping at the end.
  return static_cast<int>(
      std::min<uint64_t>((due - now + kMilli - 1) / kMilli, 60'000));
}

void Poller::Run() {
  std::array<epoll_event, kMaxEvents> events;
  for (;;) {
    const int count =
        epoll_wait(epoll_, events.data(), kMaxEvents, WaitMillis());
    if (count < 0 && errno != EINTR) Die("epoll_wait");
    bool woken = false;
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<size_t>(i)];
      if (event.data.u64 == 0) {
        woken = true;
        continue;
      }
      auto it = watchers_.find(event.data.u64);
      if (it == watchers_.end()) continue;  // let go of in this turn
      const std::shared_ptr<Watcher> watcher = it->second;
      watcher->OnReady(event.events);
    }
    if (woken) {
      uint64_t ignored;
      (void)!read(wake_, &ignored, sizeof ignored);
      RunPosted();
    }
    RunTimers();
    if (turn_end_) turn_end_();
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
  }
}

void Poller::RunPosted() {
  std::vector<absl::AnyInvocable<void()>> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(posted_);
  }
  for (absl::AnyInvocable<void()>& task : tasks) task();
}

void Poller::RunTimers() {
  if (timers_.empty()) return;
  const uint64_t now = NowNanos();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    auto task = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    task();
  }
}

}  // namespace kv739::server
