// The flags of kv739d.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "server/command_line.h"

namespace kv739::server {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<CommandLine> Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "kv739d");
  return ParseCommandLine(static_cast<int>(arguments.size()), arguments.data());
}

std::string ErrorOf(std::vector<const char*> arguments) {
  const auto line = Parse(std::move(arguments));
  if (line.ok()) return "";
  EXPECT_EQ(line.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(line.status().message());
}

using Action = CommandLine::Action;

TEST(CommandLine, OneServer) {
  for (const auto& line :
       {Parse({"--cluster", "c", "--listen", "h:1", "--data", "d"}),
        Parse({"--data=d", "--listen=h:1", "--cluster=c"})}) {
    ASSERT_TRUE(line.ok()) << line.status();
    EXPECT_EQ(line->action, Action::kRunNode);
    EXPECT_EQ(line->cluster, "c");
    EXPECT_EQ(line->listen, "h:1");
    EXPECT_EQ(line->data, "d");
    EXPECT_EQ(line->settings, "");
  }
  const auto line = Parse({"--cluster", "c", "--listen", "h:1", "--data", "d",
                           "--settings", "s.yaml"});
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->settings, "s.yaml");
}

TEST(CommandLine, AServerThatJoins) {
  auto line = Parse({"--cluster", "c", "--listen", "h:1", "--data", "d",
                     "--join", "--metrics-port", "77", "--http-port", "78"});
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->action, Action::kRunNode);
  EXPECT_TRUE(line->join);
  EXPECT_EQ(line->metrics_port, 77);
  EXPECT_EQ(line->http_port, 78);
  line = Parse({"--cluster", "c", "--listen", "h:1", "--data", "d"});
  EXPECT_FALSE(line->join);
  EXPECT_EQ(line->metrics_port, 0);
  EXPECT_THAT(ErrorOf({"-c", "c", "--join"}),
              HasSubstr("--join is for a single server"));
  EXPECT_THAT(ErrorOf({"--cluster", "c", "--listen", "h:1", "--data", "d",
                       "--http-port", "7"}),
              HasSubstr("go with --join"));
  for (const char* bad : {"0", "65536", "x", "-1"}) {
    EXPECT_THAT(ErrorOf({"--cluster", "c", "--listen", "h:1", "--data", "d",
                         "--join", "--http-port", bad}),
                HasSubstr("--http-port"))
        << bad;
  }
}

TEST(CommandLine, AllServersOfThisHost) {
  auto line = Parse({"-c", "c"});
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->action, Action::kRunSupervisor);
  EXPECT_EQ(line->cluster, "c");
  EXPECT_EQ(line->data_root, "data");
  line = Parse({"-c", "c", "--data-root", "/r", "--settings", "s"});
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->data_root, "/r");
  EXPECT_EQ(line->settings, "s");
}

TEST(CommandLine, Questions) {
  EXPECT_EQ(Parse({"--help"})->action, Action::kPrintHelp);
  EXPECT_EQ(Parse({"-h"})->action, Action::kPrintHelp);
  EXPECT_EQ(Parse({"--version"})->action, Action::kPrintVersion);
  EXPECT_EQ(Parse({"--print-settings"})->action, Action::kPrintSettings);
  EXPECT_EQ(Parse({"--print-settings", "--settings", "s"})->settings, "s");
}

TEST(CommandLine, UnknownFlagsGetTheNearestOne) {
  EXPECT_EQ(ErrorOf({"--lisen", "h:1", "--cluster", "c"}),
            "unknown flag '--lisen'; did you mean '--listen'?");
  EXPECT_EQ(ErrorOf({"--dta=x"}),
            "unknown flag '--dta'; did you mean '--data'?");
  EXPECT_EQ(ErrorOf({"--versoin"}),
            "unknown flag '--versoin'; did you mean '--version'?");
  EXPECT_EQ(ErrorOf({"--zzzzzzzzzz"}), "unknown flag '--zzzzzzzzzz'");
  EXPECT_THAT(ErrorOf({"-c", "c", "--loud"}), HasSubstr("'--loud'"));
  EXPECT_EQ(ErrorOf({"-c", "c", "stray"}), "unexpected argument 'stray'");
}

TEST(CommandLine, WhatIsMissingOrDoesNotGoTogether) {
  EXPECT_THAT(ErrorOf({}), HasSubstr("--cluster is missing"));
  EXPECT_THAT(ErrorOf({"--cluster", "c", "--data", "d"}),
              HasSubstr("--listen is missing"));
  EXPECT_THAT(ErrorOf({"--cluster", "c", "--listen", "h:1"}),
              HasSubstr("--data is missing"));
  EXPECT_THAT(ErrorOf({"-c", "c", "--listen", "h:1"}),
              HasSubstr("--listen is for a single one"));
  EXPECT_THAT(ErrorOf({"-c", "c", "--cluster", "c"}),
              HasSubstr("--cluster is for a single one"));
  EXPECT_THAT(ErrorOf({"--cluster", "c", "--listen", "h:1", "--data", "d",
                       "--data-root", "r"}),
              HasSubstr("--data-root goes with -c"));
  EXPECT_THAT(ErrorOf({"--cluster"}), HasSubstr("--cluster"));
  EXPECT_THAT(ErrorOf({"-c"}), HasSubstr("-c"));
  EXPECT_THAT(ErrorOf({"-c", ""}), HasSubstr("-c has an empty value"));
  EXPECT_THAT(ErrorOf({"--cluster", "c", "--listen", "h:1", "--data", ""}),
              HasSubstr("--data has an empty value"));
  EXPECT_THAT(ErrorOf({"--data", "a", "--data", "b"}), HasSubstr("--data"));
}

TEST(CommandLine, HelpNamesEveryFlagAndExitCode) {
  for (const char* word :
       {"--cluster", "--listen", "--data ", "--settings", "-c ", "--data-root",
        "--join", "--metrics-port", "--http-port", "--print-settings",
        "--version", "--help", "0 stopped in order", "2 bad arguments",
        "3 data directory"}) {
    EXPECT_THAT(HelpText(), HasSubstr(word));
  }
}

}  // namespace
}  // namespace kv739::server
