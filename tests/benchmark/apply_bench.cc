// Cost of applying writes: 256-byte puts to 100,000 keys that are there, so
// that every one reads its old value. Batch size is the argument. Time is that
// of the applying thread; cpu_us_per_put that of the whole process, RocksDB's
// flushes and compactions with it. The cases named follower do as one of a
// busy group does: nobody asks for the results, and the store is flushed every
// so many puts (the second argument). Five of these at the same time share the
// cores' caches as five servers of one machine do. The cases named scan read
// pages of keys, with puts between them.
#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "kv/engine.h"
#include "kv/state_machine.h"

namespace kv739::kv {
namespace {

constexpr uint64_t kKeys = 100'000;
constexpr size_t kValueBytes = 256;
constexpr uint64_t kEntriesAhead = 8192;  // made outside of what is measured

void Require(const absl::Status& status) {
  if (status.ok()) return;
  absl::FPrintF(stderr, "%s\n", status.ToString());
  std::abort();
}

double ProcessCpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec +
                                    usage.ru_stime.tv_usec);
}

// How the writes are spread over sessions.
enum Sessions { kNone, kOne, kMany };

class Bench {
 public:
  Bench(bool rocks, Sessions sessions) : sessions_(sessions) {
    std::string name = std::filesystem::temp_directory_path() / "apply_XXXXXX";
    directory_ = mkdtemp(name.data());
    if (rocks) {
      auto engine = OpenRocksEngine(directory_, EngineOptions());
      Require(engine.status());
      engine_ = NewBufferedEngine(*std::move(engine), BufferOptions());
    } else {
      engine_ = NewMemoryEngine();
    }
    raft::Configuration configuration;
    configuration.voters = {raft::NodeId(1)};
    Require(
        StateMachine::Create(engine_.get(), raft::GroupId(1), configuration));
    auto machine = StateMachine::Open(engine_.get(), raft::GroupId(1));
    Require(machine.status());
    machine_ = *std::move(machine);
    for (uint64_t key = 0; key < kKeys;) {
      for (int i = 0; i < 1000; ++i) Add(key++);
      ApplyAll(1000);
    }
    const int count = sessions == kNone ? 0 : sessions == kOne ? 1 : 64;
    for (int i = 0; i < count; ++i) {
      Command open;
      open.op = Op::kOpenSession;
      AddCommand(open);
      ApplyAll(1);
      ids_.push_back(results_.back().session);
      sequences_.push_back(0);
    }
    Require(engine_->Flush());
  }
  ~Bench() {
    WaitForFlush();
    machine_.reset();
    engine_.reset();
    std::filesystem::remove_all(directory_);
  }

  void Prepare() {
    index_ -= entries_.size() - at_;  // of the rest, which were never applied
    entries_.clear();
    for (uint64_t i = 0; i < kEntriesAhead; ++i) Add(random_() % kKeys);
    at_ = 0;
  }
  // False when the entries that were made ahead are used up.
  bool ApplyBatch(uint64_t size, bool want_results = true) {
    if (at_ + size > entries_.size()) return false;
    ApplyRange(at_, size, want_results);
    at_ += size;
    return true;
  }
  uint64_t stalls() const { return stalls_; }

  // A page from a random place, by a view of its own.
  uint64_t ScanPage(uint32_t keys) {
    ScanRequest request;
    request.slot = static_cast<uint32_t>(random_() % kSlotCount);
    request.max_keys = keys;
    kv::ScanPage page;
    Require(machine_->Scan(*engine_->NewView(), request, &page));
    return page.entries.size();
  }

  // Beside the applying thread, as the servers do it.
  void StartFlush() {
    WaitForFlush();
    flush_ = std::thread([this] { Require(engine_->Flush()); });
  }
  void WaitForFlush() {
    if (flush_.joinable()) flush_.join();
  }

 private:
  void Add(uint64_t key) {
    const std::string name = absl::StrFormat("key%013d", key);
    Command c;
    c.op = Op::kPut;
    c.key = name;
    c.value = value_;
    if (!ids_.empty()) {
      const size_t i = next_++ % ids_.size();
      c.session = ids_[i];
      c.sequence = ++sequences_[i];
      // One client with 64 in flight, or 64 with one.
      const uint64_t in_flight = sessions_ == kOne ? 64 : 1;
      c.floor = c.sequence > in_flight ? c.sequence - in_flight + 1 : 1;
    }
    AddCommand(c);
  }
  void AddCommand(const Command& c) {
    raft::Entry entry;
    entry.term = raft::Term(1);
    entry.index = raft::Index(++index_);
    entry.data = raft::MakePayload(EncodeCommand(c));
    entries_.push_back(std::move(entry));
  }
  void ApplyAll(uint64_t batch) {
    for (size_t i = 0; i < entries_.size(); i += batch) ApplyRange(i, batch);
    entries_.clear();
  }
  void ApplyRange(size_t from, size_t count, bool want_results = true) {
    results_.clear();
    const auto entries = absl::MakeConstSpan(entries_).subspan(from, count);
    absl::Status status;
    while (absl::IsResourceExhausted(
        status =
            machine_->Apply(entries, want_results ? &results_ : nullptr))) {
      ++stalls_;
      std::this_thread::yield();
    }
    Require(status);
  }

  const Sessions sessions_;
  std::string directory_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<StateMachine> machine_;
  std::mt19937_64 random_{739};
  const std::string value_ = std::string(kValueBytes, 'v');
  uint64_t index_ = kFirstPosition.index.value();
  std::vector<raft::Entry> entries_;
  size_t at_ = 0;
  std::vector<ApplyResult> results_;
  std::vector<SessionId> ids_;
  std::vector<Sequence> sequences_;
  uint64_t next_ = 0;
  uint64_t stalls_ = 0;
  std::thread flush_;
};

void ApplyPuts(benchmark::State& state, bool rocks, Sessions sessions) {
  Bench bench(rocks, sessions);
  const uint64_t batch = state.range(0);
  bench.Prepare();
  double cpu = 0;
  double start = ProcessCpuSeconds();
  for (auto _ : state) {
    if (!bench.ApplyBatch(batch)) {
      state.PauseTiming();
      cpu += ProcessCpuSeconds() - start;
      bench.Prepare();
      start = ProcessCpuSeconds();
      state.ResumeTiming();
      bench.ApplyBatch(batch);
    }
  }
  cpu += ProcessCpuSeconds() - start;
  const double puts = static_cast<double>(state.iterations() * batch);
  state.SetItemsProcessed(state.iterations() * batch);
  state.counters["us_per_put"] = benchmark::Counter(
      puts * 1e-6, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["cpu_us_per_put"] = cpu * 1e6 / puts;
  state.counters["refused"] = static_cast<double>(bench.stalls());
}

void ApplyAsFollower(benchmark::State& state, Sessions sessions) {
  Bench bench(true, sessions);
  const uint64_t batch = state.range(0);
  const uint64_t flush_every = state.range(1);
  uint64_t since_flush = 0;
  double cpu = 0;
  bench.Prepare();
  double start = ProcessCpuSeconds();
  for (auto _ : state) {
    if (!bench.ApplyBatch(batch, false)) {
      state.PauseTiming();
      cpu += ProcessCpuSeconds() - start;
      bench.Prepare();
      start = ProcessCpuSeconds();
      state.ResumeTiming();
      bench.ApplyBatch(batch, false);
    }
    since_flush += batch;
    if (since_flush >= flush_every) {
      since_flush = 0;
      bench.StartFlush();
    }
  }
  bench.WaitForFlush();
  cpu += ProcessCpuSeconds() - start;
  const double puts = static_cast<double>(state.iterations() * batch);
  state.SetItemsProcessed(state.iterations() * batch);
  state.counters["cpu_us_per_put"] = cpu * 1e6 / puts;
}

// Pages of so many keys (the first argument); one put is applied before every
// so many pages (the second; 20: as in YCSB's workload E, 0: none).
void Scans(benchmark::State& state, bool rocks) {
  Bench bench(rocks, kOne);
  bench.Prepare();
  const auto keys = static_cast<uint32_t>(state.range(0));
  const uint64_t every = state.range(1);
  uint64_t pages = 0;
  uint64_t found = 0;
  double cpu = 0;
  double start = ProcessCpuSeconds();
  for (auto _ : state) {
    if (every != 0 && ++pages % every == 0 && !bench.ApplyBatch(1)) {
      state.PauseTiming();
      cpu += ProcessCpuSeconds() - start;
      bench.Prepare();
      start = ProcessCpuSeconds();
      state.ResumeTiming();
    }
    found += bench.ScanPage(keys);
  }
  cpu += ProcessCpuSeconds() - start;
  const auto count = static_cast<double>(state.iterations());
  state.counters["cpu_us_per_page"] = cpu * 1e6 / count;
  state.counters["keys_per_page"] = static_cast<double>(found) / count;
}

// The same number of puts in every run: how much there is to compact depends on
// it.
#define KV739_FOLLOWER_BENCH(batch, flush_every)     \
  BENCHMARK_CAPTURE(ApplyAsFollower, follower, kOne) \
      ->Args({batch, flush_every})                   \
      ->Iterations(600'000 / (batch))                \
      ->UseRealTime()

#define KV739_APPLY_BENCH(name, rocks, sessions)      \
  BENCHMARK_CAPTURE(ApplyPuts, name, rocks, sessions) \
      ->Arg(1)                                        \
      ->Arg(16)                                       \
      ->Arg(64)                                       \
      ->Arg(256)                                      \
      ->UseRealTime()

BENCHMARK_CAPTURE(Scans, scan_rocksdb, true)
    ->ArgsProduct({{50, 100}, {0, 20, 1}})
    ->UseRealTime();
KV739_APPLY_BENCH(rocksdb_no_session, true, kNone);
KV739_APPLY_BENCH(rocksdb_one_session, true, kOne);
KV739_APPLY_BENCH(rocksdb_64_sessions, true, kMany);
KV739_APPLY_BENCH(memory_no_session, false, kNone);
// At 30,000 puts a second, every two seconds and every five.
KV739_FOLLOWER_BENCH(1, 60'000);
KV739_FOLLOWER_BENCH(16, 60'000);
KV739_FOLLOWER_BENCH(64, 60'000);
KV739_FOLLOWER_BENCH(256, 60'000);
KV739_FOLLOWER_BENCH(900, 60'000);
KV739_FOLLOWER_BENCH(64, 150'000);

}  // namespace
}  // namespace kv739::kv
