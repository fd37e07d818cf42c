// What one core costs per entry, without disk and network: on a leader with
// two or four followers from proposal to apply, and on a follower. Batches are
// what one turn of the owner brings.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "raft/core.h"

namespace kv739::raft {
namespace {

class FixedRandom : public Random {
 public:
  uint64_t Next() override { return 0; }
};

std::unique_ptr<Core> MakeCore(uint64_t voters, Random* random) {
  Options options;
  options.self = NodeId(1);
  options.pre_vote = false;
  InitialState state;
  for (uint64_t id = 1; id <= voters; ++id) {
    state.snapshot.configuration.voters.push_back(NodeId(id));
  }
  auto core = Core::Create(options, std::move(state), random);
  if (!core.ok()) std::abort();
  return *std::move(core);
}

void Finish(Core* core, Ready* ready) {
  core->Persisted(ready->persist.position);
  if (!ready->committed.empty()) core->Applied(ready->committed.back().index);
}

void KeepLogShort(Core* core) {
  // As the host does after a snapshot, so that a long run stays in memory.
  if (core->applied().value() % 65536 < 256) core->Compact(core->applied());
}

void BM_Leader(benchmark::State& bench) {
  const uint64_t voters = bench.range(0);
  const size_t batch = bench.range(1);
  FixedRandom random;
  auto core = MakeCore(voters, &random);
  while (core->term() == Term(0)) core->Tick();
  Ready first = core->TakeReady();
  Finish(core.get(), &first);
  for (uint64_t id = 2; id <= voters; ++id) {
    core->Step({NodeId(id), NodeId(1),
                RequestVoteResponse{core->term(), false, true}});
  }
  if (!core->IsLeader()) std::abort();
  const Payload payload = MakePayload(std::string(256, 'x'));
  uint64_t messages = 0;
  for (auto _ : bench) {
    std::vector<Payload> commands(batch, payload);
    if (!core->Propose(std::move(commands)).ok()) std::abort();
    Ready ready = core->TakeReady();
    messages += ready.send_now.size();
    Finish(core.get(), &ready);
    for (uint64_t id = 2; id <= voters; ++id) {
      core->Step(
          {NodeId(id), NodeId(1),
           AppendEntriesResponse{core->term(), true, core->last_index(), {}}});
    }
    ready = core->TakeReady();
    Finish(core.get(), &ready);
    KeepLogShort(core.get());
  }
  if (core->commit() != core->last_index()) std::abort();
  bench.SetItemsProcessed(static_cast<int64_t>(bench.iterations() * batch));
  bench.counters["messages/turn"] =
      static_cast<double>(messages) / static_cast<double>(bench.iterations());
}
BENCHMARK(BM_Leader)->ArgsProduct({{3, 5}, {1, 16, 256}});

void BM_Follower(benchmark::State& bench) {
  const size_t batch = bench.range(0);
  FixedRandom random;
  auto core = MakeCore(5, &random);
  const Payload payload = MakePayload(std::string(256, 'x'));
  Index last;
  for (auto _ : bench) {
    AppendEntries append{Term(1), {last ? Term(1) : Term(0), last}, last, {}};
    append.entries.reserve(batch);
    for (size_t i = 0; i < batch; ++i) {
      ++last;
      append.entries.push_back({Term(1), last, EntryKind::kCommand, payload});
    }
    core->Step({NodeId(2), NodeId(1), std::move(append)});
    Ready ready = core->TakeReady();
    Finish(core.get(), &ready);
    KeepLogShort(core.get());
  }
  bench.SetItemsProcessed(static_cast<int64_t>(bench.iterations() * batch));
}
BENCHMARK(BM_Follower)->Arg(1)->Arg(16)->Arg(256);

void BM_ReadIndex(benchmark::State& bench) {
  const int64_t batch = bench.range(0);
  FixedRandom random;
  auto core = MakeCore(5, &random);
  while (core->term() == Term(0)) core->Tick();
  Ready first = core->TakeReady();
  Finish(core.get(), &first);
  for (uint64_t id = 2; id <= 5; ++id) {
    core->Step({NodeId(id), NodeId(1),
                RequestVoteResponse{core->term(), false, true}});
  }
  first = core->TakeReady();
  Finish(core.get(), &first);
  for (uint64_t id = 2; id <= 5; ++id) {
    core->Step({NodeId(id), NodeId(1),
                AppendEntriesResponse{core->term(), true, Index(1), {}}});
  }
  uint64_t round = 0;
  ReadId next = 0;
  for (auto _ : bench) {
    for (int64_t i = 0; i < batch; ++i) core->ReadIndex(++next);
    core->TakeReady();
    ++round;
    for (uint64_t id = 2; id <= 5; ++id) {
      core->Step(
          {NodeId(id), NodeId(1), HeartbeatResponse{core->term(), round}});
    }
    if (core->TakeReady().reads.size() != static_cast<size_t>(batch)) {
      std::abort();
    }
  }
  bench.SetItemsProcessed(bench.iterations() * batch);
}
BENCHMARK(BM_ReadIndex)->Arg(1)->Arg(256);

}  // namespace
}  // namespace kv739::raft
