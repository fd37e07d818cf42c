// Admin.Check: compares the replicas of groups that this server leads, now.
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "server/admin_service.h"
#include "server/request_handler.h"

namespace kv739::server {
namespace {

void Encode(const AuditResult& result, v1::CheckedGroup* out) {
  out->set_group(result.group.value());
  for (const AuditedReplica& replica : result.replicas) {
    v1::CheckedReplica* r = out->add_replicas();
    r->set_node(replica.node.value());
    const bool has_hash =
        replica.finding == AuditedReplica::Finding::kEqual ||
        replica.finding == AuditedReplica::Finding::kDiffers ||
        replica.finding == AuditedReplica::Finding::kUnclear;
    if (has_hash) {
      r->set_index(result.at.index.value());
      r->set_hash(replica.hash);
      r->set_keys(replica.keys);
    }
    r->set_finding(result.Finding(replica));
  }
}

// Ends the call when the last group has been compared.
template <typename Call>
class Checks {
 public:
  Checks(std::shared_ptr<Call> call, size_t groups)
      : call_(std::move(call)), missing_(groups) {}

  void Done(const absl::StatusOr<AuditResult>& result) {
    {
      const std::lock_guard lock(mutex_);
      if (result.ok()) {
        Encode(*result, call_->response().add_groups());
      } else if (status_.ok()) {
        status_ = result.status();
      }
      if (--missing_ > 0) return;
    }
    call_->Finish(grpc::Status(static_cast<grpc::StatusCode>(status_.code()),
                               std::string(status_.message())));
  }

 private:
  const std::shared_ptr<Call> call_;
  std::mutex mutex_;  // guards what follows and the response
  size_t missing_;
  absl::Status status_;
};

}  // namespace

void AdminService::Check(CheckPool::Call* call) {
  grpc::Status may = Permitted(call->context());
  if (may.ok() && call->overloaded()) {
    may = grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                       "too many calls are under way");
  }
  if (may.ok() && !rules_.check) {
    may = grpc::Status(grpc::StatusCode::UNIMPLEMENTED,
                       "this server compares nothing");
  }
  if (!may.ok()) {
    call->Finish(may);
    return;
  }
  using Call = CheckPool::Call;
  auto run = [this](std::shared_ptr<Call> running,
                    const std::vector<raft::GroupId>& groups) {
    if (groups.empty()) {
      running->Finish(grpc::Status::OK);
      return;
    }
    auto checks =
        std::make_shared<Checks<Call>>(std::move(running), groups.size());
    for (raft::GroupId group : groups) {
      rules_.check(group, [checks](absl::StatusOr<AuditResult> result) {
        checks->Done(result);
      });
    }
  };
  std::vector<raft::GroupId> groups;
  for (uint64_t group : call->request().groups()) {
    groups.push_back(raft::GroupId(group));
  }
  if (!groups.empty()) {
    run(call->shared_from_this(), groups);
    return;
  }
  loop_->handler()->CollectStats(
      [run, running = call->shared_from_this()](const HostStats& stats) {
        std::vector<raft::GroupId> led;
        for (const ReplicaStats& replica : stats.replicas) {
          if (replica.core.soft.role == raft::Role::kLeader) {
            led.push_back(replica.group);
          }
        }
        run(running, led);
      });
}

}  // namespace kv739::server
