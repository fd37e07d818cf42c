// upkeep_bench: what a cluster costs beside its answers, on real servers with
// default settings. Prints tables, or lines of CSV for the plot in docs/.
//
//   log      --puts N        size of the log while N values are put; how long
//                            a server takes to start again (CSV on stdout)
//   latency  --megabytes N   puts over a group of this size, with snapshots as
//                            by default and without any, in turns
//   install  --megabytes N   a follower that fetches a group of this size:
//                            speed beside a plain copy, peak memory
//   replace  --seconds N     all five members give way to new servers, and a
//                            dead one to a spare, under load
//   stop     --rounds N      how long writes stand still when a leader is
//                            stopped in order
//   idle     --groups N      what servers use that have so many groups and
//                            nothing to do
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "tests/benchmark/upkeep_idle.h"
#include "tests/support/bulk.h"
#include "tests/support/cluster.h"
#include "tests/support/workload.h"

namespace kv739::test {
namespace {

struct Options {
  int puts = 1'000'000;
  int value_bytes = 256;
  int megabytes = 1024;
  int rounds = 10;
  int seconds = 20;
  int threads = 16;
  int groups = 1000;
};

void Require(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "upkeep_bench: %s\n", status.ToString().c_str());
  std::exit(1);
}

uint64_t BytesUnder(const std::string& dir) {
  uint64_t bytes = 0;
  std::error_code gone;
  for (const auto& file :
       std::filesystem::recursive_directory_iterator(dir, gone)) {
    const uint64_t size = file.file_size(gone);
    if (!gone) bytes += size;
  }
  return bytes;
}

int64_t Pid(Cluster& cluster, int i) {
  auto status = cluster.Status(i);
  return status.ok() ? status->pid() : 0;
}

// A line of /proc/PID/status in MiB.
double Memory(int64_t pid, absl::string_view line) {
  std::ifstream in(absl::StrCat("/proc/", pid, "/status"));
  std::string text;
  while (std::getline(in, text)) {
    if (absl::StartsWith(text, line)) {
      return std::atof(text.c_str() + line.size() + 1) / 1024;
    }
  }
  return 0;
}
void ForgetPeak(int64_t pid) {
  std::ofstream(absl::StrCat("/proc/", pid, "/clear_refs")) << "5";
}

double Percentile(std::vector<double>& values, double p) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1,
                         static_cast<size_t>(p * double(values.size())))];
}

std::unique_ptr<Client> Open(const Cluster& cluster) {
  auto client = Client::Open(cluster.config(), 60'000);
  Require(client.status());
  return std::move(*client);
}

// Seconds from the start of the process until it serves and has applied what
// the leader had committed when it was started.
double TimeRestart(Cluster& cluster, int i, uint64_t group) {
  const int leader = cluster.WaitForLeader(group);
  const uint64_t commit = cluster.Replica(leader, group)->commit();
  const absl::Time start = absl::Now();
  Require(cluster.Restart(i));
  if (!Eventually([&] {
        auto replica = cluster.Replica(i, group);
        return replica && replica->applied() >= commit;
      })) {
    Require(absl::DeadlineExceededError("a server did not come back"));
  }
  return absl::ToDoubleSeconds(absl::Now() - start);
}

void RunLog(const Options& options) {
  Cluster cluster({.settings = ""});
  Require(cluster.Start());
  const uint64_t group = cluster.only_group();
  auto client = Open(cluster);
  Bulk bulk(*client, options.value_bytes);
  const absl::Time start = absl::Now();
  std::printf("seconds,puts,log_mib,log_files_mib,store_mib,rss_mib\n");
  uint64_t worst = 0;
  for (int done = 0; done < options.puts;) {
    const int next = std::min(options.puts, done + 10'000);
    Require(bulk.Put(done, next, 1));
    done = next;
    uint64_t log = 0, files = 0, store = 0;
    double rss = 0;
    for (int i = 0; i < cluster.size(); ++i) {
      if (auto replica = cluster.Replica(i, group)) {
        log = std::max<uint64_t>(log, replica->log_bytes());
      }
      files = std::max(files, BytesUnder(cluster.data_dir(i) + "/wal"));
      store = std::max(store, BytesUnder(cluster.data_dir(i) + "/db"));
      rss = std::max(rss, Memory(Pid(cluster, i), "VmRSS"));
    }
    worst = std::max(worst, files);
    std::printf("%.2f,%d,%.1f,%.1f,%.1f,%.0f\n",
                absl::ToDoubleSeconds(absl::Now() - start), done,
                double(log) / (1 << 20), double(files) / (1 << 20),
                double(store) / (1 << 20), rss);
    std::fflush(stdout);
  }
  std::fprintf(stderr, "puts per second: %.0f; log files at most %.1f MiB\n",
               options.puts / absl::ToDoubleSeconds(absl::Now() - start),
               double(worst) / (1 << 20));
  const int follower = (cluster.WaitForLeader(group) + 1) % cluster.size();
  cluster.KillHard(follower);
  std::fprintf(stderr, "a follower, killed: serves again after %.2f s\n",
               TimeRestart(cluster, follower, group));
  cluster.KillHardAll();
  const absl::Time all = absl::Now();
  for (int i = 0; i < cluster.size(); ++i) Require(cluster.Restart(i));
  Require(cluster.WaitForLeaders());
  Require(cluster.WaitForEqualReplicas(group));
  std::fprintf(stderr,
               "all five, killed: a leader and all equal after %.2f s\n",
               absl::ToDoubleSeconds(absl::Now() - all));
}

// Fills the group with values of 16 KiB.
constexpr int kFillBytes = 16 << 10;
int Fill(Client& client, int megabytes) {
  const int keys = megabytes * ((1 << 20) / kFillBytes);
  Bulk bulk(client, kFillBytes);
  for (int i = 0; i < keys; i += 64) {
    Require(bulk.Put(i, std::min(keys, i + 64), 1));
  }
  return keys;
}

struct Latency {
  double p50, p99, p999, per_second;
};

Latency Measure(const Cluster& cluster, const Options& options) {
  std::vector<std::vector<double>> all(options.threads);
  std::vector<std::thread> threads;
  const absl::Time end = absl::Now() + absl::Seconds(options.seconds);
  for (int t = 0; t < options.threads; ++t) {
    threads.emplace_back([&, t] {
      auto client = Open(cluster);
      const std::string value(options.value_bytes, 'v');
      for (int i = 0; absl::Now() < end; ++i) {
        const absl::Time start = absl::Now();
        const Answer answer =
            client->Put(absl::StrCat("small/", t, "/", i % 5'000), value);
        if (!answer.ok()) Require(absl::UnavailableError(answer.error));
        all[t].push_back(absl::ToDoubleMilliseconds(absl::Now() - start));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  std::vector<double> values;
  for (auto& one : all) values.insert(values.end(), one.begin(), one.end());
  return {Percentile(values, 0.5), Percentile(values, 0.99),
          Percentile(values, 0.999), double(values.size()) / options.seconds};
}

void RunLatency(const Options& options) {
  const std::string never =
      "snapshot:\n  entries: 1000000000\n  log_bytes: 100GiB\n";
  std::printf(
      "snapshots   puts/s   p50 ms   p99 ms  p99.9 ms  snapshots made\n");
  std::vector<double> ratios;
  for (int round = 0; round < options.rounds; ++round) {
    double p99[2];
    for (const bool with : {true, false}) {
      Cluster cluster({.settings = with ? "" : never});
      Require(cluster.Start());
      const uint64_t group = cluster.only_group();
      auto client = Open(cluster);
      Fill(*client, options.megabytes);
      absl::SleepFor(absl::Seconds(5));  // compactions of the filling end
      const int leader = cluster.WaitForLeader(group);
      const uint64_t before = cluster.Replica(leader, group)->snapshot_index();
      const Latency l = Measure(cluster, options);
      const uint64_t after = cluster.Replica(leader, group)->snapshot_index();
      p99[with] = l.p99;
      std::printf("%-9s %8.0f %8.2f %8.2f %9.2f  %llu entries made durable\n",
                  with ? "default" : "none", l.per_second, l.p50, l.p99, l.p999,
                  static_cast<unsigned long long>(after - before));
      std::fflush(stdout);
    }
    ratios.push_back(p99[1] / p99[0]);
  }
  std::printf("p99 with snapshots / without: median %.2f of %zu rounds\n",
              Percentile(ratios, 0.5), ratios.size());
}

// MB/s of the same bytes through one TCP connection over loopback.
double PlainCopy(uint64_t bytes) {
  const int server = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  ::bind(server, reinterpret_cast<sockaddr*>(&address), length);
  ::listen(server, 1);
  ::getsockname(server, reinterpret_cast<sockaddr*>(&address), &length);
  const absl::Time start = absl::Now();
  std::thread sender([&] {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address));
    const std::string chunk(1 << 20, 'x');
    for (uint64_t sent = 0; sent < bytes;) {
      const ssize_t n = ::write(fd, chunk.data(),
                                std::min<uint64_t>(chunk.size(), bytes - sent));
      if (n <= 0) break;
      sent += n;
    }
    ::close(fd);
  });
  const int fd = ::accept(server, nullptr, nullptr);
  std::vector<char> buffer(1 << 20);
  while (::read(fd, buffer.data(), buffer.size()) > 0) {
  }
  sender.join();
  ::close(fd);
  ::close(server);
  return double(bytes) / 1e6 / absl::ToDoubleSeconds(absl::Now() - start);
}

void RunInstall(const Options& options) {
  Cluster cluster({.settings = "snapshot:\n  send_bytes_per_s: 16GiB\n"});
  Require(cluster.Start());
  const uint64_t group = cluster.only_group();
  auto client = Open(cluster);
  const int leader = cluster.WaitForLeader(group);
  const int away = (leader + 1) % cluster.size();
  cluster.KillHard(away);
  Fill(*client, options.megabytes);
  Bulk small(*client, 100);
  Require(small.Put(10'000'000, 10'030'000, 1));
  const uint64_t old = cluster.Replica(leader, group)->snapshot_index();
  if (!Eventually([&] {
        Require(small.Put(10'000'000, 10'001'000, 2));
        return cluster.Replica(leader, group)->snapshot_index() > old;
      })) {
    Require(absl::DeadlineExceededError("no snapshot was made"));
  }
  for (int i = 0; i < cluster.size(); ++i) {
    if (i != away) ForgetPeak(Pid(cluster, i));
  }
  const double sender_before = Memory(Pid(cluster, leader), "VmRSS");
  const absl::Time start = absl::Now();
  Require(cluster.Restart(away));
  double receiver_before = 0;
  absl::Time first, last;
  uint64_t bytes = 0;
  const uint64_t commit = cluster.Replica(leader, group)->commit();
  if (!Eventually(
          [&] {
            auto replica = cluster.Replica(away, group);
            if (!replica) return false;
            if (replica->receiving().bytes() > 0) {
              if (bytes == 0) {
                first = absl::Now();
                receiver_before = Memory(Pid(cluster, away), "VmRSS");
              }
              bytes = std::max<uint64_t>(bytes, replica->receiving().bytes());
              last = absl::Now();
            }
            return replica->applied() >= commit;
          },
          absl::Minutes(10))) {
    Require(absl::DeadlineExceededError("it did not catch up"));
  }
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  std::printf("group: %d MiB of values; sent about %.0f MB\n",
              options.megabytes, double(bytes) / 1e6);
  std::printf("restart to caught up: %.2f s\n", seconds);
  std::printf("stream: %.2f s, %.0f MB/s\n",
              absl::ToDoubleSeconds(last - first),
              double(bytes) / 1e6 / absl::ToDoubleSeconds(last - first));
  std::printf("plain copy of the same bytes: %.0f MB/s\n", PlainCopy(bytes));
  std::printf("sender, resident: %.0f MiB before, %.0f at most\n",
              sender_before, Memory(Pid(cluster, leader), "VmHWM"));
  std::printf("receiver, resident: %.0f MiB at its begin, %.0f at most\n",
              receiver_before, Memory(Pid(cluster, away), "VmHWM"));
  Require(cluster.WaitForEqualHashes(group));
}

void RunStop(const Options& options) {
  Cluster cluster({.settings = ""});
  Require(cluster.Start());
  const uint64_t group = cluster.only_group();
  Workload workload(cluster.config(), {.clients = 8, .keys = 64});
  Require(workload.Start());
  std::vector<Nanos> stops;
  for (int round = 0; round < options.rounds; ++round) {
    workload.WaitForWrites(500);
    const int leader = cluster.WaitForLeader(group);
    stops.push_back(Now());
    cluster.Terminate(leader);
    cluster.WaitExit(leader);
    workload.WaitForWrites(500);
    Require(cluster.Restart(leader));
    Require(cluster.WaitForEqualReplicas(group));
  }
  workload.Stop();
  std::vector<double> gaps;
  for (const Nanos from : stops) {
    gaps.push_back(absl::ToDoubleMilliseconds(
        LongestGap(workload.operations(), from, from + 1'500'000'000)));
    std::printf("%.0f ", gaps.back());
  }
  const double median = Percentile(gaps, 0.5);
  std::printf(
      "\nlongest time without a write: median %.0f ms, most %.0f ms; "
      "unknown outcomes: %lld\n",
      median, gaps.back(),
      static_cast<long long>(Count(workload.operations(), false).unknown));
}

// Writes per second within [from, to].
double Rate(const std::vector<Operation>& operations, Nanos from, Nanos to) {
  int64_t done = 0;
  for (const Operation& operation : operations) {
    done += operation.kind != Kind::kGet &&
            operation.outcome == Outcome::kDone && operation.end >= from &&
            operation.end < to;
  }
  return double(done) * 1e9 / double(to - from);
}

struct Phase {
  const char* name;
  Nanos from = 0;
  Nanos to = 0;
};

void Report(Workload& workload, const std::vector<Phase>& phases) {
  workload.Stop();
  const auto& operations = workload.operations();
  std::printf("%-34s %8s %9s %10s\n", "phase", "seconds", "writes/s",
              "worst gap");
  for (const Phase& phase : phases) {
    std::printf("%-34s %8.2f %9.0f %7.0f ms\n", phase.name,
                double(phase.to - phase.from) / 1e9,
                Rate(operations, phase.from, phase.to),
                absl::ToDoubleMilliseconds(
                    LongestGap(operations, phase.from, phase.to)));
  }
  const Tally writes = Count(operations, false);
  const auto violation = CheckPuts(operations);
  std::printf("writes: %lld done, %lld refused, %lld unknown; history: %s\n",
              static_cast<long long>(writes.done),
              static_cast<long long>(writes.refused),
              static_cast<long long>(writes.unknown),
              violation ? violation->text.c_str() : "linearizable");
  std::fflush(stdout);
}

void RunReplace(const Options& options) {
  const absl::Duration calm = absl::Seconds(options.seconds) / 4;
  {
    Cluster cluster({.extra = 5, .settings = ""});
    Require(cluster.Start());
    auto client = Open(cluster);
    Bulk bulk(*client, 256);
    Require(bulk.Put(0, 50'000, 1));
    for (int i = 5; i < 10; ++i) {
      Require(cluster.StartNew(i));
      Eventually([&] { return cluster.NodeId(i) != 0; });
    }
    Workload workload(cluster.config(),
                      {.clients = 8, .keys = 256, .gets_percent = 0});
    Require(workload.Start());
    workload.WaitForWrites(200);
    std::vector<Phase> phases = {{"before", Now()}};
    absl::SleepFor(calm);
    phases.back().to = Now();
    phases.push_back({"five leave, five come", Now()});
    for (int old = 0; old < 5; ++old) {
      Require(cluster.RemoveServer(old));
      if (cluster.WaitExit(old) != 0) std::printf("exit code not 0\n");
      // One that asks now and then learns where the cluster has gone.
      if (!client->Get("x").ok()) std::printf("a read failed\n");
    }
    Require(cluster.WaitForMembers(0, {5, 6, 7, 8, 9}));
    phases.back().to = Now();
    phases.push_back({"after", Now()});
    absl::SleepFor(calm);
    phases.back().to = Now();
    Report(workload, phases);
    Require(cluster.WaitForEqualHashes(0));
    Require(bulk.Verify(0, 50'000, 1));
  }
  Cluster cluster(
      {.servers = 6, .settings = "membership:\n  replace_after_s: 5\n"});
  Require(cluster.Start());
  Workload workload(cluster.config(),
                    {.clients = 8, .keys = 256, .gets_percent = 0});
  Require(workload.Start());
  workload.WaitForWrites(200);
  std::vector<Phase> phases = {{"one dies, a spare comes after 5 s", Now()}};
  cluster.KillHard(4);
  Require(cluster.WaitForMembers(0, {0, 1, 2, 3, 5}));
  phases.back().to = Now();
  phases.push_back({"two more die", Now()});
  cluster.KillHard(0);
  cluster.KillHard(1);
  absl::SleepFor(calm);
  phases.back().to = Now();
  Report(workload, phases);
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app{"What a kv739 cluster costs beside its answers"};
  app.require_subcommand(1);
  auto* log = app.add_subcommand("log", "Size of the log, time to restart");
  log->add_option("--puts", options.puts)->capture_default_str();
  log->add_option("--value-bytes", options.value_bytes)->capture_default_str();
  auto* latency = app.add_subcommand("latency", "Puts beside snapshots");
  auto* install = app.add_subcommand("install", "A follower fetches a group");
  auto* replace = app.add_subcommand("replace", "Members come and go");
  auto* stop = app.add_subcommand("stop", "Stops in order");
  auto* idle = app.add_subcommand("idle", "Many groups with nothing to do");
  idle->add_option("--groups", options.groups)->capture_default_str();
  idle->add_option("--seconds", options.seconds)->capture_default_str();
  for (auto* command : {latency, install}) {
    command->add_option("--megabytes", options.megabytes)
        ->capture_default_str();
  }
  for (auto* command : {latency, stop}) {
    command->add_option("--rounds", options.rounds)->capture_default_str();
  }
  replace->add_option("--seconds", options.seconds)->capture_default_str();
  latency->add_option("--seconds", options.seconds)->capture_default_str();
  latency->add_option("--threads", options.threads)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  if (*log) RunLog(options);
  if (*latency) RunLatency(options);
  if (*install) RunInstall(options);
  if (*replace) RunReplace(options);
  if (*stop) RunStop(options);
  if (*idle) RunIdle(options.groups, options.seconds);
  return 0;
}

}  // namespace
}  // namespace kv739::test

int main(int argc, char** argv) { return kv739::test::Main(argc, argv); }
