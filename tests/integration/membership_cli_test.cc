// What operators do to servers and groups, with the kv739 command and with the
// classic calls, on servers that a supervisor (kv739d -c) runs.
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/integration/cluster_test.h"

namespace kv739::test {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

enum Exit { kOk, kNo, kUsage, kUnreachable, kDegraded, kUnknown };

class MembershipCliTest : public ::testing::Test {
 protected:
  void StartWith(int servers, int extra, std::string settings = kTestSettings) {
    setenv("KV739_RUN_DIR", run_dir_.path().c_str(), 1);
    cluster_ = std::make_unique<Cluster>(
        ClusterOptions{.servers = servers,
                       .extra = extra,
                       .settings = std::move(settings),
                       .supervised = true,
                       .failed = ProgramFailed});
    const absl::Status started = cluster_->Start();
    ASSERT_TRUE(started.ok()) << started.message();
  }
  Cluster& cluster() { return *cluster_; }
  std::string address(int i) { return cluster().address(i); }

  std::vector<std::string> Words(std::vector<std::string> words) {
    words.insert(words.begin(), {CommandProgram(), "-c", cluster().config()});
    return words;
  }
  CommandResult Run(std::vector<std::string> words) {
    auto result = RunCommand(Words(std::move(words)));
    if (result.ok()) return *result;
    ADD_FAILURE() << result.status().message();
    return {.code = -1000};
  }
  void Expect(const std::vector<std::string>& words, int code) {
    const CommandResult result = Run(words);
    EXPECT_EQ(result.code, code)
        << Line(words) << result.error
        << (result.code == code ? "" : cluster().LogTails());
  }
  // Refused, and the message has each of `parts`.
  void ExpectNo(const std::vector<std::string>& words, int code,
                const std::vector<std::string>& parts) {
    const CommandResult result = Run(words);
    EXPECT_EQ(result.code, code) << Line(words) << result.error;
    for (const std::string& part : parts) {
      EXPECT_THAT(result.error, HasSubstr(part)) << Line(words);
    }
  }
  static std::string Line(const std::vector<std::string>& words) {
    std::string line = "kv739";
    for (const std::string& word : words) absl::StrAppend(&line, " ", word);
    return line + "\n";
  }
  // A call of the classic interface that must fail, and say so.
  static void ExpectFails(int result, const char* part) {
    EXPECT_EQ(result, -1);
    EXPECT_THAT(kv739_last_error(), HasSubstr(part));
  }
  int Leader() { return cluster().WaitForLeader(0); }
  int Follower() { return (Leader() + 1) % cluster().size(); }
  uint64_t LogMentions(const std::string& what) {
    const std::string log = ReadFile(cluster().log_path(0));
    uint64_t count = 0;
    for (size_t at = log.find(what); at != std::string::npos;
         at = log.find(what, at + 1)) {
      ++count;
    }
    return count;
  }

  // Parts of tests; they leave servers 0 to 2, or 0 to 4, in group 0.
  void ServersAreStoppedStartedAndKilled();
  void WrongNamesAreNamed();
  void TheLastThreeStay();
  void DataOfAnotherIsRefused();
  void ServersComeAndGo();
  void AChangeOfWhatHasChangedIsRefused();
  void TwoOperatorsAtOnce();

  TempDir run_dir_;
  std::unique_ptr<Cluster> cluster_;
};

void MembershipCliTest::ServersAreStoppedStartedAndKilled() {
  Expect({"put", "a", "1"}, kOk);
  const int follower = Follower();
  const std::string server = address(follower);
  ExpectNo({"server", "start", server}, kNo, {server, "runs already"});
  Expect({"server", "stop", server}, kOk);
  EXPECT_FALSE(cluster().running(follower));
  ExpectNo({"server", "stop", server}, kUnreachable, {server});
  Expect({"put", "a", "2"}, kOk);
  Expect({"server", "start", server}, kOk);
  EXPECT_TRUE(cluster().WaitForEqualReplicas(0).ok());
  Expect({"server", "kill", server}, kOk);
  EXPECT_EQ(cluster().WaitExit(follower), 0);
  Expect({"server", "start", server}, kOk);
  Expect({"status"}, kOk);
  Expect({"check"}, kOk);

  // A leader hands over before it stops.
  const int leader = Leader();
  const uint64_t before = LogMentions("leaderships handed over");
  Expect({"server", "stop", address(leader)}, kOk);
  EXPECT_EQ(LogMentions("leaderships handed over"), before + 1);
  Expect({"get", "a"}, kOk);
  Expect({"server", "start", address(leader)}, kOk);
  Expect({"status"}, kOk);
}

void MembershipCliTest::WrongNamesAreNamed() {
  const std::string unknown = "127.0.0.1:1";
  for (const char* verb : {"stop", "kill", "start", "leave"}) {
    ExpectNo({"server", verb, unknown}, kUsage, {unknown});
    ExpectNo({"server", verb, "nonsense"}, kUsage, {"nonsense"});
  }
  ExpectNo({"member", "remove", unknown}, kUsage, {unknown});
  ExpectNo({"member", "set", "0", address(0), address(1), unknown}, kUsage,
           {unknown});
  ExpectNo({"member", "set", "0", address(0), address(1), address(1)}, kUsage,
           {"twice"});
  ExpectNo({"member", "set", "99", address(0), address(1), address(2)}, kUsage,
           {"99"});
  ExpectNo({"check", "99"}, kUsage, {"99"});
  // Another host has another supervisor: what to run there is said.
  ExpectNo({"member", "add", "192.0.2.77:7390"}, kNo,
           {"192.0.2.77", "kv739d --cluster", "--join"});
  Expect({"status"}, kOk);
}

void MembershipCliTest::ServersComeAndGo() {
  Expect({"put", "a", "1"}, kOk);
  const std::string added = address(5);
  Expect({"member", "add", added}, kOk);
  ExpectNo({"member", "add", added}, kNo, {"runs already"});
  const CommandResult list = Run({"member", "list"});
  EXPECT_EQ(list.code, kOk);
  for (int i = 0; i < 6; ++i) EXPECT_THAT(list.output, HasSubstr(address(i)));

  // The new one takes the place of the one that goes.
  Expect({"member", "remove", address(1)}, kOk);
  absl::Status members = cluster().WaitForMembers(0, {0, 2, 3, 4, 5});
  ASSERT_TRUE(members.ok()) << members;
  EXPECT_EQ(cluster().WaitExit(1), 0);
  ExpectNo({"server", "start", address(1)}, kNo, {"has left"});
  ExpectNo({"server", "start", "--new", address(1)}, kNo, {"not empty"});
  fs::remove_all(cluster().data_dir(1));
  Expect({"server", "start", "--new", address(1)}, kOk);
  Expect({"member", "set", "0", address(1), address(2), address(3), address(4),
          address(5)},
         kOk);
  members = cluster().WaitForMembers(0, {1, 2, 3, 4, 5});
  EXPECT_TRUE(members.ok()) << members;
  Expect({"get", "a"}, kOk);
  Expect({"check"}, kOk);
  EXPECT_TRUE(cluster().WaitForEqualHashes(0).ok());
}

void MembershipCliTest::TheLastThreeStay() {
  ExpectNo({"server", "leave", address(0)}, kNo,
           {"group 0", "fewer than 3", address(0)});
  ExpectNo({"member", "remove", address(2)}, kNo, {"group 0"});
  ExpectNo({"member", "set", "0", address(0), address(1)}, kNo, {"3"});
  ASSERT_EQ(kv739_init(cluster().config().c_str()), 0);
  ExpectFails(kv739_leave(address(1).c_str(), 1), "group 0");
  EXPECT_EQ(kv739_last_error_code(), KV739_E_REFUSED);
  kv739_shutdown();
  Expect({"status"}, kOk);
}

void MembershipCliTest::DataOfAnotherIsRefused() {
  Expect({"server", "stop", address(0)}, kOk);
  Expect({"put", "a", "1"}, kOk);
  const fs::path own = cluster().data_dir(0);
  const fs::path kept = own.string() + ".kept";
  // Of another server of this cluster.
  fs::rename(own, kept);
  Expect({"server", "stop", address(1)}, kOk);
  fs::copy(cluster().data_dir(1), own, fs::copy_options::recursive);
  Expect({"server", "start", address(1)}, kOk);
  ExpectNo({"server", "start", address(0)}, kNo, {"ended with code 3"});
  fs::remove_all(own);
  // Of a server of this address in another cluster.
  const std::string other = cluster().dir() + "/other.conf";
  WriteFile(other, absl::StrCat(address(0), "\n127.0.0.1:1\n127.0.0.1:2\n"));
  {
    auto process = Process::Start(
        {.arguments = {ServerProgram(), "--cluster", other, "--listen",
                       address(0), "--data", own.string(), "--settings",
                       cluster().settings_path()},
         .output = cluster().log_path(0),
         .error = cluster().log_path(0)});
    ASSERT_TRUE(process.ok()) << process.status();
    ASSERT_TRUE(Eventually([&] { return cluster().running(0); }));
  }
  ExpectNo({"server", "start", address(0)}, kNo, {"ended with code 3"});
  EXPECT_GE(LogMentions("belongs to server"), 2u);
  fs::remove_all(own);
  fs::rename(kept, own);
  Expect({"server", "start", address(0)}, kOk);
  Expect({"status"}, kOk);
  EXPECT_TRUE(cluster().WaitForEqualHashes(0).ok());
}

TEST_F(MembershipCliTest, ThreeServers) {
  ASSERT_NO_FATAL_FAILURE(StartWith(3, 0));
  WrongNamesAreNamed();
  TheLastThreeStay();
  DataOfAnotherIsRefused();
}

TEST_F(MembershipCliTest, FiveServersAndOneMore) {
  ASSERT_NO_FATAL_FAILURE(StartWith(5, 1));
  ServersAreStoppedStartedAndKilled();
  ASSERT_NO_FATAL_FAILURE(ServersComeAndGo());
  ASSERT_NO_FATAL_FAILURE(AChangeOfWhatHasChangedIsRefused());
  TwoOperatorsAtOnce();
}

TEST_F(MembershipCliTest, TheClassicCalls) {
  ASSERT_NO_FATAL_FAILURE(StartWith(4, 1));
  ASSERT_EQ(kv739_init(cluster().config().c_str()), 0);
  char old[KV739_MAX_CLASSIC_VALUE + 1];
  ASSERT_EQ(kv739_put("a", "1", old), 1) << kv739_last_error();
  ExpectFails(kv739_die("127.0.0.1:1", 1), "127.0.0.1:1");
  ExpectFails(kv739_start("nonsense", 0), "nonsense");
  ExpectFails(kv739_leave("", 0), "");
  const std::string leader = address(Leader());
  ExpectFails(kv739_start(leader.c_str(), 0), "runs already");
  ExpectFails(kv739_start(leader.c_str(), 1), "runs already");
  for (int clean : {1, 0}) {
    const int victim = Leader();
    EXPECT_EQ(kv739_die(address(victim).c_str(), clean), 0)
        << kv739_last_error();
    EXPECT_EQ(cluster().WaitExit(victim), 0);
    ExpectFails(kv739_die(address(victim).c_str(), clean), "cannot be reached");
    EXPECT_EQ(kv739_put("a", "2", old), 0) << kv739_last_error();
    EXPECT_EQ(kv739_start(address(victim).c_str(), 0), 0)
        << kv739_last_error() << cluster().LogTails();
  }
  const std::string added = address(4);
  EXPECT_EQ(kv739_start(added.c_str(), 1), 0) << kv739_last_error();
  // It has a place in the group of three, which had room.
  const absl::Status members = cluster().WaitForMembers(0, {0, 1, 2, 4});
  EXPECT_TRUE(members.ok()) << members;
  EXPECT_EQ(kv739_leave(address(1).c_str(), 1), 0) << kv739_last_error();
  EXPECT_FALSE(cluster().running(1));
  ExpectFails(kv739_start(address(1).c_str(), 0), "has left");
  EXPECT_EQ(kv739_get("a", old), 0) << kv739_last_error();
  EXPECT_STREQ(old, "2");
  kv739_shutdown();
}

TEST_F(MembershipCliTest, DieIsDeniedWhereItIsSwitchedOff) {
  ASSERT_NO_FATAL_FAILURE(StartWith(
      3, 0, absl::StrCat(kTestSettings, "server:\n  allow_die: false\n")));
  for (const char* verb : {"stop", "kill"}) {
    ExpectNo({"server", verb, address(0)}, kNo, {"allow_die"});
  }
  ASSERT_EQ(kv739_init(cluster().config().c_str()), 0);
  ExpectFails(kv739_die(address(0).c_str(), 0), "allow_die");
  EXPECT_EQ(kv739_last_error_code(), KV739_E_DENIED);
  kv739_shutdown();
  EXPECT_TRUE(cluster().running(0));
  Expect({"status", "--wait", "--timeout", "20000"}, kOk);
}

void MembershipCliTest::TwoOperatorsAtOnce() {
  const std::vector<std::vector<int>> wanted = {{1, 2, 3}, {3, 4, 5}};
  std::vector<std::unique_ptr<Process>> operators;
  for (const std::vector<int>& members : wanted) {
    std::vector<std::string> words = {"member", "set", "0"};
    for (int i : members) words.push_back(address(i));
    auto started = Process::Start(
        {.arguments = Words(words),
         .output = cluster().dir() + "/out",
         .error = absl::StrCat(cluster().dir(), "/err", operators.size())});
    ASSERT_TRUE(started.ok());
    operators.push_back(*std::move(started));
  }
  std::vector<int> codes;
  for (auto& one : operators)
    codes.push_back(one->Wait(kPatience).value_or(-1));
  // One of the two has what he asked for. The other was told that the target
  // has changed, or was overtaken while he waited, or asked when all was done.
  const std::string errors =
      ReadFile(cluster().dir() + "/err0") + ReadFile(cluster().dir() + "/err1");
  EXPECT_THAT(codes, testing::Contains(kOk)) << errors;
  for (int code : codes) EXPECT_THAT(code, AnyOf(kOk, kNo)) << errors;
  absl::Status first = cluster().WaitForMembers(0, wanted[0], absl::Seconds(5));
  absl::Status second =
      first.ok() ? first : cluster().WaitForMembers(0, wanted[1]);
  EXPECT_TRUE(second.ok()) << second << errors;
  // The last word is that of one who was told that it was done.
  EXPECT_EQ(codes[first.ok() ? 0 : 1], kOk) << errors;
  Expect({"put", "a", "1"}, kOk);
}

void MembershipCliTest::AChangeOfWhatHasChangedIsRefused() {
  const int leader = Leader();
  v1::SetMembersRequest request;
  for (int i = 1; i < 6; ++i) request.add_expected(address(i));
  for (int i = 1; i < 5; ++i) request.add_servers(address(i));
  grpc::ClientContext first;
  SetDeadline(first);
  v1::SetMembersResponse response;
  ASSERT_TRUE(
      cluster().AdminStub(leader)->SetMembers(&first, request, &response).ok());
  // Made from the same picture, by another operator.
  request.clear_servers();
  for (int i = 2; i < 6; ++i) request.add_servers(address(i));
  grpc::ClientContext second;
  SetDeadline(second);
  const grpc::Status refused =
      cluster().AdminStub(leader)->SetMembers(&second, request, &response);
  EXPECT_FALSE(refused.ok());
  EXPECT_THAT(refused.error_message(), HasSubstr("changed"));
  const absl::Status members = cluster().WaitForMembers(0, {1, 2, 3, 4});
  EXPECT_TRUE(members.ok()) << members;
}

}  // namespace
}  // namespace kv739::test
