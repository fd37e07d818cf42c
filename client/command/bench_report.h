// What a benchmark found, as a table, as JSON, and held against bounds. Pure
// functions.
#ifndef KV739_CLIENT_COMMAND_BENCH_REPORT_H_
#define KV739_CLIENT_COMMAND_BENCH_REPORT_H_

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/command/bench_loop.h"
#include "client/command/bench_options.h"

namespace kv739::bench {

struct Report {
  BenchArguments arguments;
  Mix mix;
  LoopStats stats;
  double seconds = 0;  // measured; less than asked for when ended early
  bool interrupted = false;
  std::string stopped;   // why it ended early by itself; "" when it did not
  std::string endpoint;  // etcd's, and its version
  std::string etcd_version;
  double client_cpu = 0;  // seconds, of this process while it measured
  double server_cpu = 0;  // of --pid
  std::string started;    // time, RFC 3339
};

// All operations that went well.
Histogram AllOf(const LoopStats& stats);

std::string FormatTable(const Report& report, bool use_color);
// With the histograms' points and the machine.
nlohmann::ordered_json ToJson(const Report& report);

// ---- the verdict ----

struct Bound {
  std::string name;  // as in the target file
  std::optional<double> min;
  std::optional<double> max;
};
// INVALID_ARGUMENT says what is wrong: no JSON, an unknown name, no number.
absl::StatusOr<std::vector<Bound>> ParseBounds(absl::string_view json);

struct Judged {
  Bound bound;
  double value = 0;
  bool met = false;  // false also when there is nothing to measure it by
  bool measured = false;
};
std::vector<Judged> Judge(const std::vector<Bound>& bounds,
                          const Report& report);
// A line each: "p99_ms 3.210 <= 5: met".
std::string FormatVerdict(const std::vector<Judged>& verdict, bool use_color);
nlohmann::ordered_json ToJson(const std::vector<Judged>& verdict);

}  // namespace kv739::bench

#endif  // KV739_CLIENT_COMMAND_BENCH_REPORT_H_
