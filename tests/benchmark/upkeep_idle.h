#ifndef KV739_TESTS_BENCHMARK_UPKEEP_IDLE_H_
#define KV739_TESTS_BENCHMARK_UPKEEP_IDLE_H_

namespace kv739::test {

// Five servers with default settings and so many groups that all of them have.
// Nobody asks for anything; when nine groups in ten rest, what each server uses
// within `seconds`. Ends the process when they do not come to rest.
void RunIdle(int groups, int seconds);

}  // namespace kv739::test

#endif  // KV739_TESTS_BENCHMARK_UPKEEP_IDLE_H_
