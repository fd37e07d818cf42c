// Streams chunks that somebody made: of a real snapshot, changed and sealed
// again, or of anything. Promises: what is not a group's state is refused and
// changes nothing; what is taken to the end can be put in place, is opened,
// serves, takes writes, and is the same when it is sent on.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kv/command.h"
#include "kv/engine.h"
#include "kv/records.h"
#include "kv/snapshot.h"
#include "kv/state_machine.h"
#include "server/snapshot_receiver.h"
#include "tests/fuzz/fuzz.h"

namespace kv739::fuzz {
namespace {

using kv::StateMachine;

constexpr raft::GroupId kGroup{1};

raft::Configuration Members() {
  raft::Configuration configuration;
  configuration.voters = {raft::NodeId(1), raft::NodeId(2), raft::NodeId(3)};
  return configuration;
}

raft::Entry EntryOf(const kv::Command& command, raft::LogPosition at) {
  return {at.term, at.index, raft::EntryKind::kCommand,
          raft::MakePayload(kv::EncodeCommand(command))};
}

using Records = std::vector<std::pair<std::string, std::string>>;

// The state of a small group that has had sessions: its records without the
// group in front, in their order.
Records SomeState() {
  const std::unique_ptr<kv::MemoryEngine> engine = kv::NewMemoryEngine();
  KV739_FUZZ_CHECK(StateMachine::Create(engine.get(), kGroup, Members()).ok(),
                   "no group");
  auto machine = *StateMachine::Open(engine.get(), kGroup);
  raft::LogPosition at = kv::kFirstPosition;
  std::vector<raft::Entry> entries;
  for (int i = 0; i < 2; ++i) {
    kv::Command open;
    open.op = kv::Op::kOpenSession;
    ++at.index;
    entries.push_back(EntryOf(open, at));
  }
  const std::string large(1500, 'l');
  for (uint64_t i = 1; i <= 20; ++i) {
    kv::Command put;
    put.session = kGroup.value() << 40 | (1 + i % 2);
    put.sequence = i;
    put.floor = 1;
    put.stamp = i << 16;
    const std::string key(1, static_cast<char>('a' + i % 3));
    put.key = key;
    put.value = i % 5 == 0 ? absl::string_view(large) : "small";
    ++at.index;
    entries.push_back(EntryOf(put, at));
  }
  std::vector<kv::ApplyResult> results;
  KV739_FUZZ_CHECK(machine->Apply(entries, &results).ok(), "not applied");
  Records records;
  const std::string prefix = kv::GroupBegin(kGroup);
  engine->NewView()
      ->Scan(prefix, kv::GroupBegin(kGroup + 1),
             [&](absl::string_view key, absl::string_view value) {
               records.emplace_back(key.substr(prefix.size()), value);
               return true;
             })
      .IgnoreError();
  return records;
}

// Values carry a checksum over their key: made right again.
void Seal(const std::string& key, std::string* value) {
  const std::string full = kv::GroupBegin(kGroup) + key;
  if (value->size() < kv::kValueHeaderBytes) return;
  const std::string bytes = value->substr(kv::kValueHeaderBytes);
  kv::SetValueRecord(full, 7, bytes, value);
}

void ChangeRecords(Input* in, Records* records) {
  for (uint64_t changes = in->Below(4); changes > 0; --changes) {
    if (records->empty()) return;
    const size_t at = in->Below(records->size());
    auto& [key, value] = (*records)[at];
    switch (in->Below(6)) {
      case 0:
        records->erase(records->begin() + static_cast<ptrdiff_t>(at));
        break;
      case 1: {
        auto copy = (*records)[at];
        Damage(in, &copy.first);
        records->push_back(std::move(copy));
        break;
      }
      case 2:
        Damage(in, &key);
        break;
      case 3:
        Damage(in, &value);
        break;
      case 4:
        Damage(in, &value);
        Seal(key, &value);
        break;
      case 5: {  // the position and the counters
        kv::Meta meta;
        if (!kv::DecodeMeta((*records)[0].second, &meta)) break;
        if (in->Bool()) meta.applied.index = raft::Index(in->Number());
        if (in->Bool()) meta.applied.term = raft::Term(in->Number());
        if (in->Bool()) meta.last_version = in->Number();
        if (in->Bool()) meta.sessions_opened = in->Number();
        (*records)[0].second = kv::EncodeMeta(meta);
        break;
      }
    }
  }
  if (in->Below(4) != 0) std::sort(records->begin(), records->end());
}

std::vector<std::string> Chunks(Input* in, const Records& records) {
  kv::ChunkHeader header;
  kv::Meta meta;
  if (!records.empty()) kv::DecodeMeta(records[0].second, &meta);
  header.position = meta.applied;
  if (in->Below(16) == 0) header.position.index = raft::Index(in->Number());
  header.snapshot_id = kv::SnapshotId(kGroup, header.position);
  std::vector<std::string> chunks;
  kv::ChunkEncoder encoder;
  size_t next = 0;
  while (next < records.size()) {
    std::string body;
    header.records = 0;
    const std::string after = header.after;
    const size_t many = 1 + in->Below(40);
    for (; next < records.size() && header.records < many; ++next) {
      const auto& [key, value] = records[next];
      kv::AppendRecord(&body, key, value);
      header.totals.Add(key, value);
      header.after = key;
      ++header.records;
    }
    const std::string last_key = std::exchange(header.after, after);
    header.last = next == records.size();
    kv::ChunkHeader sent = header;
    switch (in->Below(32)) {
      case 0:
        sent.number = in->Number();
        break;
      case 1:
        sent.records = in->Number();
        break;
      case 2:
        sent.snapshot_id = in->Number();
        break;
      case 3:
        sent.last = !sent.last;
        break;
      case 4:
        sent.totals.digest = in->Number();
        break;
      case 5:
        Damage(in, &body);
        break;
      default:
        break;
    }
    std::string chunk;
    KV739_FUZZ_CHECK(encoder.Encode(sent, body, &chunk).ok(), "not encoded");
    if (in->Below(16) == 0) Damage(in, &chunk);
    chunks.push_back(std::move(chunk));
    if (in->Below(16) == 0) chunks.push_back(chunks.back());
    ++header.number;
    header.after = last_key;
  }
  return chunks;
}

// What was put in place is a state like any other.
void Use(kv::Engine* engine, raft::LogPosition position) {
  auto opened = StateMachine::Open(engine, kGroup);
  KV739_FUZZ_CHECK(opened.ok(), opened.status().ToString());
  StateMachine& machine = **opened;
  KV739_FUZZ_CHECK(machine.applied() == position, "another position");
  for (absl::string_view key : {"a", "b", "c"}) {
    const auto value = machine.Get(key);
    KV739_FUZZ_CHECK(value.ok(), value.status().ToString());
  }
  std::vector<raft::Entry> entries;
  raft::LogPosition at = position;
  for (int i = 0; i < 12; ++i) {
    kv::Command command;
    command.op = i % 4 == 0 ? kv::Op::kOpenSession : kv::Op::kAppend;
    if (i % 4 != 0) command.session = kGroup.value() << 40 | (1 + i % 3);
    command.sequence = 15 + i;
    command.floor = 10;
    command.key = "a";
    command.value = "more";
    ++at.index;
    entries.push_back(EntryOf(command, at));
  }
  std::vector<kv::ApplyResult> results;
  const absl::Status applied = machine.Apply(entries, &results);
  KV739_FUZZ_CHECK(applied.ok(), applied.ToString());
  const auto hash = machine.Hash();
  KV739_FUZZ_CHECK(hash.ok(), hash.status().ToString());
  KV739_FUZZ_CHECK(machine.Reload().ok(), "cannot be opened again");
}

}  // namespace

KV739_FUZZ_TARGET(snapshot_stream, 1500) {
  static const Records* const state = new Records(SomeState());
  Input in(bytes);
  std::vector<std::string> chunks;
  server::SnapshotInfo info;
  if (in.Below(8) == 0) {
    while (!in.done()) chunks.emplace_back(in.Bytes(4000));
  } else {
    Records records = *state;
    ChangeRecords(&in, &records);
    chunks = Chunks(&in, records);
    kv::Meta meta;
    if (!records.empty() && kv::DecodeMeta(records[0].second, &meta)) {
      info.meta.position = meta.applied;
    }
  }
  const std::unique_ptr<kv::MemoryEngine> engine = kv::NewMemoryEngine();
  const bool held = in.Bool();
  if (held) {
    KV739_FUZZ_CHECK(StateMachine::Create(engine.get(), kGroup, Members()).ok(),
                     "no group");
  }
  server::IncomingSnapshot incoming(engine.get(), kGroup, "");
  if (!incoming.Begin(info).ok()) return;
  for (const std::string& chunk : chunks) {
    incoming.Add(chunk).IgnoreError();
    server::SnapshotRequest request;
    incoming.Continue({}, &request);
  }
  const bool complete = incoming.complete();
  const absl::Status status = incoming.Commit();
  KV739_FUZZ_CHECK(complete || !status.ok(), "half a snapshot in place");
  incoming.Close();
  if (status.ok()) {
    Use(engine.get(), incoming.position());
  } else if (held) {
    const auto machine = StateMachine::Open(engine.get(), kGroup);
    KV739_FUZZ_CHECK(
        machine.ok() && (*machine)->applied() == kv::kFirstPosition,
        "a refused snapshot changed the state");
  }
}

}  // namespace kv739::fuzz
