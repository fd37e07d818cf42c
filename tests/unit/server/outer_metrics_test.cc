// Metrics as Prometheus sees them: a real HTTP server, scraped.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/notification.h"
#include "server/metrics.h"
#include "server/timed_file_system.h"
#include "tests/unit/server/outer_temp_dir.h"

namespace kv739::server {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

int Connect(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)),
            0);
  return fd;
}

// Sends bytes and returns what comes back until the other side closes.
std::string Exchange(uint16_t port, const std::string& bytes) {
  const int fd = Connect(port);
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n =
        send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) break;  // refused halfway
    sent += static_cast<size_t>(n);
  }
  shutdown(fd, SHUT_WR);
  std::string answer;
  std::array<char, 65536> buffer;
  for (;;) {
    const ssize_t n = recv(fd, buffer.data(), buffer.size(), 0);
    if (n <= 0) break;
    answer.append(buffer.data(), static_cast<size_t>(n));
  }
  close(fd);
  return answer;
}

std::string Get(uint16_t port) {
  return Exchange(port,
                  "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: "
                  "close\r\n\r\n");
}

std::string BodyOf(const std::string& answer) {
  const size_t end = answer.find("\r\n\r\n");
  EXPECT_NE(end, std::string::npos) << answer;
  return end == std::string::npos ? "" : answer.substr(end + 4);
}

// "name{labels}" -> value.
std::map<std::string, double> Samples(const std::string& body) {
  std::map<std::string, double> samples;
  for (const absl::string_view line : absl::StrSplit(body, '\n')) {
    if (line.empty() || line[0] == '#') continue;
    const size_t space = line.rfind(' ');
    double value = -1;
    EXPECT_TRUE(absl::SimpleAtod(line.substr(space + 1), &value)) << line;
    EXPECT_TRUE(
        samples.emplace(std::string(line.substr(0, space)), value).second)
        << "twice: " << line;
  }
  return samples;
}

HostStats FullStats() {
  HostStats stats;
  ReplicaStats leader;
  leader.group = raft::GroupId(0);
  leader.core.soft = {raft::Role::kLeader, raft::Term(7), raft::NodeId(1)};
  leader.core.hard.term = raft::Term(7);
  leader.core.first_index = raft::Index(101);
  leader.snapshot_index = raft::Index(120);
  leader.compactions = 4;
  leader.sent = {
      .done = 2, .bytes = 5000, .nanos = 1'500'000'000, .failures = 1};
  leader.core.last_index = raft::Index(150);
  leader.core.durable = raft::Index(149);
  leader.core.commit = raft::Index(148);
  leader.core.applied = raft::Index(147);
  leader.core.peers.resize(2);
  leader.core.peers[0].id = raft::NodeId(2);
  leader.core.peers[0].match = raft::Index(150);
  leader.core.peers[1].id = raft::NodeId(3);
  leader.core.peers[1].match = raft::Index(30);
  leader.log_entries = 50;
  leader.sessions = 4;
  leader.pending_proposals = 5;
  leader.pending_reads = 6;
  leader.elections_started = 3;
  leader.elections_won = 2;
  ReplicaStats follower = leader;
  follower.group = raft::GroupId(12);
  follower.core.soft = {raft::Role::kFollower, raft::Term(9), raft::NodeId()};
  follower.core.hard.term = raft::Term(9);
  stats.replicas = {leader, follower};
  auto& put = stats.latency_us[static_cast<int>(OpKind::kPut)];
  for (const uint64_t us : {1, 1000, 1024, 1025, 3'000'000}) put.Observe(us);
  stats.replies[static_cast<int>(OpKind::kPut)]
               [static_cast<int>(ReplyCode::kOk)] = 4;
  stats.replies[static_cast<int>(OpKind::kPut)]
               [static_cast<int>(ReplyCode::kUnknown)] = 1;
  stats.proposals_per_turn.Observe(3);
  stats.inbox_events = 8;
  stats.map_epoch = 42;
  return stats;
}

// A node's surroundings, with a host that answers at once unless told not to.
struct FakeNode {
  SyncMonitor syncs;
  HostStats stats = FullStats();
  std::function<void(absl::AnyInvocable<void(HostStats)>)> ask =
      [this](absl::AnyInvocable<void(HostStats)> done) { done(stats); };
  MetricsOptions options;

  FakeNode() {
    options.host = "127.0.0.1";
    options.port = 0;
  }

  std::unique_ptr<MetricsServer> Start() {
    MetricsParts parts;
    parts.host = ask;
    parts.address_of = [](raft::NodeId id) {
      return absl::StrCat("localhost:", 50050 + id.value());
    };
    parts.wal = [] {
      wal::WalStats wal;
      wal.appends = 11;
      wal.segments = 2;
      return wal;
    };
    parts.peers = [] {
      return std::vector<PeerConnectionStats>{{"localhost:50052", true, 77},
                                              {"localhost:50053", false, 0}};
    };
    parts.syncs = &syncs;
    auto server = MetricsServer::Start(options, std::move(parts));
    EXPECT_TRUE(server.ok()) << server.status();
    return server.ok() ? *std::move(server) : nullptr;
  }
};

TEST(Metrics, TellEverythingUnderItsName) {
  FakeNode node;
  for (int i = 0; i < 3; ++i) SyncMonitor::Sync(&node.syncs).Done(true);
  const auto server = node.Start();
  const std::string answer = Get(server->port());
  EXPECT_THAT(answer, HasSubstr("HTTP/1.1 200"));
  EXPECT_THAT(answer, ContainsRegex("Content-Type: text/plain"));
  auto samples = Samples(BodyOf(answer));
  const auto expect = [&](const std::string& name, double value) {
    ASSERT_TRUE(samples.contains(name)) << name;
    EXPECT_DOUBLE_EQ(samples[name], value) << name;
  };
  expect("raft_node_health", 1);
  expect(R"(raft_replication_lag{group="0",peer="localhost:50052"})", 0);
  expect(R"(raft_replication_lag{group="0",peer="localhost:50053"})", 120);
  expect(R"(raft_term{group="0"})", 7);
  expect(R"(raft_term{group="12"})", 9);
  expect(R"(raft_state{group="0"})", 2);
  expect(R"(raft_state{group="12"})", 0);
  expect(R"(raft_log_size{group="0"})", 50);
  expect(R"(raft_committed_index{group="0"})", 148);
  expect(R"(kv739_applied_index{group="0"})", 147);
  expect(R"(kv739_durable_index{group="0"})", 149);
  expect(R"(kv739_last_log_index{group="0"})", 150);
  expect(R"(kv739_snapshot_index{group="0"})", 120);
  expect(R"(kv739_log_start_index{group="0"})", 100);
  expect(R"(kv739_log_compactions_total{group="0"})", 4);
  expect(R"(kv739_snapshots_sent_total{group="0"})", 2);
  expect(R"(kv739_snapshot_bytes_total{group="0",direction="sent"})", 5000);
  expect(R"(kv739_snapshot_seconds_total{group="0",direction="sent"})", 1.5);
  expect(R"(kv739_snapshot_failures_total{group="0",direction="sent"})", 1);
  expect(R"(kv739_leader_known{group="0"})", 1);
  expect(R"(kv739_leader_known{group="12"})", 0);
  expect(R"(kv739_elections_started_total{group="0"})", 3);
  expect(R"(kv739_elections_won_total{group="0"})", 2);
  expect("kv739_map_epoch", 42);
  expect("kv739_inbox_events", 8);
  expect(R"(kv739_requests_total{op="put",code="ok"})", 4);
  expect(R"(kv739_requests_total{op="put",code="unknown"})", 1);
  expect(R"(kv739_requests_total{op="get",code="ok"})", 0);
  expect("kv739_wal_appends_total", 11);
  expect("kv739_wal_segments", 2);
  expect("kv739_wal_fsync_duration_seconds_count", 3);
  expect("kv739_wal_fsync_failures_total", 0);
  expect(R"(kv739_peer_connected{peer="localhost:50052"})", 1);
  expect(R"(kv739_peer_connected{peer="localhost:50053"})", 0);
  expect(R"(kv739_peer_queue_bytes{peer="localhost:50052"})", 77);
  expect("kv739_proposals_per_turn_sum", 3);
  // The histogram: cumulative, in seconds, with what lies above all bounds.
  const std::string latency = "raft_request_latency_seconds";
  expect(latency + R"(_bucket{op="put",le="1e-06"})", 1);
  expect(latency + R"(_bucket{op="put",le="0.001024"})", 3);
  expect(latency + R"(_bucket{op="put",le="0.002048"})", 4);
  expect(latency + R"(_bucket{op="put",le="2.097152"})", 4);
  expect(latency + R"(_bucket{op="put",le="+Inf"})", 5);
  expect(latency + R"(_count{op="put"})", 5);
  expect(latency + R"(_sum{op="put"})", 3.00305);
  // A follower knows no lag.
  for (const auto& [name, value] : samples) {
    EXPECT_THAT(name, Not(HasSubstr(R"(lag{group="12")")));
  }
  EXPECT_GT(samples["process_resident_memory_bytes"], 1e6);
  EXPECT_GT(samples["process_virtual_memory_bytes"],
            samples["process_resident_memory_bytes"]);
  EXPECT_GE(samples["process_open_fds"], 3);
  EXPECT_GE(samples["process_threads"], 2);
  const double age = static_cast<double>(time(nullptr)) -
                     samples["process_start_time_seconds"];
  EXPECT_GE(age, -2);
  EXPECT_LE(age, 120);
}

TEST(Metrics, PassPrometheusOwnLinter) {
  if (access("/usr/bin/promtool", X_OK) != 0) {
    GTEST_SKIP() << "needs promtool (package prometheus)";
  }
  FakeNode node;
  SyncMonitor::Sync(&node.syncs).Done(true);
  const auto server = node.Start();
  const OuterTempDir temp;
  const auto lint = [&](const std::string& text) {
    WriteText(temp.Sub("scrape"), text);
    std::FILE* pipe = popen(absl::StrCat("/usr/bin/promtool check metrics < ",
                                         temp.Sub("scrape"), " 2>&1")
                                .c_str(),
                            "r");
    std::string said;
    std::array<char, 4096> buffer;
    while (const size_t n = fread(buffer.data(), 1, buffer.size(), pipe)) {
      said.append(buffer.data(), n);
    }
    const int rc = pclose(pipe);
    if (rc != 0) absl::StrAppend(&said, "exit status ", WEXITSTATUS(rc));
    return said;
  };
  // The second scrape tells of the first one too.
  Get(server->port());
  EXPECT_THAT(lint(BodyOf(Get(server->port()))), IsEmpty());
  EXPECT_THAT(lint("# TYPE bad_name counter\nbad_name 1\n"), Not(IsEmpty()))
      << "the linter does not find what it must find";
}

TEST(Metrics, DashboardAsksForMetricsThatExist) {
  FakeNode node;
  const auto server = node.Start();
  std::set<std::string> known;
  for (const auto& [name, value] : Samples(BodyOf(Get(server->port())))) {
    known.insert(name.substr(0, name.find('{')));
  }
  const auto dashboard =
      nlohmann::json::parse(ReadText("config/grafana/kv739.json"));
  const std::regex word("\\b(raft|kv739|process)_[a-z0-9_]+");
  size_t asked = 0;
  for (const auto& panel : dashboard["panels"]) {
    for (const auto& target : panel["targets"]) {
      const std::string expr = target["expr"];
      size_t here = 0;
      for (std::sregex_iterator it(expr.begin(), expr.end(), word), end;
           it != end; ++it, ++here) {
        EXPECT_TRUE(known.contains(it->str()))
            << panel["title"] << ": " << it->str();
      }
      EXPECT_GT(here, 0u) << expr;
      asked += here;
    }
  }
  EXPECT_GT(asked, 20u);
  for (const char* name :
       {"raft_replication_lag", "raft_request_latency_seconds_bucket",
        "raft_node_health", "raft_term", "raft_state", "raft_log_size",
        "raft_committed_index"}) {
    EXPECT_THAT(dashboard.dump(), HasSubstr(name)) << "not on the dashboard";
  }
}

TEST(Metrics, AreToldWithoutAHostThatDoesNotAnswer) {
  FakeNode node;
  node.options.host_timeout = absl::Milliseconds(50);
  std::vector<absl::AnyInvocable<void(HostStats)>> asked;
  absl::Mutex mutex;
  node.ask = [&](absl::AnyInvocable<void(HostStats)> done) {
    absl::MutexLock lock(&mutex);
    asked.push_back(std::move(done));
  };
  auto server = node.Start();
  std::vector<std::thread> scrapes;
  for (int i = 0; i < 3; ++i) {
    scrapes.emplace_back([&] {
      const auto samples = Samples(BodyOf(Get(server->port())));
      EXPECT_EQ(samples.at("raft_node_health"), 0);
      EXPECT_EQ(samples.at("kv739_wal_appends_total"), 11);
      EXPECT_TRUE(samples.contains("process_open_fds"));
      EXPECT_FALSE(samples.contains(R"(raft_term{group="0"})"));
    });
  }
  for (std::thread& scrape : scrapes) scrape.join();
  {
    absl::MutexLock lock(&mutex);
    EXPECT_EQ(asked.size(), 1u) << "questions must not pile up";
    asked.front()(node.stats);  // late
    asked.clear();
  }
  // The next scrape asks again. Answer from another thread this time.
  node.options.host_timeout = absl::Seconds(30);
  absl::Notification question;
  node.ask = [&](absl::AnyInvocable<void(HostStats)> done) {
    absl::MutexLock lock(&mutex);
    asked.push_back(std::move(done));
    if (!question.HasBeenNotified()) question.Notify();
  };
  server = node.Start();
  std::thread host([&] {
    question.WaitForNotification();
    absl::MutexLock lock(&mutex);
    asked.front()(node.stats);
  });
  const auto samples = Samples(BodyOf(Get(server->port())));
  EXPECT_EQ(samples.at("raft_node_health"), 1);
  EXPECT_EQ(samples.at("kv739_host_stats_timeouts_total"), 0);
  host.join();
  // Answers that come after the end meet nobody and harm nobody.
  node.options.host_timeout = absl::Milliseconds(1);
  node.ask = [&](absl::AnyInvocable<void(HostStats)> done) {
    absl::MutexLock lock(&mutex);
    asked.push_back(std::move(done));
  };
  server = node.Start();
  EXPECT_EQ(Samples(BodyOf(Get(server->port())))
                .at("kv739_host_stats_timeouts_total"),
            1);
  server.reset();
  asked.back()(node.stats);
}

TEST(Metrics, HealthFollowsTheDiskAndTheStop) {
  FakeNode node;
  node.options.max_sync = absl::ZeroDuration();
  const auto server = node.Start();
  const auto health = [&] {
    return Samples(BodyOf(Get(server->port()))).at("raft_node_health");
  };
  EXPECT_EQ(health(), 1);
  SyncMonitor::Sync hanging(&node.syncs);
  EXPECT_EQ(health(), 0);
  hanging.Done(true);
  EXPECT_EQ(health(), 1);
  node.stats.stopping = true;
  EXPECT_EQ(health(), 0);
  node.stats.stopping = false;
  EXPECT_EQ(health(), 1);
  SyncMonitor::Sync(&node.syncs).Done(false);
  EXPECT_EQ(health(), 0) << "a failed sync is final";
}

TEST(Metrics, GarbageOnThePortHarmsNobody) {
  FakeNode node;
  const auto server = node.Start();
  std::string noise;
  uint32_t random = 1;
  for (int i = 0; i < 20'000; ++i) {
    random = random * 1664525 + 1013904223;
    noise += static_cast<char>(random >> 24);
  }
  for (const std::string& bytes :
       {std::string("\r\n\r\n"), std::string("GET"), noise,
        std::string("GET /metrics HTTP/9.9\r\n\r\n"),
        std::string("POST /metrics HTTP/1.1\r\nContent-Length: "
                    "99999999999999999999\r\n\r\n"),
        std::string("GET /") + std::string(100'000, 'a'),
        std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        std::string("GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nHost: x\r\n\r\n")}) {
    EXPECT_THAT(Exchange(server->port(), bytes),
                Not(HasSubstr("HTTP/1.1 200")));
  }
  EXPECT_EQ(Samples(BodyOf(Get(server->port()))).at("raft_node_health"), 1);
}

TEST(Metrics, SaysWhyItCannotListen) {
  FakeNode node;
  const auto server = node.Start();
  MetricsOptions options = node.options;
  options.port = server->port();
  auto second = MetricsServer::Start(options, {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr(absl::StrCat("127.0.0.1 port ", server->port(),
                                     ": Address already in use")));
  options.host = "no such host";
  second = MetricsServer::Start(options, {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kInvalidArgument);
  options.host = "203.0.113.1";  // reserved for documentation
  options.port = 0;
  second = MetricsServer::Start(options, {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr("Cannot assign requested address"));
}

TEST(Metrics, ListensOnIpv6AndOnNames) {
  FakeNode node;
  for (const char* host : {"::1", "localhost", "0.0.0.0", "::"}) {
    node.options.host = host;
    auto server = MetricsServer::Start(
        node.options, {.host = node.ask,
                       .address_of = [](raft::NodeId) { return ""; },
                       .wal = {},
                       .peers = {}});
    if (!server.ok() && absl::StrContains(host, "::")) continue;  // no IPv6
    ASSERT_TRUE(server.ok()) << host << ": " << server.status();
    EXPECT_NE((*server)->port(), 0);
  }
}

class FakeClock : public Clock {
 public:
  uint64_t MonotonicNanos() const override { return now; }
  uint64_t WallMillis() const override { return 0; }
  uint64_t now = 1000;
};

TEST(SyncMonitor, TimesAndWatches) {
  FakeClock clock;
  SyncMonitor monitor(&clock);
  SyncMonitor::Sync first(&monitor);
  clock.now += 1'000'000;
  SyncMonitor::Sync second(&monitor);
  clock.now += 24'000;
  EXPECT_EQ(monitor.Read().oldest_nanos, 1'024'000u);
  first.Done(true);  // 1024 us: the bound of bucket 10
  EXPECT_EQ(monitor.Read().oldest_nanos, 24'000u);
  second.Done(true);  // 24 us: below 32, bucket 5
  const SyncMonitor::Snapshot snapshot = monitor.Read();
  EXPECT_EQ(snapshot.oldest_nanos, 0u);
  EXPECT_EQ(snapshot.counts[10], 1u);
  EXPECT_EQ(snapshot.counts[5], 1u);
  EXPECT_EQ(snapshot.sum_us, 1048u);
  // More at one time than are watched are still counted.
  std::vector<SyncMonitor::Sync> many;
  for (int i = 0; i < 2 * SyncMonitor::kWatched; ++i)
    many.emplace_back(&monitor);
  clock.now += 10'000'000'000;
  EXPECT_EQ(monitor.Read().oldest_nanos, 10'000'000'000u);
  for (SyncMonitor::Sync& sync : many) sync.Done(true);
  EXPECT_EQ(monitor.Read().oldest_nanos, 0u);
  EXPECT_EQ(monitor.Read().counts[SyncMonitor::kBuckets],
            2u * SyncMonitor::kWatched);
}

TEST(TimedFileSystem, CountsWritesOfTheRealLog) {
  for (const bool direct : {false, true}) {
    const OuterTempDir temp;
    SyncMonitor monitor;
    const auto fs = MakeTimedFileSystem(wal::FileSystem::Posix(), &monitor);
    wal::WalOptions options;
    options.segment_bytes = 1 << 20;
    options.direct = direct;
    auto wal = wal::Wal::Open(fs.get(), temp.path(), options);
    ASSERT_TRUE(wal.ok()) << wal.status();
    const auto count = [&] {
      uint64_t sum = 0;
      for (const uint64_t n : monitor.Read().counts) sum += n;
      return sum;
    };
    const auto append = [&](uint64_t index) {
      wal::GroupWrite write;
      write.group = raft::GroupId(1);
      write.entries.push_back({raft::Term(1), raft::Index(index),
                               raft::EntryKind::kCommand,
                               raft::MakePayload("x")});
      ASSERT_TRUE((*wal)->Append({&write, 1}).ok());
    };
    append(1);  // begins a segment too
    const uint64_t before = count();
    for (uint64_t i = 2; i <= 6; ++i) append(i);
    EXPECT_EQ(count() - before, 5u) << "direct " << direct;
    EXPECT_EQ(monitor.Read().failures, 0u);
    EXPECT_GT(monitor.Read().sum_us, 0u);
  }
}

}  // namespace
}  // namespace kv739::server
