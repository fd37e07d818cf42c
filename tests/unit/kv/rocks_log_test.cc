#include "kv/rocks_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "tests/support/process.h"

namespace kv739::kv {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(RocksLog, KeepsLinesOfTwoFiles) {
  const test::TempDir dir;
  RocksLog log(dir.path(), 200);
  for (int i = 0; i < 20; ++i) Log(&log, "line %d of the log", i);
  EXPECT_THAT(test::ReadFile(dir.path() + "/LOG.old"), HasSubstr("line 17 of"));
  const std::string last = test::ReadFile(dir.path() + "/LOG") +
                           test::ReadFile(dir.path() + "/LOG.old");
  EXPECT_THAT(last, AllOf(HasSubstr("line 19 of"), Not(HasSubstr("line 9 "))));
}

TEST(RocksLog, CutsLongLines) {
  const test::TempDir dir;
  RocksLog log(dir.path(), 1 << 20);
  Log(&log, "%s", std::string(100'000, 'x').c_str());
  Log(&log, "after");
  EXPECT_LT(test::ReadFile(dir.path() + "/LOG").size(), 5000u);
  EXPECT_THAT(test::ReadFile(dir.path() + "/LOG"), HasSubstr("x\n"));
  EXPECT_THAT(test::ReadFile(dir.path() + "/LOG"), HasSubstr(" after\n"));
}

TEST(RocksLog, DropsWhatAFullDiskDoesNotTake) {
  const test::TempDir dir;
  const std::string path = dir.path() + "/LOG";
  ASSERT_EQ(symlink("/dev/full", path.c_str()), 0);
  RocksLog log(dir.path(), 1 << 20);
  for (int i = 0; i < 3; ++i) Log(&log, "lost %d", i);
  EXPECT_EQ(log.GetLogFileSize(), 0u);
}

TEST(RocksLog, TriesAgainWhenItHasNoFile) {
  const test::TempDir dir;
  RocksLog log(dir.path() + "/later", 1 << 20);
  Log(&log, "lost");
  std::filesystem::create_directory(dir.path() + "/later");
  Log(&log, "kept");
  EXPECT_THAT(test::ReadFile(dir.path() + "/later/LOG"),
              AllOf(HasSubstr("kept"), Not(HasSubstr("lost"))));
}

}  // namespace
}  // namespace kv739::kv
