#include "tests/benchmark/upkeep_idle.h"

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/support/cluster.h"
#include "tests/support/scrape.h"

namespace kv739::test {
namespace {

constexpr absl::Duration kComeToRest = absl::Minutes(3);

double Metric(Cluster& cluster, int i, absl::string_view name) {
  return ScrapeMetric(cluster.metrics_port(i), name);
}
double Resting(Cluster& cluster, int i) {
  return Metric(cluster, i, "kv739_quiet_groups");
}
double CpuSeconds(Cluster& cluster, int i) {
  return Metric(cluster, i, "process_cpu_seconds_total");
}

bool MostRest(Cluster& cluster, int groups) {
  for (int i = 0; i < cluster.size(); ++i) {
    if (Resting(cluster, i) < 0.9 * groups) return false;
  }
  return true;
}

}  // namespace

void RunIdle(int groups, int seconds) {
  Cluster cluster(
      {.groups_per_five = groups, .wait_for_leaders = false, .settings = ""});
  const absl::Status started = cluster.Start();
  if (!started.ok() ||
      !Eventually([&] { return MostRest(cluster, groups); }, kComeToRest)) {
    std::fprintf(stderr, "upkeep_bench: the groups do not come to rest: %s\n",
                 started.ToString().c_str());
    std::exit(1);
  }
  std::vector<double> before;
  for (int i = 0; i < cluster.size(); ++i) {
    before.push_back(CpuSeconds(cluster, i));
  }
  absl::SleepFor(absl::Seconds(seconds));
  std::printf("| server | groups | resting | of a core | resident MiB |\n");
  std::printf("|---|---|---|---|---|\n");
  for (int i = 0; i < cluster.size(); ++i) {
    const double used = CpuSeconds(cluster, i) - before[static_cast<size_t>(i)];
    std::printf(
        "| %d | %d | %.0f | %.1f %% | %.0f |\n", i + 1, groups,
        Resting(cluster, i), 100 * used / seconds,
        Metric(cluster, i, "process_resident_memory_bytes") / (1 << 20));
  }
}

}  // namespace kv739::test
