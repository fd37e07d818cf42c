// What a client does per operation without sockets: the slot and group of a
// key, and the engine of lib739kv from submission to the answer, with batches
// as they go to one server. And what moving slots costs.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/engine.h"
#include "client/routing.h"
#include "kv/cluster_file.h"
#include "kv/ring.h"

namespace kv739::client {
namespace {

constexpr int kKeys = 4096;  // a power of two

kv::ClusterMap MapOf(int servers) {
  std::string text;
  for (int i = 0; i < servers; ++i) {
    absl::StrAppend(&text, "10.0.0.1:", 5000 + i, "\n");
  }
  return kv::InitialClusterMap(*kv::ParseClusterFile(text, "bench"));
}

std::vector<std::string> Keys() {
  std::vector<std::string> keys;
  for (int i = 0; i < kKeys; ++i) {
    keys.push_back(absl::StrCat("bench0000000", 1000 + i));
  }
  return keys;
}

// From a key to the server that is asked; the argument is how many groups.
void BM_RouteKey(benchmark::State& state) {
  Router router(MapOf(static_cast<int>(5 * state.range(0))), 1);
  const std::vector<std::string> keys = Keys();
  size_t at = 0;
  for (auto _ : state) {
    const kv::Slot slot = kv::SlotOf(keys[at++ % kKeys]);
    benchmark::DoNotOptimize(router.Target(router.GroupOf(slot)));
  }
}
BENCHMARK(BM_RouteKey)->Arg(1)->Arg(100);

// Who gets which slots when a group comes to `groups`.
void BM_RingReassign(benchmark::State& state) {
  std::vector<raft::GroupId> groups;
  for (int64_t i = 0; i < state.range(0); ++i) {
    groups.push_back(raft::GroupId(static_cast<uint64_t>(i)));
  }
  const std::vector<raft::GroupId> current = kv::AssignSlots(groups);
  groups.push_back(raft::GroupId(static_cast<uint64_t>(state.range(0))));
  for (auto _ : state) {
    benchmark::DoNotOptimize(kv::ReassignSlots(current, groups));
  }
}
BENCHMARK(BM_RingReassign)->Arg(4)->Arg(64);

// `batch` operations are submitted, taken, answered.
void RunEngine(benchmark::State& state, OpKind kind) {
  Engine engine(MapOf(5), {.seed = 1});
  const std::vector<std::string> keys = Keys();
  const std::string value(256, 'v');
  const Instant now = 1'000'000'000;
  size_t at = 0;
  size_t finished = 0;
  // Sends and answers until nothing is left to send.
  const auto settle = [&] {
    while (true) {
      Effects effects = engine.TakeEffects();
      finished += effects.done.size();
      if (effects.send.empty()) return;
      for (const NodeIndex node : effects.send) {
        std::vector<Answer> answers;
        for (const Outgoing& out : engine.TakeBatch(node)) {
          Answer& answer = answers.emplace_back();
          answer.tag = out.tag;
          answer.found = true;
          if (out.operation->request.kind == OpKind::kOpenSession) {
            answer.session = 7;
          }
        }
        engine.OnAnswers(node, std::move(answers), 1, now);
      }
    }
  };
  size_t submitted = 0;
  for (auto _ : state) {
    for (int64_t i = 0; i < state.range(0); ++i) {
      Request request;
      request.kind = kind;
      request.key = keys[at++ % kKeys];
      if (request.IsWrite()) request.value = value;
      auto operation = std::make_shared<Operation>(std::move(request));
      operation->deadline = now + 5'000'000'000;
      if (engine.Submit(std::move(operation), now) != KV739_OK) std::abort();
      ++submitted;
    }
    settle();
  }
  if (finished != submitted) std::abort();
  state.SetItemsProcessed(static_cast<int64_t>(submitted));
}
void BM_ClientGet(benchmark::State& state) { RunEngine(state, OpKind::kGet); }
void BM_ClientPut(benchmark::State& state) { RunEngine(state, OpKind::kPut); }
BENCHMARK(BM_ClientGet)->Arg(1)->Arg(64);
BENCHMARK(BM_ClientPut)->Arg(1)->Arg(64);

}  // namespace
}  // namespace kv739::client
