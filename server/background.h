// Work of a node that blocks for the disk and that no client waits for: a
// thread with a short queue. One piece runs at a time, in the order in which
// they came.
#ifndef KV739_SERVER_BACKGROUND_H_
#define KV739_SERVER_BACKGROUND_H_

#include <cstddef>
#include <memory>

#include "absl/functional/any_invocable.h"

namespace kv739::server {

// Pieces that may wait. Whoever is refused comes again with a later tick.
inline constexpr size_t kMaxBackgroundWork = 256;

class Background {
 public:
  using Work = absl::AnyInvocable<void()>;
  virtual ~Background() = default;
  // Never blocks; any thread. False, and the work is dropped, when
  // kMaxBackgroundWork pieces wait or after Stop().
  virtual bool Submit(Work work) = 0;
  // Drops what waits and returns when what runs has ended. Not by the work
  // itself.
  virtual void Stop() = 0;
};

// With a thread of its own.
std::unique_ptr<Background> StartBackground();

}  // namespace kv739::server

#endif  // KV739_SERVER_BACKGROUND_H_
