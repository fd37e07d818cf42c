// How fast a snapshot's chunks go from node to node over loopback, beside a
// plain TCP copy of the same bytes: 1 MiB each, as incompressible as they come
// from the store. Sender and receiver are in one process.
#include <benchmark/benchmark.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "server/snapshot_fetcher.h"
#include "tests/unit/server/rpc_fakes.h"

namespace kv739::server {
namespace {

constexpr size_t kChunkBytes = 1 << 20;

const std::string& Chunk() {
  static const std::string& chunk = *[] {
    std::mt19937_64 random(739);
    auto* bytes = new std::string(kChunkBytes, '\0');
    for (char& c : *bytes) c = static_cast<char>(random());
    return bytes;
  }();
  return chunk;
}

class Provider : public SnapshotProvider {
 public:
  explicit Provider(int64_t chunks) : chunks_(chunks) {}
  absl::StatusOr<std::unique_ptr<SnapshotCursor>> OpenSnapshot(
      raft::NodeId, const SnapshotRequest&) override {
    return std::make_unique<Cursor>(chunks_);
  }

 private:
  class Cursor : public SnapshotCursor {
   public:
    explicit Cursor(int64_t chunks) : left_(chunks) {
      info_.meta.position = {raft::Term(1), raft::Index(1)};
      info_.meta.configuration.voters = {raft::NodeId(1)};
    }
    const SnapshotInfo& info() const override { return info_; }
    absl::StatusOr<bool> Next(std::string* chunk) override {
      if (left_ == 0) return false;
      --left_;
      *chunk = Chunk();
      return true;
    }
    void Sent(uint64_t) override {}

   private:
    SnapshotInfo info_;
    int64_t left_;
  };
  const int64_t chunks_;
};

class Sink : public SnapshotSink {
 public:
  absl::Status OnInfo(const SnapshotInfo&) override { return absl::OkStatus(); }
  absl::Status OnChunk(absl::string_view chunk) override {
    bytes += chunk.size();
    return absl::OkStatus();
  }
  void OnEnd(const absl::Status& status) override {
    if (!status.ok()) std::abort();
    ended.Notify();
  }
  uint64_t bytes = 0;
  absl::Notification ended;
};

void BM_FetchSnapshot(benchmark::State& state) {
  const int64_t chunks = state.range(0);
  FakeHandler handler(std::make_shared<const kv::ClusterMap>(MakeMap({1, 2})));
  Provider provider(chunks);
  auto server = RpcServer::Create(TestOptions());
  if (!server.ok()) std::abort();
  (*server)->Start(&handler, &provider);
  GrpcSnapshotFetcher::Options options;
  options.self = {7390, raft::NodeId(2), raft::NodeId(), 102};
  options.address_of = [&](raft::NodeId) {
    return absl::StrCat("127.0.0.1:", (*server)->port());
  };
  GrpcSnapshotFetcher fetcher(std::move(options));
  for (auto _ : state) {
    auto sink = std::make_shared<Sink>();
    fetcher.Fetch(raft::NodeId(1), {}, sink);
    sink->ended.WaitForNotification();
    if (sink->bytes != static_cast<uint64_t>(chunks) * kChunkBytes) {
      std::abort();
    }
  }
  state.SetBytesProcessed(state.iterations() * chunks *
                          static_cast<int64_t>(kChunkBytes));
}
BENCHMARK(BM_FetchSnapshot)->Arg(1024)->UseRealTime()->MeasureProcessCPUTime();

void BM_PlainCopy(benchmark::State& state) {
  const int64_t chunks = state.range(0);
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      listen(listener, 1) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) !=
          0) {
    std::abort();
  }
  for (auto _ : state) {
    std::thread sender([&] {
      const int fd = accept(listener, nullptr, nullptr);
      for (int64_t i = 0; i < chunks; ++i) {
        const std::string chunk = Chunk();  // as the cursor does
        for (size_t sent = 0; sent < chunk.size();) {
          const ssize_t n = write(fd, chunk.data() + sent, chunk.size() - sent);
          if (n <= 0) std::abort();
          sent += static_cast<size_t>(n);
        }
      }
      close(fd);
    });
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) !=
        0) {
      std::abort();
    }
    std::string buffer(kChunkBytes, '\0');
    int64_t received = 0;
    for (ssize_t n; (n = read(fd, buffer.data(), buffer.size())) > 0;) {
      received += n;
    }
    close(fd);
    sender.join();
    if (received != chunks * static_cast<int64_t>(kChunkBytes)) std::abort();
  }
  close(listener);
  state.SetBytesProcessed(state.iterations() * chunks *
                          static_cast<int64_t>(kChunkBytes));
}
BENCHMARK(BM_PlainCopy)->Arg(1024)->UseRealTime()->MeasureProcessCPUTime();

}  // namespace
}  // namespace kv739::server
