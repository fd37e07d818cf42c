// Replicas that come to a node and go from it, as the cluster map says.
//
// A replica comes vacant, with the first message of its group; a snapshot fills
// it. When it goes, its log is dropped first, all but the hard state, so that a
// vote once given is never forgotten; then its data. After a crash in between
// the next start finds data without a log and removes it, whatever its map
// says: the map that made the replica go may not be on the disk yet.
#include <algorithm>
#include <utility>
#include <vector>

#include "server/background.h"
#include "server/logging.h"
#include "server/loop.h"

namespace kv739::server {

absl::Status Loop::Insert(HostedReplica hosted) {
  auto replica = Replica::Create(options_, std::move(hosted), parts_.maps,
                                 random_.get(), parts_.clock, &snapshots_);
  if (!replica.ok()) return replica.status();
  by_group_[(*replica)->group()] = replica->get();
  Activate(replica->get());
  replicas_.push_back(*std::move(replica));
  leaderless_.fetch_add(1, std::memory_order_relaxed);
  return absl::OkStatus();
}

Replica* Loop::MakeVacant(raft::GroupId group) {
  if (stopping_ || retired_.contains(group)) return nullptr;
  const MapHolder::Map map = parts_.maps->Get();
  const kv::GroupInfo* info = map->FindGroup(group);
  if (info == nullptr || !info->Concerns(options_.self)) return nullptr;
  HostedReplica hosted;
  hosted.group = group;
  hosted.machine = kv::StateMachine::Vacant(parts_.engine, group);
  if (auto known = hard_states_.extract(group); !known.empty()) {
    hosted.state.hard_state = known.mapped();
    hosted.state.hard_state.commit = raft::Index();
  }
  if (absl::Status status = Insert(std::move(hosted)); !status.ok()) {
    parts_.on_failure(status);
    return nullptr;
  }
  LogInfo("group ", group.value(), ": a new replica, waiting for a snapshot");
  return Find(group);
}

void Loop::TakeMap(Turn& turn) {
  const MapHolder::Map map = parts_.maps->Get();
  std::vector<Replica*> gone;
  for (const auto& replica : replicas_) {
    const kv::GroupInfo* group = map->FindGroup(replica->group());
    if (group != nullptr && group->Concerns(options_.self)) continue;
    if (group != nullptr && replica->VotesSince() > group->settled) {
      LogInfo("group ", group->id.value(), ": the cluster map of epoch ",
              map->epoch, " does not name this server and is older than the ",
              "log, which does");
      continue;
    }
    gone.push_back(replica.get());
  }
  for (Replica* replica : gone) Retire(replica, turn);
}

void Loop::Retire(Replica* replica, Turn& turn) {
  const raft::GroupId group = replica->group();
  LogInfo("group ", group.value(), ": this server is no member any more");
  replica->Retire(turn);
  if (!replica->has_leader()) {
    leaderless_.fetch_sub(1, std::memory_order_relaxed);
  }
  std::erase(turn.touched, replica);
  std::erase(active_, replica);
  by_group_.erase(group);
  const auto it =
      std::find_if(replicas_.begin(), replicas_.end(),
                   [&](const auto& other) { return other.get() == replica; });
  retired_[group] = std::move(*it);
  replicas_.erase(it);

  // Whatever it has under way in the log is done before this.
  hard_states_[group] = replica->hard_state();
  wal::GroupWrite log;
  log.group = group;
  log.hard_state = hard_states_[group];
  log.hard_state->commit = raft::Index();
  log.remove_group = true;
  turn.writes.push_back(std::move(log));
  DurableGroup durable;
  durable.replica = replica;
  durable.log_removed = true;
  turn.durable.push_back(std::move(durable));
}

void Loop::HandleDurable(DurableEvent event, Turn& turn) {
  // The next write may be under way already; what was gathered goes anyway.
  turn.log_busy = false;
  TouchWaiting(turn);
  for (DurableGroup& group : event.groups) {
    if (group.log_removed) {
      RemoveData(group.replica);
    } else if (!group.replica->retired()) {
      group.replica->Persisted(group.position);
      if (group.replica->Touch()) turn.touched.push_back(group.replica);
    }
  }
}

void Loop::TouchWaiting(Turn& turn) {
  for (raft::GroupId group : waiting_) {
    Replica* replica = Find(group);
    if (replica == nullptr) continue;
    replica->LookAgain();
    if (replica->Touch()) turn.touched.push_back(replica);
  }
  waiting_.clear();
}

void Loop::RemoveData(Replica* replica) {
  const raft::GroupId group = replica->group();
  parts_.background->Run([this, group] {
    absl::Status status =
        kv::StateMachine::Remove(parts_.engine, group, parts_.install_dir);
    Post([this, group, status](Turn&) {
      if (!status.ok()) {
        // What is left is found and removed at the next start.
        LogWarn("group ", group.value(),
                ": its data could not be removed: ", status.ToString());
      } else {
        LogInfo("group ", group.value(), ": its data is removed");
      }
      retired_.erase(group);
    });
  });
}

}  // namespace kv739::server
