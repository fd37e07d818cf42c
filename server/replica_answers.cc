// How requests end: the answers of a replica.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "raft/planted.h"
#include "server/replica.h"

namespace kv739::server {
namespace {

Reply ReplyOf(kv::ApplyResult result, OpKind kind) {
  Reply reply;
  reply.found = result.existed;
  reply.version = result.version;
  reply.session = result.session;
  reply.value = std::move(result.old_value);
  switch (result.code) {
    case kv::ApplyCode::kOk:
      reply.swapped = kind == OpKind::kCompareAndSwap;
      break;
    case kv::ApplyCode::kCompareFailed:
      break;
    case kv::ApplyCode::kValueTooLarge:
      reply.code = ReplyCode::kValueTooLarge;
      reply.message = absl::StrCat("the value would be longer than ",
                                   kv::kMaxValueBytes, " bytes");
      break;
    case kv::ApplyCode::kSessionUnknown:
      reply.code = ReplyCode::kSessionUnknown;
      reply.message = "the session was never opened or has been forgotten";
      break;
    case kv::ApplyCode::kSequenceStale:
      reply.code = ReplyCode::kSequenceRefused;
      reply.message = "the sequence is below the session's floor";
      break;
    case kv::ApplyCode::kRefused:
      reply.code = ReplyCode::kRefused;
      reply.message = std::exchange(reply.value, "");
      break;
    case kv::ApplyCode::kSessionWindow:
      reply.code = ReplyCode::kSequenceRefused;
      reply.message = absl::StrCat("the sequence is more than ",
                                   kv::kSessionWindow, " above the floor");
      break;
  }
  return reply;
}

}  // namespace

void Turn::Answer(Operation& operation, Reply reply) {
  reply.tag = operation.tag;
  reply.kind = operation.kind;
  const int kind = static_cast<int>(operation.kind);
  ++stats->replies[kind][static_cast<int>(reply.code)];
  if (now_nanos > operation.start_nanos) {
    stats->latency_us[kind].Observe((now_nanos - operation.start_nanos) / 1000);
  }
  replies.emplace_back(std::move(operation.sink), std::move(reply));
}

// What an answer needs of the oldest proposal.
Operation Replica::TakePending() {
  Pending pending = std::move(pending_.front());
  pending_.pop_front();
  Operation operation;
  operation.kind = pending.kind;
  operation.tag = pending.tag;
  operation.start_nanos = pending.start_nanos;
  operation.sink = std::move(pending.sink);
  return operation;
}

void Replica::AnswerApplied(const raft::Entry& entry, kv::ApplyResult result,
                            Turn& turn) {
  if (pending_.empty() || pending_.front().position.index > entry.index) {
    return;
  }
  const raft::LogPosition proposed = pending_.front().position;
  Operation operation = TakePending();
  if (proposed != raft::LogPosition{entry.term, entry.index}) {
    // Replaced by another leader's entry: it has not and will not happen.
    Reply reply = NotLeader(operation);
    turn.Answer(operation, std::move(reply));
    return;
  }
  Reply reply = ReplyOf(std::move(result), operation.kind);
  reply.group = group_;
  reply.map_epoch = maps_->epoch();
  turn.Answer(operation, std::move(reply));
}

void Replica::FailPending(Turn& turn) {
  if (!pending_.empty()) FailPendingTo(pending_.back().position.index, turn);
}

void Replica::FailPendingTo(raft::Index index, Turn& turn) {
  while (!pending_.empty() && pending_.front().position.index <= index) {
    Operation operation = TakePending();
    Reply reply = Refusal(operation,
                          KV739_PLANTED(K4_failed_but_perhaps_done)
                              ? ReplyCode::kUnavailable
                              : ReplyCode::kUnknown,
                          "leadership changed while the write was under way");
    turn.Answer(operation, std::move(reply));
  }
}

void Replica::RefuseReads(const std::string& why, Turn& turn) {
  auto refuse = [&](std::vector<Operation>& reads) {
    for (Operation& operation : reads) {
      Reply reply = Refusal(operation, ReplyCode::kUnavailable, why);
      turn.Answer(operation, std::move(reply));
    }
    reads.clear();
  };
  refuse(requested_reads_);
  for (auto& [id, reads] : unconfirmed_) refuse(reads);
  unconfirmed_.clear();
  for (auto& [index, reads] : confirmed_) refuse(reads);
  confirmed_.clear();
}

Reply Replica::Refusal(const Operation& operation, ReplyCode code,
                       std::string message) const {
  Reply reply;
  reply.kind = operation.kind;
  reply.code = code;
  reply.message = std::move(message);
  reply.group = group_;
  reply.map_epoch = maps_->epoch();
  return reply;
}

Reply Replica::NotLeader(const Operation& operation) const {
  const std::shared_ptr<const kv::ClusterMap> map = maps_->Get();
  const kv::NodeInfo* leader =
      core_->IsLeader() ? nullptr : map->FindNode(core_->leader());
  if (leader == nullptr) {
    return Refusal(
        operation, ReplyCode::kNotLeader,
        absl::StrCat("group ", group_.value(), " has no known leader now"));
  }
  std::string address = leader->address.ToString();
  Reply reply = Refusal(
      operation, ReplyCode::kNotLeader,
      absl::StrCat("the leader of group ", group_.value(), " is ", address));
  reply.leader = std::move(address);
  return reply;
}

}  // namespace kv739::server
