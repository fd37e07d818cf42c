#include "tests/benchmark/process_use.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace kv739::test {

int64_t Pid(Cluster& cluster, int i) {
  auto status = cluster.Status(i);
  return status.ok() ? status->pid() : 0;
}

double Memory(int64_t pid, absl::string_view line) {
  std::ifstream in(absl::StrCat("/proc/", pid, "/status"));
  std::string text;
  while (std::getline(in, text)) {
    if (absl::StartsWith(text, line)) {
      return std::atof(text.c_str() + line.size() + 1) / 1024;
    }
  }
  return 0;
}

void ForgetPeak(int64_t pid) {
  std::ofstream(absl::StrCat("/proc/", pid, "/clear_refs")) << "5";
}

double CpuSeconds(int64_t pid) {
  std::ifstream in(absl::StrCat("/proc/", pid, "/stat"));
  std::string text;
  std::getline(in, text);
  // Behind the name, which may have blanks: state is field 3, utime 14.
  const size_t end = text.rfind(')');
  if (end == std::string::npos) return 0;
  std::istringstream fields(text.substr(end + 1));
  std::string skipped;
  for (int field = 3; field < 14; ++field) fields >> skipped;
  double user = 0;
  double system = 0;
  fields >> user >> system;
  return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace kv739::test
