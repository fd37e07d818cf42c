// What bytes cost on their way: the commands in the log, the messages between
// servers, the requests and answers of clients.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <string>
#include <utility>

#include "kv/command.h"
#include "server/message_codec.h"
#include "server/operation_codec.h"

namespace kv739::server {
namespace {

constexpr size_t kValueBytes = 256;

kv::Command SomeCommand(const std::string& key, const std::string& value) {
  kv::Command c;
  c.op = kv::Op::kPut;
  c.key = key;
  c.value = value;
  c.session = 7;
  c.sequence = 1'000'000;
  c.floor = 999'000;
  return c;
}

void BM_EncodeCommand(benchmark::State& state) {
  const std::string key = "bench00000000001";
  const std::string value(kValueBytes, 'v');
  const kv::Command c = SomeCommand(key, value);
  for (auto _ : state) benchmark::DoNotOptimize(kv::EncodeCommand(c));
}
BENCHMARK(BM_EncodeCommand);

void BM_DecodeCommand(benchmark::State& state) {
  const std::string key = "bench00000000001";
  const std::string value(kValueBytes, 'v');
  const std::string bytes = kv::EncodeCommand(SomeCommand(key, value));
  for (auto _ : state) {
    auto c = kv::DecodeCommand(bytes);
    if (!c.ok()) std::abort();
    benchmark::DoNotOptimize(c);
  }
}
BENCHMARK(BM_DecodeCommand);

GroupMessage SomeAppend(int64_t entries) {
  const std::string key = "bench00000000001";
  const std::string value(kValueBytes, 'v');
  const raft::Payload payload =
      raft::MakePayload(kv::EncodeCommand(SomeCommand(key, value)));
  raft::AppendEntries append{
      raft::Term(3), {raft::Term(3), raft::Index(100)}, raft::Index(90), {}};
  for (int64_t i = 0; i < entries; ++i) {
    append.entries.push_back({raft::Term(3),
                              raft::Index(101 + static_cast<uint64_t>(i)),
                              raft::EntryKind::kCommand, payload});
  }
  return {raft::GroupId(1), std::move(append)};
}

// AppendEntries from the core's form to the wire's bytes.
void BM_EncodeAppend(benchmark::State& state) {
  const GroupMessage message = SomeAppend(state.range(0));
  ::raft::v1::GroupMessage wire;
  std::string bytes;
  for (auto _ : state) {
    EncodeMessage(message, &wire);
    wire.SerializeToString(&bytes);
    benchmark::DoNotOptimize(bytes.data());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_EncodeAppend)->Arg(1)->Arg(32);

// And back.
void BM_DecodeAppend(benchmark::State& state) {
  ::raft::v1::GroupMessage wire;
  EncodeMessage(SomeAppend(state.range(0)), &wire);
  const std::string bytes = wire.SerializeAsString();
  for (auto _ : state) {
    ::raft::v1::GroupMessage in;
    if (!in.ParseFromString(bytes)) std::abort();
    auto message = DecodeMessage(&in);
    if (!message.ok()) std::abort();
    benchmark::DoNotOptimize(message);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_DecodeAppend)->Arg(1)->Arg(32);

// A batch of puts as it comes on a client's stream, to operations.
void BM_DecodeOperations(benchmark::State& state) {
  v1::OperationBatch batch;
  for (int64_t i = 0; i < state.range(0); ++i) {
    v1::Operation* o = batch.add_operations();
    o->set_tag(static_cast<uint64_t>(i));
    o->mutable_put()->set_key("bench00000000001");
    o->mutable_put()->set_value(std::string(kValueBytes, 'v'));
    o->mutable_put()->mutable_id()->set_session(7);
    o->mutable_put()->mutable_id()->set_sequence(1'000'000);
  }
  const std::string bytes = batch.SerializeAsString();
  for (auto _ : state) {
    v1::OperationBatch in;
    if (!in.ParseFromString(bytes)) std::abort();
    for (v1::Operation& one : *in.mutable_operations()) {
      Operation operation;
      if (!DecodeOperation(&one, &operation)) std::abort();
      benchmark::DoNotOptimize(operation);
    }
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_DecodeOperations)->Arg(1)->Arg(32);

// A batch of answers to reads, to bytes.
void BM_EncodeResults(benchmark::State& state) {
  std::string bytes;
  for (auto _ : state) {
    v1::ResultBatch batch;
    for (int64_t i = 0; i < state.range(0); ++i) {
      Reply reply;
      reply.tag = static_cast<uint64_t>(i);
      reply.found = true;
      reply.version = 1;
      reply.value.assign(kValueBytes, 'v');
      EncodeResult(&reply, batch.add_results());
    }
    batch.SerializeToString(&bytes);
    benchmark::DoNotOptimize(bytes.data());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_EncodeResults)->Arg(1)->Arg(32);

}  // namespace
}  // namespace kv739::server
