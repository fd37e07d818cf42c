// Plays the stories of testdata/ and compares the outcomes that they hold.
// KV739_REWRITE=1 writes what was seen into them; read the difference before
// you commit it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/raft_script.h"

namespace kv739::sim {
namespace {

std::vector<std::filesystem::path> Stories() {
  std::vector<std::filesystem::path> found;
  for (const auto& file : std::filesystem::directory_iterator(KV739_STORIES)) {
    if (file.path().extension() == ".txt") found.push_back(file.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

class Story : public ::testing::TestWithParam<std::filesystem::path> {};

TEST_P(Story, EndsAsItSays) {
  std::ifstream in(GetParam());
  std::stringstream text;
  text << in.rdbuf();
  const std::string seen = RunStory(text.str());
  if (std::getenv("KV739_REWRITE") != nullptr) {
    std::ofstream(GetParam()) << seen;
    return;
  }
  EXPECT_EQ(seen, text.str()) << "in " << GetParam();
}

INSTANTIATE_TEST_SUITE_P(Raft, Story, ::testing::ValuesIn(Stories()),
                         [](const auto& story) {
                           return story.param.stem().string();
                         });

TEST(Stories, AreAllThere) { EXPECT_GE(Stories().size(), 10u); }

}  // namespace
}  // namespace kv739::sim
