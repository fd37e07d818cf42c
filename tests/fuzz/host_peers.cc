// One replica host of three, whose peers and clients say anything: messages of
// Raft as they come off the wire, messages of nodes, streams of snapshots,
// requests. The log and its file system are the real and the simulated one; the
// store is in memory. Promises: nothing that comes from outside makes a replica
// give up or stops the process; terms do not fall; every request is answered
// once; and the node starts again from its disk.
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kv/command.h"
#include "kv/directory.h"
#include "kv/engine.h"
#include "kv/records.h"
#include "kv/snapshot.h"
#include "server/audit.h"
#include "server/host.h"
#include "server/logging.h"
#include "server/map_holder.h"
#include "server/message_codec.h"
#include "server/operation_codec.h"
#include "server/replica_store.h"
#include "server/snapshot_codec.h"
#include "server/wal/wal.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/fake_file_system.h"

namespace kv739::fuzz {
namespace {

using raft::GroupId;
using raft::NodeId;

constexpr size_t kMaxSteps = 150;
constexpr char kDir[] = "wal";

class Clock : public server::Clock {
 public:
  uint64_t MonotonicNanos() const override { return nanos_; }
  uint64_t WallMillis() const override { return 1'700'000'000'000; }
  void Advance(uint64_t nanos) { nanos_ += nanos; }

 private:
  uint64_t nanos_ = 1;
};

class Counter : public raft::Random {
 public:
  uint64_t Next() override { return next_ += 7; }

 private:
  uint64_t next_ = 0;
};

class Answers : public server::ReplySink {
 public:
  void Deliver(server::Reply reply) override {
    KV739_FUZZ_CHECK(++answers_[reply.tag] == 1, "two answers to a request");
  }
  void Flush() override {}
  size_t count() const { return answers_.size(); }

 private:
  std::map<uint64_t, int> answers_;
};

class NoTransport : public server::Transport {
 public:
  void Send(NodeId, std::vector<server::GroupMessage> messages) override {
    ::raft::v1::GroupMessage wire;
    for (const server::GroupMessage& message : messages) {
      server::EncodeMessage(message, &wire);
      KV739_FUZZ_CHECK(server::DecodeMessage(&wire).ok(),
                       "sends what nobody understands");
    }
  }
  void SendToNode(NodeId, server::NodeMessage) override {}
  bool Connected(NodeId) const override { return true; }
  void SetMapEpoch(uint64_t) override {}
};

class Jobs : public server::Background {
 public:
  void Run(Job job) override { jobs_.push_back(std::move(job)); }
  bool RunOne() {
    if (jobs_.empty()) return false;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    job();
    return true;
  }

 private:
  std::deque<Job> jobs_;
};

class Log : public wal::LogWriter {
 public:
  explicit Log(wal::Wal* wal) : wal_(wal) {}
  void Submit(wal::WalTask task) override { tasks_.push_back(std::move(task)); }
  void ReadAsync(GroupId group, raft::Index first, raft::Index last,
                 uint64_t max_bytes, wal::ReadCallback done) override {
    done(wal_->Read(group, first, last, max_bytes));
  }
  bool busy() const override { return !tasks_.empty(); }
  uint64_t log_bytes(GroupId group) const override {
    return wal_->log_bytes(group);
  }
  bool CompleteOne() {
    if (tasks_.empty()) return false;
    wal::WalTask task = std::move(tasks_.front());
    tasks_.pop_front();
    const absl::Status status = wal_->Append(task.writes);
    KV739_FUZZ_CHECK(status.ok(), status.ToString());
    task.done();
    return true;
  }

 private:
  wal::Wal* const wal_;
  std::deque<wal::WalTask> tasks_;
};

class Fetcher : public server::SnapshotFetcher {
 public:
  struct Stream {
    server::SnapshotRequest request;
    std::shared_ptr<server::SnapshotSink> sink;
  };
  void Fetch(NodeId, server::SnapshotRequest request,
             std::shared_ptr<server::SnapshotSink> sink) override {
    streams.push_back({std::move(request), std::move(sink)});
  }
  void Cancel(const server::SnapshotSink* sink) override {
    for (const Stream& stream : streams) {
      if (stream.sink.get() == sink) cancelled.push_back(stream.sink);
    }
  }
  std::deque<Stream> streams;
  std::vector<std::shared_ptr<server::SnapshotSink>> cancelled;
};

std::shared_ptr<const kv::ClusterMap> FirstMap() {
  static const auto* const map = [] {
    kv::ClusterFile file;
    for (uint16_t i = 0; i < 6; ++i) {
      kv::ServerLine line;
      line.address = {"localhost", static_cast<uint16_t>(50051 + i)};
      file.servers.push_back(line);
    }
    return new std::shared_ptr<const kv::ClusterMap>(
        std::make_shared<const kv::ClusterMap>(kv::InitialClusterMap(file)));
  }();
  return *map;
}

class Node {
 public:
  explicit Node(Input* in) : in_(in), map_(FirstMap()) {
    self_ = map_->nodes[0].id;
    OpenLog();
    KV739_FUZZ_CHECK(
        server::CreateReplicas(engine_.get(), wal_.get(), *map_, self_).ok(),
        "no replicas");
    Start();
  }
  ~Node() { Stop(); }

  void Run() {
    for (size_t i = 0; i < kMaxSteps && !in_->done(); ++i) {
      OneStep();
      if (in_->Below(4) != 0) Settle();
      CheckTerms();
    }
    Settle();
    Stop();
    KV739_FUZZ_CHECK(answers_->count() == asked_, "a request was not answered");
    terms_.clear();
    OpenLog();
    Start();
  }

 private:
  void OpenLog() {
    wal_.reset();
    wal::WalOptions options;
    options.segment_bytes = 64 << 10;
    options.new_log_id = 739;
    auto opened = wal::Wal::Open(&files_, kDir, options);
    KV739_FUZZ_CHECK(opened.ok(), opened.status().ToString());
    wal_ = *std::move(opened);
  }

  void Start() {
    auto replicas = server::LoadReplicas(engine_.get(), wal_.get(), "");
    KV739_FUZZ_CHECK(replicas.ok(), replicas.status().ToString());
    // Loading may have brought the log behind a state machine.
    OpenLog();
    log_ = std::make_unique<Log>(wal_.get());
    jobs_ = std::make_unique<Jobs>();
    fetcher_ = std::make_unique<Fetcher>();
    maps_ = std::make_unique<server::MapHolder>(map_);
    server::HostOptions options;
    options.self = self_;
    options.raft.election_timeout_ticks = 5;
    options.raft.heartbeat_ticks = 1;
    options.snapshot.entries = 8;
    options.snapshot.trailing_entries = 3;
    options.snapshot.min_gap_ms = 0;
    server::HostParts parts;
    parts.engine = engine_.get();
    parts.log = log_.get();
    parts.transport = &transport_;
    parts.clock = &clock_;
    parts.maps = maps_.get();
    parts.fetcher = fetcher_.get();
    parts.background = jobs_.get();
    parts.random = &random_;
    parts.on_failure = [](const absl::Status& status) {
      KV739_FUZZ_CHECK(false, status.ToString());
    };
    auto host = server::Host::Create(options, parts, *std::move(replicas));
    KV739_FUZZ_CHECK(host.ok(), host.status().ToString());
    host_ = *std::move(host);
  }

  void Stop() {
    if (host_ == nullptr) return;
    host_->Stop();
    while (!fetcher_->streams.empty()) EndStream(absl::CancelledError("end"));
    Settle();
    host_.reset();
    jobs_.reset();
    log_.reset();
  }

  NodeId Peer() {
    if (in_->Below(16) == 0) return NodeId(in_->Number());
    return map_->nodes[in_->Below(map_->nodes.size())].id;
  }
  GroupId Group() {
    return in_->Below(16) == 0 ? GroupId(in_->Number()) : GroupId(0);
  }

  const server::ReplicaStats* Find(const server::HostStats& stats) {
    for (const auto& replica : stats.replicas) {
      if (replica.group == GroupId(0)) return &replica;
    }
    return nullptr;
  }
  server::HostStats Stats() {
    server::HostStats result;
    host_->CollectStats(
        [&](server::HostStats stats) { result = std::move(stats); });
    return result;
  }

  std::string AnyCommand() {
    kv::Command command;
    command.op = static_cast<kv::Op>(1 + in_->Below(8));
    command.stamp = in_->Number();
    command.session = in_->Below(4);
    command.sequence = in_->Number();
    command.floor = in_->Number();
    command.key = "key";
    std::string value(in_->Bytes(200));
    if (command.op == kv::Op::kDirectory && in_->Bool()) value = AnyChange();
    command.value = value;
    std::string bytes = kv::EncodeCommand(command);
    const uint64_t damage = in_->Below(8);
    if (damage == 0) Damage(in_, &bytes);
    if (damage == 1) bytes.pop_back();
    return bytes;
  }

  std::string AnyChange() {
    switch (in_->Below(3)) {
      case 0:
        return kv::EncodeDirectoryChange(kv::Bootstrap{*map_});
      case 1: {
        kv::NodeInfo node;
        node.id = Peer();
        node.address = {"localhost", static_cast<uint16_t>(in_->Number())};
        node.metrics_port = 1;
        node.http_port = 2;
        return kv::EncodeDirectoryChange(kv::AddNode{node});
      }
      default:
        return kv::EncodeDirectoryChange(kv::GroupSettled{
            Group(), raft::Index(in_->Number()), {Peer(), Peer(), Peer()}});
    }
  }

  std::string AnyConfiguration() {
    if (in_->Below(8) == 0) return std::string(in_->Bytes(60));
    raft::Configuration configuration;
    const uint8_t bits = in_->Byte();
    for (size_t i = 0; i < map_->nodes.size(); ++i) {
      if (bits >> i & 1) configuration.voters.push_back(map_->nodes[i].id);
    }
    std::sort(configuration.voters.begin(), configuration.voters.end());
    return raft::EncodeConfiguration(configuration);
  }

  // Near what the replica has, so that it is at times believed.
  void Message() {
    const server::HostStats stats = Stats();
    const server::ReplicaStats* replica = Find(stats);
    const raft::CoreStatus core =
        replica != nullptr ? replica->core : raft::CoreStatus();
    const auto index = [&] {
      const uint64_t back = in_->Below(8);
      const uint64_t last = core.last_index.value();
      return back < 6 && last >= back ? last - back : in_->Number();
    };
    const auto term = [&](uint64_t now) {
      const uint64_t kind = in_->Below(8);
      return kind < 5 ? now : kind == 5 ? now + 1 : in_->Number();
    };
    ::raft::v1::GroupMessage wire;
    wire.set_group(Group().value());
    wire.set_term(term(core.hard.term.value()));
    const uint64_t ours = core.hard.term.value();
    switch (in_->Below(10)) {
      case 0: {
        auto* m = wire.mutable_request_vote();
        m->set_last_term(term(ours));
        m->set_last_index(index());
        m->set_pre_vote(in_->Bool());
        m->set_transfer(in_->Bool());
        break;
      }
      case 1: {
        auto* m = wire.mutable_request_vote_response();
        m->set_pre_vote(in_->Bool());
        m->set_granted(in_->Below(4) != 0);
        break;
      }
      case 2: {
        auto* m = wire.mutable_append_entries_response();
        m->set_success(in_->Bool());
        m->set_index(index());
        m->set_hint_term(term(ours));
        m->set_hint_index(index());
        break;
      }
      case 3:
        wire.mutable_heartbeat()->set_commit(index());
        wire.mutable_heartbeat()->set_round(in_->Number());
        break;
      case 4:
        wire.mutable_heartbeat_response()->set_round(in_->Number());
        break;
      case 5:
        wire.mutable_timeout_now();
        break;
      case 6: {
        auto* m = wire.mutable_install_snapshot();
        m->set_last_term(term(ours));
        m->set_last_index(core.last_index.value() + in_->Number());
        m->set_configuration(AnyConfiguration());
        break;
      }
      default: {
        auto* m = wire.mutable_append_entries();
        uint64_t at = index();
        m->set_previous_index(at);
        m->set_previous_term(in_->Below(8) == 0 ? in_->Number() : last_term_);
        m->set_commit(index() + in_->Below(5));
        for (uint64_t count = in_->Below(5); count > 0; --count) {
          auto* entry = m->add_entries();
          entry->set_index(++at);
          entry->set_term(in_->Below(8) == 0 ? in_->Number() : wire.term());
          last_term_ = entry->term();
          const uint64_t kind = in_->Below(8);
          entry->set_kind(kind == 0   ? in_->Byte()
                          : kind == 1 ? 2
                          : kind == 2 ? 3
                                      : 1);
          entry->set_data(entry->kind() == 1   ? AnyCommand()
                          : entry->kind() == 3 ? AnyConfiguration()
                                               : std::string(in_->Bytes(20)));
        }
      }
    }
    std::string bytes = wire.SerializeAsString();
    if (in_->Below(16) == 0) Damage(in_, &bytes);
    ::raft::v1::GroupMessage arrived;
    if (!arrived.ParseFromString(bytes)) return;
    auto message = server::DecodeMessage(&arrived);
    if (!message.ok()) return;
    std::vector<server::GroupMessage> messages;
    messages.push_back(*std::move(message));
    host_->OnPeerMessages(Peer(), std::move(messages));
  }

  // Two honest peers, so that the node gets on.
  void HonestPeers() {
    const server::HostStats stats = Stats();
    const server::ReplicaStats* replica = Find(stats);
    if (replica == nullptr) return;
    for (size_t i = 1; i < 4; ++i) {
      const raft::Term term = replica->core.hard.term;
      std::vector<server::GroupMessage> messages;
      messages.push_back(
          {GroupId(0), raft::RequestVoteResponse{term + 1, true, true}});
      messages.push_back(
          {GroupId(0), raft::RequestVoteResponse{term, false, true}});
      messages.push_back(
          {GroupId(0), raft::AppendEntriesResponse{
                           term, true, replica->core.last_index, {}}});
      messages.push_back(
          {GroupId(0), raft::HeartbeatResponse{term, in_->Below(4)}});
      host_->OnPeerMessages(map_->nodes[i].id, std::move(messages));
    }
  }

  void NodeMessage() {
    server::NodeMessage message;
    message.kind = static_cast<server::NodeMessage::Kind>(in_->Below(6));
    switch (in_->Below(4)) {
      case 0: {
        kv::ClusterMap map = *map_;
        map.epoch = in_->Number();
        if (in_->Bool()) map.cluster_id ^= in_->Below(2);
        for (kv::GroupInfo& group : map.groups) {
          if (in_->Bool()) group.members = {Peer(), Peer(), Peer()};
          if (in_->Bool()) group.target = {Peer(), Peer(), Peer()};
          std::sort(group.members.begin(), group.members.end());
          std::sort(group.target.begin(), group.target.end());
        }
        message.payload = kv::EncodeClusterMap(map);
        break;
      }
      case 1:
        message.payload = AnyChange();
        break;
      case 2:
        if (in_->Bool()) {
          server::AuditReport report;
          report.group = Group();
          report.at = {raft::Term(in_->Number()), raft::Index(in_->Number())};
          message.payload = server::EncodeAuditMessage(report);
        } else {
          const server::HostStats stats = Stats();
          const server::ReplicaStats* replica = Find(stats);
          server::AuditVerdict verdict;
          verdict.group = Group();
          if (replica != nullptr) {
            verdict.at = {replica->core.hard.term, replica->core.applied};
          }
          verdict.finding = "differs";
          message.payload = server::EncodeAuditMessage(verdict);
        }
        break;
      default:
        message.payload = std::string(in_->Bytes(200));
    }
    if (in_->Below(8) == 0) Damage(in_, &message.payload);
    host_->OnNodeMessage(Peer(), std::move(message));
  }

  void Requests() {
    v1::Operation wire;
    if (in_->Below(4) == 0) {
      const std::string bytes(in_->Bytes(100));
      if (!wire.ParseFromString(bytes)) return;
    } else {
      const auto id = [&](v1::WriteId* to) {
        to->set_session(in_->Number());
        to->set_sequence(in_->Number());
        to->set_floor(in_->Number());
      };
      const std::string key(in_->Bytes(300));
      switch (in_->Below(6)) {
        case 0:
          wire.mutable_get()->set_key(key);
          wire.mutable_get()->set_consistency(
              static_cast<v1::Consistency>(in_->Below(4)));
          break;
        case 1:
          wire.mutable_put()->set_key(key);
          wire.mutable_put()->set_value(std::string(in_->Bytes(300)));
          if (in_->Bool()) id(wire.mutable_put()->mutable_id());
          break;
        case 2:
          wire.mutable_delete_()->set_key(key);
          if (in_->Bool()) id(wire.mutable_delete_()->mutable_id());
          break;
        case 3:
          wire.mutable_append()->set_key(key);
          if (in_->Bool()) id(wire.mutable_append()->mutable_id());
          break;
        case 4:
          wire.mutable_compare_and_swap()->set_key(key);
          wire.mutable_compare_and_swap()->set_expected_version(in_->Number());
          break;
        default:
          wire.mutable_open_session()->set_group(Group().value());
      }
    }
    server::Operation operation;
    if (!server::DecodeOperation(&wire, &operation)) return;
    operation.tag = ++asked_;
    operation.sink = answers_;
    operation.start_nanos = clock_.MonotonicNanos();
    std::vector<server::Operation> operations;
    operations.push_back(std::move(operation));
    host_->Submit(std::move(operations));
  }

  void EndStream(const absl::Status& status) {
    Fetcher::Stream stream = std::move(fetcher_->streams.front());
    fetcher_->streams.pop_front();
    stream.sink->OnEnd(status);
  }

  // Answers the stream that waits: with what was asked for, or not.
  void Snapshot() {
    if (fetcher_->streams.empty()) return;
    const Fetcher::Stream& stream = fetcher_->streams.front();
    raft::LogPosition position = stream.request.position;
    if (!position.index)
      position = {raft::Term(in_->Number()), raft::Index(in_->Number())};
    if (in_->Below(8) == 0) position.index = raft::Index(in_->Number());
    if (in_->Below(8) == 0) position.term = raft::Term(in_->Number());
    server::SnapshotInfo info;
    info.meta.position = position;
    if (in_->Below(8) == 0)
      info.meta.position.index = raft::Index(in_->Number());
    info.meta.configuration.voters = map_->groups[0].members;
    absl::Status status = stream.sink->OnInfo(info);
    std::string records;
    kv::ChunkHeader header;
    const std::string prefix = kv::GroupBegin(GroupId(0));
    const auto add = [&](const std::string& key, const std::string& value) {
      kv::AppendRecord(&records, key.substr(prefix.size()), value);
      header.totals.Add(key.substr(prefix.size()), value);
      ++header.records;
    };
    kv::Meta meta;
    meta.applied = position;
    meta.last_version = in_->Number();
    meta.sessions_opened = in_->Number();
    add(kv::MetaKey(GroupId(0)), kv::EncodeMeta(meta));
    add(kv::ConfigurationKey(GroupId(0)), AnyConfiguration());
    if (in_->Bool()) {
      add(kv::DirectoryKey(GroupId(0)), kv::EncodeClusterMap(*map_));
    }
    if (in_->Below(4) == 0) {
      add(kv::SessionKey(GroupId(0), in_->Below(3)),
          std::string(in_->Bytes(60)));
    }
    header.position = position;
    header.snapshot_id = kv::SnapshotId(GroupId(0), position);
    header.last = in_->Below(8) != 0;
    std::string chunk;
    kv::ChunkEncoder().Encode(header, records, &chunk).IgnoreError();
    if (in_->Below(16) == 0) Damage(in_, &chunk);
    if (status.ok()) status = stream.sink->OnChunk(chunk);
    EndStream(status);
  }

  void ServeSnapshot() {
    server::SnapshotRequest request;
    request.group = Group();
    request.position = {raft::Term(in_->Number()), raft::Index(in_->Number())};
    if (in_->Bool()) request.position = {};
    request.next_chunk = in_->Number();
    request.last_key = std::string(in_->Bytes(40));
    auto cursor = host_->snapshots()->OpenSnapshot(Peer(), request);
    if (!cursor.ok()) return;
    std::string chunk;
    for (int i = 0; i < 10; ++i) {
      const auto more = (*cursor)->Next(&chunk);
      if (!more.ok() || !*more) return;
      (*cursor)->Sent(chunk.size());
    }
  }

  void OneStep() {
    switch (in_->Below(20)) {
      case 0:
      case 1:
        return Tick(1);
      case 2:
        return Tick(in_->Below(20));
      case 3:
      case 4:
        return HonestPeers();
      case 5:
      case 6:
        return NodeMessage();
      case 7:
      case 8:
        return Requests();
      case 9:
      case 10:
        return Snapshot();
      case 11:
        return ServeSnapshot();
      case 12:
        switch (in_->Below(6)) {
          case 5:
            return host_->OnPeerGone(Peer());
          case 0:
            return host_->OnPeerEpoch(Peer(), in_->Number());
          case 1:
            return host_->TransferLeadership(Group(), Peer(), [](auto) {});
          case 2:
            return host_->Check(Group(), [](auto) {});
          case 3:
            return host_->RebuildReplica(Group(), "a test says so");
          default: {
            const auto change = kv::DecodeDirectoryChange(AnyChange());
            if (change.ok())
              host_->ProposeDirectoryChange(*change, [](auto) {});
            return;
          }
        }
      default:
        return Message();
    }
  }

  void Tick(uint64_t count) {
    for (; count > 0; --count) {
      clock_.Advance(20'000'000);
      host_->Tick();
      if (in_->Bool()) Settle();
    }
  }

  void Settle() {
    for (int i = 0; i < 1000; ++i) {
      bool moved = log_->CompleteOne();
      moved = jobs_->RunOne() || moved;
      if (!moved) break;
    }
    for (const auto& sink : std::exchange(fetcher_->cancelled, {})) {
      for (size_t i = 0; i < fetcher_->streams.size(); ++i) {
        if (fetcher_->streams[i].sink != sink) continue;
        fetcher_->streams.erase(fetcher_->streams.begin() +
                                static_cast<ptrdiff_t>(i));
        sink->OnEnd(absl::CancelledError("cancelled"));
        break;
      }
    }
  }

  void CheckTerms() {
    for (const server::ReplicaStats& replica : Stats().replicas) {
      raft::Term& term = terms_[replica.group];
      KV739_FUZZ_CHECK(replica.core.hard.term >= term, "a term fell");
      term = replica.core.hard.term;
      KV739_FUZZ_CHECK(replica.core.applied <= replica.core.commit,
                       "applied what is not committed");
    }
  }

  Input* const in_;
  const std::shared_ptr<const kv::ClusterMap> map_;
  NodeId self_;
  Clock clock_;
  Counter random_;
  NoTransport transport_;
  wal::FakeFileSystem files_;
  std::unique_ptr<kv::MemoryEngine> engine_ = kv::NewMemoryEngine();
  std::unique_ptr<wal::Wal> wal_;
  std::unique_ptr<Log> log_;
  std::unique_ptr<Jobs> jobs_;
  std::unique_ptr<Fetcher> fetcher_;
  std::unique_ptr<server::MapHolder> maps_;
  std::unique_ptr<server::Host> host_;
  std::shared_ptr<Answers> answers_ = std::make_shared<Answers>();
  uint64_t asked_ = 0;
  uint64_t last_term_ = 1;
  std::map<GroupId, raft::Term> terms_;
};

}  // namespace

KV739_FUZZ_TARGET(host_peers, 300) {
  Input in(bytes);
  Node(&in).Run();
}

}  // namespace kv739::fuzz
