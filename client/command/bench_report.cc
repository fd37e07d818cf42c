#include "client/command/bench_report.h"

#include <sys/utsname.h>

#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/command/table.h"
#include "client/command/text.h"
#include "kv739/version.h"

namespace kv739::bench {
namespace {

using command::Color;
using command::Table;
using Json = nlohmann::ordered_json;

constexpr double kNanosPerMs = 1e6;

double Ms(uint64_t nanos) { return static_cast<double>(nanos) / kNanosPerMs; }

double PerSecond(uint64_t count, double seconds) {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

std::string MsCell(double ms) {
  return absl::StrFormat("%.*f", ms < 10 ? 3 : ms < 100 ? 2 : 1, ms);
}

void AddRow(const std::string& name, const Histogram& latency, double seconds,
            Color color, Table* table) {
  std::vector<std::string> cells = {
      name, absl::StrCat(latency.count()),
      absl::StrFormat("%.0f", PerSecond(latency.count(), seconds)),
      MsCell(Ms(latency.min())), MsCell(latency.mean() / kNanosPerMs)};
  for (const double percent : {50.0, 90.0, 99.0, 99.9}) {
    cells.push_back(MsCell(Ms(latency.Percentile(percent))));
  }
  cells.push_back(MsCell(Ms(latency.max())));
  table->Add(std::move(cells), color);
}

std::string MixText(const Mix& mix) {
  std::vector<std::string> parts;
  for (int kind = 0; kind < kKinds; ++kind) {
    if (mix.percent[kind] > 0) {
      parts.push_back(absl::StrCat(mix.percent[kind], " % ", kKindNames[kind]));
    }
  }
  return absl::StrJoin(parts, ", ");
}

// What was run, in two lines.
std::string Heading(const Report& report) {
  const BenchArguments& a = report.arguments;
  std::string text =
      absl::StrFormat("workload %s: %s; %d keys, %s, values of %s\n",
                      a.workload, MixText(report.mix), a.keys, a.distribution,
                      command::Bytes(a.shape.value_size));
  absl::StrAppend(&text, a.target);
  if (!report.etcd_version.empty()) {
    absl::StrAppend(&text, " ", report.etcd_version, " at ", report.endpoint);
  }
  absl::StrAppend(&text, ", ", a.mode, ", ", a.in_flight, " in flight, ");
  if (a.rate > 0) {
    absl::StrAppendFormat(&text, "%.6g a second (open loop, %s)", a.rate,
                          a.arrivals);
  } else {
    absl::StrAppend(&text, "closed loop");
  }
  absl::StrAppendFormat(&text, ", %.1f s after %.1f s of warm-up%s%s\n",
                        report.seconds, a.warmup,
                        report.interrupted ? ", interrupted" : "",
                        report.stopped.empty() ? "" : ", ended early");
  return text;
}

Json LatencyJson(const Histogram& latency, double seconds) {
  Json points = Json::array();
  for (const Histogram::Point& point : latency.Points()) {
    points.push_back({point.upper, point.count});
  }
  return {{"ops", latency.count()},
          {"ops_per_second", PerSecond(latency.count(), seconds)},
          {"min_ms", Ms(latency.min())},
          {"mean_ms", latency.mean() / kNanosPerMs},
          {"p50_ms", Ms(latency.Percentile(50))},
          {"p90_ms", Ms(latency.Percentile(90))},
          {"p99_ms", Ms(latency.Percentile(99))},
          {"p999_ms", Ms(latency.Percentile(99.9))},
          {"max_ms", Ms(latency.max())},
          // Largest value of a bucket in nanoseconds, and how many it has.
          {"histogram", std::move(points)}};
}

Json SettingsJson(const Report& report) {
  const BenchArguments& a = report.arguments;
  Json mix = Json::object();
  for (int kind = 0; kind < kKinds; ++kind) {
    if (report.mix.percent[kind] > 0) {
      mix[kKindNames[kind]] = report.mix.percent[kind];
    }
  }
  return {{"target", a.target},
          {"endpoint", report.endpoint},
          {"etcd_version", report.etcd_version},
          {"workload", a.workload},
          {"mix", std::move(mix)},
          {"keys", a.keys},
          {"key_size", a.shape.key_size},
          {"value_size", a.shape.value_size},
          {"distribution", a.distribution},
          {"mode", a.mode},
          {"in_flight", a.in_flight},
          {"loop", a.rate > 0 ? "open" : "closed"},
          {"rate", a.rate},
          {"arrivals", a.arrivals},
          {"backlog", a.backlog},
          {"seconds", a.seconds},
          {"warmup", a.warmup},
          {"seed", a.seed}};
}

Json MachineJson() {
  utsname system = {};
  uname(&system);
  return {{"cores", std::thread::hardware_concurrency()},
          {"system", absl::StrCat(system.sysname, " ", system.release)},
          {"architecture", system.machine}};
}

const Histogram& ScansOf(const LoopStats& stats) {
  return stats.latency[static_cast<int>(Kind::kScan)];
}

double CpuMicrosPerOp(const Report& report, double cpu) {
  const uint64_t ops = AllOf(report.stats).count();
  return ops == 0 ? 0 : cpu * 1e6 / static_cast<double>(ops);
}

}  // namespace

Histogram AllOf(const LoopStats& stats) {
  Histogram all;
  for (const Histogram& kind : stats.latency) all.Merge(kind);
  return all;
}

std::string FormatTable(const Report& report, bool use_color) {
  const LoopStats& stats = report.stats;
  std::vector<Table::Column> columns = {{"(ms)"}};
  for (const char* title :
       {"ops", "ops/s", "min", "mean", "p50", "p90", "p99", "p99.9", "max"}) {
    columns.push_back({title, Table::Align::kRight});
  }
  Table table(std::move(columns));
  int kinds = 0;
  for (int kind = 0; kind < kKinds; ++kind) {
    if (stats.latency[kind].count() == 0) continue;
    ++kinds;
    AddRow(kKindNames[kind], stats.latency[kind], report.seconds, Color::kNone,
           &table);
  }
  if (kinds != 1) {
    AddRow("all", AllOf(stats), report.seconds, Color::kNone, &table);
  }
  if (stats.failures.count() > 0) {
    AddRow("failed", stats.failures, report.seconds, Color::kRed, &table);
  }
  std::string text = absl::StrCat(Heading(report), table.Format(use_color));
  absl::StrAppend(&text, "errors ", stats.failed, ", outcome unknown ",
                  stats.unknown, ", not found ", stats.not_found,
                  2 * stats.not_found > AllOf(stats).count()
                      ? " (--load fills the keys)\n"
                      : "\n");
  if (const Histogram& scans = ScansOf(stats); scans.count() > 0) {
    absl::StrAppendFormat(
        &text, "scans got %d keys, %.0f a second, %.1f each\n", stats.scanned,
        PerSecond(stats.scanned, report.seconds),
        static_cast<double>(stats.scanned) /
            static_cast<double>(scans.count()));
  }
  if (!stats.first_error.empty()) {
    absl::StrAppend(&text, "first error: ", command::Escape(stats.first_error),
                    "\n");
  }
  if (report.arguments.rate > 0) {
    absl::StrAppendFormat(
        &text,
        "%d arrived; %d began more than 1 ms late, %d were dropped (never "
        "began)\n",
        stats.arrivals, stats.late, stats.dropped);
  }
  if (!report.arguments.pids.empty()) {
    absl::StrAppendFormat(
        &text, "CPU per operation: servers %.1f us, client %.1f us\n",
        CpuMicrosPerOp(report, report.server_cpu),
        CpuMicrosPerOp(report, report.client_cpu));
  }
  return text;
}

nlohmann::ordered_json ToJson(const Report& report) {
  const LoopStats& stats = report.stats;
  Json operations = Json::object();
  for (int kind = 0; kind < kKinds; ++kind) {
    if (stats.latency[kind].count() > 0) {
      operations[kKindNames[kind]] =
          LatencyJson(stats.latency[kind], report.seconds);
    }
  }
  Json json = {{"version", absl::StrCat(kVersion, " (", kGitRevision, ")")},
               {"started", report.started},
               {"machine", MachineJson()},
               {"settings", SettingsJson(report)},
               {"seconds", report.seconds},
               {"interrupted", report.interrupted},
               {"stopped", report.stopped}};
  json.update(LatencyJson(AllOf(stats), report.seconds));
  json.update({{"errors", stats.failed},
               {"unknown", stats.unknown},
               {"not_found", stats.not_found},
               {"scanned_keys", stats.scanned},
               {"first_error", stats.first_error},
               {"arrivals", stats.arrivals},
               {"late", stats.late},
               {"dropped", stats.dropped}});
  json["cpu"] = {
      {"client_seconds", report.client_cpu},
      {"server_seconds", report.server_cpu},
      {"client_us_per_op", CpuMicrosPerOp(report, report.client_cpu)},
      {"server_us_per_op", CpuMicrosPerOp(report, report.server_cpu)}};
  json["operations"] = std::move(operations);
  json["failures"] = LatencyJson(stats.failures, report.seconds);
  return json;
}

}  // namespace kv739::bench
