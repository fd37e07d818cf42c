// Measures a closed loop: so many requests in flight, each followed by the
// next as soon as it is answered. Shared by all targets of cluster_bench.
#ifndef KV739_TESTS_BENCHMARK_LOAD_H_
#define KV739_TESTS_BENCHMARK_LOAD_H_

#include <cstdint>
#include <string>
#include <vector>

namespace kv739::bench {

struct LoadOptions {
  std::string operation = "put";  // put | get
  int in_flight = 64;
  double seconds = 3;
  double warmup_seconds = 1;
  uint64_t keys = 100'000;
  uint64_t value_bytes = 256;
  uint64_t seed = 1;
  std::vector<int> pids;  // whose CPU time counts, beside our own
};

// Keys of equal length, values of the asked length; cheap and repeatable.
class Workload {
 public:
  explicit Workload(const LoadOptions& options);
  std::string NextKey();
  const std::string& value() const { return value_; }

 private:
  uint64_t state_;
  const uint64_t keys_;
  std::string value_;
};

// Counts completions by time; warm-up ones are not counted.
class Meter {
 public:
  explicit Meter(const LoadOptions& options);
  // True until the time is over.
  bool running() const;
  void Done(uint64_t start_nanos, bool ok);
  // One line of JSON.
  std::string Report(const std::string& target);
  static uint64_t Nanos();

 private:
  double CpuSeconds() const;

  const LoadOptions options_;
  const uint64_t begin_;
  const uint64_t measure_from_;
  const uint64_t end_;
  bool measuring_ = false;
  double cpu_at_start_ = 0;
  uint64_t failed_ = 0;
  std::vector<uint32_t> latencies_us10_;  // tenths of a microsecond
};

}  // namespace kv739::bench

#endif  // KV739_TESTS_BENCHMARK_LOAD_H_
