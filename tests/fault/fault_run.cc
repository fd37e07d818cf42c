// kv739-fault: clients of lib739kv read and write a few keys of a real cluster
// while faults of one kind, or of all, are done to its servers; then the
// history of all clients is checked. Prints how operations ended, how long
// writes stood still around each fault, and PASS or FAIL.
//
// The check is that of tests/support/history.h: no acknowledged write is
// missing, none was done twice, the old values of each key form one chain, and
// all of it agrees with real time. Beside it: writes go on within a minute
// whenever a majority is there, no server ends otherwise than it should, no
// term goes down, and in the end all replicas have the same state.
//
// Exit code: 0 all passed, 1 one failed, 77 nothing could be run because this
// machine lacks the rights; what was left out is named and counted.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "tests/fault/fault.h"
#include "tests/fault/report.h"

namespace kv739::test {
namespace {

// Writes done between the end of a fault and the next, so that each meets a
// cluster that works.
constexpr int64_t kWritesBetween = 100;
constexpr int kExitSkipped = 77;

struct Options {
  std::vector<std::string> faults = {"kill-leader"};
  int clients = 20;
  double seconds = 60;
  double every = 0;
  int keys = 64;
  int gets_percent = 20;
  double pace_ms = 5;
  uint32_t seed = 1;
  std::string table;
};

// By replica: its server's node id, and the group.
using Terms = std::map<std::pair<uint64_t, uint64_t>, uint64_t>;

enum class Result { kPassed, kFailed, kSkipped };

class Run {
 public:
  Run(std::string kind, const Options& options)
      : kind_(std::move(kind)), options_(options), random_(options.seed) {}

  Result Execute() {
    ClusterOptions cluster;
    absl::Status made = MakeWorld(NeedsOf({kind_}), &world_, &cluster);
    if (!made.ok()) {
      std::printf("SKIPPED %s: %s\n", kind_.c_str(),
                  std::string(made.message()).c_str());
      return Result::kSkipped;
    }
    cluster.failed = [this] { return failed_; };
    cluster_ = std::make_unique<Cluster>(std::move(cluster));
    workload_ = std::make_unique<Workload>(
        cluster_->config(),
        WorkloadOptions{.clients = options_.clients,
                        .keys = options_.keys,
                        .gets_percent = options_.gets_percent,
                        .seed = options_.seed,
                        .pace = absl::Milliseconds(options_.pace_ms)});
    const absl::Time begin = absl::Now();
    if (Good(cluster_->Start()) && Good(workload_->Start()) &&
        WritesGoOn("at the start")) {
      MakeFaults();
      const absl::Time end = begin + absl::Seconds(options_.seconds);
      while (absl::Now() < end && !failed_) {
        const absl::Time next = absl::Now() + absl::Seconds(options_.every);
        OneRound();
        absl::SleepFor(std::min(next, end) - absl::Now());
      }
    }
    workload_->Stop();
    PrintReport(rounds_, workload_->operations());
    for (const auto& fault : faults_) {
      const std::string summary = fault->Summary();
      if (!summary.empty()) std::printf("  %s\n", summary.c_str());
    }
    if (!failed_) Check();
    WriteTable(absl::ToDoubleSeconds(absl::Now() - begin));
    std::fflush(stdout);
    return failed_ ? Result::kFailed : Result::kPassed;
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
  bool WritesGoOn(const std::string& when) {
    return workload_->WaitForWrites(kWritesBetween) ||
           Fail("no writes within a minute " + when);
  }

  bool WritesGoOnOrMayStop(Nemesis& fault, Round* round) {
    const absl::Time deadline = absl::Now() + absl::Minutes(1);
    // Longer than any election takes.
    while (!workload_->WaitForWrites(kWritesBetween, absl::Seconds(5))) {
      if (const std::string why = fault.MayStop(); !why.empty()) {
        absl::StrAppend(&round->what, ", ", why);
        round->writes_go_on = false;
        return true;
      }
      if (absl::Now() > deadline) {
        return Fail("no writes within a minute of: " + round->what);
      }
    }
    return true;
  }

  void MakeFaults() {
    const Target target{world_, *cluster_, *workload_, random_};
    for (const std::string& kind : kFaultKinds) {
      if (kind == "mix" || (kind_ != "mix" && kind_ != kind)) continue;
      faults_.push_back(MakeNemesis(kind, target));
      names_.push_back(kind);
    }
  }

  Terms AllTerms() {
    Terms terms;
    for (int i = 0; i < cluster_->total(); ++i) {
      if (!cluster_->running(i)) continue;
      auto status = cluster_->Status(i);
      if (!status.ok()) continue;
      for (const v1::ReplicaStatus& replica : status->replicas()) {
        terms[{status->node(), replica.group()}] = replica.term();
      }
    }
    return terms;
  }

  bool OneRound() {
    const Terms before = AllTerms();
    const size_t n = random_() % faults_.size();
    Round round;
    round.at = Now();
    auto begun = faults_[n]->Begin();
    if (!begun.ok()) return Good(begun.status());
    round.what = kind_ == "mix" ? absl::StrCat(names_[n], ": ", begun->what)
                                : begun->what;
    round.writes_go_on = begun->writes_go_on;
    bool good = !round.writes_go_on || WritesGoOnOrMayStop(*faults_[n], &round);
    rounds_.push_back(round);
    absl::SleepFor(begun->hold);
    good = Good(faults_[n]->End()) && good;
    if (!good) return false;
    if (!Good(cluster_->WaitForLeaders())) return false;
    return WritesGoOn("after: " + round.what) && AllBack(round, before);
  }

  // All servers run and answer, and no term went down.
  bool AllBack(const Round& round, const Terms& before) {
    std::string missing;
    const bool back = Eventually([&] {
      missing.clear();
      const Terms now = AllTerms();
      for (int i = 0; i < cluster_->size(); ++i) {
        if (!cluster_->running(i)) absl::StrAppend(&missing, " ", i);
      }
      return missing.empty() && now.size() >= 5;
    });
    if (!back) {
      return Fail(absl::StrCat("after: ", round.what,
                               ": not all servers are back: ", missing));
    }
    for (const auto& [replica, term] : AllTerms()) {
      const auto old = before.find(replica);
      if (old != before.end() && term < old->second) {
        return Fail(absl::StrFormat(
            "the term of group %d on node %x went down from %d to %d",
            replica.second, replica.first, old->second, term));
      }
    }
    return true;
  }

  void Check() {
    std::vector<Operation> operations = workload_->operations();
    auto client = Client::Open(cluster_->config(), 60'000);
    if (!client.ok()) {
      Good(client.status());
      return;
    }
    for (const std::string& key : workload_->keys()) {
      Operation get{.kind = Kind::kGet, .client = -1, .key = key};
      get.start = Now();
      const Answer answer = (*client)->Get(key);
      get.end = Now();
      if (!answer.ok()) {
        Fail("final read of " + key + " failed");
        return;
      }
      get.seen = answer.seen;
      operations.push_back(std::move(get));
    }
    if (auto violation = CheckPuts(operations)) {
      Fail(violation->text);
      return;
    }
    if (!Good(cluster_->RefreshGroups())) return;
    for (const auto& [group, members] : cluster_->groups()) {
      if (!Good(cluster_->WaitForEqualHashes(group, absl::Minutes(3)))) return;
    }
    std::printf(
        "history of %d operations on %d keys: every acknowledged write is "
        "there once, no term went down, replicas are equal\n",
        static_cast<int>(operations.size()), options_.keys);
  }

  void WriteTable(double seconds) {
    if (options_.table.empty()) return;
    const bool is_new = access(options_.table.c_str(), F_OK) != 0;
    std::ofstream table(options_.table, std::ios::app);
    if (is_new) table << TableHead();
    table << TableRow(kind_, seconds, !failed_, rounds_,
                      workload_->operations());
  }

  const std::string kind_;
  const Options options_;
  std::mt19937 random_;
  bool failed_ = false;
  World world_;  // before the cluster: its servers run in it
  std::unique_ptr<Cluster> cluster_;
  std::unique_ptr<Workload> workload_;
  std::vector<std::unique_ptr<Nemesis>> faults_;
  std::vector<std::string> names_;
  std::vector<Round> rounds_;
};

std::vector<std::string> KindsOf(const Options& options) {
  for (const std::string& kind : options.faults) {
    if (kind == "all") return kFaultKinds;
  }
  return options.faults;
}

int RunAll(const Options& options) {
  const std::vector<std::string> kinds = KindsOf(options);
  const Needs needs = NeedsOf({kinds.begin(), kinds.end()});
  absl::Status rights;
  if (needs.network || needs.disks) rights = EnterPrivateWorld(needs.network);
  std::map<Result, std::vector<std::string>> results;
  for (const std::string& kind : kinds) {
    std::printf("==== %s, seed %u\n", kind.c_str(), options.seed);
    std::fflush(stdout);
    const Needs own = NeedsOf({kind});
    Result result = Result::kSkipped;
    if (rights.ok() || !(own.network || own.disks)) {
      result = Run(kind, options).Execute();
    } else {
      std::printf("SKIPPED %s: %s\n", kind.c_str(),
                  std::string(rights.message()).c_str());
    }
    results[result].push_back(kind);
  }
  const auto& failed = results[Result::kFailed];
  const auto& skipped = results[Result::kSkipped];
  const auto& passed = results[Result::kPassed];
  if (!skipped.empty()) {
    std::printf("%d kinds of faults SKIPPED: %s\n",
                static_cast<int>(skipped.size()),
                absl::StrJoin(skipped, ", ").c_str());
  }
  if (!failed.empty()) {
    std::printf("FAIL: %s\n", absl::StrJoin(failed, ", ").c_str());
    return 1;
  }
  if (passed.empty()) return kExitSkipped;
  std::printf("PASS: %s\n", absl::StrJoin(passed, ", ").c_str());
  return 0;
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("Clients against a cluster to whose servers faults are done",
               "kv739-fault");
  std::vector<std::string> known = kFaultKinds;
  known.push_back("all");
  app.add_option("--faults", options.faults,
                 "kinds, one after the other: " + absl::StrJoin(known, ","))
      ->delimiter(',')
      ->check(CLI::IsMember(known))
      ->capture_default_str();
  app.add_option("--seconds", options.seconds, "of each kind")
      ->capture_default_str();
  app.add_option("--clients", options.clients)->capture_default_str();
  app.add_option("--every", options.every,
                 "shortest time from fault to fault, in seconds")
      ->capture_default_str();
  app.add_option("--keys", options.keys)->capture_default_str();
  app.add_option("--gets", options.gets_percent, "percent of the operations")
      ->capture_default_str();
  app.add_option("--pace", options.pace_ms,
                 "shortest time between two operations of a client, in ms")
      ->capture_default_str();
  app.add_option("--seed", options.seed)->capture_default_str();
  app.add_option("--table", options.table,
                 "file to which a row for each kind is added");
  CLI11_PARSE(app, argc, argv);
  return RunAll(options);
}

}  // namespace
}  // namespace kv739::test

int main(int argc, char** argv) { return kv739::test::Main(argc, argv); }
