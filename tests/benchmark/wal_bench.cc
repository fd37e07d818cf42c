// The write-ahead log against RocksDB as a Raft log: entries of 300 bytes and
// a hard state per append, made durable before the next one, old entries
// dropped every 10,000. One process, and five at once as in a test cluster on
// one host; the program forks them itself. Prints a table in Markdown.
//
//   wal_bench [DIR [SECONDS [ROUNDS]]]
//
// Rounds of the two alternate, and each figure is the median of its rounds.
#include <rocksdb/db.h>
#include <rocksdb/write_batch.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "server/wal/wal.h"

namespace kv739 {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kPayloadBytes = 300;
constexpr uint64_t kKeptEntries = 10000;
constexpr double kWarmUpSeconds = 0.3;

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "wal_bench: %s\n", what.c_str());
  std::_Exit(1);
}

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// A Raft log that appends `batch` entries durably.
class Log {
 public:
  virtual ~Log() = default;
  virtual void Append(uint64_t batch) = 0;
};

class OurLog : public Log {
 public:
  explicit OurLog(const std::string& dir) {
    wal::WalOptions options;
    options.spare_segments = 2;
    auto wal = wal::Wal::Open(wal::FileSystem::Posix(), dir, options);
    if (!wal.ok()) Die(wal.status().ToString());
    wal_ = *std::move(wal);
    while (wal_->wants_maintenance()) Check(wal_->Maintain());
    maintenance_ = std::thread([this] { Maintain(); });
  }
  ~OurLog() override {
    {
      std::lock_guard lock(mu_);
      stop_ = true;
    }
    wake_.notify_one();
    maintenance_.join();
  }

  void Append(uint64_t batch) override {
    write_.group = raft::GroupId(1);
    write_.hard_state =
        raft::HardState{raft::Term(1), raft::NodeId(1), raft::Index(next_)};
    write_.entries.clear();
    for (uint64_t i = 0; i < batch; ++i) {
      write_.entries.push_back(
          {raft::Term(1), raft::Index(next_), raft::EntryKind::kCommand,
           raft::MakePayload(std::string(kPayloadBytes, 'a' + next_ % 26))});
      ++next_;
    }
    write_.compact.reset();
    if (next_ > compacted_ + 2 * kKeptEntries) {
      compacted_ = next_ - kKeptEntries;
      write_.compact =
          raft::LogPosition{raft::Term(1), raft::Index(compacted_)};
    }
    Check(wal_->Append({&write_, 1}));
    if (wal_->wants_maintenance()) {
      {
        std::lock_guard lock(mu_);
        wanted_ = true;
      }
      wake_.notify_one();
    }
  }

 private:
  static void Check(const absl::Status& status) {
    if (!status.ok()) Die(status.ToString());
  }
  void Maintain() {
    std::unique_lock lock(mu_);
    while (true) {
      wake_.wait(lock, [this] { return wanted_ || stop_; });
      if (stop_) return;
      wanted_ = false;
      lock.unlock();
      while (wal_->wants_maintenance()) Check(wal_->Maintain());
      lock.lock();
    }
  }

  std::unique_ptr<wal::Wal> wal_;
  wal::GroupWrite write_;
  uint64_t next_ = 1;
  uint64_t compacted_ = 0;
  std::mutex mu_;
  std::condition_variable wake_;
  bool wanted_ = false;
  bool stop_ = false;
  std::thread maintenance_;
};

class RocksLog : public Log {
 public:
  explicit RocksLog(const std::string& dir) {
    rocksdb::Options options;
    options.create_if_missing = true;
    options.compression = rocksdb::kNoCompression;
    rocksdb::DB* db = nullptr;
    Check(rocksdb::DB::Open(options, dir, &db));
    db_.reset(db);
    synced_.sync = true;
  }

  void Append(uint64_t batch) override {
    rocksdb::WriteBatch writes;
    const std::string hard_state(24, 'h');
    Check(writes.Put("h00000001", hard_state));
    for (uint64_t i = 0; i < batch; ++i) {
      Check(
          writes.Put(Key(next_), std::string(kPayloadBytes, 'a' + next_ % 26)));
      ++next_;
    }
    if (next_ > compacted_ + 2 * kKeptEntries) {
      const uint64_t from = compacted_;
      compacted_ = next_ - kKeptEntries;
      Check(writes.DeleteRange(Key(from), Key(compacted_ + 1)));
    }
    Check(db_->Write(synced_, &writes));
  }

 private:
  static void Check(const rocksdb::Status& status) {
    if (!status.ok()) Die(status.ToString());
  }
  static std::string Key(uint64_t index) {
    std::string key = "e0000001";
    for (int shift = 56; shift >= 0; shift -= 8) {
      key.push_back(static_cast<char>(index >> shift));
    }
    return key;
  }

  std::unique_ptr<rocksdb::DB> db_;
  rocksdb::WriteOptions synced_;
  uint64_t next_ = 1;
  uint64_t compacted_ = 0;
};

struct Result {
  double entries_per_second = 0;
  double appends_per_second = 0;
  double p50_us = 0;
  double p99_us = 0;
  double cpu_us_per_entry = 0;
};

double CpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return t.tv_sec + t.tv_usec / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

Result Measure(Log& log, uint64_t batch, double seconds) {
  std::vector<double> latencies;
  latencies.reserve(1 << 20);
  const double cpu = CpuSeconds();
  const auto begin = Clock::now();
  double elapsed = 0;
  while (elapsed < seconds) {
    const double before = elapsed;
    log.Append(batch);
    elapsed = SecondsSince(begin);
    latencies.push_back(elapsed - before);
  }
  Result result;
  const double entries = static_cast<double>(latencies.size() * batch);
  result.cpu_us_per_entry = (CpuSeconds() - cpu) * 1e6 / entries;
  result.entries_per_second = entries / elapsed;
  result.appends_per_second = static_cast<double>(latencies.size()) / elapsed;
  std::sort(latencies.begin(), latencies.end());
  result.p50_us = latencies[latencies.size() / 2] * 1e6;
  result.p99_us = latencies[latencies.size() * 99 / 100] * 1e6;
  return result;
}

void ReadFully(int fd, void* out, size_t size) {
  if (read(fd, out, size) != static_cast<ssize_t>(size)) Die("a child died");
}

void Child(const std::string& dir, bool ours, uint64_t batch, double seconds,
           int start, int report) {
  std::filesystem::create_directories(dir);
  std::unique_ptr<Log> log;
  if (ours) {
    log = std::make_unique<OurLog>(dir);
  } else {
    log = std::make_unique<RocksLog>(dir);
  }
  Measure(*log, batch, kWarmUpSeconds);
  char byte = 'r';
  if (write(report, &byte, 1) != 1) Die("write");
  ReadFully(start, &byte, 1);
  const Result result = Measure(*log, batch, seconds);
  if (write(report, &result, sizeof(result)) != sizeof(result)) Die("write");
  log.reset();
}

// Mean over the processes of one run.
Result Run(const std::string& dir, bool ours, int processes, uint64_t batch,
           double seconds) {
  int start[2];
  int report[2];
  if (pipe(start) != 0 || pipe(report) != 0) Die("pipe");
  std::vector<pid_t> children;
  for (int p = 0; p < processes; ++p) {
    const pid_t pid = fork();
    if (pid == 0) {
      Child(dir + "/" + std::to_string(p), ours, batch, seconds, start[0],
            report[1]);
      std::_Exit(0);
    }
    children.push_back(pid);
  }
  char byte;
  for (int p = 0; p < processes; ++p) ReadFully(report[0], &byte, 1);
  const std::string go(processes, 'g');
  if (write(start[1], go.data(), go.size()) != processes) Die("write");
  Result mean;
  for (int p = 0; p < processes; ++p) {
    Result one;
    ReadFully(report[0], &one, sizeof(one));
    mean.entries_per_second += one.entries_per_second / processes;
    mean.appends_per_second += one.appends_per_second / processes;
    mean.p50_us += one.p50_us / processes;
    mean.p99_us += one.p99_us / processes;
    mean.cpu_us_per_entry += one.cpu_us_per_entry / processes;
  }
  for (pid_t pid : children) waitpid(pid, nullptr, 0);
  for (int fd : {start[0], start[1], report[0], report[1]}) close(fd);
  std::filesystem::remove_all(dir);
  return mean;
}

Result Median(std::vector<Result> rounds) {
  const auto median = [&rounds](double Result::*field) {
    std::vector<double> values;
    for (const Result& round : rounds) values.push_back(round.*field);
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
  };
  return {median(&Result::entries_per_second),
          median(&Result::appends_per_second), median(&Result::p50_us),
          median(&Result::p99_us), median(&Result::cpu_us_per_entry)};
}

int Main(int argc, char** argv) {
  std::string dir = argc > 1 ? argv[1] : "/tmp";
  const double seconds = argc > 2 ? std::atof(argv[2]) : 1;
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 3;
  dir += "/kv739-wal-bench-XXXXXX";
  if (mkdtemp(dir.data()) == nullptr) Die("cannot make " + dir);
  std::printf(
      "| processes | batch | log | entries/s each | syncs/s each | p50 us | "
      "p99 us | CPU us/entry |\n|---|---|---|---|---|---|---|---|\n");
  for (int processes : {1, 5}) {
    for (uint64_t batch : {1, 16, 256}) {
      std::vector<Result> ours;
      std::vector<Result> rocks;
      for (int round = 0; round < rounds; ++round) {
        ours.push_back(Run(dir + "/w", true, processes, batch, seconds));
        rocks.push_back(Run(dir + "/r", false, processes, batch, seconds));
      }
      const Result a = Median(ours);
      const Result b = Median(rocks);
      const auto row = [&](const char* name, const Result& r) {
        std::printf("| %d | %d | %s | %.0f | %.0f | %.0f | %.0f | %.2f |\n",
                    processes, static_cast<int>(batch), name,
                    r.entries_per_second, r.appends_per_second, r.p50_us,
                    r.p99_us, r.cpu_us_per_entry);
      };
      row("wal", a);
      row("RocksDB", b);
      std::printf("| %d | %d | *ratio* | %.2f | %.2f | %.2f | %.2f | %.2f |\n",
                  processes, static_cast<int>(batch),
                  a.entries_per_second / b.entries_per_second,
                  a.appends_per_second / b.appends_per_second,
                  a.p50_us / b.p50_us, a.p99_us / b.p99_us,
                  a.cpu_us_per_entry / b.cpu_us_per_entry);
      std::fflush(stdout);
    }
  }
  std::filesystem::remove_all(dir);
  return 0;
}

}  // namespace
}  // namespace kv739

int main(int argc, char** argv) { return kv739::Main(argc, argv); }
