#include "server/loop.h"

#include <algorithm>
#include <random>

#include "absl/strings/str_cat.h"
#include "server/logging.h"

namespace kv739::server {
namespace {

class SeededRandom : public raft::Random {
 public:
  explicit SeededRandom(uint64_t seed) : engine_(seed) {}
  uint64_t Next() override { return engine_(); }

 private:
  std::mt19937_64 engine_;
};

// How much an event counts against max_inbox_events.
uint64_t Weight(const InboxEvent& event) {
  if (const auto* operations = std::get_if<std::vector<Operation>>(&event)) {
    return operations->size();
  }
  if (const auto* peer = std::get_if<PeerEvent>(&event)) {
    return peer->messages.size();
  }
  return 0;
}

// A write that makes the store larger.
bool NeedsRoom(OpKind kind) {
  return kind == OpKind::kPut || kind == OpKind::kAppend ||
         kind == OpKind::kCompareAndSwap;
}

void Touch(Replica* replica, Turn& turn) {
  if (replica->Touch()) turn.touched.push_back(replica);
}

}  // namespace

Loop::Loop(const HostOptions& options, const HostParts& parts,
           const NodeConditions* conditions, const NodePulse* nodes,
           DirectoryClient* directory, uint64_t seed, SnapshotContext snapshots)
    : options_(options),
      parts_(parts),
      conditions_(conditions),
      nodes_(nodes),
      directory_(directory),
      random_(std::make_unique<SeededRandom>(seed)),
      snapshots_(std::move(snapshots)),
      balance_(options.balance, options.self, random_.get()),
      scans_(parts.engine) {
  snapshots_.options = &options_.snapshot;
  snapshots_.post = [this, gate = snapshots_.gate](raft::GroupId group,
                                                   ReplicaCall call) {
    if (!gate->Enter()) return;
    PostTo(group, std::move(call));
    gate->Leave();
  };
  const bool waits =
      options_.gather_from > 0 || options_.raft.hold_back_nanos > 0;
  if (!waits || !parts_.make_timer) return;
  timer_ = parts_.make_timer([this, gate = snapshots_.gate] {
    if (!gate->Enter()) return;
    Post(WaitEndsEvent{});
    gate->Leave();
  });
}

Loop::~Loop() = default;

absl::Status Loop::AddReplica(HostedReplica hosted) {
  const kv::GroupInfo* group = parts_.maps->Get()->FindGroup(hosted.group);
  const bool ours = group != nullptr && group->Concerns(options_.self);
  if (!ours && hosted.machine->applied().index == raft::Index()) {
    hard_states_[hosted.group] = hosted.state.hard_state;
    return absl::OkStatus();
  }
  return Insert(std::move(hosted));
}

Replica* Loop::Find(raft::GroupId group) {
  auto it = by_group_.find(group);
  return it == by_group_.end() ? nullptr : it->second;
}

// ---- the inbox ----

void Loop::Post(InboxEvent event) { PostFrom(std::move(event), false); }

void Loop::PostTo(raft::GroupId group, ReplicaCall call) {
  PostFrom(
      [this, group, call = std::move(call)](Turn& turn) mutable {
        Replica* replica = Find(group);
        if (replica == nullptr) return;
        std::move(call)(*replica, turn);
        Touch(replica, turn);
      },
      true);
}

void Loop::PostFrom(InboxEvent event, bool on_log_thread) {
  const uint64_t weight = Weight(event);
  bool refused = false;
  {
    const std::lock_guard lock(inbox_mutex_);
    if (weight > 0 && inbox_weight_ + weight > options_.max_inbox_events &&
        inbox_weight_ > 0) {
      inbox_refused_ += weight;
      refused = true;
    } else {
      inbox_weight_ += weight;
      inbox_.push_back(std::move(event));
    }
  }
  if (!refused) {
    Run(on_log_thread);
    return;
  }
  auto* operations = std::get_if<std::vector<Operation>>(&event);
  if (operations == nullptr) return;  // Raft sends lost messages again
  for (Operation& operation : *operations) {
    Reply reply;
    reply.tag = operation.tag;
    reply.kind = operation.kind;
    reply.code = ReplyCode::kOverloaded;
    reply.message = absl::StrCat("more than ", options_.max_inbox_events,
                                 " requests wait in this server");
    operation.sink->Deliver(std::move(reply));
  }
  for (Operation& operation : *operations) operation.sink->Flush();
}

bool Loop::TakeInbox(std::vector<InboxEvent>* events) {
  events->clear();
  const std::lock_guard lock(inbox_mutex_);
  if (inbox_.empty() || owned_) return false;
  owned_ = true;
  events->swap(inbox_);
  inbox_weight_ = 0;
  return true;
}

void Loop::GiveUp() {
  const std::lock_guard lock(inbox_mutex_);
  owned_ = false;
}

void Loop::Run(bool on_log_thread) {
  std::vector<InboxEvent> events;
  while (TakeInbox(&events)) {
    Turn turn;
    turn.stats = &stats_;
    turn.now_nanos = parts_.clock->MonotonicNanos();
    // Asked before the events: when it is busy now, its end is not among them,
    // unless HandleDurable() finds it there.
    turn.log_busy = LogBusy();
    turn.may_wait = timer_ != nullptr;
    for (InboxEvent& event : events) Handle(std::move(event), turn);
    FinishTurn(turn);
    SubmitLog(turn);  // first: the disk works while messages are sent
    SendMessages(turn);
    SetTimer(turn);
    StartFetches(turn);
    StartHashes(turn);
    GiveUp();
    CarryOut(turn);
    // The log thread leaves what came meanwhile to the turn after its next
    // sync, when there is one to do: clients wait for the sync. It comes back
    // then, so nothing is forgotten.
    if (on_log_thread) {
      const std::lock_guard lock(log_mutex_);
      if (log_busy_) return;
    }
  }
}

// ---- a turn ----

void Loop::Handle(InboxEvent event, Turn& turn) {
  if (auto* operations = std::get_if<std::vector<Operation>>(&event)) {
    HandleOperations(std::move(*operations), turn);
  } else if (auto* peer = std::get_if<PeerEvent>(&event)) {
    HandlePeer(std::move(*peer), turn);
  } else if (std::holds_alternative<TickEvent>(event)) {
    HandleTick(turn);
  } else if (auto* durable = std::get_if<DurableEvent>(&event)) {
    HandleDurable(std::move(*durable), turn);
  } else if (auto* fetched = std::get_if<FetchedEvent>(&event)) {
    if (Replica* replica = Find(fetched->group)) {
      replica->Fetched(fetched->peer, std::move(fetched->entries));
      Touch(replica, turn);
    }
  } else if (std::holds_alternative<WaitEndsEvent>(event)) {
    timer_set_ = 0;
    TouchWaiting(turn);
  } else if (auto* call = std::get_if<CallEvent>(&event)) {
    (*call)(turn);
  }
}

// It rings too early for what waits later, and is set again then; moving it for
// every batch would be a system call more for each.
void Loop::SetTimer(const Turn& turn) {
  if (turn.wake_at == 0 || timer_ == nullptr) return;
  if (timer_set_ != 0 && timer_set_ <= turn.wake_at) return;
  timer_set_ = turn.wake_at;
  timer_->Set(turn.wake_at);
}

void Loop::PeerGone(raft::NodeId peer, Turn& turn) {
  for (const auto& replica : replicas_) {
    replica->PeerGone(peer);
    Touch(replica.get(), turn);
  }
}

void Loop::PeerSilent(raft::NodeId peer, Turn& turn) {
  for (const auto& replica : replicas_) {
    if (!replica->core().quiet()) continue;
    replica->PeerGone(peer);
    if (!replica->core().quiet()) Touch(replica.get(), turn);
  }
}

void Loop::Activate(Replica* replica) {
  if (replica->SetActive(true)) active_.push_back(replica);
}

void Loop::ChooseActive() {
  std::erase_if(active_, [](Replica* replica) {
    return replica->Rests() && replica->SetActive(false);
  });
  if (ticks_ % kKeeperTicks != 0 || active_.size() == replicas_.size()) return;
  const size_t share = replicas_.size() / kRestFactor + 1;
  for (size_t i = 0; i < share; ++i) {
    next_resting_ = (next_resting_ + 1) % replicas_.size();
    Activate(replicas_[next_resting_].get());
  }
}

void Loop::HandleTick(Turn& turn) {
  ++ticks_;
  ChooseActive();
  for (Replica* replica : active_) {
    replica->Tick(turn.now_nanos, ticks_, *nodes_);
    replica->KeepAudits(turn);
    Touch(replica, turn);
  }
  if (ticks_ % kKeeperTicks == 0 && !stopping_) Keep(turn);
  if (!stopping_ && replicas_.size() > 1 && balance_.Due(ticks_)) {
    BalanceLeaders(turn);
  }
  // At once, and again while somebody could not take over.
  const bool low = conditions_->disk_low();
  const bool now_low = low && !was_low_;
  was_low_ = low;
  if (now_low || (low && ticks_ % NodeConditions::kRepeatTicks == 0)) {
    HandOverForSpace(turn);
  }
}

void Loop::Keep(Turn& turn) {
  const MapHolder::Map map = parts_.maps->Get();
  // Counting places goes over all groups.
  if (map != candidates_of_) {
    candidates_of_ = map;
    candidates_ = map->Candidates();
  }
  std::vector<SpareNode> spares;
  for (const kv::Candidate& candidate : candidates_) {
    spares.push_back({candidate.id, parts_.transport->Connected(candidate.id),
                      candidate.places});
  }
  if (map->epoch != kept_epoch_) {
    kept_epoch_ = map->epoch;
    for (const auto& replica : replicas_) Activate(replica.get());
  }
  for (Replica* replica : active_) {
    if (!replica->IsLeader()) continue;
    replica->Keep(*map, spares, ticks_, directory_);
    Touch(replica, turn);
  }
}

void Loop::BalanceLeaders(Turn& turn) {
  std::vector<LeaderBalance::Group> groups;
  groups.reserve(replicas_.size());
  for (const auto& replica : replicas_) {
    groups.push_back(replica->BalanceView());
    std::erase_if(groups.back().able, [this](raft::NodeId peer) {
      return conditions_->IsLow(peer) || !parts_.transport->Connected(peer);
    });
  }
  for (const LeaderBalance::Move& move : balance_.Look(groups, ticks_)) {
    LogInfo("group ", move.group.value(), ": hands its leadership to node ",
            move.to.value(), ", which leads fewer groups");
    ++stats_.leader_moves;
    Replica* replica = Find(move.group);
    replica->HandOverTo([&](raft::NodeId peer) { return peer == move.to; });
    Touch(replica, turn);
  }
}

void Loop::HandOverForSpace(Turn& turn) {
  for (const auto& replica : replicas_) {
    if (!replica->IsLeader()) continue;
    Touch(replica.get(), turn);
    replica->HandOverTo(
        [this](raft::NodeId peer) { return !conditions_->IsLow(peer); });
  }
}

void Loop::HandleOperations(std::vector<Operation> operations, Turn& turn) {
  const bool low = conditions_->disk_low();
  for (Operation& operation : operations) {
    Replica* replica = Find(operation.group);
    if (replica == nullptr || stopping_) {
      Reply reply;
      reply.group = operation.group;
      reply.map_epoch = parts_.maps->epoch();
      if (stopping_) {
        reply.code = ReplyCode::kUnavailable;
        reply.message = "the server is stopping";
      } else {
        reply.code = ReplyCode::kWrongGroup;
        reply.message = absl::StrCat("group ", operation.group.value(),
                                     " is not on this server");
      }
      turn.Answer(operation, std::move(reply));
      continue;
    }
    // Others say who leads.
    if (low && NeedsRoom(operation.kind) && replica->IsLeader()) {
      Reply reply;
      reply.code = ReplyCode::kOverloaded;
      reply.group = operation.group;
      reply.message = conditions_->why();
      turn.Answer(operation, std::move(reply));
      continue;
    }
    replica->Request(std::move(operation), turn);
    Touch(replica, turn);
  }
}

void Loop::HandlePeer(PeerEvent event, Turn& turn) {
  stats_.peer_messages_received += event.messages.size();
  for (GroupMessage& message : event.messages) {
    Replica* replica = Find(message.group);
    if (replica == nullptr) replica = MakeVacant(message.group);
    if (replica == nullptr) {
      ++stats_.peer_messages_dropped;
      continue;
    }
    replica->Step(event.from, std::move(message.message));
    Touch(replica, turn);
  }
}

bool Loop::LogBusy() {
  const std::lock_guard lock(log_mutex_);
  return log_busy_;
}

void Loop::FinishTurn(Turn& turn) {
  for (Replica* replica : turn.touched) {
    replica->Untouch();
    Activate(replica);
    const bool had_leader = replica->has_leader();
    absl::Status status = replica->Finish(turn);
    if (!status.ok()) {
      parts_.on_failure(status);
      continue;
    }
    if (replica->BeganToWait()) waiting_.push_back(replica->group());
    if (had_leader != replica->has_leader()) {
      leaderless_.fetch_add(had_leader ? 1 : -1, std::memory_order_relaxed);
    }
  }
}

void Loop::SendMessages(Turn& turn) {
  for (auto& [to, messages] : turn.outbox) {
    stats_.peer_messages_sent += messages.size();
    parts_.transport->Send(to, std::move(messages));
  }
  for (auto& [to, message] : turn.node_messages) {
    parts_.transport->SendToNode(to, std::move(message));
  }
}

// ---- the log ----

void Loop::SubmitLog(Turn& turn) {
  if (turn.durable.empty() && turn.writes.empty()) return;
  {
    const std::lock_guard lock(log_mutex_);
    if (log_busy_) {
      std::move(turn.writes.begin(), turn.writes.end(),
                std::back_inserter(next_writes_));
      std::move(turn.durable.begin(), turn.durable.end(),
                std::back_inserter(next_durable_));
      return;
    }
    log_busy_ = true;
  }
  StartLogWrite(std::move(turn.writes), std::move(turn.durable));
}

void Loop::StartLogWrite(std::vector<wal::GroupWrite> writes,
                         std::vector<DurableGroup> durable) {
  wal::WalTask task;
  task.writes = std::move(writes);
  task.done = [this, durable = std::move(durable)]() mutable {
    OnLogDone(std::move(durable));
  };
  parts_.log->Submit(std::move(task));
}

void Loop::OnLogDone(std::vector<DurableGroup> durable) {
  // What was gathered meanwhile goes to the disk first.
  std::vector<wal::GroupWrite> writes;
  std::vector<DurableGroup> next;
  bool more = false;
  {
    const std::lock_guard lock(log_mutex_);
    writes.swap(next_writes_);
    next.swap(next_durable_);
    log_busy_ = more = !next.empty() || !writes.empty();
  }
  if (more) StartLogWrite(std::move(writes), std::move(next));

  // Acknowledgements leave from here, without waiting for the loop.
  absl::flat_hash_map<raft::NodeId, std::vector<GroupMessage>> outbox;
  for (DurableGroup& group : durable) {
    for (raft::Envelope& envelope : group.send) {
      outbox[envelope.to].push_back(
          GroupMessage{group.replica->group(), std::move(envelope.message)});
    }
    group.send.clear();
  }
  for (auto& [to, messages] : outbox) {
    parts_.transport->Send(to, std::move(messages));
  }
  PostFrom(DurableEvent{std::move(durable)}, true);
}

void Loop::StartFetches(Turn& turn) {
  for (const FetchRequest& request : turn.fetches) {
    parts_.log->ReadAsync(
        request.group, request.fetch.first, request.fetch.last,
        request.fetch.max_bytes,
        [this, group = request.group, peer = request.fetch.peer](
            absl::StatusOr<std::vector<raft::Entry>> entries) {
          // Damage is found by checksums and must not travel; the follower is
          // left behind until its leader changes.
          if (absl::IsDataLoss(entries.status())) {
            parts_.on_failure(entries.status());
            return;
          }
          FetchedEvent event{group, peer, {}};
          if (entries.ok()) event.entries = *std::move(entries);
          Post(std::move(event));
        });
  }
}

void Loop::StartHashes(Turn& turn) {
  for (HashRequest& request : turn.hashes) {
    parts_.background->Run([post = snapshots_.post, group = request.group,
                            work = std::move(request.work)]() mutable {
      auto hash = work.job->Run();
      work.job.reset();  // its view holds on to old data
      post(group, [at = work.at, hash = std::move(hash)](Replica& replica,
                                                         Turn& next) {
        replica.Hashed(at, hash, next);
      });
    });
  }
}

}  // namespace kv739::server
