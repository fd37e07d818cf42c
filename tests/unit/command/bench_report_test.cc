// Table, JSON and verdict of a result that is known.
#include "client/command/bench_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kv739::bench {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::ordered_json;

Report Known() {
  Report report;
  report.arguments.workload = "a";
  report.arguments.mode = "threads";
  report.arguments.distribution = "zipfian";
  report.mix = *MixOf("a");
  report.seconds = 2;
  for (int i = 0; i < 1000; ++i) {
    report.stats.latency[static_cast<int>(Kind::kRead)].Record(1'000'000);
    report.stats.latency[static_cast<int>(Kind::kUpdate)].Record(3'000'000);
  }
  return report;
}

TEST(Report, Table) {
  Report report = Known();
  std::string table = FormatTable(report, false);
  EXPECT_THAT(table, HasSubstr("50 % read, 50 % update"));
  EXPECT_THAT(table, HasSubstr("threads, 64 in flight, closed loop"));
  EXPECT_THAT(table, HasSubstr("\nread    1000    500  1.000"));
  EXPECT_THAT(table, HasSubstr("\nall     2000   1000  1.000  2.000"));
  EXPECT_THAT(table, HasSubstr("errors 0, outcome unknown 0, not found 0"));
  EXPECT_THAT(table, Not(HasSubstr("failed")));
  EXPECT_THAT(table, Not(HasSubstr("arrived")));
  EXPECT_THAT(table, Not(HasSubstr("--load")));
  report.stats.not_found = 1500;
  EXPECT_THAT(FormatTable(report, false),
              HasSubstr("not found 1500 (--load fills the keys)"));

  report.arguments.rate = 1000;
  report.stats.failed = 1;
  report.stats.unknown = 2;
  report.stats.arrivals = 2010;
  report.stats.late = 4;
  report.stats.dropped = 7;
  report.stats.first_error = "no\nleader";
  for (int i = 0; i < 3; ++i) report.stats.failures.Record(5'000'000'000);
  table = FormatTable(report, false);
  EXPECT_THAT(table, HasSubstr("\nfailed     3"));
  EXPECT_THAT(table, HasSubstr("errors 1, outcome unknown 2"));
  EXPECT_THAT(table, HasSubstr("first error: no\\nleader"));
  EXPECT_THAT(table, HasSubstr("2010 arrived; 4 began more than 1 ms late, "
                               "7 were dropped"));
}

TEST(Report, JsonHasEverything) {
  Report report = Known();
  report.arguments.seed = 42;
  report.server_cpu = 0.5;
  const Json json = ToJson(report);
  EXPECT_EQ(json["ops"], 2000);
  EXPECT_EQ(json["ops_per_second"], 1000);
  EXPECT_EQ(json["settings"]["seed"], 42);
  EXPECT_EQ(json["settings"]["loop"], "closed");
  EXPECT_EQ(json["settings"]["mix"]["read"], 50);
  EXPECT_GT(json["machine"]["cores"], 0);
  EXPECT_EQ(json["operations"]["update"]["max_ms"], 3);
  EXPECT_EQ(json["cpu"]["server_us_per_op"], 250);
  // The points make up the histogram.
  uint64_t count = 0;
  for (const Json& point : json["histogram"]) {
    count += point[1].get<uint64_t>();
  }
  EXPECT_EQ(count, 2000u);
  EXPECT_EQ(json["histogram"].size(), 2u);
}

TEST(Report, NothingMeasured) {
  Report report;
  report.arguments.workload = "get";
  EXPECT_THAT(FormatTable(report, false), HasSubstr("all"));
  EXPECT_EQ(ToJson(report)["ops_per_second"], 0);
}

void ExpectMet(const std::string& bounds, bool met) {
  SCOPED_TRACE(bounds);
  const auto parsed = ParseBounds(bounds);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const std::vector<Judged> verdict = Judge(*parsed, Known());
  ASSERT_EQ(verdict.size(), 1u);
  EXPECT_EQ(verdict[0].met, met);
  EXPECT_THAT(FormatVerdict(verdict, false),
              HasSubstr(met ? ": met" : ": NOT MET"));
}

TEST(Verdict, EachBound) {
  ExpectMet(R"({"ops_per_second": {"min": 1000}})", true);
  ExpectMet(R"({"ops_per_second": {"min": 1000.1}})", false);
  ExpectMet(R"({"p50_ms": {"max": 1.1}})", true);
  ExpectMet(R"({"p99_ms": {"max": 2.9}})", false);
  ExpectMet(R"({"p99_ms": {"min": 2, "max": 4}})", true);
  ExpectMet(R"({"p99_ms": {"min": 4, "max": 5}})", false);
  ExpectMet(R"({"read.p99_ms": {"max": 1.1}})", true);
  ExpectMet(R"({"update.p99_ms": {"max": 1.1}})", false);
  ExpectMet(R"({"errors": {"max": 0}})", true);
  // No inserts were done: nobody can say that they were fast.
  ExpectMet(R"({"insert.p99_ms": {"max": 10}})", false);
}

TEST(Report, ScansAndTheirKeys) {
  Report report = Known();
  EXPECT_EQ(FormatTable(report, false).find("scans got"), std::string::npos);
  EXPECT_EQ(ToJson(report)["scanned_keys"], 0);
  for (int i = 0; i < 4; ++i) {
    report.stats.latency[static_cast<int>(Kind::kScan)].Record(1'000'000);
  }
  report.stats.scanned = 202;
  EXPECT_NE(FormatTable(report, false).find("scans got 202 keys, "),
            std::string::npos);
  EXPECT_NE(FormatTable(report, false).find("50.5 each"), std::string::npos);
  EXPECT_EQ(ToJson(report)["scanned_keys"], 202);
  EXPECT_EQ(ToJson(report)["operations"]["scan"]["ops"], 4);
}

TEST(Verdict, NamesTheValueAndTheBound) {
  const auto bounds = ParseBounds(
      R"({"max_ms": {"max": 2.5}, "ops": {"min": 10, "max": 5000}})");
  ASSERT_TRUE(bounds.ok());
  EXPECT_EQ(FormatVerdict(Judge(*bounds, Known()), false),
            "max_ms <= 2.5: NOT MET, it is 3\n"
            "10 <= ops <= 5000: met, it is 2000\n");
}

TEST(Verdict, RefusedFiles) {
  for (const auto& [text, why] :
       std::vector<std::pair<std::string, std::string>>{
           {"", "no JSON object"},
           {"[1]", "no JSON object"},
           {"{\"p99_ms\": ", "no JSON object"},
           {"{}", "no bound"},
           {R"({"p98_ms": {"max": 1}})", "called p98_ms"},
           {R"({"scans.p99_ms": {"max": 1}})", "called scans.p99_ms"},
           {R"({"read.errors": {"max": 1}})", "called read.errors"},
           {R"({"p99_ms": 5})", "p99_ms needs"},
           {R"({"p99_ms": {}})", "neither min nor max"},
           {R"({"p99_ms": {"most": 1}})", "has most"},
           {R"({"p99_ms": {"max": "5"}})", "max is no number"}}) {
    SCOPED_TRACE(text);
    const auto bounds = ParseBounds(text);
    ASSERT_FALSE(bounds.ok());
    EXPECT_THAT(std::string(bounds.status().message()), HasSubstr(why));
  }
}

}  // namespace
}  // namespace kv739::bench
