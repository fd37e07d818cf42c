// Flushes the store for all groups at once: a flush writes out what every
// group has applied, so those who are not in need themselves join the next one
// and learn how far it got.
#ifndef KV739_SERVER_SNAPSHOT_FLUSHER_H_
#define KV739_SERVER_SNAPSHOT_FLUSHER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "kv/engine.h"
#include "raft/types.h"
#include "server/background.h"
#include "server/gate.h"

namespace kv739::server {

// Any thread.
class Flusher {
 public:
  // What a crash would leave of the group, at least all that was applied when
  // it joined; or why that is not known. On the background thread.
  using Done = absl::AnyInvocable<void(absl::StatusOr<raft::LogPosition>)>;

  // Both outlive it.
  Flusher(kv::Engine* engine, Background* background,
          std::shared_ptr<Gate> gate)
      : engine_(engine), background_(background), gate_(std::move(gate)) {}

  // Waits for the next flush, whenever somebody starts it. One entry a group,
  // so it is for the caller to join once.
  void Join(raft::GroupId group, Done done);
  // Begins one soon.
  void Start();

  uint64_t flushes() const { return flushes_.load(std::memory_order_relaxed); }

 private:
  void Run();

  kv::Engine* const engine_;
  Background* const background_;
  const std::shared_ptr<Gate> gate_;
  std::mutex mutex_;  // guards these
  std::vector<std::pair<raft::GroupId, Done>> waiting_;
  bool scheduled_ = false;
  std::atomic<uint64_t> flushes_{0};
};

}  // namespace kv739::server

#endif  // KV739_SERVER_SNAPSHOT_FLUSHER_H_
