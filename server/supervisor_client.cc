#include "server/supervisor_client.h"

#include <stdlib.h>

#include <utility>

namespace kv739::server {
namespace {

absl::StatusOr<kv::ServerProcess> AskOurs(
    const kv::SupervisorRequest& request) {
  const char* path = getenv(kv::kSupervisorVariable);
  if (path == nullptr || *path == '\0') {
    return absl::FailedPreconditionError(
        "this server runs without a supervisor (kv739d -c)");
  }
  return kv::AskSupervisorAt(path, request);
}

}  // namespace

absl::StatusOr<kv::ServerProcess> AskSupervisor(const kv::Address& server,
                                                bool is_new) {
  return AskOurs({kv::SupervisorRequest::Verb::kStart, server, is_new});
}

absl::StatusOr<kv::ServerProcess> AskSupervisorStatus(
    const kv::Address& server) {
  return AskOurs({kv::SupervisorRequest::Verb::kStatus, server, false});
}

SupervisorRelay::~SupervisorRelay() {
  std::thread thread;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    thread = std::move(thread_);
  }
  changed_.notify_one();
  if (thread.joinable()) thread.join();
}

void SupervisorRelay::Ask(kv::SupervisorRequest request, Done done) {
  {
    const std::lock_guard lock(mutex_);
    if (!stopping_ && waiting_.size() < kMaxWaiting) {
      waiting_.push_back({std::move(request), std::move(done)});
      if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
      changed_.notify_one();
      return;
    }
  }
  done(absl::ResourceExhaustedError("too many starts are asked for at once"));
}

void SupervisorRelay::Run() {
  while (true) {
    Question question;
    bool stopping = false;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      question = std::move(waiting_.front());
      waiting_.pop_front();
      stopping = stopping_;
    }
    question.done(stopping ? absl::CancelledError("the server is stopping")
                           : AskOurs(question.request));
  }
}

}  // namespace kv739::server
