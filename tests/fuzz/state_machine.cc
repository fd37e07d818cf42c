// Applies whatever decodes as a command to two state machines, in batches of
// different sizes. Promises: nothing that a log may hold stops the process or
// damages the state, both ways give the same state (P5) and the same answers,
// and a state that is opened again, or sent as a snapshot, is the same.
#include "kv/state_machine.h"

#include <memory>
#include <string>
#include <vector>

#include "kv/command.h"
#include "kv/directory.h"
#include "kv/engine.h"
#include "kv/snapshot.h"
#include "tests/fuzz/fuzz.h"

namespace kv739::fuzz {
namespace {

using kv::StateMachine;

constexpr raft::GroupId kGroup{0};
constexpr size_t kMaxEntries = 200;

raft::Configuration FirstConfiguration() {
  raft::Configuration configuration;
  configuration.voters = {raft::NodeId(1), raft::NodeId(2), raft::NodeId(3)};
  return configuration;
}

uint64_t Session(Input* in, raft::GroupId group) {
  if (in->Below(8) == 0) return in->Number();
  return group.value() << 40 | in->Below(5);
}

std::string AnyCommand(Input* in, raft::GroupId group) {
  kv::Command command;
  command.op = static_cast<kv::Op>(1 + in->Below(8));
  command.stamp = in->Number();
  command.session = Session(in, group);
  command.sequence = in->Number();
  command.floor = in->Number();
  command.expected = in->Number();
  std::string key(1 + in->Below(3), static_cast<char>('a' + in->Below(3)));
  if (in->Below(16) == 0) key = std::string(in->Bytes(600));
  command.key = key;
  std::string value(in->Bytes(1200));
  // At times one that is not kept in the session's own record.
  if (in->Below(8) == 0) value.resize(2000, 'v');
  command.value = value;
  std::string bytes = kv::EncodeCommand(command);
  if (in->Below(8) == 0) Damage(in, &bytes);
  return bytes;
}

std::vector<raft::Entry> AnyEntries(Input* in) {
  std::vector<raft::Entry> entries;
  raft::LogPosition at = kv::kFirstPosition;
  while (!in->done() && entries.size() < kMaxEntries) {
    if (in->Below(16) == 0) ++at.term;
    ++at.index;
    raft::Entry entry{at.term, at.index, raft::EntryKind::kCommand, nullptr};
    const uint64_t kind = in->Below(16);
    if (kind == 0) {
      entry.kind = raft::EntryKind::kNoop;
      entry.data = raft::MakePayload("");
    } else if (kind == 1) {
      entry.kind = raft::EntryKind::kConfiguration;
      raft::Configuration configuration = FirstConfiguration();
      configuration.learners = {raft::NodeId(4 + in->Byte())};
      entry.data = raft::MakePayload(raft::EncodeConfiguration(configuration));
    } else {
      std::string bytes = AnyCommand(in, kGroup);
      // The core of another kind of entry refuses those; see host_peers.
      if (!kv::DecodeCommand(bytes).ok()) bytes = AnyCommand(in, kGroup);
      if (!kv::DecodeCommand(bytes).ok()) break;
      entry.data = raft::MakePayload(std::move(bytes));
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

bool Same(const kv::ApplyResult& a, const kv::ApplyResult& b) {
  return a.code == b.code && a.existed == b.existed &&
         a.duplicate == b.duplicate && a.version == b.version &&
         a.session == b.session && a.old_value == b.old_value;
}

uint64_t HashOf(const StateMachine& machine) {
  const auto hash = machine.Hash();
  KV739_FUZZ_CHECK(hash.ok(), hash.status().ToString());
  return hash->hash;
}

uint64_t HashOfCopy(kv::Engine* from) {
  auto reader = kv::SnapshotReader::Open(from, kGroup);
  KV739_FUZZ_CHECK(reader.ok(), reader.status().ToString());
  const std::unique_ptr<kv::MemoryEngine> engine = kv::NewMemoryEngine();
  auto writer = kv::SnapshotWriter::Create(engine.get(), kGroup, "");
  KV739_FUZZ_CHECK(writer.ok(), writer.status().ToString());
  std::string chunk;
  while (true) {
    const auto more = (*reader)->Next(&chunk);
    KV739_FUZZ_CHECK(more.ok(), more.status().ToString());
    if (!*more) break;
    const absl::Status added = (*writer)->Add(chunk);
    KV739_FUZZ_CHECK(added.ok(), added.ToString());
  }
  const absl::Status committed = (*writer)->Commit();
  KV739_FUZZ_CHECK(committed.ok(), committed.ToString());
  auto machine = StateMachine::Open(engine.get(), kGroup);
  KV739_FUZZ_CHECK(machine.ok(), machine.status().ToString());
  return HashOf(**machine);
}

}  // namespace

KV739_FUZZ_TARGET(state_machine, 800) {
  Input in(bytes);
  const size_t batch = 1 + in.Below(9);
  const std::vector<raft::Entry> entries = AnyEntries(&in);
  const std::unique_ptr<kv::MemoryEngine> engines[2] = {kv::NewMemoryEngine(),
                                                        kv::NewMemoryEngine()};
  std::unique_ptr<StateMachine> machines[2];
  std::vector<kv::ApplyResult> results[2];
  for (int i = 0; i < 2; ++i) {
    KV739_FUZZ_CHECK(
        StateMachine::Create(engines[i].get(), kGroup, FirstConfiguration())
            .ok(),
        "no group");
    machines[i] = *StateMachine::Open(engines[i].get(), kGroup);
    const size_t step = i == 0 ? 1 : batch;
    for (size_t at = 0; at < entries.size(); at += step) {
      const auto part = absl::MakeConstSpan(entries).subspan(at, step);
      const absl::Status status = machines[i]->Apply(part, &results[i]);
      KV739_FUZZ_CHECK(status.ok(), status.ToString());
      // One of them starts anew in between.
      if (i == 1 && at % 7 == 3) {
        const absl::Status reloaded = machines[i]->Reload();
        KV739_FUZZ_CHECK(reloaded.ok(), reloaded.ToString());
      }
    }
  }
  kv::Version last = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    KV739_FUZZ_CHECK(Same(results[0][i], results[1][i]), "another answer");
  }
  KV739_FUZZ_CHECK(machines[0]->last_version() >= last, "a version fell");
  const uint64_t hash = HashOf(*machines[0]);
  KV739_FUZZ_CHECK(hash == HashOf(*machines[1]), "another state");
  KV739_FUZZ_CHECK(hash == HashOfCopy(engines[0].get()), "another copy");
}

}  // namespace kv739::fuzz
