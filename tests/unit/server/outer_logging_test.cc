// Log lines: their form, and that nothing in a message can break it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "server/logging.h"

namespace kv739::server {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::Not;

class FakeClock : public Clock {
 public:
  uint64_t MonotonicNanos() const override { return now; }
  uint64_t WallMillis() const override { return 0; }
  uint64_t now = 1;
};

template <typename F>
std::string LinesOf(F f) {
  testing::internal::CaptureStderr();
  f();
  return testing::internal::GetCapturedStderr();
}

class LoggingTest : public testing::Test {
 protected:
  ~LoggingTest() override { EXPECT_TRUE(StartLogging({}).ok()); }
};

constexpr char kTime[] = "[0-9-]+T[0-9:]+\\.[0-9][0-9][0-9]Z";

TEST_F(LoggingTest, TextHasTimeLevelAndNode) {
  ASSERT_TRUE(StartLogging({"info", "text", "localhost:50051"}).ok());
  EXPECT_THAT(LinesOf([] { LogInfo("group ", 3, ": leader in term ", 7); }),
              MatchesRegex(absl::StrCat(kTime,
                                        " info  localhost:50051 group 3: "
                                        "leader in term 7\n")));
  EXPECT_THAT(LinesOf([] { LogWarn("disk"); }), HasSubstr(" warn  "));
  EXPECT_THAT(LinesOf([] { LogError("disk"); }), HasSubstr(" error "));
}

TEST_F(LoggingTest, LevelsBelowTheOneSetAreSilent) {
  EXPECT_THAT(LinesOf([] { LogDebug("x"); }), IsEmpty());
  ASSERT_TRUE(StartLogging({"error", "text", ""}).ok());
  EXPECT_THAT(LinesOf([] { LogWarn("x"); }), IsEmpty());
  EXPECT_THAT(LinesOf([] { LogError("x"); }), Not(IsEmpty()));
  EXPECT_FALSE(LogEnabled(LogLevel::kWarn));
  ASSERT_TRUE(StartLogging({"trace", "text", ""}).ok());
  EXPECT_THAT(LinesOf([] { Log(LogLevel::kTrace, "x"); }), Not(IsEmpty()));
}

TEST_F(LoggingTest, UnknownWordsAreRefusedAndChangeNothing) {
  EXPECT_FALSE(StartLogging({"loud", "json", ""}).ok());
  EXPECT_FALSE(StartLogging({"debug", "xml", ""}).ok());
  EXPECT_THAT(LinesOf([] { LogDebug("x"); }), IsEmpty());
  EXPECT_THAT(LinesOf([] { LogInfo("x"); }), Not(HasSubstr("{")));
}

TEST_F(LoggingTest, OneMessageIsOneLine) {
  const std::string line =
      LinesOf([] { LogInfo("a\nb\rc\x1b[31m {} %s ", "\t\x7f"); });
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
  EXPECT_THAT(line, HasSubstr("a\\nb\\x0dc\\x1b[31m {} %s \\x09\\x7f\n"));
}

TEST_F(LoggingTest, JsonLinesParseWhateverTheMessage) {
  ASSERT_TRUE(StartLogging({"info", "json", "h\"o:1"}).ok());
  for (const std::string& message :
       {std::string("plain"), std::string("q\"uo\\te\n\t\x01"),
        std::string("na\0ul", 5), std::string("gr\xc3\xbc\xc3\x9f")}) {
    const std::string line = LinesOf([&] { LogInfo(message); });
    EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
    const auto json = nlohmann::json::parse(line, nullptr, false);
    ASSERT_FALSE(json.is_discarded()) << line;
    EXPECT_EQ(json["message"], message);
    EXPECT_EQ(json["level"], "info");
    EXPECT_EQ(json["node"], "h\"o:1");
    EXPECT_THAT(json["time"].get<std::string>(), MatchesRegex(kTime));
  }
  // Bytes that are no UTF-8 are replaced: JSON cannot hold them.
  for (const char* message :
       {"a\xff", "a\xc3", "a\xc3(", "\x80", "\xc0\x80", "\xe0\x80\x80",
        "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf0\x9f\x98"}) {
    const std::string line = LinesOf([&] { LogInfo(message); });
    const auto json = nlohmann::json::parse(line, nullptr, false);
    ASSERT_FALSE(json.is_discarded()) << line;
    EXPECT_THAT(json["message"].get<std::string>(), HasSubstr("?"));
  }
}

TEST_F(LoggingTest, KeysAreShownByHashOnly) {
  EXPECT_THAT(LoggableKey("secret-name"), Not(HasSubstr("secret")));
  EXPECT_THAT(LoggableKey("secret-name"), HasSubstr("11 bytes"));
  EXPECT_EQ(LoggableKey("a"), LoggableKey("a"));
  EXPECT_NE(LoggableKey("a"), LoggableKey("b"));
}

TEST_F(LoggingTest, LimitLetsOneLineThroughAndCountsTheRest) {
  FakeClock clock;
  LogLimit limit(10, &clock);
  const auto log = [&] { limit.Log(LogLevel::kInfo, "peer ", 7, " is away"); };
  EXPECT_THAT(LinesOf(log), HasSubstr("peer 7 is away\n"));
  EXPECT_THAT(LinesOf([&] {
                for (int i = 0; i < 5; ++i) log();
              }),
              IsEmpty());
  clock.now += 9'999'999'999;
  EXPECT_THAT(LinesOf(log), IsEmpty());
  clock.now += 1;
  EXPECT_THAT(LinesOf(log), HasSubstr("is away (and 6 more like it)\n"));
  clock.now += 10'000'000'000;
  EXPECT_THAT(LinesOf(log), HasSubstr("is away\n"));
}

TEST_F(LoggingTest, LimitCountsEveryLineOfManyThreads) {
  FakeClock clock;
  LogLimit limit(10, &clock);
  constexpr int kThreads = 4;
  constexpr uint64_t kEach = 1000;
  std::atomic<uint64_t> admitted{0};
  std::atomic<uint64_t> told{0};
  const auto offer = [&] {
    uint64_t left_out = 0;
    if (limit.Admit(&left_out)) {
      ++admitted;
      told += left_out;
    }
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (uint64_t i = 0; i < kEach; ++i) offer();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(admitted, 1u);
  clock.now += 10'000'000'000;
  offer();
  EXPECT_EQ(admitted, 2u);
  EXPECT_EQ(told, kThreads * kEach - 1);
}

}  // namespace
}  // namespace kv739::server
