#include "server/process_stats.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "server/durable_file.h"

namespace kv739::server {
namespace {

// Fields of /proc/self/stat behind the name, which may hold anything; see
// proc(5). The first of them is number 3 there.
constexpr size_t kFirstField = 3;
constexpr size_t kUserTime = 14 - kFirstField;
constexpr size_t kSystemTime = 15 - kFirstField;
constexpr size_t kThreads = 20 - kFirstField;
constexpr size_t kStartTime = 22 - kFirstField;
constexpr size_t kVirtualBytes = 23 - kFirstField;
constexpr size_t kResidentPages = 24 - kFirstField;

absl::StatusOr<uint64_t> CountOpenFiles() {
  std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir("/proc/self/fd"),
                                          ::closedir);
  if (dir == nullptr) return absl::InternalError("cannot list /proc/self/fd");
  uint64_t count = 0;
  while (const dirent* entry = ::readdir(dir.get())) {
    if (entry->d_name[0] != '.') ++count;
  }
  return count - 1;  // the one that lists them
}

// Seconds since 1970 at which the machine was started.
absl::StatusOr<double> BootTime() {
  const auto text = ReadWholeFile("/proc/stat", 1 << 20);
  if (!text.ok()) return text.status();
  for (const absl::string_view line : absl::StrSplit(*text, '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
    double seconds = 0;
    if (words.size() == 2 && words[0] == "btime" &&
        absl::SimpleAtod(words[1], &seconds)) {
      return seconds;
    }
  }
  return absl::InternalError("no btime in /proc/stat");
}

}  // namespace

absl::StatusOr<ProcessStats> ReadProcessStats() {
  const auto text = ReadWholeFile("/proc/self/stat", 4096);
  if (!text.ok()) return text.status();
  const size_t name_end = text->rfind(')');
  if (name_end == std::string::npos || name_end + 2 > text->size()) {
    return absl::InternalError("/proc/self/stat has no name");
  }
  const std::vector<absl::string_view> fields =
      absl::StrSplit(absl::string_view(*text).substr(name_end + 2), ' ');
  const auto field = [&](size_t i) {
    uint64_t value = 0;
    if (i >= fields.size() || !absl::SimpleAtoi(fields[i], &value)) return 0.0;
    return static_cast<double>(value);
  };
  const auto boot = BootTime();
  if (!boot.ok()) return boot.status();
  const auto open_fds = CountOpenFiles();
  if (!open_fds.ok()) return open_fds.status();

  const auto hertz = static_cast<double>(::sysconf(_SC_CLK_TCK));
  const auto page = static_cast<double>(::sysconf(_SC_PAGESIZE));
  ProcessStats stats;
  stats.cpu_seconds = (field(kUserTime) + field(kSystemTime)) / hertz;
  stats.start_time_seconds = *boot + field(kStartTime) / hertz;
  stats.resident_bytes = static_cast<uint64_t>(field(kResidentPages) * page);
  stats.virtual_bytes = static_cast<uint64_t>(field(kVirtualBytes));
  stats.threads = static_cast<uint64_t>(field(kThreads));
  stats.open_fds = *open_fds;
  rlimit limit;
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
      limit.rlim_cur != RLIM_INFINITY) {
    stats.max_fds = limit.rlim_cur;
  }
  return stats;
}

}  // namespace kv739::server
