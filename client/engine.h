// The client without its sockets: what to send where, when to try again, and
// what to tell the caller. A deterministic state machine in the manner of the
// consensus core: inputs are calls that carry the time, outputs are one value,
// TakeEffects(). It reads no clock, has no threads and knows no gRPC, so a
// simulator can drive it on virtual time. The owner serializes all calls.
//
// Exactly once: a write is sent under an identity (session of its group,
// sequence). Every attempt that was sent and not refused is a doubt. While
// there is a doubt the write is repeated under the same identity or not at
// all; at its deadline it ends with KV739_E_UNKNOWN then, and with an error
// that promises "no effect" only without any doubt.
//
// Trying: a member that refuses or fails is left for the one it names or the
// next in turn, at once for the first round of members and one redirect after
// each pause, otherwise after a pause of kFirstBackoff doubling to
// kLastBackoff, less up to half by lot. A member that stays silent for
// kFirstTryTimeout (doubling to kLastTryTimeout) is left too; its late answer
// still counts.
#ifndef KV739_CLIENT_ENGINE_H_
#define KV739_CLIENT_ENGINE_H_

#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "client/operation.h"
#include "client/routing.h"
#include "client/session.h"
#include "client/timer_wheel.h"
#include "kv/cluster_map.h"

namespace kv739::client {

inline constexpr Instant kFirstBackoff = 5 * kMillisecond;
inline constexpr Instant kLastBackoff = 250 * kMillisecond;
inline constexpr Instant kFirstTryTimeout = 1000 * kMillisecond;
inline constexpr Instant kLastTryTimeout = 8000 * kMillisecond;
inline constexpr Instant kMapPause = 50 * kMillisecond;
inline constexpr Instant kMapTimeout = 1000 * kMillisecond;
// Servers that fail make the map doubtful: so often at most it is asked for
// without having heard of a newer one.
inline constexpr Instant kDoubtPause = 500 * kMillisecond;
// Attempts of one operation whose answers are still awaited.
inline constexpr size_t kMaxAttempts = 4;
// Operations of one message.
inline constexpr size_t kMaxBatchOperations = 4096;

// One operation as it goes into a message.
struct Outgoing {
  uint64_t tag = 0;
  std::shared_ptr<const Operation> operation;
  WriteIdentity identity;
  kv::Sequence floor = 0;
};

// One result of a message. The codes are those of proto ErrorCode.
enum class AnswerCode {
  kOk = 0,
  kInvalidArgument = 1,
  kNotLeader = 2,
  kWrongGroup = 3,
  kOverloaded = 4,
  kUnavailable = 5,
  kUnknown = 6,
  kSessionUnknown = 7,
  kSequenceRefused = 8,
  kValueTooLarge = 9,
  kInternal = 10,
  kPermissionDenied = 11,
  kNotFound = 12,
};
struct Answer {
  uint64_t tag = 0;
  AnswerCode code = AnswerCode::kOk;
  std::string message;
  std::string leader;
  uint64_t map_epoch = 0;
  bool found = false;  // get: found; write: existed
  bool swapped = false;
  kv::Version version = 0;
  std::string value;
  kv::SessionId session = 0;  // open session
  std::shared_ptr<ScanPage> page;
};

// What the owner has to do, in any order, without holding its lock.
struct Effects {
  std::vector<std::shared_ptr<Operation>> done;  // call Finished()
  std::vector<NodeIndex> send;                   // has something to TakeBatch
  std::optional<NodeIndex> fetch_map;            // Cluster.GetMap there
};

class Engine {
 public:
  struct Options {
    size_t max_pending = 65536;
    size_t max_batch_bytes = 1 << 20;
    uint64_t seed = 0;
  };
  Engine(kv::ClusterMap map, const Options& options);

  // Takes the operation: KV739_OK, and it ends in some later effect; or
  // KV739_E_OVERLOADED or KV739_E_CLOSED with outcome.message set.
  int Submit(std::shared_ptr<Operation> operation, Instant now);
  // What is queued for `node`, up to the byte bound or one operation; it
  // counts as sent. Empty when nothing is.
  std::vector<Outgoing> TakeBatch(NodeIndex node);
  // Operations that have not been taken.
  size_t Waiting(NodeIndex node);
  // Results from a node, with the newest epoch that it knows.
  void OnAnswers(NodeIndex node, std::vector<Answer> answers,
                 uint64_t map_epoch, Instant now);
  // The stream to a node broke or could not be opened: what was sent on it
  // has no answer, what was queued was not sent.
  void OnBroken(NodeIndex node, absl::string_view why, Instant now);
  // The fetch of the map ended; nullptr: it failed.
  void OnMap(std::unique_ptr<kv::ClusterMap> map, Instant now);
  // A map that came another way.
  void LearnMap(kv::ClusterMap map) { router_.Update(std::move(map)); }
  // Lets time pass. To be called at least every few milliseconds while
  // HasTimers().
  void Tick(Instant now);
  bool HasTimers() const;
  // Ends everything; nothing can be submitted afterwards.
  void Close();

  Effects TakeEffects();
  // Of the effects the nodes to send to alone.
  std::vector<NodeIndex> TakeSends();

  const Router& router() const { return router_; }
  size_t pending() const { return pending_; }

 private:
  using OperationPtr = std::shared_ptr<Operation>;
  using Phase = Operation::Phase;

  struct Attempt {
    OperationPtr operation;
    NodeIndex node = 0;
    WriteIdentity identity;
    bool sent = false;
  };
  struct NodeQueue {
    std::deque<uint64_t> tags;  // some of attempts that are gone
    size_t alive = 0;
    bool announced = false;  // is in effects_.send
  };
  struct Session {
    SessionTracker tracker;
    std::list<OperationPtr> waiting;  // for the session or for its window
    OperationPtr opening;
  };

  // The course of one operation (engine.cc).
  void Begin(const OperationPtr& operation);
  void BeginWrite(const OperationPtr& operation);
  bool Settle(const OperationPtr& operation);
  void Send(const OperationPtr& operation);
  void Retry(const OperationPtr& operation, bool hop);
  void Finish(const OperationPtr& operation, Outcome outcome);
  void FinishAtDeadline(const OperationPtr& operation);
  void FinishFailed(const OperationPtr& operation, int code,
                    std::string message);
  void ArmNext(const OperationPtr& operation);
  void OnTimer(const OperationPtr& operation);

  // Attempts (engine.cc).
  void DropAttempt(uint64_t tag, bool refused);
  void DropAttempts(const OperationPtr& operation);
  NodeQueue& QueueOf(NodeIndex node);
  void Announce(NodeIndex node);

  // Sessions (engine_sessions.cc).
  void OpenSession(raft::GroupId group);
  bool AbandonOpening(const OperationPtr& operation);
  void SessionOpened(raft::GroupId group, kv::SessionId id);
  void SessionFailed(raft::GroupId group, int code, const std::string& message);
  void SessionLost(const WriteIdentity& identity);
  void ReleaseIdentity(const OperationPtr& operation);
  void PumpWaiting(raft::GroupId group);
  void Wait(const OperationPtr& operation, Session* session);
  void StopWaiting(const OperationPtr& operation);

  // Answers (engine_answers.cc).
  void OnAnswer(NodeIndex node, Answer answer);
  void OnDone(const OperationPtr& operation, Answer answer);
  void OnRefused(const OperationPtr& operation, NodeIndex node,
                 const WriteIdentity& identity, Answer answer);
  void OnIdentityRefused(const OperationPtr& operation,
                         const WriteIdentity& identity);
  void WantMap(uint64_t epoch, std::optional<NodeIndex> knower = {});
  void DoubtMap();
  void MaybeFetchMap();

  const Options options_;
  Router router_;
  std::mt19937_64 random_;
  Instant now_ = 0;
  bool closed_ = false;
  size_t pending_ = 0;  // operations of callers
  uint64_t next_tag_ = 1;
  absl::flat_hash_map<uint64_t, Attempt> attempts_;
  std::vector<NodeQueue> queues_;
  absl::flat_hash_map<raft::GroupId, std::unique_ptr<Session>> sessions_;
  TimerWheel<Operation> timers_{&Operation::hook};
  uint64_t wanted_epoch_ = 0;
  bool map_wanted_ = false;
  bool map_under_way_ = false;
  Instant next_map_fetch_ = 0;
  std::optional<NodeIndex> map_knower_;  // has said that it has a newer one
  std::optional<NodeIndex> map_asked_;   // last
  bool map_doubted_ = false;  // until somebody has answered with a map
  Instant next_doubt_ = 0;
  Effects effects_;
};

}  // namespace kv739::client

#endif  // KV739_CLIENT_ENGINE_H_
