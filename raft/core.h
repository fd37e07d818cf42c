// The consensus core of one replica: a deterministic state machine in the
// sense of the Raft paper, figure 2, and of the thesis for everything else.
//
// It computes and nothing else. Time comes as Tick(), randomness through
// Random, messages through Step(), and what it wants done is taken out as one
// Ready value. The same inputs give the same outputs on any machine.
//
// Threads: none of its own; one caller at a time.
// Errors: a message that makes no sense is ignored and counted (dropped()); a
// broken invariant ends the process.
//
// One turn of the owner:
//   core.Step(...); core.Propose(...);        // any number of inputs
//   Ready ready = core.TakeReady();           // what to do, see raft/ready.h
//   ... send, persist, apply ...
//   core.Persisted(ready.persist.position);   // later, once durable
//   core.Applied(index);                      // later, once applied
#ifndef KV739_RAFT_CORE_H_
#define KV739_RAFT_CORE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "raft/configuration.h"
#include "raft/log.h"
#include "raft/message.h"
#include "raft/options.h"
#include "raft/ready.h"
#include "raft/types.h"

namespace kv739::raft {

// What a replica knows when it starts. For a new group: `snapshot` with
// position {0, 0} and the initial configuration, all else empty.
//
// After a crash between the switch of the state machine to a snapshot and the
// write of Persist::snapshot the caller finds a state machine ahead of the log:
// it applies the rule of Persist::snapshot to the log first.
struct InitialState {
  HardState hard_state;
  // The log begins behind this position. Its configuration is the one in
  // force there.
  SnapshotMeta snapshot;
  // What the state machine has applied, at least snapshot.position.index, and
  // the configuration in force there.
  Index applied;
  Configuration applied_configuration;
  // Terms of the durable entries behind the snapshot, ascending, and the last
  // index (snapshot.position.index when there are none).
  std::vector<TermRun> terms;
  Index last_index;
  // The entries (applied, last_index]; the core keeps what is not applied in
  // memory always.
  std::vector<Entry> entries;
};

// What a leader knows of another member; for status and metrics.
struct PeerProgress {
  NodeId id;
  Index match;
  Index next;
  bool learner = false;
  bool recently_active = false;
  bool needs_snapshot = false;
  uint64_t inflight_bytes = 0;
  uint64_t silent_ticks = 0;  // since it was heard from, or we became leader
};

struct CoreStatus {
  SoftState soft;
  HardState hard;
  Index first_index;  // of the log, behind the snapshot
  Index last_index;
  Index durable;
  Index commit;
  Index applied;
  Configuration configuration;
  // Where it is in the log, or where the log begins if it is older.
  Index configuration_index;
  bool transferring = false;
  bool fit = true;  // see SetFit()
  bool quiet = false;
  // A configuration that is joint, or not known to be committed.
  bool changing = false;
  std::vector<PeerProgress> peers;  // of a leader, without itself
};

class Core {
 public:
  // Fails with INVALID_ARGUMENT for options or state that contradict
  // themselves. `random` must outlive the core.
  static absl::StatusOr<std::unique_ptr<Core>> Create(const Options& options,
                                                      InitialState state,
                                                      Random* random);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  // ---- inputs ----

  void Tick();
  // The owner's monotonic clock before the inputs that follow, for leases, and
  // for entries that are held back. What falls back is ignored.
  void SetTime(uint64_t nanos);
  void Step(const Envelope& envelope);
  // The connection to the peer has ended, as when its process dies. If it was
  // our leader, pre-votes are asked for after a time drawn from
  // [1, gone_timeout_ticks] unless it is heard from first: those who still hear
  // from it refuse them, so a broken connection alone deposes nobody.
  // A quiet replica wakes by it, if the peer is its leader or it leads it;
  // there the owner calls it as well for a node that is not heard of any more.
  void PeerGone(NodeId peer);

  // Appends commands to the leader's log; the position is of the first one,
  // the others follow it. They are done when committed with this very term at
  // their index; otherwise they were replaced. Nothing is appended on error:
  //   FAILED_PRECONDITION  not the leader
  //   UNAVAILABLE          leadership is being handed over
  //   RESOURCE_EXHAUSTED   max_uncommitted_bytes would be passed (one call is
  //                        accepted at any size while all is committed)
  //   INVALID_ARGUMENT     no command, or one without data
  absl::StatusOr<LogPosition> Propose(std::vector<Payload> commands);

  // Changes the members of the group to `target`, which is not joint (paper
  // section 6). The position is of the first entry of the change. A change of
  // learners alone is one entry and takes effect with it; a change of voters
  // goes through a joint configuration, which this or a later leader leaves by
  // itself once it is committed (Status().changing tells). A leader that is no
  // voter afterwards hands over and steps down at the end.
  //   FAILED_PRECONDITION  not the leader
  //   INVALID_ARGUMENT     `target` is none: joint, not valid, or makes a voter
  //                        a learner (remove it first)
  //   UNAVAILABLE          nothing is committed in the leader's term yet, or
  //                        leadership is being handed over: try again
  //   ABORTED              another change is under way
  absl::StatusOr<LogPosition> ProposeConfiguration(Configuration target);

  // Asks for a linearizable read (thesis section 6.4). Answered by
  // Ready::reads or Ready::failed_reads; the latter at once when not leader,
  // or when max_pending_reads wait already.
  void ReadIndex(ReadId id);

  // What Ready::persist described is durable.
  void Persisted(const PersistedPosition& position);
  // The state machine has applied everything up to `index`.
  void Applied(Index index);
  // Entries for a follower as Ready::fetch asked; empty when they could not
  // be read (asked again later).
  void Fetched(NodeId peer, std::vector<Entry> entries);
  // The snapshot that Ready::needs_snapshot asked for reached the follower up
  // to `index`, or failed (index 0).
  void SnapshotSent(NodeId peer, Index index);
  // The state machine has been switched, durably, to the snapshot that
  // Ready::wants_snapshot asked for. Ignored when as much is applied already.
  void SnapshotInstalled(const SnapshotMeta& meta);
  // Drops the log up to `index`, which must be applied, durable and covered
  // by a durable snapshot of the state machine.
  void Compact(Index index);

  // Hands leadership to `target` once it has caught up; gives up after one
  // election timeout. FAILED_PRECONDITION when not leader, NOT_FOUND when
  // the target is no voter, UNAVAILABLE when it is silent or needs a snapshot
  // first. Proposals are refused meanwhile, reads are not. OK at once for the
  // leader itself.
  absl::Status TransferLeadership(NodeId target);
  // Unfit: this replica must not lead, because its owner cannot serve (its disk
  // is full, its state is in doubt). It does not campaign, hands leadership
  // over when it has it, after two election timeouts steps down if nobody takes
  // it, and goes on as a follower that votes and stores. The only voter of a
  // group leads all the same. Replicas start fit.
  void SetFit(bool fit);
  // ---- quiet groups: raft/quiescence.cc ----

  // A leader whose group is idle for quiesce_after_ticks and could rest; at
  // most once in heartbeat_ticks.
  bool CanBeQuiet() const;
  // To be called only while all of the members' nodes are heard of, and before
  // Tick(). From then on time stands still here, until something comes in. The
  // owner watches the nodes meanwhile and calls PeerGone(). Does nothing unless
  // CanBeQuiet(). Followers become quiet by what their leader says.
  void BecomeQuiet();
  bool quiet() const;
  // For an owner that has a reason of its own.
  void Wake();
  // Whether it holds for each other member, of a leader; of another one for its
  // leader, if it knows one. Those are the nodes to watch.
  bool AllPeers(absl::FunctionRef<bool(NodeId)> holds) const;

  // The voter that has the most of the log, or none; one that a transfer just
  // failed for only when there is no other. For a leader that stops.
  NodeId BestTransferTarget() const;

  // ---- output ----

  bool HasReady() const;
  // When something that a leader holds back will be ready by SetTime() alone
  // (raft/holding_back.cc); 0: nothing is held back. Where the owner does not
  // see to it, the next tick does.
  uint64_t HeldBackUntil() const;
  Ready TakeReady();

  // ---- what is known ----

  bool IsLeader() const;
  bool transferring() const;  // a leader that hands over
  Term term() const;
  NodeId leader() const;
  Index applied() const;
  Index commit() const;
  Index last_index() const;
  LogPosition log_start() const;  // the log begins behind it
  // The entry since which `peer` has been a member without a break, or the
  // oldest configuration that is known. A snapshot for it must reach this: one
  // that went and came back has forgotten what it acknowledged, and with this
  // entry it has all again that was ever committed by its word.
  Index MemberSince(NodeId peer) const;
  uint64_t dropped() const;  // messages that made no sense
  CoreStatus Status() const;

 private:
  class Impl;
  explicit Core(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kv739::raft

#endif  // KV739_RAFT_CORE_H_
