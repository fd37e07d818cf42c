// The engine's sessions: one per group, opened by the first write, its
// numbers given to writes in the order in which they came.
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/engine.h"

namespace kv739::client {

void Engine::BeginWrite(const OperationPtr& operation) {
  std::unique_ptr<Session>& slot = sessions_[operation->group];
  if (slot == nullptr) slot = std::make_unique<Session>();
  Session* session = slot.get();
  if (session->waiting.empty() && session->tracker.CanBegin()) {
    operation->identity = {operation->group, session->tracker.session(),
                           session->tracker.Begin()};
    Send(operation);
    return;
  }
  Wait(operation, session);
  if (!session->tracker.is_open()) OpenSession(operation->group);
}

void Engine::Wait(const OperationPtr& operation, Session* session) {
  session->waiting.push_back(operation);
  operation->waiting = std::prev(session->waiting.end());
  operation->phase = Phase::kWaiting;
  operation->next_step = kNever;
  ArmNext(operation);
}

void Engine::StopWaiting(const OperationPtr& operation) {
  if (operation->phase != Phase::kWaiting) return;
  sessions_.at(operation->group)->waiting.erase(operation->waiting);
}

void Engine::OpenSession(raft::GroupId group) {
  Session& session = *sessions_.at(group);
  if (session.opening != nullptr) return;
  Request request;
  request.kind = OpKind::kOpenSession;
  request.group = group;
  session.opening = std::make_shared<Operation>(std::move(request));
  // Begin() may end it at once.
  const OperationPtr opening = session.opening;
  Begin(opening);
}

// Nobody waits for the session that `operation` tries to open: lets it be.
bool Engine::AbandonOpening(const OperationPtr& operation) {
  Session& session = *sessions_.at(operation->request.group);
  if (!session.waiting.empty()) return false;
  session.opening = nullptr;
  Finish(operation, Outcome{});
  return true;
}

void Engine::SessionOpened(raft::GroupId group, kv::SessionId id) {
  Session& session = *sessions_.at(group);
  session.opening = nullptr;
  session.tracker.Open(id);
  PumpWaiting(group);
}

// The group refuses to open one: whoever waits for it learns why.
void Engine::SessionFailed(raft::GroupId group, int code,
                           const std::string& message) {
  Session& session = *sessions_.at(group);
  session.opening = nullptr;
  while (!session.waiting.empty()) {
    const OperationPtr operation = session.waiting.front();
    FinishFailed(operation, code, message);
  }
}

// The group does not know the session any more.
void Engine::SessionLost(const WriteIdentity& identity) {
  Session& session = *sessions_.at(identity.group);
  if (session.tracker.session() == identity.session) session.tracker.Close();
}

// The write will not be sent again under its identity.
void Engine::ReleaseIdentity(const OperationPtr& operation) {
  const WriteIdentity identity = std::exchange(operation->identity, {});
  auto it = sessions_.find(identity.group);
  if (identity.session == 0 || it == sessions_.end()) return;
  it->second->tracker.End(identity.session, identity.sequence);
}

void Engine::PumpWaiting(raft::GroupId group) {
  Session& session = *sessions_.at(group);
  if (closed_) return;
  while (!session.waiting.empty() && session.tracker.CanBegin()) {
    const OperationPtr operation = session.waiting.front();
    session.waiting.pop_front();
    operation->phase = Phase::kNew;
    operation->identity = {group, session.tracker.session(),
                           session.tracker.Begin()};
    Send(operation);
  }
  if (!session.waiting.empty() && !session.tracker.is_open()) {
    OpenSession(group);
  }
}

}  // namespace kv739::client
