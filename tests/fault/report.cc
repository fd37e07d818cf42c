#include "tests/fault/report.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/support/workload.h"

namespace kv739::test {
namespace {

// Longest time without a completed write from each round's begin to the next.
std::vector<double> Gaps(const std::vector<Round>& rounds,
                         const std::vector<Operation>& operations) {
  std::vector<double> gaps;
  for (size_t i = 0; i < rounds.size(); ++i) {
    const Nanos to = i + 1 < rounds.size() ? rounds[i + 1].at : Now();
    gaps.push_back(
        absl::ToDoubleMilliseconds(LongestGap(operations, rounds[i].at, to)));
  }
  return gaps;
}

}  // namespace

void PrintReport(const std::vector<Round>& rounds,
                 const std::vector<Operation>& operations) {
  for (bool gets : {false, true}) {
    const Tally tally = Count(operations, gets);
    std::printf("%-7s %9d done %6d unknown %6d refused\n",
                gets ? "gets:" : "writes:", static_cast<int>(tally.done),
                static_cast<int>(tally.unknown),
                static_cast<int>(tally.refused));
  }
  std::map<std::string, std::vector<double>> by_name;
  const std::vector<double> gaps = Gaps(rounds, operations);
  for (size_t i = 0; i < rounds.size(); ++i) {
    by_name[rounds[i].what + (rounds[i].writes_go_on ? "" : " (no majority)")]
        .push_back(gaps[i]);
  }
  std::printf("longest time without a completed write, in ms:\n");
  for (auto& [what, of_name] : by_name) {
    std::sort(of_name.begin(), of_name.end());
    std::printf("  %-55s %3d times   median %6.0f   worst %6.0f\n",
                what.c_str(), static_cast<int>(of_name.size()),
                of_name[of_name.size() / 2], of_name.back());
  }
}

std::string TableHead() {
  return "| fault | seconds | rounds | writes | reads | unknown | refused | "
         "gap median ms | gap worst ms | |\n"
         "|---|---|---|---|---|---|---|---|---|---|\n";
}

std::string TableRow(const std::string& kind, double seconds, bool passed,
                     const std::vector<Round>& rounds,
                     const std::vector<Operation>& operations) {
  const Tally writes = Count(operations, false);
  const Tally gets = Count(operations, true);
  std::vector<double> gaps = Gaps(rounds, operations);
  for (size_t i = rounds.size(); i-- > 0;) {
    if (!rounds[i].writes_go_on) gaps.erase(gaps.begin() + i);
  }
  std::sort(gaps.begin(), gaps.end());
  return absl::StrCat(
      "| ", kind, " | ", absl::StrFormat("%.0f", seconds), " | ", rounds.size(),
      " | ", writes.done, " | ", gets.done, " | ",
      writes.unknown + gets.unknown, " | ", writes.refused + gets.refused,
      " | ",
      gaps.empty() ? "-" : absl::StrFormat("%.0f", gaps[gaps.size() / 2]),
      " | ", gaps.empty() ? "-" : absl::StrFormat("%.0f", gaps.back()), " | ",
      passed ? "passed" : "FAILED", " |\n");
}

}  // namespace kv739::test
