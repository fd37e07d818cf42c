#include "client/session.h"

namespace kv739::client {

void SessionTracker::Open(kv::SessionId session) {
  session_ = session;
  floor_ = 1;
  out_.clear();
}

void SessionTracker::Close() { Open(0); }

kv::Sequence SessionTracker::Begin() {
  out_.push_back(true);
  return floor_ + out_.size() - 1;
}

void SessionTracker::End(kv::SessionId session, kv::Sequence sequence) {
  if (session != session_ || sequence < floor_ ||
      sequence >= floor_ + out_.size()) {
    return;
  }
  out_[sequence - floor_] = false;
  while (!out_.empty() && !out_.front()) {
    out_.pop_front();
    ++floor_;
  }
}

}  // namespace kv739::client
