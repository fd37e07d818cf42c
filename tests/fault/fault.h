// Faults that kv739-fault does to a cluster of real servers, one at a time:
// begun, held for a while, ended. After the end all servers run again.
//
// Main thread.
#ifndef KV739_TESTS_FAULT_FAULT_H_
#define KV739_TESTS_FAULT_FAULT_H_

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/fault/world.h"
#include "tests/support/cluster.h"
#include "tests/support/workload.h"

namespace kv739::test {

// What faults are done to, and with.
struct Target {
  World& world;
  Cluster& cluster;
  const Workload& workload;
  std::mt19937& random;

  uint64_t group() const { return cluster.only_group(); }
  // 0 to n - 1.
  int Draw(int n) {
    return static_cast<int>(random() % static_cast<uint32_t>(n));
  }
  bool Coin() { return Draw(2) == 0; }
  absl::Duration Between(int least_ms, int most_ms) {
    return absl::Milliseconds(least_ms + Draw(most_ms - least_ms + 1));
  }
  // Positions of the group's members as the map has them now, in any order;
  // the leader first. Empty when no leader is to be found.
  std::vector<int> Members();
};

struct Begun {
  std::string what;  // for the report: rounds of one name are put together
  // A majority is there, so writes must end well while it lasts.
  bool writes_go_on = true;
  absl::Duration hold;
};

class Nemesis {
 public:
  virtual ~Nemesis() = default;
  virtual absl::StatusOr<Begun> Begin() = 0;
  virtual absl::Status End() = 0;
  // Asked while writes are awaited that do not come. Not empty: nobody can be
  // elected in the shape that this fault has taken, for this reason.
  virtual std::string MayStop() { return ""; }
  // What else the report should say; "" for nothing.
  virtual std::string Summary() const { return ""; }
};

// One of kFaultKinds but mix. Its needs are in the world.
std::unique_ptr<Nemesis> MakeNemesis(const std::string& kind, Target target);

std::unique_ptr<Nemesis> MakeKills(const std::string& whom, Target target);
std::unique_ptr<Nemesis> MakePauses(Target target);
std::unique_ptr<Nemesis> MakePartitions(Target target);
std::unique_ptr<Nemesis> MakeOneWayCuts(Target target);
std::unique_ptr<Nemesis> MakeSlowLines(Target target);
std::unique_ptr<Nemesis> MakeFullDisks(Target target);
std::unique_ptr<Nemesis> MakeSyncErrors(Target target);
std::unique_ptr<Nemesis> MakeSyncStalls(Target target);
// Files of one server are changed, or cut, while it is stopped.
std::unique_ptr<Nemesis> MakeDamage(bool cut, Target target);
std::unique_ptr<Nemesis> MakeMemberChanges(Target target);

// A server that has ended is started again; how it ended must be one of
// `codes`. OK also when it runs.
absl::Status StartAgain(Cluster& cluster, int i, const std::vector<int>& codes);

}  // namespace kv739::test

#endif  // KV739_TESTS_FAULT_FAULT_H_
