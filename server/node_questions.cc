#include "server/node_questions.h"

#include <string>
#include <utility>

#include "kv/directory.h"
#include "server/node_client.h"

namespace kv739::server {
namespace {

absl::StatusOr<InquiryReply> Inquire(const kv::Address& to,
                                     const kv::Address& own,
                                     absl::Duration timeout) {
  auto answer = InquireAt(to.ToString(), own.ToString(), timeout);
  if (!answer.ok()) return answer.status();
  auto map = kv::DecodeClusterMap(answer->map);
  if (!map.ok()) return map.status();
  return InquiryReply{*std::move(map), answer->met};
}

absl::StatusOr<JoinReply> AskToJoin(const kv::Address& to,
                                    const JoinQuestion& question,
                                    absl::Duration timeout) {
  JoinCall call;
  call.cluster_id = question.cluster_id;
  call.node = question.node.id;
  call.address = question.node.address.ToString();
  call.metrics_port = question.node.metrics_port;
  call.http_port = question.node.http_port;
  auto answer = JoinAt(to.ToString(), call, timeout);
  if (!answer.ok()) return answer.status();
  JoinReply reply;
  reply.leader = answer->leader;
  if (answer->map.empty()) return reply;
  auto map = kv::DecodeClusterMap(answer->map);
  if (!map.ok()) return absl::UnavailableError(map.status().message());
  reply.map = *std::move(map);
  return reply;
}

}  // namespace

ServerQuestions OverTheNetwork() { return {Inquire, AskToJoin}; }

NodeService::Rules AnswerOverTheNetwork(
    const MapHolder* maps, const DataDirectory* directory,
    std::function<void(const kv::DirectoryChange&, DirectoryDone)> propose) {
  NodeService::Rules rules;
  rules.inquire = [maps, directory](std::string address) {
    const InquiryReply reply = HandleInquiry(*maps, *directory, address);
    return InquireAnswer{reply.map.cluster_id, kv::EncodeClusterMap(reply.map),
                         reply.met};
  };
  rules.join = [maps, propose = std::move(propose)](
                   JoinCall call,
                   absl::AnyInvocable<void(absl::StatusOr<JoinAnswer>)> done) {
    JoinQuestion question;
    question.cluster_id = call.cluster_id;
    question.node.id = call.node;
    question.node.metrics_port = call.metrics_port;
    question.node.http_port = call.http_port;
    auto address = kv::Address::Parse(call.address);
    if (!address.ok()) {
      done(address.status());
      return;
    }
    question.node.address = *std::move(address);
    HandleJoin(
        question, maps, propose,
        [done = std::move(done)](absl::StatusOr<JoinReply> reply) mutable {
          if (!reply.ok()) {
            done(reply.status());
            return;
          }
          JoinAnswer answer;
          answer.leader = reply->leader;
          if (reply->map) answer.map = kv::EncodeClusterMap(*reply->map);
          done(std::move(answer));
        });
  };
  return rules;
}

}  // namespace kv739::server
