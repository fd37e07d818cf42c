// Lines of the shell: words, escapes, completion.
#include "client/command/line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kv739::command {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> Split(absl::string_view line) {
  const auto words = SplitLine(line);
  EXPECT_TRUE(words.ok()) << words.status();
  return words.ok() ? *words : std::vector<std::string>{"failed"};
}
std::string Error(absl::string_view line) {
  return std::string(SplitLine(line).status().message());
}

TEST(SplitLine, Words) {
  EXPECT_THAT(Split(""), IsEmpty());
  EXPECT_THAT(Split("  \t "), IsEmpty());
  EXPECT_THAT(Split(" put  a\tb "), ElementsAre("put", "a", "b"));
  EXPECT_THAT(Split("put k [1,2]"), ElementsAre("put", "k", "[1,2]"));
}

TEST(SplitLine, CommentsBeginWords) {
  EXPECT_THAT(Split("# all of it"), IsEmpty());
  EXPECT_THAT(Split("get a # why"), ElementsAre("get", "a"));
  EXPECT_THAT(Split("get a#b"), ElementsAre("get", "a#b"));
}

TEST(SplitLine, Quotes) {
  EXPECT_THAT(Split(R"(put k "a b" 'c "d\x41')"),
              ElementsAre("put", "k", "a b", R"(c "d\x41)"));
  EXPECT_THAT(Split(R"(put k "")"), ElementsAre("put", "k", ""));
  EXPECT_THAT(Split(R"(a"b c"d)"), ElementsAre("ab cd"));
}

TEST(SplitLine, Escapes) {
  EXPECT_THAT(Split(R"(\x41\x7a "\xfF")"), ElementsAre("Az", "\xff"));
  EXPECT_THAT(Split(R"(a\ b \"c\" "\n\r\t\\")"),
              ElementsAre("a b", "\"c\"", "\n\r\t\\"));
  EXPECT_THAT(Split(R"(a\0b\x00c)"), ElementsAre(std::string("a\0b\0c", 5)));
}

TEST(SplitLine, ErrorsNameTheColumn) {
  EXPECT_EQ(Error("put 'a"), "column 5: this quote is never closed");
  EXPECT_EQ(Error("put \"a\\\""), "column 5: this quote is never closed");
  EXPECT_EQ(Error("a \\x4"), "column 3: \\x needs two hexadecimal digits");
  EXPECT_EQ(Error("a \\xg0"), "column 3: \\x needs two hexadecimal digits");
  EXPECT_EQ(Error("\\q"), "column 1: unknown escape \\q");
  EXPECT_EQ(Error("a\\"), "column 2: nothing follows the \\");
}

TEST(SplitLine, QuotedWordsAreNoOptions) {
  EXPECT_THAT(Split("put k -5"), ElementsAre("put", "k", "-5"));
  EXPECT_THAT(Split("put k '-5'"), ElementsAre("put", "k", "--", "-5"));
  EXPECT_THAT(Split("put '-k' \\-5"), ElementsAre("put", "--", "-k", "-5"));
  EXPECT_THAT(Split("put -- '-k'"), ElementsAre("put", "--", "-k"));
}

TEST(Complete, VerbsFirstThenServers) {
  const std::vector<std::string> verbs = {"status", "shell", "get"};
  const std::vector<std::string> servers = {"localhost:50051",
                                            "localhost:50052"};
  EXPECT_EQ(Complete("g", verbs, servers).insert, "et ");
  EXPECT_EQ(Complete("  st", verbs, servers).insert, "atus ");
  EXPECT_THAT(Complete("s", verbs, servers).candidates,
              ElementsAre("shell", "status"));
  EXPECT_EQ(Complete("s", verbs, servers).insert, "");
  EXPECT_EQ(Complete("server die l", verbs, servers).insert, "ocalhost:5005");
  EXPECT_EQ(Complete("server die localhost:50052", verbs, servers).insert, " ");
  EXPECT_THAT(Complete("x", verbs, servers).candidates, IsEmpty());
}

}  // namespace
}  // namespace kv739::command
