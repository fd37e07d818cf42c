// Characters, tables, JSON of values, percentiles.
#include "client/command/text.h"

#include <gtest/gtest.h>

#include "client/command/ping_stats.h"
#include "client/command/table.h"
#include "client/command/value_json.h"

namespace kv739::command {
namespace {

const bool kLocale = (InitLocale(), true);

TEST(Text, Utf8) {
  EXPECT_TRUE(IsUtf8(""));
  EXPECT_TRUE(IsUtf8("plain"));
  EXPECT_TRUE(IsUtf8("zażółć 漢字 \xf0\x9f\x9a\x80"));
  EXPECT_FALSE(IsUtf8("\xff"));
  EXPECT_FALSE(IsUtf8("\xc3"));              // cut
  EXPECT_FALSE(IsUtf8("\xc0\xaf"));          // overlong
  EXPECT_FALSE(IsUtf8("\xe0\x80\x80"));      // overlong
  EXPECT_FALSE(IsUtf8("\xed\xa0\x80"));      // surrogate
  EXPECT_FALSE(IsUtf8("\xf4\x90\x80\x80"));  // above U+10FFFF
  EXPECT_FALSE(IsUtf8("a\x80"));             // continuation alone
}

TEST(Text, EscapeShowsWhatATerminalWouldObey) {
  EXPECT_EQ(Escape("a\n\t\\\x1b[31m"), "a\\n\\t\\\\\\x1b[31m");
  EXPECT_EQ(Escape("\xff\xc3"), "\\xff\\xc3");
  EXPECT_EQ(Escape("ż漢"), "ż漢");
  EXPECT_EQ(Escape("\xc2\x9b"), "\\xc2\\x9b");  // C1 control
  EXPECT_EQ(Escape(absl::string_view("\0", 1)), "\\x00");
}

TEST(Text, Width) {
  EXPECT_EQ(DisplayWidth("abc"), 3);
  EXPECT_EQ(DisplayWidth("żół"), 3);
  EXPECT_EQ(DisplayWidth("漢字"), 4);
  EXPECT_EQ(DisplayWidth("e\xcc\x81"), 1);  // combining accent
  EXPECT_EQ(DisplayWidth("\xff"), 1);
}

TEST(Text, NearestWord) {
  const std::vector<std::string> verbs = {"get", "put", "status", "shell"};
  EXPECT_EQ(Nearest("statsu", verbs), "status");
  EXPECT_EQ(Nearest("gte", verbs), "");
  EXPECT_EQ(Nearest("gett", verbs), "get");
  EXPECT_EQ(Nearest("frobnicate", verbs), "");
  EXPECT_EQ(Nearest("", verbs), "");
}

TEST(Text, Units) {
  EXPECT_EQ(Count(1, "byte"), "1 byte");
  EXPECT_EQ(Count(0, "byte"), "0 bytes");
  EXPECT_EQ(Bytes(1023), "1023 B");
  EXPECT_EQ(Bytes(1536), "1.5 KiB");
  EXPECT_EQ(Bytes(64.0 * 1024 * 1024), "64.0 MiB");
}

TEST(Table, AlignsByWidthAndTrimsLineEnds) {
  Table table({{"NAME"}, {"N", Table::Align::kRight}, {"NOTE"}});
  table.Add({"漢字", "5", ""});
  table.Add({"żółw", "123", "a\nb"});
  EXPECT_EQ(table.Format(false),
            "NAME    N  NOTE\n"
            "漢字    5\n"
            "żółw  123  a\\nb\n");
}

TEST(Table, ColourOnlyWhenAsked) {
  Table table({{"A"}});
  table.Add({"x"}, Color::kRed);
  EXPECT_EQ(table.Format(false).find('\x1b'), std::string::npos);
  EXPECT_EQ(table.Format(true),
            "\x1b[1mA\x1b[0m\n"
            "\x1b[31mx\x1b[0m\n");
}

TEST(ValueJson, TextOrBase64) {
  EXPECT_EQ(ValueJson("a\"ż").dump(), "\"a\\\"ż\"");
  EXPECT_EQ(ValueJson("").dump(), "\"\"");
  EXPECT_EQ(ValueJson("\xff\x01").dump(), R"({"base64":"/wE="})");
  EXPECT_EQ(ValueJson(absl::string_view("a\0b", 3)).dump(), R"("a\u0000b")");
}

TEST(PingStats, CountsAndPercentiles) {
  PingStats stats;
  EXPECT_EQ(stats.Percentile(99), absl::ZeroDuration());
  EXPECT_EQ(stats.mean(), absl::ZeroDuration());
  for (int i = 100; i >= 1; --i) stats.Answered(absl::Milliseconds(i));
  stats.Lost();
  EXPECT_EQ(stats.sent(), 101u);
  EXPECT_EQ(stats.answered(), 100u);
  EXPECT_EQ(stats.mean(), absl::Milliseconds(50.5));
  EXPECT_EQ(stats.Percentile(50), absl::Milliseconds(50));
  EXPECT_EQ(stats.Percentile(99), absl::Milliseconds(99));
  EXPECT_EQ(stats.Percentile(100), absl::Milliseconds(100));
  EXPECT_EQ(stats.Percentile(0), absl::Milliseconds(1));
  EXPECT_EQ(stats.max(), absl::Milliseconds(100));
}

TEST(PingStats, LongRunsStayNearTheTruth) {
  PingStats stats;
  constexpr int kRun = 300'000;
  for (int i = 0; i < kRun; ++i) stats.Answered(absl::Microseconds(i));
  EXPECT_EQ(stats.answered(), uint64_t{kRun});
  EXPECT_NEAR(absl::ToDoubleMicroseconds(stats.Percentile(50)), kRun / 2,
              kRun / 100);
  EXPECT_EQ(stats.max(), absl::Microseconds(kRun - 1));
}

}  // namespace
}  // namespace kv739::command
