#include "server/address_resolver.h"

#include <algorithm>
#include <utility>

namespace kv739::server {

AddressResolver::~AddressResolver() { Stop(); }

void AddressResolver::Stop() {
  std::deque<Question> dropped;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    dropped.swap(questions_);
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void AddressResolver::Resolve(const std::string& host_port, Done done) {
  absl::StatusOr<Addresses> numeric =
      ResolveHostPort(host_port, /*numeric_only=*/true);
  if (numeric.ok()) {
    done(std::move(numeric));
    return;
  }
  Addresses known;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    auto it = found_.find(host_port);
    if (it != found_.end()) known = it->second;
    auto question = std::find_if(
        questions_.begin(), questions_.end(),
        [&](const Question& q) { return q.host_port == host_port; });
    if (question == questions_.end()) {
      if (questions_.size() < kMaxNames) {
        questions_.push_back({host_port, {}});
        question = questions_.end() - 1;
        changed_.notify_one();
        if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
      } else if (known.empty()) {
        numeric = absl::ResourceExhaustedError("too many names are asked for");
      }
    }
    if (known.empty() && question != questions_.end()) {
      question->askers.push_back(std::move(done));
      return;
    }
  }
  if (known.empty()) {
    done(std::move(numeric));
  } else {
    done(std::move(known));
  }
}

void AddressResolver::Run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !questions_.empty(); });
    if (stopping_) return;
    // Others may join its askers meanwhile.
    const std::string host_port = questions_.front().host_port;
    lock.unlock();
    absl::StatusOr<Addresses> answer = ResolveHostPort(host_port);
    lock.lock();
    if (stopping_) return;
    std::vector<Done> askers = std::move(questions_.front().askers);
    questions_.pop_front();
    if (answer.ok() &&
        (found_.contains(host_port) || found_.size() < kMaxNames)) {
      found_[host_port] = *answer;
    }
    lock.unlock();
    for (Done& asker : askers) asker(answer);
    askers.clear();
    lock.lock();
  }
}

}  // namespace kv739::server
