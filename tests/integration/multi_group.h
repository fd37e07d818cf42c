// Checks of clusters with several groups, for few and for many servers.
#ifndef KV739_TESTS_INTEGRATION_MULTI_GROUP_H_
#define KV739_TESTS_INTEGRATION_MULTI_GROUP_H_

#include <map>
#include <string>
#include <vector>

#include "tests/integration/cluster_test.h"

namespace kv739::test {

class MultiGroupTest : public ClusterTest {
 protected:
  // The owners of all slots, as server 0 knows them.
  void LoadSlots();
  // By the rule of the design, not by the code under test.
  uint64_t GroupOf(const std::string& key) const;
  // `count` keys of each group.
  std::map<uint64_t, std::vector<std::string>> KeysByGroup(int count);

  // Groups are consecutive fives, hold equal shares of the slots, and refuse
  // each other's keys.
  void CheckGroups(size_t groups);
  // Three members of the first group are killed: its keys cannot be written,
  // all others can, and after a restart all is as before.
  void CheckIndependence();

 private:
  std::vector<uint64_t> owners_;  // by slot
};

}  // namespace kv739::test

#endif  // KV739_TESTS_INTEGRATION_MULTI_GROUP_H_
