#include "kv/cluster_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"

namespace kv739::kv {
namespace {

constexpr char kThree[] = "a:1\nb:1\nc:1\n";

TEST(ClusterFile, ReadsServersInOrder) {
  const auto file = ParseClusterFile(
      "\xef\xbb\xbf# three and a half\r\n"
      "\r\n"
      "localhost:50051\t \r\n"
      "  LocalHost:50052 metrics=9191 http=8181 # the second\r\n"
      "[0:0:0:0::1]:50053 http=1\r\n"
      "\t\n"
      "10.0.0.1:65535#no comment: a # must be apart\n"
      "node_4.example-1.org:1",
      "f");
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.status().message(),
            "f:7:1: port \"65535#no\" is not in 1..65535");

  const auto good = ParseClusterFile(
      "\xef\xbb\xbf# three\r\n"
      "\r\n"
      "localhost:50051\t \r\n"
      "  LocalHost:50052 metrics=9191 http=8181 # the second\r\n"
      "[0:0:0:0::1]:50053 http=1\r\n"
      "\t\n"
      "node_4.example-1.org:1",
      "f");
  ASSERT_TRUE(good.ok()) << good.status();
  ASSERT_EQ(good->servers.size(), 4u);
  EXPECT_EQ(good->servers[0].address.ToString(), "localhost:50051");
  EXPECT_EQ(good->servers[0].line, 3);
  EXPECT_EQ(good->servers[0].metrics_port, 9090);
  EXPECT_EQ(good->servers[0].http_port, 8080);
  EXPECT_EQ(good->servers[1].address.ToString(), "localhost:50052");
  EXPECT_EQ(good->servers[1].metrics_port, 9191);
  EXPECT_EQ(good->servers[1].http_port, 8181);
  EXPECT_EQ(good->servers[2].address.ToString(), "[::1]:50053");
  EXPECT_EQ(good->servers[2].address.host, "::1");
  EXPECT_EQ(good->servers[2].metrics_port, 9090);
  EXPECT_EQ(good->servers[2].http_port, 1);
  EXPECT_EQ(good->servers[3].address.host, "node_4.example-1.org");
  EXPECT_EQ(good->servers[3].line, 7);
}

TEST(ClusterFile, DefaultPortsFollowThePositionOnTheHost) {
  const auto file =
      ParseClusterFile("a:1\nb:1\na:2 metrics=7 http=8\na:3\nb:2\n", "f");
  ASSERT_TRUE(file.ok()) << file.status();
  const int metrics[] = {9090, 9090, 7, 9092, 9091};
  const int http[] = {8080, 8080, 8, 8082, 8081};
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(file->servers[i].metrics_port, metrics[i]) << i;
    EXPECT_EQ(file->servers[i].http_port, http[i]) << i;
  }
}

struct BadCase {
  std::string text;
  std::string error;
};

class BadClusterFile : public testing::TestWithParam<BadCase> {};

TEST_P(BadClusterFile, IsRefusedAndSaysWhy) {
  const auto file = ParseClusterFile(GetParam().text, "f");
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(file.status().message(), GetParam().error);
}

std::string Bytes(const char* text, size_t size) {
  return std::string(text, size);
}

std::string Servers(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) absl::StrAppend(&text, "h", i, ":1\n");
  return text;
}

INSTANTIATE_TEST_SUITE_P(
    Cases, BadClusterFile,
    testing::Values(
        BadCase{"", "f:1:1: 0 servers; at least 3 are needed"},
        BadCase{"a:1\nb:1\n# c:1\n", "f:4:1: 2 servers; at least 3 are needed"},
        BadCase{"a", "f:1:1: expected host:port, found \"a\""},
        BadCase{"a:1\n  b", "f:2:3: expected host:port, found \"b\""},
        BadCase{"a:", "f:1:1: port \"\" is not in 1..65535"},
        BadCase{":1", "f:1:1: host is missing"},
        BadCase{"a:0", "f:1:1: port \"0\" is not in 1..65535"},
        BadCase{"a:65536", "f:1:1: port \"65536\" is not in 1..65535"},
        BadCase{"a:-1", "f:1:1: port \"-1\" is not in 1..65535"},
        BadCase{"a:+1", "f:1:1: port \"+1\" is not in 1..65535"},
        BadCase{"a:1x", "f:1:1: port \"1x\" is not in 1..65535"},
        BadCase{"a:4294967297",
                "f:1:1: port \"4294967297\" is not in 1..65535"},
        BadCase{"::1:5",
                "f:1:1: an IPv6 address needs brackets, found \"::1:5\""},
        BadCase{"[::1]", "f:1:1: expected host:port, found \"[::1]\""},
        BadCase{"[::1", "f:1:1: expected host:port, found \"[::1\""},
        BadCase{"[::1]x:5", "f:1:1: expected [host]:port, found \"[::1]x:5\""},
        BadCase{"[::g]:5", "f:1:1: host \"::g\" is not an IPv6 address"},
        BadCase{"[]:5", "f:1:1: host \"\" is not an IPv6 address"},
        BadCase{"[::1%]:5", "f:1:1: host \"::1%\" is not an IPv6 address"},
        BadCase{"a b:1", "f:1:1: expected host:port, found \"a\""},
        BadCase{"a/b:1",
                "f:1:1: host \"a/b\" is not a host name or an IPv4 address"},
        BadCase{"-a:1",
                "f:1:1: host \"-a\" is not a host name or an IPv4 address"},
        BadCase{"a..b:1",
                "f:1:1: host \"a..b\" is not a host name or an IPv4 address"},
        BadCase{"1.2.3.256:1",
                "f:1:1: host \"1.2.3.256\" is not an IPv4 address"},
        BadCase{"1.2.3:1", "f:1:1: host \"1.2.3\" is not an IPv4 address"},
        BadCase{"\xc3\xa9:1",
                "f:1:1: host \"\\xc3\\xa9\" is not a host name or an IPv4 "
                "address"},
        BadCase{Bytes("a\0:1", 4),
                "f:1:1: host \"a\\x00\" is not a host name or an IPv4 address"},
        BadCase{std::string(254, 'a') + ":1",
                "f:1:1: host of 254 bytes; the limit is 253"},
        BadCase{"a:1\nb:1\na:1\n",
                "f:3:1: duplicate address a:1, first in line 1"},
        BadCase{"a:1\nb:1\n\n A:01\n",
                "f:4:2: duplicate address a:1, first in line 1"},
        BadCase{"[::1]:1\n[0::1]:1",
                "f:2:1: duplicate address [::1]:1, first in line 1"},
        BadCase{"a:1 metrics", "f:1:5: expected key=value, found \"metrics\""},
        BadCase{"a:1 metric=1",
                "f:1:5: unknown attribute \"metric\"; did you mean "
                "\"metrics\"?"},
        BadCase{"a:1 https=1",
                "f:1:5: unknown attribute \"https\"; did you mean \"http\"?"},
        BadCase{"a:1 =1",
                "f:1:5: unknown attribute \"\"; did you mean \"http\"?"},
        BadCase{"a:1 http=", "f:1:10: port \"\" is not in 1..65535"},
        BadCase{"a:1 http=0", "f:1:10: port \"0\" is not in 1..65535"},
        BadCase{"a:1 http=99999", "f:1:10: port \"99999\" is not in 1..65535"},
        BadCase{"a:1 http=1 http=2", "f:1:12: attribute \"http\" twice"},
        BadCase{"a:1 http=5 metrics=5\nb:1\nc:1",
                "f:1:5: http port 5 of a is that of metrics in line 1"},
        BadCase{"a:1\na:2 metrics=9090\nc:1",
                "f:2:5: metrics port 9090 of a is that of metrics in line 1"},
        BadCase{"a:1 metrics=2\na:2\nc:1",
                "f:1:5: metrics port 2 of a is that of the server in line 2"},
        BadCase{"a:1 metrics=9091\na:2\nc:1",
                "f:2:1: default metrics port 9091 of a is that of metrics in "
                "line 1; give metrics=PORT"},
        BadCase{"a:8080\nb:1\nc:1",
                "f:1:1: default http port 8080 of a is that of the server in "
                "line 1; give http=PORT"},
        BadCase{"a:1\n#" + std::string(1024, 'x'),
                "f:2:1025: line of 1025 bytes; the limit is 1024"},
        BadCase{"groups_per_five=2\na:1\nb:1\n groups_per_five=2\nc:1",
                "f:4:2: groups_per_five twice, first in line 1"},
        BadCase{"a:1\ngroups_per_five=\nb:1\nc:1",
                "f:2:17: groups_per_five \"\" is not in 1..1024"},
        BadCase{"groups_per_five=0",
                "f:1:17: groups_per_five \"0\" is not in 1..1024"},
        BadCase{"groups_per_five=1025",
                "f:1:17: groups_per_five \"1025\" is not in 1..1024"},
        BadCase{"groups_per_five=-1",
                "f:1:17: groups_per_five \"-1\" is not in 1..1024"},
        BadCase{"groups_per_five=4294967297",
                "f:1:17: groups_per_five \"4294967297\" is not in 1..1024"},
        BadCase{"  groups_per_five=3x",
                "f:1:19: groups_per_five \"3x\" is not in 1..1024"},
        BadCase{"groups_per_five=3 a:1",
                "f:1:19: groups_per_five needs a line of its own, found "
                "\"a:1\""},
        BadCase{"a:1 groups_per_five=3",
                "f:1:5: unknown attribute \"groups_per_five\"; did you mean "
                "\"metrics\"?"},
        BadCase{"group_per_five=3",
                "f:1:1: expected host:port or groups_per_five=N, found "
                "\"group_per_five=3\""},
        BadCase{"groups_per_five",
                "f:1:1: expected host:port, found \"groups_per_five\""},
        BadCase{"groups_per_five=3", "f:1:1: 0 servers; at least 3 are needed"},
        BadCase{"# big\ngroups_per_five=1024\n" + Servers(25),
                "f:2:17: 25 servers with groups_per_five=1024 make 5120 "
                "groups; the limit is 4096"},
        BadCase{std::string((4 << 20) + 1, '\n'),
                "f: file of 4194305 bytes; the limit is 4194304"}));

TEST(ClusterFile, GroupsPerFiveHasALineOfItsOwnAnywhere) {
  const auto count = [](const std::string& text) {
    const auto file = ParseClusterFile(text, "f");
    EXPECT_TRUE(file.ok()) << file.status();
    if (!file.ok()) return 0u;
    EXPECT_EQ(file->servers.size(), 3u);
    return file->groups_per_five;
  };
  EXPECT_EQ(count(kThree), 1u);
  EXPECT_EQ(count("groups_per_five=1\na:1\nb:1\nc:1\n"), 1u);
  EXPECT_EQ(count("groups_per_five=3\na:1\nb:1\nc:1\n"), 3u);
  EXPECT_EQ(count("a:1\n\t groups_per_five=0032 # many\r\nb:1\nc:1\n"), 32u);
  EXPECT_EQ(count("a:1\nb:1\nc:1\ngroups_per_five=1024"), 1024u);
  EXPECT_TRUE(
      ParseClusterFile("groups_per_five=1024\n" + Servers(24), "f").ok());
}

TEST(ClusterFile, LinesUpToTheBoundAreFine) {
  EXPECT_TRUE(
      ParseClusterFile(absl::StrCat(kThree, "#", std::string(1023, 'x')), "f")
          .ok());
}

TEST(ClusterFile, SamePortsOnOtherHostsAreFine) {
  EXPECT_TRUE(
      ParseClusterFile("a:1 http=5\nb:1 http=5\nc:5 http=6\n", "f").ok());
}

TEST(ClusterFile, ReadsFromAFile) {
  const std::string path =
      testing::TempDir() + "kv_cluster_file_test." + std::to_string(getpid());
  EXPECT_EQ(ReadClusterFile(path).status(),
            absl::NotFoundError(path + ": No such file or directory"));
  std::ofstream(path) << kThree;
  EXPECT_TRUE(ReadClusterFile(path).ok());
  std::ofstream(path) << "bad\n";
  EXPECT_EQ(ReadClusterFile(path).status().message(),
            path + ":1:1: expected host:port, found \"bad\"");
  std::remove(path.c_str());
  // A directory opens, and cannot be read.
  EXPECT_FALSE(ReadClusterFile(testing::TempDir()).ok());
}

}  // namespace
}  // namespace kv739::kv
