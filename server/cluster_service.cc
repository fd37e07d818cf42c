#include "server/cluster_service.h"

#include <unistd.h>

#include <memory>
#include <utility>

#include "kv739/version.h"

namespace kv739::server {
namespace {

constexpr int kArmedCalls = 8;
constexpr int kMaxCalls = 256;

v1::Role ToRole(raft::Role role) {
  switch (role) {
    case raft::Role::kFollower:
      return v1::FOLLOWER;
    case raft::Role::kCandidate:
      return v1::CANDIDATE;
    case raft::Role::kLeader:
      return v1::LEADER;
  }
  return v1::FOLLOWER;
}

static_assert(v1::LEAVING == static_cast<int>(kv::NodeState::kLeaving));
static_assert(v1::LEFT == static_cast<int>(kv::NodeState::kLeft));

void EncodeTransfer(const SnapshotTransferStats& stats,
                    v1::SnapshotTransfer* out) {
  out->set_peer(stats.peer.value());
  out->set_index(stats.index.value());
  out->set_bytes(stats.bytes);
  out->set_keys(stats.keys);
  out->set_total_bytes(stats.total_bytes);
  out->set_total_keys(stats.total_keys);
  out->set_seconds(static_cast<double>(stats.nanos) * 1e-9);
}

}  // namespace

void EncodeMap(const kv::ClusterMap& map, v1::GetMapResponse* out) {
  out->Clear();
  out->set_cluster_id(map.cluster_id);
  out->set_epoch(map.epoch);
  out->set_groups_per_five(map.groups_per_five);
  for (const kv::NodeInfo& node : map.nodes) {
    v1::Node* n = out->add_nodes();
    n->set_id(node.id.value());
    n->set_address(node.address.ToString());
    n->set_metrics_port(node.metrics_port);
    n->set_http_port(node.http_port);
    n->set_state(static_cast<v1::NodeState>(node.state));
  }
  for (const kv::GroupInfo& group : map.groups) {
    v1::Group* g = out->add_groups();
    g->set_id(group.id.value());
    for (raft::NodeId member : group.members) g->add_members(member.value());
    for (raft::NodeId member : group.target) g->add_target(member.value());
    g->set_automatic(group.automatic);
    for (raft::NodeId node : group.withdrawn) g->add_withdrawn(node.value());
  }
  v1::SlotRange* range = nullptr;
  for (size_t slot = 0; slot < map.slots.size(); ++slot) {
    if (range == nullptr || range->group() != map.slots[slot].value()) {
      range = out->add_slots();
      range->set_first(static_cast<uint32_t>(slot));
      range->set_group(map.slots[slot].value());
    }
    range->set_last(static_cast<uint32_t>(slot));
  }
}

void EncodeReplica(const ReplicaStats& stats, v1::ReplicaStatus* out) {
  const raft::CoreStatus& core = stats.core;
  out->Clear();
  out->set_group(stats.group.value());
  out->set_role(ToRole(core.soft.role));
  out->set_term(core.hard.term.value());
  out->set_leader(core.soft.leader.value());
  out->set_commit(core.commit.value());
  out->set_applied(core.applied.value());
  out->set_first_index(core.first_index.value());
  out->set_last_index(core.last_index.value());
  out->set_durable_index(core.durable.value());
  out->set_log_bytes(stats.log_bytes);
  for (raft::NodeId voter : core.configuration.voters) {
    out->add_voters(voter.value());
  }
  for (const raft::PeerProgress& peer : core.peers) {
    v1::PeerStatus* p = out->add_peers();
    p->set_node(peer.id.value());
    p->set_match(peer.match.value());
    p->set_active(peer.recently_active);
    p->set_learner(peer.learner);
    p->set_needs_snapshot(peer.needs_snapshot);
  }
  if (stats.keeper.state != KeeperState::kSettled) {
    out->set_membership(stats.keeper.Describe());
  }
  for (raft::NodeId learner : stats.core.configuration.learners) {
    out->add_learners(learner.value());
  }
  for (raft::NodeId voter : stats.core.configuration.outgoing) {
    out->add_outgoing(voter.value());
  }
  out->set_changing(stats.core.changing);
  out->set_sessions(stats.sessions);
  out->set_snapshot_index(stats.snapshot_index.value());
  out->set_fault(stats.fault);
  if (stats.receiving) {
    EncodeTransfer(*stats.receiving, out->mutable_receiving());
  }
  for (const SnapshotTransferStats& transfer : stats.sending) {
    EncodeTransfer(transfer, out->add_sending());
  }
}

using Service = v1::Cluster::AsyncService;

ClusterService::ClusterService(RpcLoop* loop, Node node)
    : loop_(loop),
      node_(std::move(node)),
      start_nanos_(loop->now_nanos()),
      get_map_(
          loop, kArmedCalls, kMaxCalls,
          [this](auto* context, auto* request, auto* writer, auto* queue,
                 void* tag) {
            service_.RequestGetMap(context, request, writer, queue, queue, tag);
          },
          [this](MapPool::Call* call) {
            EncodeMap(*loop_->handler()->map(), &call->response());
            call->Finish(grpc::Status::OK);
          }),
      get_status_(
          loop, kArmedCalls, kMaxCalls,
          [this](auto* context, auto* request, auto* writer, auto* queue,
                 void* tag) {
            service_.RequestGetStatus(context, request, writer, queue, queue,
                                      tag);
          },
          [this](StatusPool::Call* call) { GetStatus(call); }) {}

void ClusterService::Start() {
  get_map_.Start();
  get_status_.Start();
}

void ClusterService::Release() {
  get_map_.Release();
  get_status_.Release();
}

void ClusterService::GetStatus(StatusPool::Call* call) {
  if (call->overloaded()) {
    call->Finish(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                              "too many calls are under way"));
    return;
  }
  // The handler answers on a thread of its choice, maybe when this service is
  // gone: the answer is made of copies.
  const bool healthy = node_.healthy();
  const double uptime =
      static_cast<double>(loop_->now_nanos() - start_nanos_) * 1e-9;
  loop_->handler()->CollectStats([call = call->shared_from_this(),
                                  cluster = node_.cluster_id, id = node_.id,
                                  address = node_.address, healthy,
                                  uptime](HostStats stats) {
    v1::GetStatusResponse& out = call->response();
    out.set_cluster_id(cluster);
    out.set_node(id.value());
    out.set_address(address);
    out.set_version(kVersion);
    out.set_git_revision(kGitRevision);
    out.set_map_epoch(stats.map_epoch);
    out.set_uptime_seconds(uptime);
    out.set_healthy(healthy && !stats.stopping);
    out.set_stopping(stats.stopping);
    out.set_pid(getpid());
    for (const ReplicaStats& replica : stats.replicas) {
      EncodeReplica(replica, out.add_replicas());
    }
    call->Finish(grpc::Status::OK);
  });
}

}  // namespace kv739::server
