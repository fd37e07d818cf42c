// kv739-fault: clients of lib739kv read and write a few keys of a real cluster
// while its servers are killed with SIGKILL and started again; then the
// history of all clients is checked. Prints how operations ended, how long
// writes stood still around each kill, and PASS or FAIL; exit code 0 or 1.
//
// The check is that of tests/support/history.h: no acknowledged write is
// missing, none was done twice, the old values of each key form one chain, and
// all of it agrees with real time.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "tests/support/cluster.h"
#include "tests/support/workload.h"

namespace kv739::test {
namespace {

// All servers of a kill of all are dead within this.
constexpr Nanos kAllWithin = 50'000'000;
// Writes done between a restart and the next kill, so that each kill meets a
// cluster that works.
constexpr int64_t kWritesBetween = 100;

struct Options {
  int clients = 20;
  double seconds = 60;
  std::string kill = "leader";
  double every = 5;
  int servers = 5;
  int keys = 64;
  int gets_percent = 20;
  double pace_ms = 2;
  uint32_t seed = 1;
  std::string settings;
};

// One round of killing.
struct Kill {
  std::string what;
  Nanos at = 0;
  Nanos took = 0;     // from the first signal to the last death
  uint64_t term = 0;  // highest before
};

using Terms = std::map<std::pair<int, uint64_t>, uint64_t>;

class Run {
 public:
  explicit Run(const Options& options)
      : options_(options),
        random_(options.seed),
        cluster_({.servers = options.servers,
                  .settings = options.settings,
                  .failed = [this] { return failed_; }}),
        workload_(cluster_.config(),
                  {.clients = options.clients,
                   .keys = options.keys,
                   .gets_percent = options.gets_percent,
                   .seed = options.seed,
                   .pace = absl::Milliseconds(options.pace_ms)}) {}

  bool Execute() {
    if (!Good(cluster_.Start()) || !Good(workload_.Start())) return false;
    if (!workload_.WaitForWrites(kWritesBetween)) return Fail("no writes");
    const absl::Time end = absl::Now() + absl::Seconds(options_.seconds);
    while (absl::Now() < end) {
      const absl::Time next =
          std::min(end, absl::Now() + absl::Seconds(options_.every));
      if (!KillAndRestart() || !WorkUntil(next)) break;
    }
    workload_.Stop();
    Report();
    return Check() && !failed_;
  }

 private:
  bool Fail(const std::string& what) {
    std::printf("%s\n", what.c_str());
    failed_ = true;
    return false;
  }
  bool Good(const absl::Status& status) {
    return status.ok() || Fail(std::string(status.message()));
  }

  Terms AllTerms() {
    Terms terms;
    for (int i = 0; i < cluster_.size(); ++i) {
      if (!cluster_.running(i)) continue;
      auto status = cluster_.Status(i);
      if (!status.ok()) continue;
      for (const v1::ReplicaStatus& replica : status->replicas()) {
        terms[{i, replica.group()}] = replica.term();
      }
    }
    return terms;
  }

  // Groups take turns.
  std::vector<int> Victims() {
    auto group = cluster_.groups().begin();
    std::advance(group, kills_.size() % cluster_.groups().size());
    std::string what = options_.kill;
    if (what == "random") {
      static constexpr const char* kKinds[] = {"leader", "follower", "two",
                                               "all"};
      what = kKinds[random_() % 4];
    }
    kills_.back().what = what;
    const std::vector<int>& members = group->second;
    const int leader = cluster_.WaitForLeader(group->first);
    if (leader < 0) return {};
    std::vector<int> followers;
    for (int member : members) {
      if (member != leader) followers.push_back(member);
    }
    std::shuffle(followers.begin(), followers.end(), random_);
    if (what == "leader") return {leader};
    if (what == "follower") return {followers[0]};
    if (what == "two") return {leader, followers[0]};
    std::vector<int> all;
    for (int i = 0; i < cluster_.size(); ++i) all.push_back(i);
    return all;
  }

  bool KillAndRestart() {
    kills_.emplace_back();
    const std::vector<int> victims = Victims();
    if (victims.empty()) return Fail("no leader to be found");
    const Terms before = AllTerms();
    Kill& kill = kills_.back();
    kill.at = Now();
    for (int i : victims) cluster_.Signal(i, SIGKILL);
    for (int i : victims) cluster_.WaitExit(i);
    kill.took = Now() - kill.at;
    // With a majority left, the others get the time to go on without it.
    if (victims.size() * 2 < static_cast<size_t>(cluster_.size()) &&
        !workload_.WaitForWrites(kWritesBetween)) {
      return Fail("no writes within a minute of a kill");
    }
    for (int i : victims) {
      if (!Good(cluster_.Restart(i))) return false;
    }
    if (!Good(cluster_.WaitForLeaders())) return false;
    if (!workload_.WaitForWrites(kWritesBetween)) {
      return Fail("no writes within a minute of a restart");
    }
    if (!Eventually([&] { return AllTerms().size() >= before.size(); })) {
      return Fail("a server did not come back");
    }
    for (const auto& [replica, term] : AllTerms()) {
      auto old = before.find(replica);
      if (old != before.end() && term < old->second) {
        return Fail(
            absl::StrFormat("the term of group %d on server %d went "
                            "down from %d to %d",
                            replica.second, replica.first, old->second, term));
      }
    }
    return true;
  }

  bool WorkUntil(absl::Time end) {
    while (absl::Now() < end) {
      if (!workload_.WaitForWrites(kWritesBetween)) {
        return Fail("no writes for a minute");
      }
    }
    return true;
  }

  void Report() {
    const auto& operations = workload_.operations();
    for (bool gets : {false, true}) {
      const Tally tally = Count(operations, gets);
      std::printf("%-7s %9d done %6d unknown %6d refused\n",
                  gets ? "gets:" : "writes:", static_cast<int>(tally.done),
                  static_cast<int>(tally.unknown),
                  static_cast<int>(tally.refused));
    }
    std::map<std::string, std::vector<double>> gaps;
    Nanos slowest = 0;
    for (size_t i = 0; i < kills_.size(); ++i) {
      const Nanos to = i + 1 < kills_.size() ? kills_[i + 1].at : Now();
      gaps[kills_[i].what].push_back(
          absl::ToDoubleMilliseconds(LongestGap(operations, kills_[i].at, to)));
      if (kills_[i].what == "all") slowest = std::max(slowest, kills_[i].took);
    }
    for (auto& [what, of_kind] : gaps) {
      std::sort(of_kind.begin(), of_kind.end());
      std::printf(
          "kills of %-8s %3d   longest time without a completed write: "
          "median %.0f ms, worst %.0f ms\n",
          (what + ":").c_str(), static_cast<int>(of_kind.size()),
          of_kind[of_kind.size() / 2], of_kind.back());
    }
    if (slowest > 0) {
      std::printf("all servers were dead within %.1f ms%s\n", slowest / 1e6,
                  slowest > kAllWithin ? " (more than 50 ms)" : "");
    }
  }

  bool Check() {
    std::vector<Operation> operations = workload_.operations();
    auto client = Client::Open(cluster_.config(), 60'000);
    if (!client.ok()) return Good(client.status());
    for (const std::string& key : workload_.keys()) {
      Operation get{.kind = Kind::kGet, .client = -1, .key = key};
      get.start = Now();
      const Answer answer = (*client)->Get(key);
      get.end = Now();
      if (!answer.ok()) return Fail("final read of " + key + " failed");
      get.seen = answer.seen;
      operations.push_back(std::move(get));
    }
    if (auto violation = CheckPuts(operations)) return Fail(violation->text);
    for (const auto& [group, members] : cluster_.groups()) {
      if (!Good(cluster_.WaitForEqualReplicas(group))) return false;
    }
    std::printf(
        "history of %d operations on %d keys: every acknowledged write is "
        "there once, no term went down, replicas are level\n",
        static_cast<int>(operations.size()), options_.keys);
    return true;
  }

  const Options options_;
  std::mt19937 random_;
  bool failed_ = false;
  Cluster cluster_;
  Workload workload_;
  std::vector<Kill> kills_;
};

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("Clients against a cluster whose servers are killed",
               "kv739-fault");
  app.add_option("--clients", options.clients)->capture_default_str();
  app.add_option("--seconds", options.seconds)->capture_default_str();
  app.add_option("--kill", options.kill)
      ->check(CLI::IsMember({"leader", "follower", "two", "all", "random"}))
      ->capture_default_str();
  app.add_option("--every", options.every, "seconds from kill to kill")
      ->capture_default_str();
  app.add_option("--servers", options.servers)->capture_default_str();
  app.add_option("--keys", options.keys)->capture_default_str();
  app.add_option("--gets", options.gets_percent, "percent of the operations")
      ->capture_default_str();
  app.add_option("--pace", options.pace_ms,
                 "shortest time between two operations of a client, in ms")
      ->capture_default_str();
  app.add_option("--seed", options.seed)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const bool passed = Run(options).Execute();
  std::printf("%s\n", passed ? "PASS" : "FAIL");
  return passed ? 0 : 1;
}

}  // namespace
}  // namespace kv739::test

int main(int argc, char** argv) { return kv739::test::Main(argc, argv); }
