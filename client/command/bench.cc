// bench: loads a cluster, or an etcd, and says how it fared.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/command/bench_driver.h"
#include "client/command/bench_report.h"
#include "client/command/interrupt.h"
#include "client/command/verbs.h"

namespace kv739::bench {
namespace {

using command::Context;
using command::ExitCode;
using Json = nlohmann::ordered_json;

constexpr absl::Duration kDefaultTimeout = absl::Seconds(5);
// How long nothing may succeed before a run gives up; two deadlines if those
// are longer.
constexpr absl::Duration kGiveUpAfter = absl::Seconds(10);
constexpr absl::Duration kTick = absl::Milliseconds(100);
constexpr absl::Duration kBetweenLines = absl::Seconds(1);
constexpr char kClear[] = "\r\x1b[K";  // to the line's begin, and empty it
// --load does not measure: enough to keep the servers busy.
constexpr int kLoadInFlight = 256;
// Threads share loops, so that they seldom wait for each other's bookkeeping
// and histograms do not multiply with them.
constexpr int kMaxLoops = 16;

double OwnCpuSeconds() {
  rusage self = {};
  getrusage(RUSAGE_SELF, &self);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) +
           1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(self.ru_utime) + seconds(self.ru_stime);
}

// User and system time so far; -1: no such process.
double CpuSecondsOf(int pid) {
  std::ifstream stat(absl::StrCat("/proc/", pid, "/stat"));
  std::string text;
  std::getline(stat, text);
  const size_t name_end = text.rfind(')');  // names may have blanks
  if (name_end == std::string::npos) return -1;
  std::istringstream fields(text.substr(name_end + 1));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  double user = 0;
  double system = 0;
  fields >> user >> system;
  return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

uint64_t Nanos(double seconds) { return static_cast<uint64_t>(seconds * 1e9); }

class Run {
 public:
  Run(Context& context, BenchArguments arguments, const Mix& mix)
      : context_(context),
        arguments_(std::move(arguments)),
        timeout_(context.Timeout(kDefaultTimeout)),
        keys_(arguments_.keys),
        values_(arguments_.shape.value_size, arguments_.seed) {
    report_.mix = mix;
  }

  int Execute() {
    if (absl::Status status = ReadBounds(); !status.ok()) {
      return context_.Fail(command::kUsage, std::string(status.message()));
    }
    if (absl::Status status = Open(); !status.ok()) {
      return context_.Fail(
          absl::IsUnavailable(status) ? command::kUnreachable : command::kUsage,
          std::string(status.message()));
    }
    if (arguments_.load && !Load()) return Ending(command::kNo);
    if (arguments_.seconds == 0) return command::kOk;
    Measure();
    return Print();
  }

 private:
  struct Span {
    uint64_t begin = 0;
    uint64_t measure_from = 0;
    uint64_t end = 0;
  };

  absl::Status ReadBounds();
  absl::Status Open();
  // False when it was ended early.
  bool Load();
  void Measure();
  // Waits until the driver has finished, or ends it: Ctrl-C, no success.
  void Watch(Driver* driver, const Span& span,
             const std::function<std::string(uint64_t ops)>& tell);
  double ServerCpu() const;
  int Print();
  int Ending(int otherwise) const;

  Context& context_;
  command::Interrupt interrupt_;  // before the first connection
  const BenchArguments arguments_;
  const absl::Duration timeout_;
  KeySpace keys_;
  const Values values_;
  std::vector<Bound> bounds_;
  std::unique_ptr<BlockingTarget> threads_;
  std::unique_ptr<AsyncTarget> async_;
  std::unique_ptr<AsyncTarget> loader_;  // when async_ is not to be used
  Report report_;
};

absl::Status Run::ReadBounds() {
  for (const int pid : arguments_.pids) {
    if (CpuSecondsOf(pid) < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--pid ", pid, ": no such process"));
    }
  }
  const std::string& json = arguments_.json_file;
  if (!json.empty() && json != "-" && !std::ofstream(json, std::ios::app)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--json ", json, ": it cannot be written"));
  }
  if (arguments_.target_file.empty()) return absl::OkStatus();
  std::ifstream file(arguments_.target_file);
  if (!file) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--target-file ", arguments_.target_file, ": it cannot be read"));
  }
  std::stringstream text;
  text << file.rdbuf();
  absl::StatusOr<std::vector<Bound>> bounds = ParseBounds(text.str());
  if (!bounds.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--target-file ",
                                                   arguments_.target_file, ": ",
                                                   bounds.status().message()));
  }
  bounds_ = *std::move(bounds);
  return absl::OkStatus();
}

absl::Status Run::Open() {
  const int places =
      std::max(arguments_.in_flight, arguments_.load ? kLoadInFlight : 1);
  if (arguments_.target == "etcd") {
    absl::StatusOr<EtcdTarget> etcd =
        NewEtcdTarget(arguments_.endpoints, timeout_, places);
    if (!etcd.ok()) return etcd.status();
    report_.endpoint = etcd->endpoint;
    report_.etcd_version = etcd->version;
    async_ = std::move(etcd->target);
    return absl::OkStatus();
  }
  if (arguments_.mode == "unary") {
    absl::StatusOr<command::ClusterClient*> cluster = context_.Cluster();
    if (!cluster.ok()) return cluster.status();
    absl::StatusOr<std::unique_ptr<AsyncTarget>> unary =
        NewUnaryTarget(*cluster, timeout_, places);
    if (!unary.ok()) return unary.status();
    async_ = *std::move(unary);
    return absl::OkStatus();
  }
  absl::StatusOr<kv739_client*> client = context_.Data();
  if (!client.ok()) return client.status();
  const int timeout_ms = static_cast<int>(absl::ToInt64Milliseconds(timeout_));
  if (absl::Status status = AskLibrary(*client, timeout_ms); !status.ok()) {
    return status;
  }
  if (arguments_.mode == "threads") {
    threads_ = NewLibraryThreadsTarget(*client, timeout_ms);
    loader_ = NewLibraryAsyncTarget(*client, timeout_ms);
  } else {
    async_ = NewLibraryAsyncTarget(*client, timeout_ms);
  }
  return absl::OkStatus();
}

bool Run::Load() {
  const std::unique_ptr<Source> source =
      NewFillSource(arguments_.shape, &keys_, &values_, arguments_.seed);
  LoopOptions options;
  options.in_flight = kLoadInFlight;
  options.begin = NowNanos();
  options.measure_from = options.begin;
  options.end = LoadLoop::kNever;
  Driver driver(loader_ != nullptr ? loader_.get() : async_.get(),
                std::make_unique<LoadLoop>(options, source.get()),
                kLoadInFlight);
  driver.Start();
  Watch(&driver, {options.begin, options.begin, options.end},
        [this](uint64_t ops) {
          return absl::StrFormat("loading: %d of %d keys", ops,
                                 arguments_.keys);
        });
  driver.Join();
  const LoopStats stats = driver.stats();
  const double seconds = static_cast<double>(NowNanos() - options.begin) * 1e-9;
  if (!source->Exhausted()) {
    report_.stats = stats;
    context_.io.err << absl::StrFormat("%d of %d keys were loaded",
                                       AllOf(stats).count(), arguments_.keys)
                    << std::endl;
    return false;
  }
  context_.io.err << absl::StrFormat(
                         "loaded %d keys in %.1f s, %d failures repeated",
                         arguments_.keys, seconds, stats.failures.count())
                  << std::endl;
  return true;
}

void Run::Measure() {
  LoopOptions options;
  options.rate = arguments_.rate;
  options.poisson = arguments_.arrivals == "poisson";
  options.max_backlog = arguments_.backlog;
  // An open loop is one; its threads take what arrives in turn.
  const int loops = threads_ != nullptr && options.rate <= 0
                        ? std::min(arguments_.in_flight, kMaxLoops)
                        : 1;
  std::vector<std::unique_ptr<Source>> sources;
  for (int i = 0; i < loops; ++i) {
    sources.push_back(NewMixSource(report_.mix, arguments_.shape, &keys_,
                                   &values_,
                                   arguments_.seed * kMaxLoops + i + 1));
  }
  options.seed = ~arguments_.seed;
  options.begin = NowNanos();
  options.measure_from = options.begin + Nanos(arguments_.warmup);
  options.end = options.measure_from + Nanos(arguments_.seconds);
  std::vector<std::unique_ptr<LoadLoop>> made;
  for (int i = 0; i < loops; ++i) {
    options.in_flight =
        arguments_.in_flight / loops + (i < arguments_.in_flight % loops);
    made.push_back(std::make_unique<LoadLoop>(options, sources[i].get()));
  }
  report_.started = absl::FormatTime(absl::Now(), absl::UTCTimeZone());
  Driver driver =
      threads_ != nullptr
          ? Driver(threads_.get(), std::move(made), arguments_.in_flight)
          : Driver(async_.get(), std::move(made.front()), arguments_.in_flight);
  driver.Start();
  const Span span = {options.begin, options.measure_from, options.end};
  Watch(&driver, span, [&](uint64_t) {
    const double passed = static_cast<double>(NowNanos() - span.begin) * 1e-9;
    return absl::StrFormat("%.0f of %.0f s%s", passed,
                           arguments_.warmup + arguments_.seconds,
                           passed < arguments_.warmup ? " (warm-up)" : "");
  });
  driver.Join();
  report_.stats = driver.stats();
}

double Run::ServerCpu() const {
  double sum = 0;
  for (const int pid : arguments_.pids) {
    sum += std::max(0.0, CpuSecondsOf(pid));
  }
  return sum;
}

void Run::Watch(Driver* driver, const Span& span,
                const std::function<std::string(uint64_t ops)>& tell) {
  const auto give_up_after = static_cast<uint64_t>(
      absl::ToInt64Nanoseconds(std::max(kGiveUpAfter, 2 * timeout_)));
  const auto every =
      static_cast<uint64_t>(absl::ToInt64Nanoseconds(kBetweenLines));
  bool began = false;
  uint64_t line_at = span.begin + every;
  uint64_t line_ops = 0;
  uint64_t now = NowNanos();
  double client_cpu = 0;
  double server_cpu = 0;
  while (!driver->finished() && now < span.end) {
    if (!began && now >= span.measure_from) {
      began = true;
      client_cpu = OwnCpuSeconds();
      server_cpu = ServerCpu();
    }
    const uint64_t next = began ? span.end : span.measure_from;
    if (interrupt_.Wait(
            std::min(kTick, absl::Nanoseconds(static_cast<int64_t>(
                                std::min<uint64_t>(next - now, INT64_MAX)))))) {
      report_.interrupted = true;
      driver->Stop();
      break;
    }
    now = NowNanos();
    const Driver::Progress progress = driver->progress();
    if (now - std::max(progress.last_success, span.begin) > give_up_after &&
        now > progress.last_success) {
      report_.stopped =
          absl::StrFormat("no operation succeeded for %.0f s",
                          static_cast<double>(give_up_after) * 1e-9);
      driver->Stop();
      break;
    }
    if (context_.io.err_terminal && now >= line_at) {
      context_.io.err << kClear << tell(progress.done - progress.failed)
                      << absl::StrFormat(": %d ops/s, %d failed",
                                         progress.done - line_ops,
                                         progress.failed)
                      << std::flush;
      line_ops = progress.done;
      line_at += every;
    }
  }
  if (context_.io.err_terminal) context_.io.err << kClear << std::flush;
  const uint64_t end = std::min(std::max(NowNanos(), now), span.end);
  report_.seconds = end > span.measure_from
                        ? static_cast<double>(end - span.measure_from) * 1e-9
                        : 0;
  if (began) {
    report_.client_cpu = OwnCpuSeconds() - client_cpu;
    report_.server_cpu = std::max(0.0, ServerCpu() - server_cpu);
  }
}

int Run::Ending(int otherwise) const {
  if (!report_.stopped.empty()) {
    return context_.Fail(
        command::kUnreachable,
        absl::StrCat(report_.stopped,
                     report_.stats.first_error.empty() ? "" : ": ",
                     report_.stats.first_error));
  }
  return otherwise;
}

int Run::Print() {
  report_.arguments = arguments_;
  Json json = ToJson(report_);
  const std::vector<Judged> verdict = Judge(bounds_, report_);
  if (!bounds_.empty()) json["verdict"] = ToJson(verdict);
  const std::string& file = arguments_.json_file;
  const bool json_on_out = context_.options.json ||
                           (arguments_.json && (file.empty() || file == "-"));
  const bool color = context_.UseColor();
  if (json_on_out) {
    context_.Print(json);
    context_.io.err << FormatVerdict(verdict, false) << std::flush;
  } else {
    context_.io.out << FormatTable(report_, color)
                    << FormatVerdict(verdict, color) << std::flush;
  }
  if (!file.empty() && file != "-") {
    std::ofstream out(file, std::ios::trunc);
    out << json.dump(1, ' ', false, Json::error_handler_t::replace) << "\n";
    if (!out.flush()) {
      return context_.Fail(
          command::kUsage,
          absl::StrCat("--json ", file, ": it could not be written"));
    }
  }
  const bool met = std::all_of(verdict.begin(), verdict.end(),
                               [](const Judged& one) { return one.met; });
  return Ending(met ? command::kOk : command::kNo);
}

}  // namespace
}  // namespace kv739::bench

namespace kv739::command {

int Bench(Context& context, const bench::BenchArguments& arguments) {
  bench::BenchArguments checked = arguments;
  const absl::StatusOr<bench::Mix> mix = bench::CheckBenchArguments(&checked);
  if (!mix.ok())
    return context.Fail(kUsage, std::string(mix.status().message()));
  return bench::Run(context, std::move(checked), *mix).Execute();
}

}  // namespace kv739::command
