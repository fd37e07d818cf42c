#include "tests/benchmark/load.h"

#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace kv739::bench {

Workload::Workload(const LoadOptions& options)
    : state_(options.seed * 0x9E3779B97F4A7C15u + 1),
      keys_(options.keys),
      value_(options.value_bytes, 'v') {}

std::string Workload::NextKey() {
  state_ += 0x9E3779B97F4A7C15u;  // SplitMix64
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return absl::StrFormat("key-%012d", (z ^ (z >> 31)) % keys_);
}

Meter::Meter(const LoadOptions& options)
    : options_(options),
      begin_(Nanos()),
      measure_from_(begin_ +
                    static_cast<uint64_t>(options.warmup_seconds * 1e9)),
      end_(measure_from_ + static_cast<uint64_t>(options.seconds * 1e9)) {
  latencies_us10_.reserve(1 << 20);
}

uint64_t Meter::Nanos() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

bool Meter::running() const { return Nanos() < end_; }

void Meter::Done(uint64_t start_nanos, bool ok) {
  const uint64_t now = Nanos();
  if (now < measure_from_ || now > end_) return;
  if (!measuring_) {
    measuring_ = true;
    cpu_at_start_ = CpuSeconds();
  }
  if (!ok) {
    ++failed_;
    return;
  }
  latencies_us10_.push_back(static_cast<uint32_t>(
      std::min<uint64_t>((now - start_nanos) / 100, UINT32_MAX)));
}

double Meter::CpuSeconds() const {
  rusage self;
  getrusage(RUSAGE_SELF, &self);
  double total = self.ru_utime.tv_sec + self.ru_stime.tv_sec +
                 1e-6 * (self.ru_utime.tv_usec + self.ru_stime.tv_usec);
  for (int pid : options_.pids) {
    std::ifstream stat(absl::StrCat("/proc/", pid, "/stat"));
    std::string text;
    std::getline(stat, text);
    const size_t name_end = text.rfind(')');
    if (name_end == std::string::npos) continue;
    std::istringstream fields(text.substr(name_end + 1));
    std::string field;
    double ticks = 0;
    for (int i = 3; fields >> field && i <= 15; ++i) {
      if (i >= 14) ticks += std::stod(field);
    }
    total += ticks / sysconf(_SC_CLK_TCK);
  }
  return total;
}

std::string Meter::Report(const std::string& target) {
  const double cpu = CpuSeconds() - cpu_at_start_;
  std::sort(latencies_us10_.begin(), latencies_us10_.end());
  const size_t n = latencies_us10_.size();
  auto percentile = [&](double p) {
    if (n == 0) return 0.0;
    return latencies_us10_[std::min(n - 1, static_cast<size_t>(p * n))] / 10.0;
  };
  return absl::StrFormat(
      R"({"target":"%s","operation":"%s","in_flight":%d,"value_bytes":%d,)"
      R"("operations":%d,"failed":%d,"per_second":%.0f,"p50_us":%.1f,)"
      R"("p90_us":%.1f,"p99_us":%.1f,"p999_us":%.1f,"cpu_us_per_op":%.1f})",
      target, options_.operation, options_.in_flight, options_.value_bytes, n,
      failed_, n / options_.seconds, percentile(0.5), percentile(0.9),
      percentile(0.99), percentile(0.999), n ? cpu * 1e6 / n : 0.0);
}

}  // namespace kv739::bench
