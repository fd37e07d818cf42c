// Old cluster files, kv739_leave and kv739_start, against servers in this
// process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "client/lib739kv.h"
#include "kv/cluster_file.h"
#include "kv/cluster_map.h"
#include "kv/supervisor_protocol.h"
#include "tests/support/fake_kv_server.h"

namespace kv739 {
namespace {

using ::testing::AllOf;
using testing::FakeCluster;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr raft::GroupId kGroup{0};

class TempDir {
 public:
  TempDir() { path_ = mkdtemp(name_); }
  ~TempDir() { std::filesystem::remove_all(path_); }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }

 private:
  char name_[32] = "/tmp/kv739-member-XXXXXX";
  std::string path_;
};

// A client of a cluster whose file and map the test gives. Supervisors are
// looked for in a folder of its own.
class MembershipTest : public ::testing::Test {
 protected:
  MembershipTest() { setenv("KV739_RUN_DIR", dir_.path().c_str(), 1); }
  ~MembershipTest() override {
    kv739_close(client_);
    unsetenv("KV739_RUN_DIR");
  }

  // A file with these servers of the cluster.
  std::string File(const std::vector<int>& servers) {
    const std::string path = dir_.path() + "/cluster.conf";
    std::ofstream out(path);
    for (const int i : servers) out << cluster_->address(i) << "\n";
    return path;
  }
  void Open(const std::string& file) {
    ASSERT_EQ(kv739_open(file.c_str(), nullptr, &client_), KV739_OK)
        << kv739_last_error();
  }
  // One group of the cluster's servers `members`; those of `left` have left.
  void SetMap(uint64_t cluster_id, const std::vector<int>& members,
              const std::vector<int>& left, int leader) {
    kv::ClusterMap map = cluster_->map();
    map.cluster_id = cluster_id;
    map.epoch = 9;
    map.groups.resize(1);
    map.groups[0].members.clear();
    for (const int i : members) {
      map.groups[0].members.push_back(map.nodes[i].id);
    }
    std::sort(map.groups[0].members.begin(), map.groups[0].members.end());
    map.groups[0].target = map.groups[0].members;
    map.slots.assign(kv::kSlotCount, kGroup);
    for (const int i : left) map.nodes[i].state = kv::NodeState::kLeft;
    cluster_->SetMap(map);
    cluster_->SetLeader(kGroup, leader);
  }
  uint64_t IdOf(const std::string& file) {
    return kv::InitialClusterMap(*kv::ReadClusterFile(file)).cluster_id;
  }
  int Put(const char* key, int timeout_ms) {
    return kv739_client_put(client_, key, strlen(key), "v", 1, timeout_ms,
                            nullptr);
  }
  int Leave(int server, int clean, int timeout_ms = 0) {
    return kv739_client_leave(client_, cluster_->address(server).c_str(), clean,
                              timeout_ms);
  }
  int Start(int server, int is_new, int timeout_ms = 0) {
    return kv739_client_start(client_, cluster_->address(server).c_str(),
                              is_new, timeout_ms);
  }

  TempDir dir_;
  std::unique_ptr<FakeCluster> cluster_;
  kv739_client* client_ = nullptr;
};

TEST_F(MembershipTest, AnOldFileFindsTheClusterThroughOneGoodAddress) {
  cluster_ = std::make_unique<FakeCluster>(9);
  const std::string file = File({0, 1, 2, 3, 4});
  SetMap(IdOf(file), {4, 5, 6, 7, 8}, {0, 1, 2, 3}, 6);
  for (int i = 0; i < 4; ++i) cluster_->Stop(i);
  Open(file);
  EXPECT_EQ(Put("k", 0), 1) << kv739_last_error();
  EXPECT_EQ(cluster_->writes("k"), 1);
  // Those that have left are not asked, though they answer again.
  for (int i = 0; i < 4; ++i) cluster_->Start(i);
  cluster_->SetLeader(kGroup, 8);
  EXPECT_EQ(Put("k", 0), 0) << kv739_last_error();
  for (const testing::Seen& seen : cluster_->seen()) EXPECT_GE(seen.server, 4);
  for (const auto& [server, times] : cluster_->asked()) EXPECT_GE(server, 4);
}

// Nobody whom the client asks for keys answers: the one that is left in the
// file is a spare there.
TEST_F(MembershipTest, AMapIsLookedForWhenAllMembersAreGone) {
  cluster_ = std::make_unique<FakeCluster>(10);
  const std::string file = File({0, 1, 2, 3, 4, 5});
  SetMap(IdOf(file), {5, 6, 7, 8, 9}, {0, 1, 2, 3, 4}, 7);
  for (int i = 0; i < 5; ++i) cluster_->Stop(i);
  Open(file);
  EXPECT_EQ(Put("k", 0), 1) << kv739_last_error();
}

TEST_F(MembershipTest, AnEditedFileWorks) {
  cluster_ = std::make_unique<FakeCluster>(6);
  // The cluster began with all six; the file has lost its first line since.
  SetMap(cluster_->map().cluster_id, {0, 1, 2, 3, 4}, {}, 3);
  Open(File({1, 2, 3, 4, 5}));
  EXPECT_EQ(Put("k", 0), 1) << kv739_last_error();
}

TEST_F(MembershipTest, DieTakesServersThatOnlyTheMapHas) {
  cluster_ = std::make_unique<FakeCluster>(6);
  const std::string file = File({0, 1, 2, 3, 4});
  SetMap(IdOf(file), {0, 1, 2, 3, 5}, {}, 0);
  Open(file);
  EXPECT_EQ(kv739_client_die(client_, cluster_->address(5).c_str(), 1, 0),
            KV739_OK)
      << kv739_last_error();
  EXPECT_EQ(kv739_client_die(client_, "localhost:1", 1, 0), KV739_E_INVALID);
  EXPECT_THAT(kv739_last_error(), HasSubstr(cluster_->address(5)));
}

class LeaveTest : public MembershipTest {
 protected:
  LeaveTest() {
    cluster_ = std::make_unique<FakeCluster>(6);
    cluster_->SetLeader(kGroup, 3);
    Open(cluster_->config_file());
  }
};

TEST_F(LeaveTest, FollowsTheLeaderAndWaitsUntilItIsOut) {
  cluster_->SetMapsUntilLeft(4);
  EXPECT_EQ(Leave(1, 0), KV739_OK) << kv739_last_error();
  const kv::ClusterMap map = cluster_->map();
  EXPECT_EQ(map.nodes[1].state, kv::NodeState::kLeft);
  EXPECT_FALSE(map.groups[0].Concerns(map.nodes[1].id));
  EXPECT_EQ(Leave(1, 0), KV739_OK) << "again is no error";
}

TEST_F(LeaveTest, RefusalsComeInTheServersWords) {
  cluster_->RefuseRemoval("group 0 would be left with 2 voters");
  EXPECT_EQ(Leave(1, 0), KV739_E_REFUSED);
  EXPECT_THAT(kv739_last_error(),
              HasSubstr("group 0 would be left with 2 voters"));
  EXPECT_EQ(kv739_client_leave(client_, "localhost:1", 0, 0), KV739_E_INVALID);
  EXPECT_THAT(kv739_last_error(),
              AllOf(HasSubstr("localhost:1"), HasSubstr(cluster_->address(5))));
  EXPECT_EQ(kv739_client_leave(client_, "", 0, 0), KV739_E_INVALID);
  EXPECT_EQ(kv739_client_leave(client_, nullptr, 0, 0), KV739_E_INVALID);
}

TEST_F(LeaveTest, AtTheDeadlineItGoesOn) {
  cluster_->SetMapsUntilLeft(-1);
  EXPECT_EQ(Leave(1, 0, 300), KV739_E_UNKNOWN);
  EXPECT_THAT(kv739_last_error(), HasSubstr("still in group 0; it goes on"));
  cluster_->SetMapsUntilLeft(1);
  EXPECT_EQ(Leave(1, 0), KV739_OK) << kv739_last_error();
}

TEST_F(LeaveTest, WithoutALeaderNothingIsRecorded) {
  cluster_->SetLeader(kGroup, -1);
  EXPECT_EQ(Leave(1, 0, 300), KV739_E_UNKNOWN);
  EXPECT_THAT(kv739_last_error(), HasSubstr("group 0 has no leader"));
  EXPECT_EQ(cluster_->map().nodes[1].state, kv::NodeState::kActive);
}

TEST_F(LeaveTest, NobodyAnswers) {
  for (int i = 0; i < 6; ++i) cluster_->Stop(i);
  EXPECT_EQ(Leave(1, 0, 1000), KV739_E_UNAVAILABLE);
}

TEST_F(LeaveTest, CleanWaitsUntilTheServerIsGone) {
  EXPECT_EQ(Leave(1, 1, 400), KV739_E_UNKNOWN) << "it runs on";
  EXPECT_THAT(kv739_last_error(), HasSubstr("its process has not ended"));
  cluster_->Stop(1);
  EXPECT_EQ(Leave(1, 1), KV739_OK) << kv739_last_error();
}

TEST_F(LeaveTest, ClosingTheClientEndsIt) {
  cluster_->SetMapsUntilLeft(-1);
  ASSERT_EQ(kv739_init(cluster_->config_file().c_str()), 0);
  int code = 0;
  std::string why;
  std::thread caller([&] {
    code = kv739_leave(cluster_->address(1).c_str(), 0);
    why = kv739_last_error();
  });
  while (cluster_->map().nodes[1].state != kv::NodeState::kLeaving) {
    std::this_thread::yield();
  }
  EXPECT_EQ(kv739_shutdown(), 0);
  caller.join();
  EXPECT_EQ(code, -1);
  EXPECT_THAT(why, HasSubstr("the client was closed"));
}

class StartTest : public MembershipTest {
 protected:
  StartTest() {
    cluster_ = std::make_unique<FakeCluster>(6);
    Open(cluster_->config_file());
  }
  // Servers that start others when asked.
  void GiveSupervisor() {
    cluster_->SetStarter([this](int asked,
                                const v1::StartServerRequest& request,
                                v1::StartServerResponse* response) {
      EXPECT_NE(cluster_->address(asked), request.server());
      if (!request.only_ask()) {
        ++starts_;
        is_new_ = request.is_new();
        for (int i = 0; i < 6; ++i) {
          if (cluster_->address(i) == request.server()) cluster_->Start(i);
        }
      }
      response->set_pid(17);
      return grpc::Status::OK;
    });
  }
  std::atomic<int> starts_{0};
  std::atomic<bool> is_new_{false};
};

TEST_F(StartTest, OneThatRunsIsRefused) {
  EXPECT_EQ(Start(2, 0), KV739_E_REFUSED);
  EXPECT_THAT(kv739_last_error(), HasSubstr("runs already"));
  EXPECT_EQ(kv739_client_start(client_, "localhost:1", 0, 0), KV739_E_INVALID);
  EXPECT_EQ(kv739_client_start(client_, "nonsense", 1, 0), KV739_E_INVALID);
}

TEST_F(StartTest, SaysWhatToRunWhereNobodyCanStartIt) {
  cluster_->Stop(2);
  EXPECT_EQ(Start(2, 0), KV739_E_REFUSED);
  EXPECT_THAT(kv739_last_error(),
              AllOf(HasSubstr("run there: kv739d --cluster " +
                              cluster_->config_file() + " --listen " +
                              cluster_->address(2) + " --data data/127.0.0.1-"),
                    Not(HasSubstr("--join"))));
  EXPECT_EQ(Start(2, 1), KV739_E_REFUSED);
  EXPECT_THAT(kv739_last_error(), HasSubstr("--join"));
  cluster_->SetStarter([](int, const v1::StartServerRequest&,
                          v1::StartServerResponse*) {
    return grpc::Status(grpc::StatusCode::PERMISSION_DENIED, "only from here");
  });
  EXPECT_EQ(Start(2, 0), KV739_E_DENIED);
  EXPECT_THAT(kv739_last_error(),
              AllOf(HasSubstr("only from here"), HasSubstr("kv739d")));
}

TEST_F(StartTest, ReturnsWhenItHasCaughtUp) {
  cluster_->Stop(2);
  GiveSupervisor();
  cluster_->SetApplied(2, 7);
  EXPECT_EQ(Start(2, 0, 3000), KV739_E_UNKNOWN);
  EXPECT_THAT(kv739_last_error(), HasSubstr("is at 7 of 100 in group 0"));
  cluster_->Stop(2);
  cluster_->SetApplied(2, 100);
  cluster_->SetHealthy(2, false);
  EXPECT_EQ(Start(2, 0, 3000), KV739_E_UNKNOWN);
  EXPECT_THAT(kv739_last_error(), HasSubstr("not healthy"));
  cluster_->Stop(2);
  cluster_->SetHealthy(2, true);
  EXPECT_EQ(Start(2, 0), KV739_OK) << kv739_last_error();
  EXPECT_EQ(starts_, 3);
  EXPECT_FALSE(is_new_);
}

TEST_F(StartTest, WithoutAMajorityThereIsNobodyToCatchUpWith) {
  for (int i = 0; i < 4; ++i) cluster_->Stop(i);
  GiveSupervisor();
  cluster_->SetHealthy(3, false);
  cluster_->SetLeader(kGroup, -1);
  EXPECT_EQ(Start(3, 0), KV739_OK) << kv739_last_error();
  EXPECT_EQ(Start(2, 0, 3000), KV739_E_UNKNOWN) << "three of five are enough";
  EXPECT_THAT(kv739_last_error(), HasSubstr("waits for a leader of group 0"));
}

TEST_F(StartTest, ANewOneIsASpareOrAVoter) {
  // Server 5 is not in the map, then a spare, then on its way into group 0.
  const kv::ClusterMap with = cluster_->map();
  kv::ClusterMap without = with;
  without.nodes.pop_back();
  without.epoch = 2;
  cluster_->SetMap(without);
  cluster_->Stop(5);
  GiveSupervisor();
  EXPECT_EQ(Start(5, 1, 400), KV739_E_UNKNOWN);
  EXPECT_THAT(kv739_last_error(), HasSubstr("has not joined yet"));
  EXPECT_TRUE(is_new_);

  kv::ClusterMap joining = with;
  joining.epoch = 3;
  joining.groups[0].target = {with.nodes[0].id, with.nodes[1].id,
                              with.nodes[5].id};
  std::sort(joining.groups[0].target.begin(), joining.groups[0].target.end());
  cluster_->SetMap(joining);
  cluster_->Stop(5);
  EXPECT_EQ(Start(5, 1, 400), KV739_E_UNKNOWN);
  EXPECT_THAT(kv739_last_error(), HasSubstr("does not vote in group 0 yet"));

  kv::ClusterMap spare = with;
  spare.epoch = 4;
  cluster_->SetMap(spare);
  cluster_->Stop(5);
  EXPECT_EQ(Start(5, 1), KV739_OK) << kv739_last_error();
}

TEST_F(StartTest, OneThatHasLeftStartsAsANewOneOnly) {
  ASSERT_EQ(Leave(1, 0), KV739_OK) << kv739_last_error();
  cluster_->Stop(1);
  GiveSupervisor();
  EXPECT_EQ(Start(1, 0), KV739_E_REFUSED);
  EXPECT_THAT(kv739_last_error(), HasSubstr("has left the cluster"));
  EXPECT_EQ(starts_, 0);
}

TEST_F(StartTest, SaysHowItEnded) {
  cluster_->Stop(2);
  cluster_->SetStarter([](int, const v1::StartServerRequest& request,
                          v1::StartServerResponse* response) {
    if (request.only_ask()) {
      response->set_ended("ended with code 3 (data directory damaged)");
    }
    return grpc::Status::OK;
  });
  EXPECT_EQ(Start(2, 0), KV739_E_REFUSED);
  EXPECT_THAT(kv739_last_error(), HasSubstr("ended with code 3"));
}

TEST_F(StartTest, NobodyIsThereToJoin) {
  for (int i = 0; i < 6; ++i) cluster_->Stop(i);
  EXPECT_EQ(Start(5, 1, 1000), KV739_E_UNAVAILABLE);
}

// A supervisor of this host.
class FakeSupervisor {
 public:
  using Handler = std::function<std::string(const kv::SupervisorRequest&)>;
  FakeSupervisor(const std::string& path, Handler handler)
      : handler_(std::move(handler)), fd_(socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path.data(), path.size());
    if (bind(fd_, reinterpret_cast<const sockaddr*>(&address),
             sizeof(address)) != 0 ||
        listen(fd_, 8) != 0) {
      abort();
    }
    thread_ = std::thread([this] { Serve(); });
  }
  ~FakeSupervisor() {
    shutdown(fd_, SHUT_RDWR);
    thread_.join();
    close(fd_);
  }
  FakeSupervisor(const FakeSupervisor&) = delete;
  FakeSupervisor& operator=(const FakeSupervisor&) = delete;

 private:
  void Serve() {
    for (int peer; (peer = accept(fd_, nullptr, nullptr)) >= 0; close(peer)) {
      std::string line;
      for (char c; recv(peer, &c, 1, 0) == 1 && c != '\n';) line += c;
      const auto request = kv::ParseRequest(line);
      if (!request.ok()) continue;
      const std::string answer = handler_(*request) + "\n";
      send(peer, answer.data(), answer.size(), MSG_NOSIGNAL);
    }
  }

  const Handler handler_;
  const int fd_;
  std::thread thread_;
};

TEST_F(StartTest, TheSupervisorOfThisHostIsAskedFirst) {
  const std::string path = kv::SupervisorSocketPath(cluster_->map().cluster_id);
  cluster_->Stop(2);
  std::atomic<bool> works{false};
  std::atomic<int> ending{0};  // answers until its last process has ended
  const FakeSupervisor supervisor(
      path, [&](const kv::SupervisorRequest& request) -> std::string {
        if (request.verb == kv::SupervisorRequest::Verb::kStatus) {
          return works ? "running 17" : "ended 3 ended with code 3";
        }
        if (request.server.ToString() != cluster_->address(2)) {
          return "error INVALID_ARGUMENT not on this host";
        }
        if (request.is_new) return "error ALREADY_EXISTS d is not empty";
        if (ending-- > 0) return "error ALREADY_EXISTS it runs already";
        if (works) cluster_->Start(2);
        return "ok 17";
      });
  EXPECT_EQ(Start(2, 1), KV739_E_REFUSED);
  EXPECT_STREQ(kv739_last_error(), "d is not empty");
  EXPECT_EQ(Start(2, 0), KV739_E_REFUSED);
  EXPECT_THAT(kv739_last_error(), HasSubstr("ended with code 3"));
  works = true;
  ending = 3;
  EXPECT_EQ(Start(2, 0), KV739_OK) << kv739_last_error();

  // It has nothing to do with that one; a server of its host has.
  cluster_->Stop(3);
  GiveSupervisor();
  EXPECT_EQ(Start(3, 0), KV739_OK) << kv739_last_error();
  EXPECT_EQ(starts_, 1);
}

TEST(MembershipClassicTest, WithoutAClientNothingIsDone) {
  EXPECT_EQ(kv739_start(std::string("localhost:1"), 0), -1);
  EXPECT_EQ(kv739_last_error_code(), KV739_E_CLOSED);
  EXPECT_EQ(kv739_leave(std::string("localhost:1"), 0), -1);
  EXPECT_THAT(kv739_last_error(), HasSubstr("kv739_init"));
}

}  // namespace
}  // namespace kv739
