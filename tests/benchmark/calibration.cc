// What this machine can do, measured in the same run as everything else: one
// part work with the processor's units (hashing what is in the cache), one
// part with its memory (copying more than the cache holds). Linked into every
// program that `./run bench` runs; figures are divided by this one's.
#include <benchmark/benchmark.h>
#include <xxhash.h>

#include <cstdint>
#include <cstring>
#include <string>

namespace kv739 {
namespace {

void BM_Calibration(benchmark::State& state) {
  constexpr size_t kHashed = 16 << 10;
  constexpr size_t kCopied = 8 << 10;
  constexpr size_t kMemory = 64 << 20;
  const std::string hashed(kHashed, 'h');
  std::string from(kMemory, 'f');
  std::string to(kMemory, 't');
  size_t at = 0;
  uint64_t sum = 0;
  for (auto _ : state) {
    sum += XXH3_64bits_withSeed(hashed.data(), hashed.size(), sum);
    std::memcpy(&to[at], &from[at], kCopied);
    at = (at + kCopied) % kMemory;
    benchmark::ClobberMemory();
  }
  benchmark::DoNotOptimize(sum);
}
BENCHMARK(BM_Calibration);

}  // namespace
}  // namespace kv739
