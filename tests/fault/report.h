// What a run of kv739-fault has to say: rounds by name, operations, gaps.
#ifndef KV739_TESTS_FAULT_REPORT_H_
#define KV739_TESTS_FAULT_REPORT_H_

#include <string>
#include <vector>

#include "tests/support/history.h"

namespace kv739::test {

struct Round {
  std::string what;
  bool writes_go_on = true;
  Nanos at = 0;  // when the fault began
};

// For people, on standard output.
void PrintReport(const std::vector<Round>& rounds,
                 const std::vector<Operation>& operations);
// One row of the table that `./run fault` makes; TableHead() is its top. Gaps
// are of the rounds in which a majority was there.
std::string TableHead();
std::string TableRow(const std::string& kind, double seconds, bool passed,
                     const std::vector<Round>& rounds,
                     const std::vector<Operation>& operations);

}  // namespace kv739::test

#endif  // KV739_TESTS_FAULT_REPORT_H_
