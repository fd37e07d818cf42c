#include "server/directory_client.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "server/logging.h"

namespace kv739::server {
namespace {

DirectoryAnswer ToAnswer(Reply reply) {
  DirectoryAnswer answer;
  answer.leader = std::move(reply.leader);
  answer.epoch = reply.version;
  switch (reply.code) {
    case ReplyCode::kOk:
      break;
    case ReplyCode::kRefused:
      answer.status = absl::FailedPreconditionError(reply.message);
      break;
    case ReplyCode::kUnknown:
      answer.status = absl::UnknownError(reply.message);
      break;
    default:
      answer.status = absl::UnavailableError(reply.message);
      break;
  }
  return answer;
}

class Sink : public ReplySink {
 public:
  explicit Sink(DirectoryDone done) : done_(std::move(done)) {}
  void Deliver(Reply reply) override { done_(ToAnswer(std::move(reply))); }
  void Flush() override {}

 private:
  DirectoryDone done_;
};

}  // namespace

void DirectoryClient::ProposeEncoded(std::string encoded, DirectoryDone done) {
  Operation operation;
  operation.kind = OpKind::kDirectory;
  operation.group = kv::kDirectoryGroup;
  operation.value = std::move(encoded);
  operation.start_nanos = clock_->MonotonicNanos();
  operation.sink = std::make_shared<Sink>(std::move(done));
  std::vector<Operation> operations;
  operations.push_back(std::move(operation));
  submit_(std::move(operations));
}

void DirectoryClient::Propose(const kv::DirectoryChange& change,
                              DirectoryDone done) {
  ProposeEncoded(kv::EncodeDirectoryChange(change), std::move(done));
}

void DirectoryClient::Send(const kv::DirectoryChange& change) {
  const MapHolder::Map map = maps_->Get();
  const kv::GroupInfo* group = map->FindGroup(kv::kDirectoryGroup);
  if (group == nullptr) return;
  const std::string encoded = kv::EncodeDirectoryChange(change);
  std::vector<raft::NodeId> members = group->members;
  members.insert(members.end(), group->target.begin(), group->target.end());
  std::sort(members.begin(), members.end());
  members.erase(std::unique(members.begin(), members.end()), members.end());
  for (raft::NodeId member : members) {
    // All but its leader ignore it.
    if (member == self_) {
      OnReceived(encoded);
    } else {
      transport_->SendToNode(member,
                             {NodeMessage::Kind::kDirectoryChange, encoded});
    }
  }
}

void DirectoryClient::OnReceived(const std::string& encoded) {
  // Peers are trusted to mean well, not to make no mistakes.
  if (!kv::DecodeDirectoryChange(encoded).ok()) return;
  ProposeEncoded(encoded, [](DirectoryAnswer answer) {
    if (absl::IsFailedPrecondition(answer.status)) {
      LogInfo("the directory refused a change: ", answer.status.message());
    }
  });
}

}  // namespace kv739::server
