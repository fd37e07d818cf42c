// A replica's part in the audits of its group: hashes its state where the log
// says so and reports it; as a leader proposes audits and compares.
#include <algorithm>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "kv/command.h"
#include "server/logging.h"
#include "server/replica.h"
#include "server/snapshot_replica.h"

namespace kv739::server {
namespace {

// Of one replica, for audits that people asked for.
constexpr size_t kMaxAuditWaiters = 64;

void AnswerAll(std::vector<Replica::AuditDone>* waiters,
               const absl::StatusOr<AuditResult>& result) {
  for (Replica::AuditDone& done : std::exchange(*waiters, {})) done(result);
}

}  // namespace

// ---- every replica ----

void Replica::BeginHash(Turn& turn) {
  audits_.Applied(audit_ticks_);
  report_.clear();  // of an audit that is over
  auto work = audit_duty_.Add({machine_->applied(), machine_->BeginHash()});
  if (work) turn.hashes.push_back({group_, *std::move(work)});
}

void Replica::Hashed(raft::LogPosition at,
                     const absl::StatusOr<kv::StateMachine::StateHash>& hash,
                     Turn& turn) {
  if (auto next = audit_duty_.Finished()) {
    turn.hashes.push_back({group_, *std::move(next)});
  }
  const AuditReport report = MakeAuditReport(group_, at, hash);
  if (report.code == absl::StatusCode::kDataLoss) {
    LogError("group ", group_.value(),
             ": the state here cannot be read: ", report.error);
  }
  reported_ = at;
  if (core_->IsLeader()) {
    audits_.Report(options_.self, report);
  } else {
    report_ = EncodeAuditMessage(report);
    report_repeats_ = 0;
    SendReport(turn);
  }
}

void Replica::SendReport(Turn& turn) {
  next_report_ = audit_ticks_ + (kReportTicks << report_repeats_);
  if (++report_repeats_ > kReportRepeats) return report_.clear();
  if (const raft::NodeId leader = core_->leader()) {
    turn.node_messages.emplace_back(
        leader, NodeMessage{NodeMessage::Kind::kAudit, report_});
  }
}

void Replica::OnAuditMessage(raft::NodeId from, const AuditMessage& message,
                             Turn& turn) {
  if (const auto* report = std::get_if<AuditReport>(&message)) {
    if (core_->IsLeader()) audits_.Report(from, *report);
  } else {
    OnVerdict(std::get<AuditVerdict>(message), turn);
  }
}

void Replica::OnVerdict(const AuditVerdict& verdict, Turn& turn) {
  // Of the state that we reported, and not of one that was replaced since.
  if (verdict.at != reported_) return;
  reported_ = {};
  snapshots_->Rebuild(absl::StrCat("the state of this replica of group ",
                                   group_.value(), " ", verdict.finding),
                      turn);
}

// ---- the leader ----

void Replica::Check(AuditDone done) {
  if (!core_->IsLeader()) {
    done(absl::FailedPreconditionError(
        absl::StrCat("this server does not lead group ", group_.value())));
  } else if (next_audit_waiters_.size() >= kMaxAuditWaiters) {
    done(absl::ResourceExhaustedError("too many ask for an audit"));
  } else {
    next_audit_waiters_.push_back(std::move(done));
    audits_.Ask();
  }
}

void Replica::KeepAudits(Turn& turn) {
  if (!core_->IsLeader()) {
    // It may have been lost on its way; a leader that has it takes no notice.
    if (!report_.empty() && audit_ticks_ >= next_report_) SendReport(turn);
    return;
  }
  if (audits_.Due(audit_ticks_)) ProposeAudit();
  if (const auto result = audits_.Poll(audit_ticks_)) EndAudit(*result, turn);
}

void Replica::ProposeAudit() {
  kv::Command command;
  command.op = kv::Op::kAudit;
  command.stamp = versions_.Next(clock_->WallMillis());
  std::vector<raft::Payload> commands;
  commands.push_back(raft::MakePayload(kv::EncodeCommand(command)));
  const auto at = core_->Propose(std::move(commands));
  if (!at.ok()) return;  // tried again at the next tick
  audits_.Begin(*at, core_->Status().configuration, audit_ticks_);
  audit_waiters_ = std::exchange(next_audit_waiters_, {});
}

void Replica::EndAudit(const AuditResult& result, Turn& turn) {
  ++audit_count_;
  const std::vector<raft::NodeId> convicted = result.Convicted();
  if (result.Clean()) {
    LogInfo(result.Describe());
  } else {
    LogError(result.Describe());
    audit_mismatches_ += std::max<size_t>(1, convicted.size());
  }
  for (const AuditedReplica& replica : result.replicas) {
    if (!absl::c_linear_search(convicted, replica.node)) continue;
    const AuditVerdict verdict{group_, result.at, result.Finding(replica)};
    if (replica.node == options_.self) {
      OnVerdict(verdict, turn);
    } else {
      turn.node_messages.emplace_back(
          replica.node,
          NodeMessage{NodeMessage::Kind::kAudit, EncodeAuditMessage(verdict)});
    }
  }
  AnswerAll(&audit_waiters_, result);
}

void Replica::StopAudits(absl::string_view why) {
  audits_.StepDown();
  const absl::Status status = absl::UnavailableError(why);
  AnswerAll(&audit_waiters_, status);
  AnswerAll(&next_audit_waiters_, status);
}

}  // namespace kv739::server
