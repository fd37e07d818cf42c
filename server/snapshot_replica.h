// Snapshots of one replica: cutting its log, sending its state to followers
// that are too far behind, and being such a follower. The parts are in files
// of their own; here is what they have to do with the replica.
//
// Owned by the replica, with the loop.
#ifndef KV739_SERVER_SNAPSHOT_REPLICA_H_
#define KV739_SERVER_SNAPSHOT_REPLICA_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "raft/ready.h"
#include "server/snapshot_compaction.h"
#include "server/snapshot_context.h"
#include "server/snapshot_offers.h"
#include "server/snapshot_receiver.h"
#include "server/stats.h"

namespace kv739::server {

class ReplicaSnapshots {
 public:
  // Both outlive it.
  ReplicaSnapshots(const SnapshotContext* context, Replica* replica);
  ~ReplicaSnapshots();

  // At every tick; Advance() follows in the same turn.
  void Tick() { ticked_ = true; }
  // Once a turn, before the core's Ready is taken: what time and what other
  // threads have brought.
  absl::Status Advance(Turn& turn);
  // What the core asks for.
  void OnReady(const raft::Ready& ready, Turn& turn);
  void OnPersisted() { ++persisted_; }
  // This node has the replica no more, or stops: nothing is fetched or sent.
  void Stop();

  // The state here is not what it should be: from now on nothing is served,
  // applied or sent, this replica does not lead, and the leader's newest
  // snapshot takes the state's place although the log would do. Its log and
  // votes are good and go on.
  void Rebuild(std::string why, Turn& turn);
  // Why it does not serve; empty when it does.
  const std::string& fault() const { return fault_; }
  // The state is being replaced: nothing may be applied to it.
  bool applying_stopped() const {
    return state_ != State::kNormal || !fault_.empty();
  }

  Compaction& compaction() { return compaction_; }
  SnapshotOffers& offers() { return offers_; }
  SnapshotReceiver& receiver() { return receiver_; }
  // Nothing is sent, fetched or put in place.
  bool HasNoDuties() const {
    return state_ == State::kNormal && fault_.empty() && offers_.empty() &&
           receiver_.state() == SnapshotReceiver::State::kIdle;
  }
  void AddStats(ReplicaStats* stats) const;

 private:
  // Putting a snapshot in place:
  enum class State : uint8_t {
    kNormal,
    kWaiting,     // for the log writes that are under way
    kCommitting,  // in the background
  };

  void Tick(Turn& turn);
  bool StillWanted() const;
  void StartCommit();
  void OnCommitted(absl::Status status, Turn& turn);
  absl::Status Switch(raft::LogPosition position, Turn& turn);

  const SnapshotContext* const context_;
  Replica* const replica_;
  Compaction compaction_;
  SnapshotOffers offers_;
  SnapshotReceiver receiver_;
  bool ticked_ = false;
  uint64_t expired_at_ = 0;
  raft::SoftState soft_;  // as the offers know it

  State state_ = State::kNormal;
  uint64_t submitted_ = 0;  // Readys that were handed to the log
  uint64_t persisted_ = 0;  // of them
  uint64_t barrier_ = 0;
  uint64_t commit_ = 0;  // number of the commit under way
  absl::Status failure_;
  std::string fault_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_SNAPSHOT_REPLICA_H_
