// Snapshots from node to node: a real server, a real fetcher, and in the place
// of the host a provider and sinks that do as they are told.
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "raft/v1/raft.grpc.pb.h"
#include "server/byte_rate.h"
#include "server/snapshot_codec.h"
#include "server/snapshot_fetcher.h"
#include "tests/unit/server/rpc_fakes.h"

namespace kv739::server {
namespace {

using raft::NodeId;
using ::testing::HasSubstr;
namespace wire = ::raft::v1;

SnapshotInfo SampleInfo() {
  SnapshotInfo info;
  info.meta.position = {raft::Term(3), raft::Index(1000)};
  info.meta.configuration.voters = {NodeId(1), NodeId(2), NodeId(3)};
  info.keys = 12;
  info.bytes = 34567;
  return info;
}

// Counts things and waits for them.
class Gate {
 public:
  void Add(int64_t n = 1) {
    const std::lock_guard lock(mutex_);
    count_ += n;
    changed_.notify_all();
  }
  void Await(int64_t count) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, absl::ToChronoSeconds(kPatience),
                                  [&] { return count_ >= count; }))
        << count_ << " of " << count;
  }
  int64_t count() {
    const std::lock_guard lock(mutex_);
    return count_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int64_t count_ = 0;
};

// Chunks are a number and so many bytes; chunk i follows the key "k<i>".
class FakeProvider : public SnapshotProvider {
 public:
  struct Plan {
    uint64_t chunks = 20;
    size_t chunk_bytes = 100'000;
    // OK: none.
    absl::StatusCode refusal = absl::StatusCode::kOk;
    uint64_t fail_at = ~uint64_t{0};
    absl::StatusCode failure = absl::StatusCode::kOk;
    std::string message;
    // Called before each chunk, in the stream's thread.
    std::function<void(uint64_t chunk)> before;
  };
  // For those that are opened from now on.
  void Set(Plan next) {
    const std::lock_guard lock(mutex);
    plan = std::move(next);
  }

  static std::string Chunk(uint64_t number, size_t bytes) {
    std::string chunk = absl::StrCat("chunk ", number, ":");
    chunk.resize(std::max(bytes, chunk.size()),
                 static_cast<char>('a' + number % 26));
    return chunk;
  }

  absl::StatusOr<std::unique_ptr<SnapshotCursor>> OpenSnapshot(
      NodeId to, const SnapshotRequest& request) override {
    Plan current;
    {
      const std::lock_guard lock(mutex);
      requests.push_back({to, request});
      current = plan;
    }
    opened.Add();
    if (current.refusal != absl::StatusCode::kOk) {
      return absl::Status(current.refusal, current.message);
    }
    return std::make_unique<Cursor>(this, std::move(current),
                                    request.next_chunk);
  }

  std::mutex mutex;  // guards these two
  Plan plan;
  std::vector<std::pair<NodeId, SnapshotRequest>> requests;
  Gate opened, closed, made, sent_bytes;

 private:
  class Cursor : public SnapshotCursor {
   public:
    Cursor(FakeProvider* provider, Plan plan, uint64_t next)
        : provider_(provider), plan_(std::move(plan)), next_(next) {}
    ~Cursor() override { provider_->closed.Add(); }
    const SnapshotInfo& info() const override { return info_; }
    absl::StatusOr<bool> Next(std::string* chunk) override {
      if (next_ == plan_.fail_at) {
        return absl::Status(plan_.failure, plan_.message);
      }
      if (next_ >= plan_.chunks) return false;
      if (plan_.before) plan_.before(next_);
      *chunk = Chunk(next_++, plan_.chunk_bytes);
      provider_->made.Add();
      return true;
    }
    void Sent(uint64_t bytes) override {
      provider_->sent_bytes.Add(static_cast<int64_t>(bytes));
    }

   private:
    FakeProvider* const provider_;
    const Plan plan_;
    const SnapshotInfo info_ = SampleInfo();
    uint64_t next_;
  };
};

class FakeSink : public SnapshotSink {
 public:
  absl::Status info_answer;
  // In the fetcher's thread.
  std::function<absl::Status(uint64_t chunks_before)> on_chunk;

  absl::Status OnInfo(const SnapshotInfo& info) override {
    EXPECT_TRUE(chunks.empty());
    EXPECT_FALSE(has_info);
    EXPECT_EQ(ended.count(), 0);
    has_info = true;
    EXPECT_EQ(info.meta, SampleInfo().meta);
    EXPECT_EQ(info.keys, SampleInfo().keys);
    EXPECT_EQ(info.bytes, SampleInfo().bytes);
    return info_answer;
  }
  absl::Status OnChunk(absl::string_view chunk) override {
    EXPECT_TRUE(has_info);
    EXPECT_EQ(ended.count(), 0);
    if (on_chunk) {
      absl::Status answer = on_chunk(chunks.size());
      if (!answer.ok()) return answer;
    }
    chunks.push_back(std::string(chunk));
    arrived.Add();
    return absl::OkStatus();
  }
  void OnEnd(const absl::Status& end) override {
    EXPECT_EQ(ended.count(), 0);
    status = end;
    ended.Add();
  }
  const absl::Status& AwaitEnd() {
    ended.Await(1);
    return status;
  }

  bool has_info = false;
  std::vector<std::string> chunks;
  absl::Status status = absl::UnknownError("not ended");
  Gate arrived, ended;
};

// The sender is node 1, the receiver node 2.
class SnapshotStreamTest : public ::testing::Test {
 protected:
  SnapshotStreamTest()
      : handler_(std::make_shared<const kv::ClusterMap>(MakeMap({1, 2}))) {}
  ~SnapshotStreamTest() override {
    fetcher_.reset();
    StopServer();
  }

  void StartServer(RpcServerOptions options = TestOptions()) {
    auto server = RpcServer::Create(std::move(options));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    server_->Start(&handler_, &provider_);
    address_ = absl::StrCat("127.0.0.1:", server_->port());
    Connect();
  }
  void StopServer() {
    if (server_ != nullptr) server_->Shutdown(absl::Now());
    server_.reset();
  }
  GrpcSnapshotFetcher::Options FetcherOptions() {
    GrpcSnapshotFetcher::Options options;
    options.self = {7390, NodeId(2), NodeId(), 102};
    options.address_of = [this](NodeId id) {
      return id == NodeId(1) ? address_ : std::string();
    };
    return options;
  }
  void Connect() { Connect(FetcherOptions()); }
  void Connect(GrpcSnapshotFetcher::Options options) {
    fetcher_.reset();
    fetcher_ = std::make_unique<GrpcSnapshotFetcher>(std::move(options));
  }
  std::shared_ptr<FakeSink> Fetch(uint64_t next_chunk = 0) {
    auto sink = std::make_shared<FakeSink>();
    FetchInto(sink, next_chunk);
    return sink;
  }
  void FetchInto(const std::shared_ptr<FakeSink>& sink,
                 uint64_t next_chunk = 0) {
    provider_.Set(plan_);
    SnapshotRequest request;
    request.group = raft::GroupId(4);
    request.next_chunk = next_chunk;
    if (next_chunk > 0) {
      request.position = SampleInfo().meta.position;
      request.last_key = absl::StrCat("k", next_chunk);
    }
    fetcher_->Fetch(NodeId(1), request, sink);
  }
  void ExpectChunks(const FakeSink& sink, uint64_t from = 0) {
    ASSERT_EQ(sink.chunks.size(), plan_.chunks - from);
    for (uint64_t i = from; i < plan_.chunks; ++i) {
      ASSERT_TRUE(sink.chunks[i - from] ==
                  FakeProvider::Chunk(i, plan_.chunk_bytes))
          << i;
    }
  }

  FakeHandler handler_;
  FakeProvider provider_;
  Gate go_;                  // lives as long as the threads that wait for it
  FakeProvider::Plan plan_;  // what the next Fetch() finds
  std::string address_;
  std::unique_ptr<RpcServer> server_;
  std::unique_ptr<GrpcSnapshotFetcher> fetcher_;
};

TEST_F(SnapshotStreamTest, AllOfItArrives) {
  StartServer();
  const auto sink = Fetch();
  EXPECT_EQ(sink->AwaitEnd(), absl::OkStatus());
  ExpectChunks(*sink);
  provider_.closed.Await(1);
  EXPECT_EQ(provider_.sent_bytes.count(), 20 * 100'000);
  const std::lock_guard lock(provider_.mutex);
  ASSERT_EQ(provider_.requests.size(), 1u);
  EXPECT_EQ(provider_.requests[0].first, NodeId(2));
  EXPECT_EQ(provider_.requests[0].second.group, raft::GroupId(4));
  EXPECT_EQ(provider_.requests[0].second.position, raft::LogPosition());
  EXPECT_EQ(server_->Snapshots().sent_bytes, 2'000'000u);
  EXPECT_EQ(server_->Snapshots().failed, 0u);
  EXPECT_EQ(server_->Snapshots().active, 0u);
  EXPECT_EQ(fetcher_->stats().received_bytes, 2'000'000u);
  EXPECT_EQ(fetcher_->stats().completed, 1u);
}

TEST_F(SnapshotStreamTest, NoChunksAndTheLargestOnes) {
  plan_.chunks = 0;
  StartServer();
  const auto none = Fetch();
  EXPECT_EQ(none->AwaitEnd(), absl::OkStatus());
  EXPECT_TRUE(none->has_info);
  StopServer();
  plan_.chunks = 3;
  plan_.chunk_bytes = (8 << 20) + 5000;
  StartServer();
  const auto large = Fetch();
  EXPECT_EQ(large->AwaitEnd(), absl::OkStatus());
  ExpectChunks(*large);
}

TEST_F(SnapshotStreamTest, GoesOnWhereItIsTold) {
  StartServer();
  const auto sink = Fetch(7);
  EXPECT_EQ(sink->AwaitEnd(), absl::OkStatus());
  ExpectChunks(*sink, 7);
  const std::lock_guard lock(provider_.mutex);
  const SnapshotRequest& request = provider_.requests[0].second;
  EXPECT_EQ(request.position, SampleInfo().meta.position);
  EXPECT_EQ(request.next_chunk, 7u);
  EXPECT_EQ(request.last_key, "k7");
}

TEST_F(SnapshotStreamTest, ErrorsOfTheSenderKeepTheirCode) {
  StartServer();
  plan_.message = "the reason";
  using Code = absl::StatusCode;
  for (Code code : {Code::kNotFound, Code::kUnavailable, Code::kDataLoss,
                    Code::kFailedPrecondition, Code::kOutOfRange}) {
    plan_.refusal = code;
    auto sink = Fetch();
    EXPECT_EQ(sink->AwaitEnd().code(), code);
    EXPECT_THAT(std::string(sink->status.message()), HasSubstr("the reason"));
    EXPECT_FALSE(sink->has_info);
  }
  plan_.refusal = Code::kOk;
  plan_.fail_at = 5;
  plan_.failure = Code::kDataLoss;
  plan_.message = std::string(100'000, 'x');
  auto sink = Fetch();
  EXPECT_EQ(sink->AwaitEnd().code(), Code::kDataLoss);
  EXPECT_EQ(sink->chunks.size(), 5u);
  EXPECT_EQ(server_->Snapshots().failed, 6u);
}

TEST_F(SnapshotStreamTest, TheSinksErrorEndsTheCall) {
  StartServer();
  auto sink = std::make_shared<FakeSink>();
  sink->info_answer = absl::FailedPreconditionError("not that one");
  FetchInto(sink);
  EXPECT_EQ(sink->AwaitEnd(), sink->info_answer);
  EXPECT_TRUE(sink->chunks.empty());
  plan_.chunks = 1'000'000;
  sink = std::make_shared<FakeSink>();
  sink->on_chunk = [](uint64_t n) {
    return n < 3 ? absl::OkStatus() : absl::DataLossError("damaged");
  };
  FetchInto(sink);
  EXPECT_EQ(sink->AwaitEnd(), absl::DataLossError("damaged"));
  EXPECT_EQ(sink->chunks.size(), 3u);
  // The sender notices, too.
  provider_.closed.Await(2);
}

TEST_F(SnapshotStreamTest, ASenderThatGoesDownIsNoticedAndGoneOnWith) {
  plan_.before = [this](uint64_t chunk) {
    if (chunk == 10) go_.Await(1);
  };
  StartServer();
  auto sink = Fetch();
  // The chunk before is on its way while the next one is made.
  sink->arrived.Await(10);
  std::thread stop([this] { StopServer(); });
  EXPECT_EQ(sink->AwaitEnd().code(), absl::StatusCode::kUnavailable);
  go_.Add();
  stop.join();
  auto refused = Fetch();
  EXPECT_EQ(refused->AwaitEnd().code(), absl::StatusCode::kUnavailable);
  StartServer();
  auto rest = Fetch(sink->chunks.size());
  EXPECT_EQ(rest->AwaitEnd(), absl::OkStatus());
  ExpectChunks(*rest, sink->chunks.size());
}

TEST_F(SnapshotStreamTest, ASlowReceiverHoldsTheSenderBack) {
  plan_.chunks = 100;
  plan_.chunk_bytes = 1 << 20;
  StartServer();
  auto sink = std::make_shared<FakeSink>();
  sink->on_chunk = [this](uint64_t n) {
    if (n == 0) go_.Await(1);
    return absl::OkStatus();
  };
  FetchInto(sink);
  sink->arrived.Await(0);
  // As long as anything is made.
  for (int64_t before = -1; before != provider_.made.count();) {
    before = provider_.made.count();
    handler_.AwaitTicks(20);
  }
  // Those that the two ends hold, and the window of the connection.
  EXPECT_LE(provider_.made.count(), 24);
  go_.Add();
  EXPECT_EQ(sink->AwaitEnd(), absl::OkStatus());
  ExpectChunks(*sink);
}

TEST_F(SnapshotStreamTest, AReceiverThatTakesNothingIsGivenUp) {
  plan_.chunks = 1000;
  plan_.chunk_bytes = 1 << 20;
  RpcServerOptions options = TestOptions();
  options.snapshots.max_stall = absl::Milliseconds(50);
  StartServer(options);
  auto sink = std::make_shared<FakeSink>();
  sink->on_chunk = [this](uint64_t) {
    go_.Await(1);
    return absl::OkStatus();
  };
  FetchInto(sink);
  provider_.closed.Await(1);
  go_.Add();
  EXPECT_EQ(sink->AwaitEnd().code(), absl::StatusCode::kUnavailable);
  EXPECT_LT(sink->chunks.size(), 1000u);
}

TEST_F(SnapshotStreamTest, ASilentSenderIsGivenUp) {
  plan_.before = [this](uint64_t chunk) {
    if (chunk == 2) go_.Await(1);
  };
  StartServer();
  GrpcSnapshotFetcher::Options options = FetcherOptions();
  options.max_silence = absl::Milliseconds(50);
  Connect(options);
  // The fetcher's threads sleep after that.
  go_.Add();
  EXPECT_EQ(Fetch()->AwaitEnd(), absl::OkStatus());
  plan_.before = [this](uint64_t chunk) {
    if (chunk == 2) go_.Await(2);
  };
  handler_.AwaitTicks(20);
  auto sink = Fetch();
  EXPECT_EQ(sink->AwaitEnd().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(sink->status.message()), HasSubstr("nothing"));
  go_.Add();
}

TEST_F(SnapshotStreamTest, StrangersAreRefused) {
  RpcServerOptions options = TestOptions();
  options.transport.check_peer = [](NodeId, uint64_t incarnation) {
    return incarnation == 102 ? absl::OkStatus()
                              : absl::FailedPreconditionError("not 102");
  };
  StartServer(options);
  auto end_of = [this](const std::function<void(PeerIdentity*)>& spoil) {
    GrpcSnapshotFetcher::Options mine = FetcherOptions();
    spoil(&mine.self);
    Connect(mine);
    auto sink = Fetch();
    sink->AwaitEnd();
    EXPECT_FALSE(sink->has_info && !sink->status.ok());
    return sink->status.code();
  };
  using Code = absl::StatusCode;
  EXPECT_EQ(end_of([](PeerIdentity*) {}), Code::kOk);
  EXPECT_EQ(end_of([](PeerIdentity* i) { i->cluster_id = 1; }),
            Code::kFailedPrecondition);
  EXPECT_EQ(end_of([](PeerIdentity* i) { i->incarnation = 103; }),
            Code::kFailedPrecondition);
  EXPECT_EQ(end_of([](PeerIdentity* i) { i->from = NodeId(77); }),
            Code::kUnavailable);
  EXPECT_EQ(server_->Snapshots().refused, 3u);
  EXPECT_EQ(provider_.opened.count(), 1);

  // Meant for another node.
  Connect();
  fetcher_.reset();
  GrpcSnapshotFetcher::Options other = FetcherOptions();
  other.address_of = [this](NodeId) { return address_; };
  Connect(other);
  auto sink = std::make_shared<FakeSink>();
  fetcher_->Fetch(NodeId(9), {}, sink);
  EXPECT_EQ(sink->AwaitEnd().code(), Code::kFailedPrecondition);
  EXPECT_EQ(server_->Refusals()[1], 1u);
}

TEST_F(SnapshotStreamTest, WhoHasLeftGetsNothing) {
  kv::ClusterMap map = MakeMap({1, 2});
  map.nodes[1].state = kv::NodeState::kLeft;
  handler_.SetMap(std::make_shared<const kv::ClusterMap>(map));
  StartServer();
  auto sink = Fetch();
  EXPECT_EQ(sink->AwaitEnd().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(provider_.opened.count(), 0);
}

TEST_F(SnapshotStreamTest, RequestsThatMakeNoSenseAreRefused) {
  StartServer();
  const auto stub = wire::Raft::NewStub(ChannelTo(server_->port()));
  auto end_of = [&](const std::function<void(wire::FetchSnapshotRequest*)>& f) {
    wire::FetchSnapshotRequest request;
    request.set_cluster_id(7390);
    request.set_from(2);
    request.set_to(1);
    f(&request);
    grpc::ClientContext context;
    SetPatience(&context);
    auto reader = stub->FetchSnapshot(&context, request);
    wire::SnapshotPart part;
    while (reader->Read(&part)) {
    }
    return reader->Finish().error_code();
  };
  EXPECT_EQ(end_of([](auto*) {}), grpc::OK);
  EXPECT_EQ(end_of([](auto* r) { r->set_last_term(1); }),
            grpc::INVALID_ARGUMENT);
  EXPECT_EQ(end_of([](auto* r) { r->set_last_index(1); }),
            grpc::INVALID_ARGUMENT);
  EXPECT_EQ(end_of([](auto* r) { r->set_last_key(std::string(5000, 'x')); }),
            grpc::INVALID_ARGUMENT);
  EXPECT_EQ(provider_.opened.count(), 1);
}

TEST_F(SnapshotStreamTest, SoManyAtOnceAndNoMore) {
  plan_.before = [this](uint64_t chunk) {
    if (chunk == 2) go_.Await(1);
  };
  StartServer();
  // Each fetcher runs kMaxFetches, the rest waits in it.
  std::vector<std::unique_ptr<GrpcSnapshotFetcher>> fetchers;
  std::vector<std::shared_ptr<FakeSink>> sinks;
  for (int i = 0; i < kMaxSends / kMaxFetches; ++i) {
    Connect();
    for (int j = 0; j < kMaxFetches + 1; ++j) sinks.push_back(Fetch());
    fetchers.push_back(std::move(fetcher_));
  }
  provider_.opened.Await(kMaxSends);
  EXPECT_EQ(server_->Snapshots().active, uint64_t{kMaxSends});
  for (const auto& fetcher : fetchers) {
    EXPECT_EQ(fetcher->stats().active, uint64_t{kMaxFetches});
    EXPECT_EQ(fetcher->stats().waiting, 1u);
  }
  Connect();
  auto refused = Fetch();
  EXPECT_EQ(refused->AwaitEnd().code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(refused->has_info);
  go_.Add();
  for (const auto& sink : sinks) {
    EXPECT_EQ(sink->AwaitEnd(), absl::OkStatus());
    ExpectChunks(*sink);
  }
}

TEST_F(SnapshotStreamTest, CancelWhileReadingAndWhileWaiting) {
  plan_.before = [this](uint64_t chunk) {
    if (chunk == 3) go_.Await(1);
  };
  StartServer();
  std::vector<std::shared_ptr<FakeSink>> sinks;
  for (int i = 0; i < kMaxFetches + 2; ++i) sinks.push_back(Fetch());
  provider_.opened.Await(kMaxFetches);
  sinks[0]->arrived.Await(3);
  // The last one waits, and does not hold up the one before it.
  fetcher_->Cancel(sinks.back().get());
  EXPECT_EQ(sinks.back()->AwaitEnd().code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(sinks.back()->has_info);
  fetcher_->Cancel(sinks[0].get());
  EXPECT_EQ(sinks[0]->AwaitEnd().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(sinks[0]->chunks.size(), 3u);
  go_.Add();
  for (int i = 1; i <= kMaxFetches; ++i) {
    EXPECT_EQ(sinks[i]->AwaitEnd(), absl::OkStatus());
    ExpectChunks(*sinks[i]);
  }
  fetcher_->Cancel(sinks[1].get());  // has ended
  fetcher_->Cancel(nullptr);
}

TEST_F(SnapshotStreamTest, TheFetchersEndEndsAll) {
  plan_.chunks = 1'000'000;
  StartServer();
  std::vector<std::shared_ptr<FakeSink>> sinks;
  for (int i = 0; i < kMaxFetches + 2; ++i) sinks.push_back(Fetch());
  sinks[0]->arrived.Await(3);
  fetcher_.reset();
  for (const auto& sink : sinks) {
    EXPECT_EQ(sink->ended.count(), 1);
    EXPECT_EQ(sink->status.code(), absl::StatusCode::kCancelled);
  }
  provider_.closed.Await(provider_.opened.count());
}

TEST_F(SnapshotStreamTest, TheServersEndUnderLoad) {
  plan_.chunks = 1'000'000;
  for (int round = 0; round < 3; ++round) {
    // In the last round the streams wait for the rate, for hours.
    RpcServerOptions options = TestOptions();
    if (round == 2) options.snapshots.bytes_per_second = 1;
    StartServer(options);
    std::vector<std::shared_ptr<FakeSink>> sinks;
    for (int i = 0; i < kMaxFetches; ++i) sinks.push_back(Fetch());
    const int64_t made = provider_.made.count();
    provider_.made.Await(made + 2);
    server_->Shutdown(absl::Now() + absl::Seconds(round == 1 ? 10 : 0));
    for (const auto& sink : sinks) {
      EXPECT_EQ(sink->AwaitEnd().code(), absl::StatusCode::kUnavailable);
    }
    EXPECT_EQ(provider_.closed.count(), provider_.opened.count());
    fetcher_.reset();
    server_.reset();
  }
}

TEST_F(SnapshotStreamTest, WithoutAProviderOrAnAddressItIsUnavailable) {
  auto server = RpcServer::Create(TestOptions());
  ASSERT_TRUE(server.ok());
  (*server)->Start(&handler_);
  address_ = absl::StrCat("127.0.0.1:", (*server)->port());
  Connect();
  auto sink = Fetch();
  EXPECT_EQ(sink->AwaitEnd().code(), absl::StatusCode::kUnavailable);
  auto nowhere = std::make_shared<FakeSink>();
  fetcher_->Fetch(NodeId(5), {}, nowhere);
  EXPECT_EQ(nowhere->AwaitEnd().code(), absl::StatusCode::kUnavailable);
}

TEST_F(SnapshotStreamTest, TheRateHolds) {
  plan_.chunks = 10;
  plan_.chunk_bytes = 100'000;
  RpcServerOptions options = TestOptions();
  options.snapshots.bytes_per_second = 4'000'000;
  StartServer(options);
  const absl::Time start = absl::Now();
  auto one = Fetch();
  auto two = Fetch();
  EXPECT_EQ(one->AwaitEnd(), absl::OkStatus());
  EXPECT_EQ(two->AwaitEnd(), absl::OkStatus());
  // 2 MB at 4 MB/s, less what may leave at once. Never less, however fast the
  // machine.
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(370));
}

TEST(ByteRateTest, Arithmetic) {
  ByteRate none(0);
  EXPECT_EQ(none.Take(1 << 30, 5), 0u);
  constexpr uint64_t kSecond = 1'000'000'000;
  ByteRate rate(1000, kSecond / 10);
  uint64_t now = 50 * kSecond;
  EXPECT_EQ(rate.Take(100, now), 0u);  // what was saved up
  EXPECT_EQ(rate.Take(500, now), 0u);
  EXPECT_EQ(rate.Take(500, now), kSecond / 2);
  EXPECT_EQ(rate.Take(1000, now), kSecond);
  now += 2 * kSecond;  // exactly paid
  EXPECT_EQ(rate.Take(1, now), 0u);
  now += 100 * kSecond;
  // A long time saves no more than a short one.
  uint64_t left = 0;
  while (rate.Take(1, now) == 0) ++left;
  EXPECT_EQ(left, 101u);
}

TEST(SnapshotCodecTest, RoundTripsAndRefusals) {
  wire::SnapshotInfo info;
  EncodeSnapshotInfo(SampleInfo(), &info);
  auto decoded = DecodeSnapshotInfo(info);
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->meta, SampleInfo().meta);
  EXPECT_EQ(decoded->keys, 12u);
  EXPECT_EQ(decoded->bytes, 34567u);
  for (int field : {0, 1, 2}) {
    wire::SnapshotInfo bad = info;
    if (field == 0) bad.clear_last_term();
    if (field == 1) bad.clear_last_index();
    if (field == 2) bad.mutable_configuration()->push_back('x');
    EXPECT_EQ(DecodeSnapshotInfo(bad).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

// A sender that does not keep to the protocol.
class RudeSender : public wire::Raft::Service {
 public:
  void Set(std::vector<wire::SnapshotPart> parts) {
    const std::lock_guard lock(mutex_);
    parts_ = std::move(parts);
  }
  grpc::Status FetchSnapshot(
      grpc::ServerContext*, const wire::FetchSnapshotRequest*,
      grpc::ServerWriter<wire::SnapshotPart>* writer) override {
    std::vector<wire::SnapshotPart> parts;
    {
      const std::lock_guard lock(mutex_);
      parts = parts_;
    }
    for (const wire::SnapshotPart& part : parts) writer->Write(part);
    return grpc::Status::OK;
  }

 private:
  std::mutex mutex_;  // guards parts_
  std::vector<wire::SnapshotPart> parts_;
};

TEST_F(SnapshotStreamTest, WhatIsNoSnapshotIsDataLoss) {
  wire::SnapshotPart info, bad_info, chunk, huge;
  EncodeSnapshotInfo(SampleInfo(), info.mutable_info());
  bad_info.mutable_info()->set_keys(1);
  chunk.set_chunk("x");
  huge.set_chunk(std::string(10 << 20, 'x'));
  RudeSender rude;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                           &port);
  builder.SetMaxSendMessageSize(-1);
  builder.RegisterService(&rude);
  const auto server = builder.BuildAndStart();
  address_ = absl::StrCat("127.0.0.1:", port);
  Connect();
  auto end_of = [&](std::vector<wire::SnapshotPart> parts) {
    rude.Set(std::move(parts));
    auto sink = Fetch();
    return sink->AwaitEnd().code();
  };
  using Code = absl::StatusCode;
  EXPECT_EQ(end_of({info, chunk}), Code::kOk);
  EXPECT_EQ(end_of({chunk}), Code::kDataLoss);
  EXPECT_EQ(end_of({info, info}), Code::kDataLoss);
  EXPECT_EQ(end_of({bad_info}), Code::kDataLoss);
  EXPECT_EQ(end_of({info, huge}), Code::kResourceExhausted);
  // Nothing at all is none either.
  EXPECT_EQ(end_of({}), Code::kDataLoss);
}

}  // namespace
}  // namespace kv739::server
