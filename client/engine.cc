#include "client/engine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kv739::client {
namespace {

// Bytes of an operation on the wire, roughly; bounds messages.
size_t WireSize(const Request& request) {
  const size_t scan = request.scan == nullptr ? 0
                                              : request.scan->from.size() +
                                                    request.scan->prefix.size();
  return request.key.size() + request.value.size() + scan + 64;
}

}  // namespace

Engine::Engine(kv::ClusterMap map, const Options& options)
    : options_(options),
      router_(std::move(map), options.seed),
      random_(options.seed) {}

int Engine::Submit(OperationPtr operation, Instant now) {
  now_ = now;
  if (closed_) {
    operation->outcome.message = "the client is closed";
    return KV739_E_CLOSED;
  }
  if (pending_ >= options_.max_pending) {
    operation->outcome.message =
        absl::StrCat(pending_, " operations wait already, the limit is ",
                     options_.max_pending);
    return KV739_E_OVERLOADED;
  }
  ++pending_;
  const Request& request = operation->request;
  operation->slot = request.kind == OpKind::kScan
                        ? static_cast<kv::Slot>(request.scan->slot)
                        : kv::SlotOf(request.key);
  Begin(operation);
  return KV739_OK;
}

// ---- the course of one operation ----

void Engine::Begin(const OperationPtr& operation) {
  operation->group = operation->request.kind == OpKind::kOpenSession
                         ? operation->request.group
                         : router_.GroupOf(operation->slot);
  operation->free_tries =
      static_cast<uint32_t>(router_.MemberCount(operation->group));
  operation->backoff = kFirstBackoff;
  operation->try_timeout = kFirstTryTimeout;
  if (operation->request.IsWrite()) {
    BeginWrite(operation);
  } else {
    Send(operation);
  }
}

// The slot may have moved, or a write have lost its identity: puts that right.
// False: the operation waits or has ended.
bool Engine::Settle(const OperationPtr& operation) {
  const raft::GroupId owner = router_.GroupOf(operation->slot);
  const bool moved = owner != operation->group;
  operation->group = owner;
  if (!operation->request.IsWrite()) return true;
  if (moved && operation->doubt > 0) {
    FinishFailed(operation, KV739_E_UNKNOWN,
                 "the key moved to another group while the outcome of the "
                 "write was open");
    return false;
  }
  if (moved) ReleaseIdentity(operation);
  if (operation->identity.session != 0) return true;
  BeginWrite(operation);
  return false;
}

// Sends to the member that is believed to lead.
void Engine::Send(const OperationPtr& operation) {
  if (operation->request.kind == OpKind::kOpenSession) {
    if (AbandonOpening(operation)) return;
  } else if (!Settle(operation)) {
    return;
  }
  const std::optional<NodeIndex> node = router_.Target(operation->group);
  if (!node) {
    operation->last_problem =
        absl::StrCat("the cluster map has no group ", operation->group.value());
    WantMap(router_.epoch() + 1);
    Retry(operation, false);
    return;
  }
  while (operation->attempts.size() >= kMaxAttempts) {
    DropAttempt(operation->attempts.front(), false);
  }
  const uint64_t tag = next_tag_++;
  attempts_.emplace(tag, Attempt{operation, *node, operation->identity, false});
  operation->attempts.push_back(tag);
  operation->phase = Phase::kTrying;
  operation->next_step = now_ + operation->try_timeout;
  ArmNext(operation);
  NodeQueue& queue = QueueOf(*node);
  queue.tags.push_back(tag);
  ++queue.alive;
  Announce(*node);
}

// Sends again, now or after a pause. `hop`: a leader was named.
void Engine::Retry(const OperationPtr& operation, bool hop) {
  if (operation->free_tries > 0 && router_.Target(operation->group)) {
    --operation->free_tries;
    Send(operation);
    return;
  }
  if (hop && operation->free_hops > 0) {
    --operation->free_hops;
    Send(operation);
    return;
  }
  operation->free_hops = 1;
  operation->phase = Phase::kBackoff;
  const Instant half = operation->backoff / 2;
  operation->next_step =
      now_ + half + static_cast<Instant>(random_() % (half + 1));
  operation->backoff = std::min(operation->backoff * 2, kLastBackoff);
  ArmNext(operation);
}

void Engine::ArmNext(const OperationPtr& operation) {
  timers_.Arm(operation, std::min(operation->deadline, operation->next_step));
}

void Engine::OnTimer(const OperationPtr& operation) {
  if (now_ >= operation->deadline) {
    FinishAtDeadline(operation);
    return;
  }
  if (now_ < operation->next_step) {
    ArmNext(operation);
    return;
  }
  if (operation->phase == Phase::kBackoff) {
    Send(operation);
    return;
  }
  if (operation->phase != Phase::kTrying) return;
  // Silence. What is still queued will not be sent any more.
  const uint64_t tag = operation->attempts.back();
  const Attempt& attempt = attempts_.at(tag);
  const NodeIndex node = attempt.node;
  operation->last_problem =
      absl::StrCat(router_.AddressOf(node),
                   attempt.sent ? " does not answer" : " cannot be reached");
  if (!attempt.sent) DropAttempt(tag, true);
  router_.Failed(operation->group, node);
  DoubtMap();
  operation->try_timeout =
      std::min(operation->try_timeout * 2, kLastTryTimeout);
  Send(operation);
}

void Engine::Finish(const OperationPtr& operation, Outcome outcome) {
  if (operation->phase == Phase::kDone) return;
  StopWaiting(operation);
  DropAttempts(operation);
  timers_.Disarm(operation.get());
  operation->phase = Phase::kDone;
  operation->outcome = std::move(outcome);
  if (operation->request.kind == OpKind::kOpenSession) return;
  --pending_;
  effects_.done.push_back(operation);
  const raft::GroupId group = operation->identity.group;
  if (operation->identity.session != 0) {
    ReleaseIdentity(operation);
    PumpWaiting(group);
  }
}

void Engine::FinishFailed(const OperationPtr& operation, int code,
                          std::string message) {
  Outcome outcome;
  outcome.code = code;
  outcome.message = std::move(message);
  Finish(operation, std::move(outcome));
}

void Engine::FinishAtDeadline(const OperationPtr& operation) {
  // One that waits for a session has met what the opening of it has.
  const Operation* tried = operation.get();
  if (operation->phase == Phase::kWaiting) {
    const OperationPtr& opening = sessions_.at(operation->group)->opening;
    if (opening != nullptr) tried = opening.get();
  }
  const std::string why = tried->last_problem.empty()
                              ? ""
                              : absl::StrCat("; last: ", tried->last_problem);
  if (operation->request.IsWrite() && operation->doubt > 0) {
    FinishFailed(operation, KV739_E_UNKNOWN,
                 absl::StrCat("deadline passed and the outcome of the write "
                              "is unknown: it may take effect",
                              why));
    return;
  }
  const bool reached = tried->answered || tried->doubt > 0;
  FinishFailed(
      operation, reached ? KV739_E_TIMEOUT : KV739_E_UNAVAILABLE,
      absl::StrCat(reached ? "deadline passed, nothing took effect"
                           : "no server could be reached before the deadline",
                   why));
}

void Engine::Tick(Instant now) {
  now_ = now;
  for (const OperationPtr& operation : timers_.Advance(now)) {
    if (operation->phase != Phase::kDone) OnTimer(operation);
  }
  MaybeFetchMap();
}

bool Engine::HasTimers() const { return !timers_.empty() || map_wanted_; }

void Engine::Close() {
  closed_ = true;
  // Every operation has a deadline or a try under way, so all are in there.
  std::vector<OperationPtr> open = timers_.TakeAll();
  for (const OperationPtr& operation : open) {
    const bool doubt = operation->request.IsWrite() && operation->doubt > 0;
    FinishFailed(operation, doubt ? KV739_E_UNKNOWN : KV739_E_CLOSED,
                 doubt ? "the client was closed and the outcome of the write "
                         "is unknown: it may take effect"
                       : "the client was closed");
  }
}

Effects Engine::TakeEffects() {
  Effects effects = std::move(effects_);
  effects_ = {};
  for (NodeIndex node : effects.send) queues_[node].announced = false;
  return effects;
}

std::vector<NodeIndex> Engine::TakeSends() {
  std::vector<NodeIndex> send = std::exchange(effects_.send, {});
  for (NodeIndex node : send) queues_[node].announced = false;
  return send;
}

size_t Engine::Waiting(NodeIndex node) { return QueueOf(node).alive; }

// ---- attempts ----

Engine::NodeQueue& Engine::QueueOf(NodeIndex node) {
  if (node >= queues_.size()) queues_.resize(node + 1);
  return queues_[node];
}

void Engine::Announce(NodeIndex node) {
  NodeQueue& queue = QueueOf(node);
  if (queue.announced) return;
  queue.announced = true;
  effects_.send.push_back(node);
}

// Its answer is not awaited any more. `refused`: and it has had and will have
// no effect.
void Engine::DropAttempt(uint64_t tag, bool refused) {
  auto it = attempts_.find(tag);
  Operation& operation = *it->second.operation;
  auto& tags = operation.attempts;
  tags.erase(std::find(tags.begin(), tags.end(), tag));
  if (it->second.sent) {
    if (refused) --operation.doubt;
    attempts_.erase(it);
    return;
  }
  NodeQueue& queue = QueueOf(it->second.node);
  --queue.alive;
  attempts_.erase(it);
  // Tags of what is gone are swept out before they outnumber the others.
  if (queue.tags.size() > 64 && queue.tags.size() > 2 * queue.alive) {
    std::erase_if(queue.tags,
                  [this](uint64_t t) { return !attempts_.contains(t); });
  }
}

void Engine::DropAttempts(const OperationPtr& operation) {
  while (!operation->attempts.empty()) {
    DropAttempt(operation->attempts.back(), false);
  }
}

std::vector<Outgoing> Engine::TakeBatch(NodeIndex node) {
  std::vector<Outgoing> batch;
  NodeQueue& queue = QueueOf(node);
  size_t bytes = 0;
  while (!queue.tags.empty() && batch.size() < kMaxBatchOperations) {
    const uint64_t tag = queue.tags.front();
    auto it = attempts_.find(tag);
    if (it == attempts_.end()) {
      queue.tags.pop_front();
      continue;
    }
    Attempt& attempt = it->second;
    bytes += WireSize(attempt.operation->request);
    if (!batch.empty() && bytes > options_.max_batch_bytes) break;
    queue.tags.pop_front();
    --queue.alive;
    attempt.sent = true;
    ++attempt.operation->doubt;
    Outgoing& out = batch.emplace_back();
    out.tag = tag;
    out.operation = attempt.operation;
    out.identity = attempt.identity;
    if (attempt.identity.session != 0) {
      // In a session that was closed here, 1 promises nothing.
      const SessionTracker& tracker =
          sessions_.at(attempt.identity.group)->tracker;
      out.floor =
          tracker.session() == attempt.identity.session ? tracker.Floor() : 1;
    }
  }
  return batch;
}

void Engine::OnBroken(NodeIndex node, absl::string_view why, Instant now) {
  now_ = now;
  std::vector<uint64_t> broken;
  for (const auto& [tag, attempt] : attempts_) {
    if (attempt.node == node) broken.push_back(tag);
  }
  // In the order in which they were made, not in that of the hash table.
  std::sort(broken.begin(), broken.end());
  std::vector<OperationPtr> again;
  for (uint64_t tag : broken) {
    const Attempt& attempt = attempts_.at(tag);
    const OperationPtr operation = attempt.operation;
    operation->last_problem = absl::StrCat(router_.AddressOf(node), ": ", why);
    // An older one has been followed by another try already.
    if (operation->phase == Phase::kTrying &&
        operation->attempts.back() == tag) {
      again.push_back(operation);
    }
    router_.Failed(operation->group, node);
    DropAttempt(tag, !attempt.sent);
  }
  QueueOf(node).tags.clear();
  if (!broken.empty()) DoubtMap();
  for (const OperationPtr& operation : again) {
    if (operation->phase == Phase::kTrying) Retry(operation, false);
  }
}

}  // namespace kv739::client
