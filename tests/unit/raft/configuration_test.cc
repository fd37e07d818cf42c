#include "raft/configuration.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace kv739::raft {
namespace {

std::vector<NodeId> Nodes(std::initializer_list<uint64_t> ids) {
  std::vector<NodeId> nodes;
  for (uint64_t id : ids) nodes.push_back(NodeId(id));
  return nodes;
}

TEST(Configuration, RoundTrip) {
  const std::vector<Configuration> all = {
      {Nodes({1}), {}, {}},
      {Nodes({1, 2, 3}), {}, Nodes({9})},
      {Nodes({2, 3, ~uint64_t{0}}), Nodes({1, 2, 3}), Nodes({7, 8})},
  };
  for (const Configuration& c : all) {
    auto decoded = DecodeConfiguration(EncodeConfiguration(c));
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, c);
  }
}

TEST(Configuration, DecodeRefusesEveryCutAndTrailingBytes) {
  const std::string bytes =
      EncodeConfiguration({Nodes({1, 2, 3}), Nodes({1, 2}), Nodes({9})});
  for (size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_FALSE(DecodeConfiguration(bytes.substr(0, n)).ok()) << n;
  }
  EXPECT_FALSE(DecodeConfiguration(bytes + "x").ok());
}

TEST(Configuration, DecodeRefusesOtherVersionsAndHugeCounts) {
  std::string bytes = EncodeConfiguration({Nodes({1}), {}, {}});
  std::string other = bytes;
  other[0] = 2;
  EXPECT_FALSE(DecodeConfiguration(other).ok());
  std::string huge = bytes;
  huge[4] = '\x7f';  // about two billion voters
  EXPECT_FALSE(DecodeConfiguration(huge).ok());
}

TEST(Configuration, DecodeRefusesInvalidLists) {
  const std::vector<Configuration> invalid = {
      {{}, {}, {}},
      {Nodes({2, 1}), {}, {}},
      {Nodes({1, 1}), {}, {}},
      {Nodes({0, 1}), {}, {}},
      {Nodes({1, 2}), {}, Nodes({2})},
      {Nodes({1, 2}), Nodes({3}), Nodes({3})},
      {Nodes({1}), Nodes({3, 2}), {}},
  };
  for (const Configuration& c : invalid) {
    EXPECT_FALSE(c.Validate().ok());
    EXPECT_FALSE(DecodeConfiguration(EncodeConfiguration(c)).ok());
  }
}

TEST(Configuration, MembersAreSortedAndEachOnce) {
  const Configuration c{Nodes({2, 3, 4}), Nodes({1, 2, 3}), Nodes({0x10})};
  EXPECT_EQ(c.Members(), Nodes({1, 2, 3, 4, 16}));
  EXPECT_TRUE(c.IsVoter(NodeId(1)));
  EXPECT_FALSE(c.IsVoter(NodeId(16)));
  EXPECT_TRUE(c.IsLearner(NodeId(16)));
  EXPECT_FALSE(c.Contains(NodeId(5)));
}

}  // namespace
}  // namespace kv739::raft
