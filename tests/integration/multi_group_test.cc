// Ten servers: two groups of five.
#include "tests/integration/multi_group.h"

namespace kv739::test {
namespace {

TEST_F(MultiGroupTest, TenServersAreTwoGroupsThatDoNotNeedEachOther) {
  ASSERT_NO_FATAL_FAILURE(StartCluster(10));
  ASSERT_NO_FATAL_FAILURE(CheckGroups(2));
  ASSERT_NO_FATAL_FAILURE(CheckIndependence());
}

}  // namespace
}  // namespace kv739::test
