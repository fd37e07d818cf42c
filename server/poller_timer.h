// A WakeTimer on a poller's thread. Setting it is one system call and wakes
// nobody before the time.
#ifndef KV739_SERVER_POLLER_TIMER_H_
#define KV739_SERVER_POLLER_TIMER_H_

#include <functional>
#include <memory>

#include "server/poller.h"
#include "server/wake_timer.h"

namespace kv739::server {

// `poller` must outlive this call only. It goes on watching the timer, which
// never rings again once it is destroyed, until its own end: for timers that
// live as long as the process.
std::unique_ptr<WakeTimer> MakePollerTimer(Poller* poller,
                                           std::function<void()> wake);

}  // namespace kv739::server

#endif  // KV739_SERVER_POLLER_TIMER_H_
