// The command line: what is accepted, what is refused and how, exit codes.
#include "client/command/arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/command/verbs.h"
#include "kv739/version.h"
#include "tests/unit/command/harness.h"

namespace kv739::command {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

// The cluster file is the last thing a verb of data looks at before it asks
// servers; "no cluster file" says that the words before it were accepted.
constexpr char kAccepted[] = "no cluster file";

void ExpectUsage(std::vector<std::string> words, const std::string& why) {
  SCOPED_TRACE(why);
  const Ran ran = RunCommand(std::move(words));
  EXPECT_EQ(ran.exit, kUsage);
  EXPECT_THAT(ran.out, IsEmpty());
  EXPECT_THAT(ran.err, HasSubstr(why));
}

TEST(Arguments, VersionAndHelp) {
  const Ran version = RunCommand({"--version"});
  EXPECT_EQ(version.exit, kOk);
  EXPECT_EQ(version.out,
            std::string("kv739 ") + kVersion + " (" + kGitRevision + ")\n");
  for (const auto& words :
       {std::vector<std::string>{"--help"}, {"help"}, {"-h"}}) {
    const Ran help = RunCommand(words);
    EXPECT_EQ(help.exit, kOk);
    EXPECT_THAT(help.out, HasSubstr("0 ok; 1 no"));
    EXPECT_THAT(help.out, HasSubstr("5 outcome of a write unknown"));
    for (const std::string& verb : Verbs(false)) {
      EXPECT_THAT(help.out, HasSubstr("\n  " + verb + " "));
    }
  }
  EXPECT_THAT(RunCommand({"help", "cas"}).out, HasSubstr("EXPECTED_VERSION"));
}

TEST(Arguments, Refused) {
  ExpectUsage({}, "no verb");
  ExpectUsage({"statsu"}, "no such verb: statsu; did you mean status?");
  ExpectUsage({"frobnicate"}, "no such verb: frobnicate\n");
  ExpectUsage({"server", "di"}, "no such verb: server di; did you mean die?");
  ExpectUsage({"leader"}, "leader needs a verb: move");
  ExpectUsage({"get"}, "KEY is required");
  ExpectUsage({"get", "a", "b"}, "one argument too many: b");
  ExpectUsage({"put", "k"}, "VALUE is required");
  ExpectUsage({"--nope", "get", "k"}, "unknown option --nope");
  ExpectUsage({"get", "k", "--nope"}, "unknown option --nope");
  ExpectUsage({"put", "k", "-x"}, "a value that begins with - goes after --");
  ExpectUsage({"cas", "k", "-1", "v"}, "not a whole number: -1");
  ExpectUsage({"cas", "k", "one", "v"}, "not a whole number: one");
  ExpectUsage({"leader", "move", "x"}, "not a whole number: x");
  ExpectUsage({"--timeout", "0", "get", "k"}, "--timeout");
  ExpectUsage({"--color", "pink", "get", "k"}, "--color");
  ExpectUsage({"get", "-o", "xml", "k"}, "--output");
  ExpectUsage({"ping", "--mode", "often"}, "--mode");
  ExpectUsage({"ping", "--delay", "soon"}, "--delay soon is no time");
  ExpectUsage({"ping", "--requests", "-3"}, "--requests");
}

TEST(Arguments, KeysAndValuesAreTakenAsTheyAre) {
  const std::vector<std::vector<std::string>> accepted = {
      {"get", "status"},
      {"get", "get"},
      {"put", "k", "[1,2]"},
      {"put", "k", "{}"},
      {"put", "k", ""},
      {"put", "k", "%%"},
      {"put", "--", "-k", "-x"},
      {"put", "k", "-5"},
      {"get", "k", "--json"},
      {"--json", "get", "k"},
      {"get", "--timeout", "5", "k"},
      {"del", "a=b"},
      {"get", "k", "-o", "raw"},
  };
  for (const auto& words : accepted) {
    const Ran ran = RunCommand(words);
    EXPECT_EQ(ran.exit, kUsage);
    EXPECT_THAT(ran.err, HasSubstr(kAccepted)) << words.back();
  }
}

TEST(Arguments, ClusterFileIsFound) {
  const TempDir dir;
  const std::string file = dir.Write("home/.config/kv739/config", "x");
  const std::map<std::string, std::string> home = {
      {"HOME", dir.path() + "/home"}};
  const GetEnv env = [&home](const char* name) {
    const auto found = home.find(name);
    return found == home.end() ? nullptr : found->second.c_str();
  };
  EXPECT_EQ(*FindConfig("given", env), "given");
  EXPECT_EQ(*FindConfig("", env), file);
  const std::string other = dir.Write("other/kv739/config", "x");
  const std::map<std::string, std::string> more = {
      {"HOME", dir.path() + "/home"},
      {"XDG_CONFIG_HOME", dir.path() + "/other"}};
  EXPECT_EQ(*FindConfig("",
                        [&more](const char* name) {
                          const auto found = more.find(name);
                          return found == more.end() ? nullptr
                                                     : found->second.c_str();
                        }),
            other);
  EXPECT_EQ(*FindConfig("",
                        [](const char* name) -> const char* {
                          return std::string(name) == "KV739_CONFIG" ? "named"
                                                                     : nullptr;
                        }),
            "named");
  const auto none =
      FindConfig("", [](const char*) -> const char* { return nullptr; });
  if (!std::filesystem::exists("/etc/kv739/config")) {
    EXPECT_TRUE(absl::IsNotFound(none.status()));
    EXPECT_THAT(std::string(none.status().message()),
                HasSubstr("./config, /etc/kv739/config"));
  }
}

TEST(Arguments, BadClusterFileIsAUsageError) {
  const TempDir dir;
  const std::string bad = dir.Write("bad.conf", "localhost:50051\nlocalhost\n");
  for (const std::string verb : {"status", "ring"}) {
    const Ran ran = RunCommand({"-c", bad, verb});
    EXPECT_EQ(ran.exit, kUsage);
    EXPECT_THAT(ran.err, HasSubstr("bad.conf:2:")) << ran.err;
    EXPECT_EQ(RunCommand({"-c", dir.path() + "/none", verb}).exit, kUsage);
  }
}

TEST(Arguments, ColourByTerminalAndEnvironment) {
  const auto env = [](const char* name, const char* value) {
    return [name, value](const char* asked) {
      return std::string(asked) == name ? value : nullptr;
    };
  };
  EXPECT_TRUE(UseColor("auto", true, env("TERM", "xterm")));
  EXPECT_FALSE(UseColor("auto", false, env("TERM", "xterm")));
  EXPECT_FALSE(UseColor("auto", true, env("NO_COLOR", "1")));
  EXPECT_FALSE(UseColor("auto", true, env("TERM", "dumb")));
  EXPECT_TRUE(UseColor("always", false, env("NO_COLOR", "1")));
  EXPECT_FALSE(UseColor("never", true, env("TERM", "xterm")));
}

TEST(Arguments, ExitCodesOfTheLibrarysErrors) {
  EXPECT_EQ(ExitOf(KV739_E_UNKNOWN), kUnknown);
  EXPECT_EQ(ExitOf(KV739_E_INVALID), kUsage);
  EXPECT_EQ(ExitOf(KV739_E_CONFIG), kUsage);
  EXPECT_EQ(ExitOf(KV739_E_DENIED), kNo);
  EXPECT_EQ(ExitOf(KV739_E_TIMEOUT), kUnreachable);
  EXPECT_EQ(ExitOf(KV739_E_UNAVAILABLE), kUnreachable);
  EXPECT_EQ(ExitOf(KV739_E_OVERLOADED), kUnreachable);
}

TEST(Batch, RunsEveryLineAndKeepsTheLastFailure) {
  const Ran ran = RunCommand({"shell"},
                             "# comment\n"
                             "\n"
                             "help put\n"
                             "bogus\n"
                             "put 'open\n"
                             "help\n"
                             "exit\n"
                             "never reached\n");
  EXPECT_EQ(ran.exit, kUsage);
  EXPECT_THAT(ran.out, StartsWith("Store a value"));
  EXPECT_THAT(ran.out, HasSubstr(".timing"));
  EXPECT_THAT(ran.err, HasSubstr("no such verb: bogus"));
  EXPECT_THAT(ran.err, HasSubstr("column 5: this quote is never closed"));
  EXPECT_THAT(ran.err, ::testing::Not(HasSubstr("never reached")));
  EXPECT_EQ(RunCommand({"shell"}, "help get\n").exit, kOk);
}

TEST(Batch, ShellInTheShellIsNoVerb) {
  EXPECT_EQ(RunCommand({"shell"}, "shell\n").exit, kUsage);
  EXPECT_EQ(RunCommand({"shell"}, "-c other get k\n").exit, kUsage);
}

}  // namespace
}  // namespace kv739::command
