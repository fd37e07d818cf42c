// get, put, del, append, cas, scan: what goes to stdout, what to stderr, exit
// codes, and that keys and values arrive byte for byte. One batch is one
// client.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/unit/command/harness.h"

namespace kv739::command {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Ran Batch(const std::string& lines) {
  return RunCommand({"-c", "any", "shell"}, lines);
}

TEST(Data, GetPrintsTheValueAlone) {
  const Ran ran = Batch("put k 'a b'\nget k\nget -o raw k\n");
  EXPECT_EQ(ran.exit, kOk);
  EXPECT_EQ(ran.out, "a b\na b");
  EXPECT_THAT(ran.err, HasSubstr("there was no value"));
}

TEST(Data, MissingKeyIsOne) {
  for (const std::string verb : {"get k", "del k"}) {
    const Ran ran = Batch(verb + "\n");
    EXPECT_EQ(ran.exit, kNo);
    EXPECT_THAT(ran.out, IsEmpty());
    EXPECT_EQ(ran.err, "kv739: no such key: k\n");
  }
  EXPECT_EQ(Batch("get --json k\n").out, "{\"key\":\"k\",\"found\":false}\n");
  EXPECT_EQ(Batch("del --json k\n").exit, kNo);
}

TEST(Data, ValuesArriveByteForByte) {
  for (const std::string word :
       {"[1,2]", "{}", "''", "%%", "\"a b\"", "'-5'", "'--'", "'-'", "-",
        "'--json'", "\\xff\\x00", "get", "a=b", "'[a'"}) {
    const Ran ran = Batch("put k " + word + "\nget --json k\n");
    EXPECT_EQ(ran.exit, kOk) << ran.err;
    const Ran again = Batch("put k 'x'\nappend k " + word + "\nget k -o raw\n");
    EXPECT_EQ(again.exit, kOk) << again.err;
    EXPECT_EQ(again.out.substr(0, 1), "x");
    const json value = json::parse(ran.out)["value"];
    if (value.is_string()) {
      EXPECT_EQ("x" + value.get<std::string>(), again.out);
    } else {
      EXPECT_EQ(value["base64"], "/wA=");
      EXPECT_EQ(again.out, std::string("x\xff\x00", 3));
    }
  }
}

TEST(Data, ValuesThatLookLikeSyntaxOnTheCommandLine) {
  for (const std::string value :
       {"[1,2]", "{}", "", "%%", "-5", "--", "--json", "\"q\"", "\xff\x01"}) {
    // Each run has a client of its own: what was stored shows as the answer.
    const Ran ran =
        RunCommand({"-c", "any", "put", "--json", "--", value, "v"});
    if (value.empty()) continue;  // the library judges keys, this one is fake
    EXPECT_EQ(ran.exit, kOk) << ran.err;
    const json key = json::parse(ran.out)["key"];
    if (key.is_string()) {
      EXPECT_EQ(key, value);
    } else {
      EXPECT_EQ(key["base64"], "/wE=");
    }
  }
}

TEST(Data, DashReadsStandardInput) {
  const std::string input("line\nwith \0 and \xff", 16);
  const Ran ran =
      RunCommand({"-c", "any", "--json", "append", "k", "-"}, input);
  EXPECT_EQ(ran.exit, kOk) << ran.err;
  EXPECT_EQ(json::parse(ran.out)["existed"], false);
}

TEST(Data, PutTellsTheOldValueOnStderr) {
  const Ran ran = Batch("put k old\nput k new\nget k\n");
  EXPECT_EQ(ran.out, "new\n");
  EXPECT_THAT(ran.err, HasSubstr("stored, version 116911111111111113, old "
                                 "value of 3 bytes: old\n"));
  const Ran as_json = Batch("put k \\xff\nput --json k new\n");
  const json answer = json::parse(as_json.out);
  EXPECT_EQ(answer["existed"], true);
  EXPECT_EQ(answer["old_value"]["base64"], "/w==");
  // A string: above 2^53 readers of JSON round numbers.
  EXPECT_EQ(answer["version"], "116911111111111113");
}

TEST(Data, CompareAndSwap) {
  const Ran ran = Batch(
      "cas k 0 a\n"
      "get -v k\n"
      "cas k 116911111111111112 b\n"
      "cas k 116911111111111112 c\n"
      "get k\n");
  EXPECT_EQ(ran.exit, kNo);
  EXPECT_EQ(ran.out, "a\nb\n");
  EXPECT_THAT(ran.err, HasSubstr("version 116911111111111112\n"));
  EXPECT_THAT(ran.err,
              HasSubstr("not stored: the version is 116911111111111113"));
  EXPECT_THAT(Batch("cas k 1 a\n").err,
              HasSubstr("not stored: no such key: k"));
  EXPECT_EQ(json::parse(Batch("cas --json k 1 a\n").out)["swapped"], false);
}

TEST(Data, DeleteAndAppend) {
  const Ran ran = Batch("append k a\nappend k b\nget k\ndel k\nget k\n");
  EXPECT_EQ(ran.out, "ab\n");
  EXPECT_EQ(ran.exit, kNo);
  EXPECT_THAT(ran.err, HasSubstr("deleted, version"));
}

TEST(Data, LibraryErrorsBecomeExitCodes) {
  const std::map<int, int> codes = {{KV739_E_UNKNOWN, kUnknown},
                                    {KV739_E_INVALID, kUsage},
                                    {KV739_E_UNAVAILABLE, kUnreachable},
                                    {KV739_E_TIMEOUT, kUnreachable},
                                    {KV739_E_DENIED, kNo}};
  for (const auto& [code, exit] : codes) {
    const Ran ran =
        RunCommand({"-c", "any", "put", "error" + std::to_string(code), "v"});
    EXPECT_EQ(ran.exit, exit) << code;
    EXPECT_THAT(ran.out, IsEmpty());
    EXPECT_EQ(ran.err, "kv739: the library says why\n");
  }
  EXPECT_EQ(Batch("get error-5\nput k v\n").exit, kUnreachable);
}

constexpr char kFill[] = "put a1 1\nput a2 'x y'\nput a3 \\x00\\n\nput b 4\n";

TEST(Data, ScanPrintsAllPages) {
  EXPECT_EQ(Batch(std::string(kFill) + "scan\n").out,
            "a1\t1\na2\tx y\na3\t\\x00\\n\nb\t4\n");
  EXPECT_EQ(Batch(std::string(kFill) + "scan a\n").out,
            "a1\t1\na2\tx y\na3\t\\x00\\n\n");
  EXPECT_EQ(Batch(std::string(kFill) + "scan -k a\n").out, "a1\na2\na3\n");
  const Ran none = Batch(std::string(kFill) + "scan none\n");
  EXPECT_EQ(none.exit, kOk);
  EXPECT_EQ(none.out, "");
}

TEST(Data, ScanEndsAtItsLimit) {
  EXPECT_EQ(Batch(std::string(kFill) + "scan -k --limit 1\n").out, "a1\n");
  EXPECT_EQ(Batch(std::string(kFill) + "scan -k --limit 3\n").out,
            "a1\na2\na3\n");
  EXPECT_EQ(Batch(std::string(kFill) + "scan -k --limit 9\n").out,
            "a1\na2\na3\nb\n");
  EXPECT_EQ(Batch("scan --limit x\n").exit, kUsage);
}

TEST(Data, ScanForScripts) {
  const Ran nul = Batch(std::string(kFill) + "scan -0 a3\n");
  EXPECT_EQ(nul.out, std::string("a3\0\0\n\0", 6));
  const Ran lines = Batch(std::string(kFill) + "scan --json --limit 1\n");
  const json entry = json::parse(lines.out);
  EXPECT_EQ(entry["key"], "a1");
  EXPECT_EQ(entry["value"], "1");
  EXPECT_TRUE(entry["version"].is_string());
  const Ran keys = Batch(std::string(kFill) + "scan --json -k b\n");
  EXPECT_FALSE(json::parse(keys.out).contains("value"));
}

TEST(Data, AScanThatFailsSaysWhy) {
  const Ran ran = Batch("scan error-3\n");
  EXPECT_EQ(ran.exit, kUnreachable);
  EXPECT_EQ(ran.err, "kv739: the library says why\n");
}

}  // namespace
}  // namespace kv739::command
