// The options of `kv739 bench`, read and checked.
#ifndef KV739_CLIENT_COMMAND_BENCH_OPTIONS_H_
#define KV739_CLIENT_COMMAND_BENCH_OPTIONS_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/command/bench_workload.h"

namespace kv739::bench {

inline constexpr int kMaxInFlight = 1000;
inline constexpr double kMaxRate = 1e7;
inline constexpr uint64_t kMaxKeys = 1'000'000'000;

struct BenchArguments {
  std::string workload;  // "": a, or what `mix` says
  int mix = -1;          // percentage of reads; -1: not given
  uint64_t keys = 100'000;
  KeyShape shape;
  std::string distribution;  // "": the workload's
  bool load = false;

  std::string target = "kv739";        // kv739 | etcd
  std::vector<std::string> endpoints;  // etcd's
  std::string mode;                    // "": threads, for etcd unary
  int in_flight = 64;
  double rate = 0;
  std::string arrivals = "poisson";  // poisson | fixed
  uint64_t backlog = 100'000;

  double seconds = 10;
  double warmup = 2;
  uint64_t seed = 1;
  std::vector<int> pids;

  bool json = false;
  std::string json_file;  // "" or "-": standard output
  std::string target_file;
};

// Makes `verb` read its options into `arguments`, which outlives it.
void AddBenchOptions(CLI::App* verb, BenchArguments* arguments);

// What the options mean together. INVALID_ARGUMENT and UNIMPLEMENTED name the
// option at fault. Fills in `mode` and `workload`.
absl::StatusOr<Mix> CheckBenchArguments(BenchArguments* arguments);

}  // namespace kv739::bench

#endif  // KV739_CLIENT_COMMAND_BENCH_OPTIONS_H_
