// Numbers of the writes of one client in one group: which are out, what the
// floor is, and whether another may begin. A value, no threads.
//
// The server remembers the answers of a session from its floor on and refuses
// sequences too far above it, so the span of what is out stays below
// kSessionSpan, half of the server's window.
#ifndef KV739_CLIENT_SESSION_H_
#define KV739_CLIENT_SESSION_H_

#include <cstdint>
#include <deque>

#include "kv/types.h"

namespace kv739::client {

inline constexpr uint64_t kSessionSpan = 4096;

class SessionTracker {
 public:
  // Starts over with this session, given by the group.
  void Open(kv::SessionId session);
  // Forgets the session; what is out keeps its numbers, but they mean nothing
  // here any more.
  void Close();

  bool is_open() const { return session_ != 0; }
  kv::SessionId session() const { return session_; }
  bool CanBegin() const { return is_open() && out_.size() < kSessionSpan; }
  // The next sequence, from 1; it is out until it ends. CanBegin() must hold.
  kv::Sequence Begin();
  // The write is answered or given up, and will not be sent again. Ignored
  // when it is of another session.
  void End(kv::SessionId session, kv::Sequence sequence);
  // Lowest sequence that is out; the next one to be given when none is.
  kv::Sequence Floor() const { return floor_; }

 private:
  kv::SessionId session_ = 0;
  kv::Sequence floor_ = 1;
  std::deque<bool> out_;  // [floor_, floor_ + size): is it out
};

}  // namespace kv739::client

#endif  // KV739_CLIENT_SESSION_H_
