#include "client/command/bench_options.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/lib739kv.h"

namespace kv739::bench {
namespace {

constexpr int kMinKeySize = 6;
constexpr double kMaxSeconds = 7 * 24 * 3600;
constexpr int kMaxPid = 4 << 20;
// Digits that a workload with inserts leaves for them: ten billion keys.
constexpr int kKeySizeForInserts = 15;

constexpr char kFooter[] =
    R"(Workloads: put, get, and the core workloads of YCSB: a (half reads, half
updates), b (95 % reads), c (reads), d (95 % reads of the newest keys, 5 %
inserts), e (95 % scans of 1 to 100 keys, 5 % inserts), f (half reads, half
read-modify-writes). a, b, c, e and f choose keys by a zipfian distribution, put
and get uniformly, d the latest. It writes keys that begin with "bench"; fill
them once with --load --seconds 0. A scan goes on from the chosen key in the
store's order, which is by slot and key for kv739 and by key for etcd, until it
has its keys or there are no more; its latency is that of all its pages.

Examples:
  kv739 bench --load --workload a --in-flight 64 --seconds 30
  kv739 bench --workload put --mode async --in-flight 1000 --json put.json
  kv739 bench --workload get --mode unary --rate 5000 --in-flight 256
  kv739 bench --target etcd --endpoint localhost:2379 --load --workload a

A target file holds bounds, and 1 is the exit code when one is not met:
  {"p99_ms": {"max": 5}, "ops_per_second": {"min": 20000}, "errors": {"max": 0}}
Names: ops_per_second, mean_ms, min_ms, p50_ms, p90_ms, p99_ms, p999_ms, max_ms,
also of one kind ("read.p99_ms"), errors, unknown, not_found, late, dropped.)";

void AddWorkOptions(CLI::App* verb, BenchArguments* a) {
  verb->add_option("--workload", a->workload,
                   "put, get, a, b, c, d, e or f (a)");
  verb->add_option("--mix", a->mix,
                   "instead: this percentage of reads, the rest updates")
      ->check(CLI::Range(0, 100));
  verb->add_option("--keys", a->keys, "how many there are (100000)")
      ->check(CLI::Range(uint64_t{1}, kMaxKeys));
  verb->add_option("--key-size", a->shape.key_size, "bytes (16)")
      ->check(CLI::Range(kMinKeySize, KV739_MAX_KEY));
  verb->add_option("--value-size", a->shape.value_size, "bytes (256)")
      ->check(CLI::Range(0, KV739_MAX_VALUE));
  verb->add_option("--distribution", a->distribution,
                   "of the keys: uniform, zipfian (0.99, scattered), latest;\n"
                   "without: the workload's own")
      ->check(CLI::IsMember({"uniform", "zipfian", "latest"}));
  verb->add_flag("--load", a->load, "put every key once before");
}

void AddLoopOptions(CLI::App* verb, BenchArguments* a) {
  verb->add_option("--target", a->target, "kv739 or etcd (kv739)")
      ->check(CLI::IsMember({"kv739", "etcd"}));
  verb->add_option("--endpoint", a->endpoints,
                   "host:port[,...] of etcd; the leader among them is asked")
      ->delimiter(',')
      ->allow_extra_args(false);
  verb->add_option("--mode", a->mode,
                   "threads: blocking calls of lib739kv, one thread each;\n"
                   "async: its calls with callbacks; unary: one gRPC call per\n"
                   "operation, to the leader (threads; etcd: unary)")
      ->check(CLI::IsMember({"threads", "async", "unary"}));
  verb->add_option("--in-flight", a->in_flight,
                   "operations at a time, at most (64)")
      ->check(CLI::Range(1, kMaxInFlight));
  verb->add_option(
          "--rate", a->rate,
          "open loop: operations a second that begin whether earlier\n"
          "ones have ended or not; latency counts from when they were\n"
          "meant to begin. Without: as many as are answered")
      ->check(CLI::Range(0.001, kMaxRate));
  verb->add_option("--arrivals", a->arrivals,
                   "of an open loop: poisson, or fixed distances (poisson)")
      ->check(CLI::IsMember({"poisson", "fixed"}));
  verb->add_option("--backlog", a->backlog,
                   "operations of an open loop that may wait; the others are\n"
                   "dropped and counted (100000)")
      ->check(CLI::Range(uint64_t{1}, uint64_t{10'000'000}));
}

void AddResultOptions(CLI::App* verb, BenchArguments* a) {
  verb->add_option("--seconds", a->seconds, "to measure; 0: --load only (10)")
      ->check(CLI::Range(0.0, kMaxSeconds));
  verb->add_option("--warmup", a->warmup, "seconds before that (2)")
      ->check(CLI::Range(0.0, kMaxSeconds));
  verb->add_option("--seed", a->seed, "of keys, values and arrivals (1)");
  verb->add_option("--pid", a->pids,
                   "servers on this host whose CPU time is to be shown")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(1, kMaxPid));
  verb->add_option_function<std::string>(
          "--json",
          [a](const std::string& file) {
            a->json = true;
            a->json_file = file == "{}" ? "" : file;
          },
          "everything as JSON to this file; without a name: to standard\n"
          "output instead of the table")
      ->expected(0, 1)
      ->type_name("[FILE]");
  verb->add_option("--target-file", a->target_file,
                   "bounds to check the result against, see below");
}

absl::Status CheckTarget(BenchArguments* a) {
  if (a->target == "etcd") {
    if (a->endpoints.empty()) {
      return absl::InvalidArgumentError(
          "--target etcd needs --endpoint host:port");
    }
    if (!a->mode.empty() && a->mode != "unary") {
      return absl::InvalidArgumentError(absl::StrCat(
          "--mode ", a->mode, " is lib739kv's; --target etcd has unary only"));
    }
    a->mode = "unary";
    return absl::OkStatus();
  }
  if (!a->endpoints.empty()) {
    return absl::InvalidArgumentError(
        "--endpoint is for --target etcd; kv739's servers are in the cluster "
        "file (-c)");
  }
  if (a->mode.empty()) a->mode = "threads";
  return absl::OkStatus();
}

absl::StatusOr<Mix> CheckMix(BenchArguments* a) {
  Mix mix;
  if (a->mix >= 0) {
    if (!a->workload.empty()) {
      return absl::InvalidArgumentError(
          "--mix is instead of --workload; give one of them");
    }
    mix.percent = {a->mix, 100 - a->mix, 0, 0};
    a->workload = "mix";
  } else {
    if (a->workload.empty()) a->workload = "a";
    absl::StatusOr<Mix> known = MixOf(a->workload);
    if (!known.ok()) return known.status();
    mix = *known;
  }
  if (a->distribution == "uniform") mix.distribution = Distribution::kUniform;
  if (a->distribution == "zipfian") mix.distribution = Distribution::kZipfian;
  if (a->distribution == "latest") mix.distribution = Distribution::kLatest;
  static constexpr const char* kNames[] = {"uniform", "zipfian", "latest"};
  a->distribution = kNames[static_cast<int>(mix.distribution)];
  return mix;
}

}  // namespace

void AddBenchOptions(CLI::App* verb, BenchArguments* arguments) {
  AddWorkOptions(verb, arguments);
  AddLoopOptions(verb, arguments);
  AddResultOptions(verb, arguments);
  verb->footer(kFooter);
}

absl::StatusOr<Mix> CheckBenchArguments(BenchArguments* a) {
  if (absl::Status status = CheckTarget(a); !status.ok()) return status;
  absl::StatusOr<Mix> mix = CheckMix(a);
  if (!mix.ok()) return mix;
  if (mix->percent[static_cast<int>(Kind::kInsert)] > 0 &&
      a->shape.key_size < kKeySizeForInserts) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "--key-size %d leaves no room for the keys that --workload %s inserts; "
        "at least %d",
        a->shape.key_size, a->workload, kKeySizeForInserts));
  }
  if (static_cast<double>(a->keys) > KeysOfSize(a->shape.key_size)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "--key-size %d numbers %.0f keys, and --keys are %d", a->shape.key_size,
        KeysOfSize(a->shape.key_size), a->keys));
  }
  if (a->seconds == 0 && !a->load) {
    return absl::InvalidArgumentError(
        "--seconds 0 measures nothing; it is for --load alone");
  }
  return mix;
}

}  // namespace kv739::bench
