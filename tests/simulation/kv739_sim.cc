// kv739-sim: runs worlds from seeds, many at a time, until one breaks.
//
//   kv739-sim --seeds 1-1000 --jobs 2      these worlds
//   kv739-sim --minutes 10                 as many as fit, from a random seed
//   kv739-sim --seed 7 --trace             one world, told in full
//   kv739-sim --seed 7 --shrink            a smaller world that breaks too
//
// Ends with 1 when a world broke, 0 otherwise, 2 for wrong arguments; the last
// line is a summary.
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/logging.h"
#include "tests/simulation/world.h"

namespace {

using kv739::world::Fault;
using kv739::world::FaultName;
using kv739::world::kFaults;
using kv739::world::Options;
using kv739::world::Result;

using Clock = std::chrono::steady_clock;

struct Arguments {
  uint64_t first = 1;
  uint64_t last = 1;
  bool seeds_given = false;
  double minutes = 0;
  int jobs = 1;
  bool shrink = false;
  bool keep_going = false;
  bool verbose = false;
  std::string log_level = "off";
  Options options;
};

// Of one worker; in memory that it shares with the process that started it.
struct Tally {
  uint64_t current = 0;  // seed under way; 0: none
  uint64_t done = 0;
  uint64_t failed = 0;
  uint64_t first_failed = 0;
  uint64_t nanos = 0;  // simulated
  uint64_t cpu_nanos = 0;
  uint64_t operations = 0;
  uint64_t events = 0;
  uint64_t faults = 0;
  uint64_t crashes = 0;
  uint64_t joins = 0;
};

constexpr unsigned kMaxSeedSeconds = 600;

constexpr char kUsage[] =
    "usage: kv739-sim [--seed N | --seeds A-B] [--minutes M] [--jobs J]\n"
    "                 [--seconds S] [--without FAULT[,FAULT...]] [--clients "
    "N]\n"
    "                 [--trace] [--shrink] [--keep-going] [--verbose]\n"
    "                 [--log LEVEL]\n";

[[noreturn]] void Usage(const std::string& what) {
  fprintf(stderr, "kv739-sim: %s\n%s", what.c_str(), kUsage);
  exit(2);
}

uint64_t Number(const std::string& text) {
  uint64_t number = 0;
  if (!absl::SimpleAtoi(text, &number)) Usage("not a number: " + text);
  return number;
}

std::bitset<kFaults> FaultsOf(const std::string& names) {
  std::bitset<kFaults> faults;
  for (absl::string_view name : absl::StrSplit(names, ',')) {
    bool known = name == "all";
    for (size_t i = 0; i < kFaults; ++i) {
      if (name != "all" && FaultName(static_cast<Fault>(i)) != name) continue;
      faults.set(i);
      known = true;
    }
    if (!known) Usage(absl::StrCat("no such fault: ", name));
  }
  return faults;
}

Arguments Parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    auto value = [&]() -> std::string {
      if (i + 1 >= argc) Usage(name + " needs a value");
      return argv[++i];
    };
    if (name == "--seed") {
      arguments.first = arguments.last = Number(value());
      arguments.seeds_given = true;
    } else if (name == "--seeds") {
      const std::vector<std::string> range = absl::StrSplit(value(), '-');
      if (range.size() != 2) Usage("--seeds takes A-B");
      arguments.first = Number(range[0]);
      arguments.last = Number(range[1]);
      arguments.seeds_given = true;
    } else if (name == "--minutes") {
      if (!absl::SimpleAtod(value(), &arguments.minutes)) Usage("--minutes");
    } else if (name == "--jobs") {
      arguments.jobs = static_cast<int>(Number(value()));
    } else if (name == "--seconds") {
      arguments.options.seconds = static_cast<uint32_t>(Number(value()));
    } else if (name == "--without") {
      arguments.options.without |= FaultsOf(value());
    } else if (name == "--with") {
      arguments.options.with |= FaultsOf(value());
    } else if (name == "--only") {
      arguments.options.with |= FaultsOf(value());
      arguments.options.without.set();
    } else if (name == "--clients") {
      arguments.options.clients = static_cast<int>(Number(value()));
    } else if (name == "--trace") {
      arguments.options.trace = true;
    } else if (name == "--shrink") {
      arguments.shrink = true;
    } else if (name == "--keep-going") {
      arguments.keep_going = true;
    } else if (name == "--verbose") {
      arguments.verbose = true;
    } else if (name == "--log") {
      arguments.log_level = value();
    } else {
      Usage("unknown argument " + name);
    }
  }
  if (!arguments.seeds_given && arguments.minutes > 0) {
    std::random_device device;
    arguments.first = uint64_t{device()} << 8;
    arguments.last = ~uint64_t{0} >> 1;
  }
  if (arguments.jobs < 1 || arguments.last < arguments.first)
    Usage("nothing to do");
  if (arguments.options.seconds < 8) Usage("--seconds: at least 8");
  return arguments;
}

std::string Again(const Options& options) {
  std::string text = absl::StrCat("kv739-sim --seed ", options.seed,
                                  " --seconds ", options.seconds);
  auto add = [&text](absl::string_view name, const std::bitset<kFaults>& of) {
    if (of.none()) return;
    std::string names;
    for (size_t i = 0; i < kFaults; ++i) {
      if (!of[i]) continue;
      absl::StrAppend(&names, names.empty() ? "" : ",",
                      FaultName(static_cast<Fault>(i)));
    }
    absl::StrAppend(&text, " ", name, " ", of.all() ? "all" : names);
  };
  add("--with", options.with);
  add("--without", options.without);
  if (options.clients > 0)
    absl::StrAppend(&text, " --clients ", options.clients);
  return text;
}

void Tell(const Options& options, const Result& result) {
  printf("seed %llu broke at %.3f s: %s\n  %s\n  again: %s --trace\n",
         static_cast<unsigned long long>(options.seed),
         static_cast<double>(result.nanos) / 1e9, result.failure.c_str(),
         result.profile.c_str(), Again(options).c_str());
  if (!options.trace) {
    // The newest ones tell most.
    std::vector<std::string> lines = absl::StrSplit(result.last, '\n');
    const size_t first = lines.size() > 40 ? lines.size() - 40 : 0;
    for (size_t i = first; i < lines.size(); ++i)
      printf("%s\n", lines[i].c_str());
  }
  fflush(stdout);
}

uint64_t CpuNanos() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<uint64_t>(now.tv_nsec);
}

// The seeds first, first + step, ... until the time is up or one breaks.
void Work(const Arguments& arguments, uint64_t first, uint64_t step,
          Clock::time_point end, const volatile uint64_t* stop, Tally* tally) {
  const uint64_t cpu = tally->cpu_nanos;
  const uint64_t cpu_start = CpuNanos();
  for (uint64_t seed = first; seed <= arguments.last; seed += step) {
    if (arguments.minutes > 0 && Clock::now() >= end) break;
    if (*stop != 0 && !arguments.keep_going) break;
    Options options = arguments.options;
    options.seed = seed;
    tally->current = seed;
    // One that does not come to an end is broken too.
    alarm(kMaxSeedSeconds);
    const Result result = Simulate(options);
    ++tally->done;
    tally->nanos += result.nanos;
    tally->operations += result.done;
    tally->events += result.events;
    tally->faults += result.faults;
    tally->crashes += result.crashes;
    tally->joins += result.joins;
    tally->cpu_nanos = cpu + CpuNanos() - cpu_start;
    if (arguments.verbose || options.trace) {
      printf(
          "seed %llu digest %016llx: %llu done, %llu unknown, %llu refused, "
          "%llu leaders, %llu crashes, %llu joins, epoch %llu, %llu hashes, "
          "%llu swapped, %llu deleted, %llu undecided, %llu rests, %llu "
          "events, "
          "%.1f s | "
          "%s\n",
          static_cast<unsigned long long>(seed),
          static_cast<unsigned long long>(result.digest),
          static_cast<unsigned long long>(result.done),
          static_cast<unsigned long long>(result.unknown),
          static_cast<unsigned long long>(result.refused),
          static_cast<unsigned long long>(result.leaders),
          static_cast<unsigned long long>(result.crashes),
          static_cast<unsigned long long>(result.joins),
          static_cast<unsigned long long>(result.epochs),
          static_cast<unsigned long long>(result.hashes),
          static_cast<unsigned long long>(result.swapped),
          static_cast<unsigned long long>(result.deleted),
          static_cast<unsigned long long>(result.undecided),
          static_cast<unsigned long long>(result.rests),
          static_cast<unsigned long long>(result.events),
          static_cast<double>(result.nanos) / 1e9, result.profile.c_str());
      fflush(stdout);
    }
    if (result.failure.empty()) continue;
    if (tally->failed++ == 0) tally->first_failed = seed;
    Tell(options, result);
    if (!arguments.keep_going) break;
  }
  tally->current = 0;
}

// Starts workers until each has come to its end; one that died in the middle of
// a seed (a broken invariant ends the process) has broken that seed.
int RunAll(const Arguments& arguments) {
  const auto begin = Clock::now();
  const auto end =
      begin + std::chrono::duration_cast<Clock::duration>(
                  std::chrono::duration<double>(arguments.minutes * 60));
  const size_t bytes = sizeof(Tally) * arguments.jobs + sizeof(uint64_t);
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    perror("kv739-sim: mmap");
    return 2;
  }
  auto* const stop = static_cast<uint64_t*>(memory);
  auto* const tallies = reinterpret_cast<Tally*>(stop + 1);
  std::vector<pid_t> workers(arguments.jobs, -1);
  auto start = [&](int i, uint64_t first) {
    fflush(stdout);
    workers[i] = fork();
    if (workers[i] != 0) return;
    Work(arguments, first, arguments.jobs, end, stop, &tallies[i]);
    fflush(stdout);
    _exit(0);
  };
  for (int i = 0; i < arguments.jobs; ++i) start(i, arguments.first + i);
  for (int running = arguments.jobs; running > 0;) {
    int status = 0;
    const pid_t pid = wait(&status);
    const auto it = std::find(workers.begin(), workers.end(), pid);
    if (it == workers.end()) continue;
    const auto i = static_cast<int>(it - workers.begin());
    Tally& tally = tallies[i];
    if (tally.failed > 0) *stop = 1;
    if (const uint64_t seed = tally.current; seed != 0) {
      Options options = arguments.options;
      options.seed = seed;
      printf(
          "seed %llu broke: the process died of signal %d\n  again: %s "
          "--trace\n",
          static_cast<unsigned long long>(seed),
          WIFSIGNALED(status) ? WTERMSIG(status) : 0, Again(options).c_str());
      if (tally.failed++ == 0) tally.first_failed = seed;
      tally.current = 0;
      *stop = 1;
      if (arguments.keep_going) {
        start(i, seed + arguments.jobs);
        continue;
      }
    }
    --running;
  }
  Tally all;
  for (int i = 0; i < arguments.jobs; ++i) {
    all.done += tallies[i].done;
    all.failed += tallies[i].failed;
    all.nanos += tallies[i].nanos;
    all.cpu_nanos += tallies[i].cpu_nanos;
    all.operations += tallies[i].operations;
    all.events += tallies[i].events;
    all.faults += tallies[i].faults;
    all.crashes += tallies[i].crashes;
    all.joins += tallies[i].joins;
    if (tallies[i].first_failed != 0 &&
        (all.first_failed == 0 || tallies[i].first_failed < all.first_failed)) {
      all.first_failed = tallies[i].first_failed;
    }
  }
  const double wall =
      std::chrono::duration<double>(Clock::now() - begin).count();
  printf(
      "kv739-sim: %llu seeds, %llu broke%s, %.0f simulated s, %.0f per "
      "second and core, %llu operations, %llu faults, %llu crashes, %llu "
      "joins, %.1f s\n",
      static_cast<unsigned long long>(all.done),
      static_cast<unsigned long long>(all.failed),
      all.failed > 0 ? absl::StrCat(" (first ", all.first_failed, ")").c_str()
                     : "",
      static_cast<double>(all.nanos) / 1e9,
      all.cpu_nanos == 0
          ? 0.0
          : static_cast<double>(all.nanos) / static_cast<double>(all.cpu_nanos),
      static_cast<unsigned long long>(all.operations),
      static_cast<unsigned long long>(all.faults),
      static_cast<unsigned long long>(all.crashes),
      static_cast<unsigned long long>(all.joins), wall);
  return all.failed > 0 ? 1 : 0;
}

// In a process of its own: a broken invariant ends it.
bool Breaks(const Options& options) {
  fflush(stdout);
  const pid_t pid = fork();
  if (pid == 0) {
    if (freopen("/dev/null", "w", stderr) == nullptr) _exit(1);
    _exit(Simulate(options).failure.empty() ? 0 : 1);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

// Turns kinds of faults off one after the other, then takes clients and time
// away, as long as the seed still breaks.
int Shrink(Arguments arguments) {
  Options& options = arguments.options;
  options.seed = arguments.first;
  options.trace = false;
  if (!Breaks(options)) {
    printf("kv739-sim: seed %llu does not break\n",
           static_cast<unsigned long long>(options.seed));
    return 0;
  }
  auto attempt = [&](Options smaller) {
    if (!Breaks(smaller)) return false;
    options = smaller;
    return true;
  };
  const auto profile = DrawProfile(options);
  for (size_t i = 0; i < kFaults; ++i) {
    if (!profile.faults[i]) continue;
    Options smaller = options;
    smaller.with.reset(i);
    smaller.without.set(i);
    attempt(smaller);
  }
  for (int clients = 1; clients < profile.clients; ++clients) {
    Options smaller = options;
    smaller.clients = clients;
    if (attempt(smaller)) break;
  }
  for (bool shorter = true; shorter && options.seconds > 10;) {
    Options smaller = options;
    smaller.seconds = std::max(8u, options.seconds * 3 / 4);
    shorter = attempt(smaller);
  }
  Arguments last = arguments;
  last.last = last.first;
  last.minutes = 0;
  last.jobs = 1;
  return RunAll(last);
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments = Parse(argc, argv);
  kv739::server::LogOptions log;
  log.level = arguments.log_level == "off" ? "error" : arguments.log_level;
  if (!kv739::server::StartLogging(log).ok()) Usage("--log");
  if (arguments.shrink) return Shrink(arguments);
  return RunAll(arguments);
}
