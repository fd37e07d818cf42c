// The engine's answers: what each one means for its operation.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/engine.h"
#include "raft/planted.h"

namespace kv739::client {

void Engine::OnAnswers(NodeIndex node, std::vector<Answer> answers,
                       uint64_t map_epoch, Instant now) {
  now_ = now;
  if (map_epoch > router_.epoch()) WantMap(map_epoch, node);
  for (Answer& answer : answers) OnAnswer(node, std::move(answer));
}

void Engine::OnAnswer(NodeIndex node, Answer answer) {
  auto it = attempts_.find(answer.tag);
  // Of an operation that has ended, or nonsense.
  if (it == attempts_.end() || it->second.node != node || !it->second.sent) {
    return;
  }
  const OperationPtr operation = it->second.operation;
  const WriteIdentity identity = it->second.identity;
  operation->answered = true;
  if (answer.code == AnswerCode::kOk) {
    router_.Succeeded(operation->group, node);
    OnDone(operation, std::move(answer));
    return;
  }
  const bool newest = operation->attempts.back() == answer.tag;
  // After UNKNOWN this attempt may still take effect.
  DropAttempt(answer.tag, answer.code != AnswerCode::kUnknown);
  // Otherwise another try is under way or a pause is, and the refusal of this
  // one has only taken its doubt away.
  if (operation->phase != Phase::kTrying || !newest) return;
  OnRefused(operation, node, identity, std::move(answer));
}

void Engine::OnDone(const OperationPtr& operation, Answer answer) {
  const Request& request = operation->request;
  if (request.kind == OpKind::kOpenSession) {
    Finish(operation, Outcome{});
    if (answer.session != 0) {
      SessionOpened(request.group, answer.session);
    } else {
      SessionFailed(request.group, KV739_E_INTERNAL,
                    "the server gave no session");
    }
    return;
  }
  Outcome outcome;
  outcome.found = answer.found;
  outcome.version = answer.version;
  outcome.value = std::move(answer.value);
  const bool yes = request.kind == OpKind::kCas ? answer.swapped : answer.found;
  outcome.code = yes ? 0 : 1;
  if (request.kind == OpKind::kScan) {
    if (answer.page == nullptr) {
      FinishFailed(operation, KV739_E_INTERNAL, "the server gave no page");
      return;
    }
    outcome.code = 0;
    outcome.page = std::move(answer.page);
  }
  Finish(operation, std::move(outcome));
}

void Engine::OnRefused(const OperationPtr& operation, NodeIndex node,
                       const WriteIdentity& identity, Answer answer) {
  operation->last_problem =
      absl::StrCat(router_.AddressOf(node), ": ", answer.message);
  switch (answer.code) {
    case AnswerCode::kNotLeader: {
      const bool named =
          router_.NotLeader(operation->group, node, answer.leader);
      Retry(operation, named);
      return;
    }
    case AnswerCode::kWrongGroup:
      WantMap(std::max(answer.map_epoch, router_.epoch() + 1));
      router_.Failed(operation->group, node);
      // The other members would say the same; the map comes meanwhile.
      operation->free_tries = 0;
      operation->free_hops = 0;
      Retry(operation, false);
      return;
    case AnswerCode::kUnavailable:
      router_.Failed(operation->group, node);
      Retry(operation, false);
      return;
    case AnswerCode::kOverloaded:
    case AnswerCode::kUnknown:
      operation->free_tries = 0;
      operation->free_hops = 0;
      Retry(operation, false);
      return;
    case AnswerCode::kSessionUnknown:
    case AnswerCode::kSequenceRefused:
      OnIdentityRefused(operation, identity);
      return;
    default:
      break;
  }
  int code = KV739_E_INTERNAL;
  if (answer.code == AnswerCode::kInvalidArgument ||
      answer.code == AnswerCode::kValueTooLarge) {
    code = KV739_E_INVALID;
  } else if (answer.code == AnswerCode::kPermissionDenied) {
    code = KV739_E_DENIED;
  }
  if (operation->request.kind == OpKind::kOpenSession) {
    Finish(operation, Outcome{});
    SessionFailed(operation->request.group, code, operation->last_problem);
    return;
  }
  if (operation->request.IsWrite() && operation->doubt > 0 &&
      !KV739_PLANTED(K4_client_calls_doubt_a_failure)) {
    code = KV739_E_UNKNOWN;
    operation->last_problem +=
        "; an earlier try of the write may have taken effect";
  }
  FinishFailed(operation, code, operation->last_problem);
}

// The group does not take this identity. A write without any doubt gets
// another; for one in doubt nobody remembers any more whether it took effect.
void Engine::OnIdentityRefused(const OperationPtr& operation,
                               const WriteIdentity& identity) {
  if (!operation->request.IsWrite()) {
    Retry(operation, false);
    return;
  }
  SessionLost(identity);
  if (operation->doubt > 0 && !KV739_PLANTED(K1_blind_retry)) {
    FinishFailed(operation, KV739_E_UNKNOWN,
                 absl::StrCat(operation->last_problem,
                              "; an earlier try of the write may have taken "
                              "effect"));
    return;
  }
  // A server that refuses every session is asked again at intervals.
  DropAttempts(operation);
  ReleaseIdentity(operation);
  operation->free_tries = 0;
  operation->free_hops = 0;
  Retry(operation, false);
}

void Engine::WantMap(uint64_t epoch, std::optional<NodeIndex> knower) {
  if (epoch <= router_.epoch()) return;
  wanted_epoch_ = std::max(wanted_epoch_, epoch);
  map_wanted_ = true;
  if (knower) map_knower_ = knower;
  MaybeFetchMap();
}

// The servers of the map may have been replaced while nobody told this client.
void Engine::DoubtMap() {
  if (now_ < next_doubt_) return;
  next_doubt_ = now_ + kDoubtPause;
  map_doubted_ = true;
  map_wanted_ = true;
  MaybeFetchMap();
}

void Engine::MaybeFetchMap() {
  if (!map_wanted_ || map_under_way_ || now_ < next_map_fetch_ || closed_) {
    return;
  }
  map_under_way_ = true;
  map_wanted_ = false;
  if (map_knower_) {
    map_asked_ = std::exchange(map_knower_, std::nullopt);
  } else {
    const std::optional<NodeIndex> last = map_asked_;
    map_asked_ = router_.NextForMap();
    if (map_asked_ == last) map_asked_ = router_.NextForMap();
  }
  effects_.fetch_map = map_asked_;
}

void Engine::OnMap(std::unique_ptr<kv::ClusterMap> map, Instant now) {
  now_ = now;
  map_under_way_ = false;
  next_map_fetch_ = now_ + kMapPause;
  const bool got = map != nullptr;
  // Without anybody who waits there is no hurry to find another server.
  if (got || pending_ == 0) map_doubted_ = false;
  if (!got) map_knower_.reset();
  const bool newer = got && router_.Update(std::move(*map));
  // A failed fetch, or a map older than what some server knows: asked again,
  // elsewhere.
  if (!got || (!newer && wanted_epoch_ > router_.epoch() + 1)) {
    map_wanted_ = wanted_epoch_ > router_.epoch() || map_doubted_;
  }
}

}  // namespace kv739::client
