#include "client/fork.h"

#include <grpc/grpc.h>
#include <pthread.h>

#include <atomic>

namespace kv739::client {
namespace {

std::atomic<uint64_t> fork_count{0};
std::atomic<bool> in_use{false};  // at the fork that is under way
std::atomic<bool> from_user{false};

// In the parent, where gRPC's lock is sure to be free in a moment.
void Prepare() { in_use = grpc_is_initialized() != 0; }

void InChild() {
  fork_count.fetch_add(1);
  if (in_use) from_user = true;
}

// At load, so that forks before the first call are seen too.
[[maybe_unused]] const int registered =
    pthread_atfork(Prepare, nullptr, InChild);

}  // namespace

uint64_t ForkCount() { return fork_count.load(std::memory_order_relaxed); }

bool ForkedFromNetworkUser() {
  return from_user.load(std::memory_order_relaxed);
}

}  // namespace kv739::client
