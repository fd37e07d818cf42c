// status, server list, ring, leader move and ping against servers in this
// process: all up, one down, one that hangs, none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kv/types.h"
#include "tests/unit/command/fake_cluster.h"
#include "tests/unit/command/harness.h"

namespace kv739::command {
namespace {

using nlohmann::json;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using Kind = FakeCluster::Kind;

constexpr Kind kUp = Kind::kUp;
constexpr Kind kDown = Kind::kDown;
constexpr Kind kHangs = Kind::kHangs;

class StatusTest : public ::testing::Test {
 protected:
  void Start(const std::vector<Kind>& kinds) {
    cluster_ = std::make_unique<FakeCluster>(kinds);
    config_ = dir_.Write("cluster.conf", cluster_->ConfigText());
  }
  Ran Kv739(std::vector<std::string> words) {
    words.insert(words.begin(), {"-c", config_});
    return RunCommand(words);
  }
  json StatusJson(int exit) {
    const Ran ran = Kv739({"status", "--json"});
    EXPECT_EQ(ran.exit, exit) << ran.out << ran.err;
    return json::parse(ran.out);
  }

  TempDir dir_;
  std::unique_ptr<FakeCluster> cluster_;
  std::string config_;
};

TEST_F(StatusTest, AllUp) {
  Start({kUp, kUp, kUp, kUp, kUp});
  const Ran ran = Kv739({"status"});
  EXPECT_EQ(ran.exit, kOk);
  EXPECT_THAT(ran.err, IsEmpty());
  EXPECT_THAT(ran.out, StartsWith("cluster 000000000000c3f1 · epoch 42 · 5 "
                                  "servers · 1 group · OK: every group can "
                                  "lose 2 servers\n"));
  EXPECT_THAT(ran.out, ContainsRegex("0  127.0.0.1:[0-9]+ +7 +99 +98 +90 +2.0 "
                                     "KiB +4096 +2\n"));
  EXPECT_THAT(ran.out, Not(HasSubstr("\x1b")));

  const json status = StatusJson(kOk);
  EXPECT_EQ(status["verdict"], "ok");
  EXPECT_EQ(status["problems"], json::array());
  ASSERT_EQ(status["groups"].size(), 1u);
  EXPECT_EQ(status["groups"][0]["leader"], cluster_->address(0));
  EXPECT_EQ(status["groups"][0]["commit"], 99);
  EXPECT_EQ(status["groups"][0]["members"].size(), 5u);
  EXPECT_EQ(status["groups"][0]["members"][1]["lag"], 0);
  EXPECT_EQ(status["servers"][4]["pid"], 1004);
}

TEST_F(StatusTest, ADeadServerIsARowAndTheClusterDegraded) {
  Start({kUp, kUp, kDown, kUp, kUp});
  const Ran ran = Kv739({"status"});
  EXPECT_EQ(ran.exit, kDegraded);
  EXPECT_THAT(ran.out,
              HasSubstr(absl::StrCat("DEGRADED: ", cluster_->address(2),
                                     " is unreachable: connection refused\n")));
  EXPECT_THAT(ran.out, ContainsRegex(absl::StrCat("0  ", cluster_->address(2),
                                                  " +unreachable +- +- +- +40 +"
                                                  "connection refused\n")));
  const json status = StatusJson(kDegraded);
  EXPECT_EQ(status["verdict"], "degraded");
  const json& member = status["groups"][0]["members"][2];
  EXPECT_EQ(member["server"], cluster_->address(2));
  EXPECT_EQ(member["reachable"], false);
  EXPECT_EQ(member["reason"], "connection refused");
  EXPECT_EQ(member["lag"], 40);
  EXPECT_EQ(status["groups"][0]["can_lose"], 1);
  EXPECT_EQ(status["servers"][2]["reachable"], false);
}

TEST_F(StatusTest, AHungServerCostsItsOwnDeadlineAndNoMore) {
  Start({kUp, kHangs, kUp, kHangs, kUp});
  const absl::Time start = absl::Now();
  const json status = StatusJson(kDegraded);
  // Two that hang one after the other would take 2 s, each with two questions
  // 4 s.
  EXPECT_LT(absl::Now() - start, absl::Seconds(1.9));
  EXPECT_EQ(status["servers"][1]["reason"], "no answer within 1s");
  EXPECT_EQ(status["servers"][3]["reachable"], false);
  EXPECT_EQ(status["groups"][0]["can_lose"], 0);
}

TEST_F(StatusTest, NobodyAnswers) {
  Start({kDown, kDown, kDown});
  const Ran ran = Kv739({"status"});
  EXPECT_EQ(ran.exit, kUnreachable);
  EXPECT_THAT(ran.out, StartsWith("UNREACHABLE: none of 3 servers answers\n"));
  EXPECT_THAT(ran.out, HasSubstr(cluster_->address(1)));
  const json status = StatusJson(kUnreachable);
  EXPECT_EQ(status["verdict"], "unreachable");
  EXPECT_EQ(status["servers"].size(), 3u);
}

TEST_F(StatusTest, GroupWithoutLeaderIsDegraded) {
  Start({kUp, kUp, kDown, kDown, kDown});
  for (int i : {0, 1}) {
    v1::ReplicaStatus* replica = cluster_->status(i)->mutable_replicas(0);
    replica->set_role(v1::CANDIDATE);
    replica->clear_leader();
  }
  const json status = StatusJson(kDegraded);
  EXPECT_EQ(status["groups"][0]["leader"], nullptr);
  EXPECT_EQ(status["groups"][0]["can_lose"], 0);
  EXPECT_EQ(status["groups"][0]["members"][0]["lag"], nullptr);
  EXPECT_EQ(status["groups"][0]["members"][0]["state"], "candidate");
  EXPECT_EQ(status["problems"].back(),
            "group 0 has no leader, 2 of 5 members answer");
  // Waiting for a leader ends with the timeout.
  EXPECT_EQ(Kv739({"status", "--wait", "--timeout", "300"}).exit, kDegraded);
}

TEST_F(StatusTest, WaitIsContentWithLeaders) {
  Start({kUp, kUp, kDown});
  EXPECT_EQ(Kv739({"status"}).exit, kDegraded);
  EXPECT_EQ(Kv739({"status", "--wait"}).exit, kOk);
}

TEST_F(StatusTest, OfTwoLeadersTheHigherTermLeads) {
  Start({kUp, kUp, kUp});
  // Server 1 was elected in term 8; server 0 has not noticed.
  v1::ReplicaStatus* replica = cluster_->status(1)->mutable_replicas(0);
  *replica->mutable_peers() = cluster_->status(0)->replicas(0).peers();
  replica->mutable_peers(0)->set_node(1);
  replica->set_role(v1::LEADER);
  replica->set_term(8);
  const json group = StatusJson(kOk)["groups"][0];
  EXPECT_EQ(group["leader"], cluster_->address(1));
  EXPECT_EQ(group["term"], 8);
  EXPECT_EQ(group["members"][0]["state"], "deposed leader");
}

TEST_F(StatusTest, WhatServersSayOfThemselvesCounts) {
  Start({kUp, kUp, kUp});
  cluster_->status(0)->set_healthy(false);
  cluster_->status(1)->set_stopping(true);
  cluster_->status(2)->set_cluster_id(5);
  const json problems = StatusJson(kDegraded)["problems"];
  ASSERT_EQ(problems.size(), 3u);
  EXPECT_EQ(problems[0], cluster_->address(0) + " says that it is not healthy");
  EXPECT_EQ(problems[1], cluster_->address(1) + " is stopping");
  EXPECT_EQ(problems[2], cluster_->address(2) +
                             " belongs to another cluster, 0000000000000005");
}

TEST_F(StatusTest, AMissingReplicaAndADeafPeerAreProblems) {
  Start({kUp, kUp, kUp, kUp, kUp});
  cluster_->status(4)->clear_replicas();
  cluster_->status(0)->mutable_replicas(0)->mutable_peers(0)->set_active(false);
  const json status = StatusJson(kDegraded);
  EXPECT_EQ(status["groups"][0]["members"][4]["state"], "missing");
  EXPECT_EQ(status["problems"][0],
            cluster_->address(4) + " has no replica of group 0");
  EXPECT_EQ(status["problems"][1],
            "the leader of group 0 does not hear " + cluster_->address(1));
}

TEST_F(StatusTest, ServersThatOnlyTheMapNamesAreAskedToo) {
  Start({kUp, kUp, kUp, kUp, kUp});
  // The file names three of the five.
  std::string three;
  for (size_t i = 0; i < 3; ++i) {
    absl::StrAppend(&three, cluster_->address(i), "\n");
  }
  config_ = dir_.Write("three.conf", three);
  const json status = StatusJson(kOk);
  EXPECT_EQ(status["servers"].size(), 5u);
}

TEST_F(StatusTest, MembersComeInTheOrderOfTheMap) {
  Start({kUp, kUp, kUp});
  cluster_->ReverseMembers();
  const json members = StatusJson(kOk)["groups"][0]["members"];
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(members[i]["server"], cluster_->address(i));
  }
}

TEST_F(StatusTest, SpareServers) {
  Start({kUp, kUp, kUp, kUp, kUp, kUp});
  EXPECT_THAT(Kv739({"status"}).out, HasSubstr("1 group, 1 spare"));
  EXPECT_EQ(StatusJson(kOk)["servers"][5]["spare"], true);
}

TEST_F(StatusTest, ServerList) {
  Start({kUp, kDown, kUp});
  const Ran ran = Kv739({"server", "list"});
  EXPECT_EQ(ran.exit, kOk);
  EXPECT_THAT(ran.out, HasSubstr("http://127.0.0.1:9091/metrics"));
  const json list = json::parse(Kv739({"server", "list", "--json"}).out);
  EXPECT_EQ(list[1]["state"], "unreachable");
  EXPECT_EQ(list[2]["state"], "up");
}

TEST_F(StatusTest, RingOfAKeyAndOfAll) {
  Start(std::vector<Kind>(10, kUp));
  const json all = json::parse(Kv739({"ring", "--json"}).out);
  ASSERT_EQ(all["groups"].size(), 2u);
  EXPECT_EQ(all["groups"][1]["slots"], 2048);
  EXPECT_EQ(all["groups"][1]["leader"], cluster_->address(5));
  for (const std::string key : {"a", "b", "c", "d"}) {
    const json one = json::parse(Kv739({"ring", key, "--json"}).out);
    const int slot = one["slot"];
    EXPECT_EQ(slot, kv::SlotOf(key));
    EXPECT_EQ(one["group"], slot < 2048 ? 0 : 1);
    EXPECT_EQ(one["leader"], cluster_->address(slot < 2048 ? 0 : 5));
  }
  EXPECT_EQ(Kv739({"ring", ""}).exit, kUsage);
  EXPECT_EQ(Kv739({"ring", std::string(257, 'k')}).exit, kUsage);
}

TEST_F(StatusTest, LeaderMove) {
  Start({kUp, kUp, kUp});
  const std::string target = cluster_->address(2);
  const Ran moved = Kv739({"leader", "move", "0", target});
  EXPECT_EQ(moved.exit, kOk) << moved.err;
  EXPECT_EQ(moved.out, absl::StrCat("group 0: ", target, ", was ",
                                    cluster_->address(0), "\n"));
  EXPECT_EQ(cluster_->last_transfer(),
            absl::StrCat(cluster_->address(0), " 0 ", target));
  const Ran refused = Kv739({"leader", "move", "0", "nowhere:1"});
  EXPECT_EQ(refused.exit, kNo);
  EXPECT_THAT(refused.err, HasSubstr("it did not happen"));
  EXPECT_EQ(Kv739({"leader", "move", "9"}).exit, kUsage);
}

TEST_F(StatusTest, LeaderMoveWithoutServersOrLeader) {
  Start({kDown, kDown, kDown});
  EXPECT_EQ(Kv739({"leader", "move", "0"}).exit, kUnreachable);
  EXPECT_EQ(Kv739({"ring"}).exit, kUnreachable);
  EXPECT_EQ(Kv739({"server", "list"}).exit, kUnreachable);
}

TEST_F(StatusTest, Ping) {
  Start({kUp, kUp, kDown});
  const Ran all = Kv739({"ping", "--json"});
  EXPECT_EQ(all.exit, kNo);
  json stats = json::parse(all.out);
  EXPECT_EQ(stats["sent"], 3);
  EXPECT_EQ(stats["answered"], 2);
  EXPECT_THAT(all.err,
              HasSubstr(cluster_->address(2) + ": connection refused"));

  const Ran one = Kv739({"ping", cluster_->address(1), "--mode", "continuous",
                         "--requests", "20", "--delay", "0", "--json"});
  EXPECT_EQ(one.exit, kOk) << one.err;
  stats = json::parse(one.out);
  EXPECT_EQ(stats["sent"], 20);
  EXPECT_EQ(stats["success_rate"], 1.0);
  EXPECT_GT(stats["p50_ms"], 0.0);
  EXPECT_THAT(Kv739({"ping", "--addr", cluster_->address(0)}).out,
              StartsWith("1 of 1 answered (100.0 %): mean "));
}

}  // namespace
}  // namespace kv739::command
