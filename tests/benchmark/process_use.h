// What a process uses, from /proc.
#ifndef KV739_TESTS_BENCHMARK_PROCESS_USE_H_
#define KV739_TESTS_BENCHMARK_PROCESS_USE_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "tests/support/cluster.h"

namespace kv739::test {

// Of server i; 0 when it does not answer.
int64_t Pid(Cluster& cluster, int i);
// A line of /proc/PID/status, such as "VmRSS", in MiB.
double Memory(int64_t pid, absl::string_view line);
void ForgetPeak(int64_t pid);
// User and system time since its start.
double CpuSeconds(int64_t pid);

}  // namespace kv739::test

#endif  // KV739_TESTS_BENCHMARK_PROCESS_USE_H_
