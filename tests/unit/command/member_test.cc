// member, check, the parts of server that change who is in the cluster, and
// what status says of changes, against servers in this process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "tests/unit/command/fake_cluster.h"
#include "tests/unit/command/harness.h"

namespace kv739::command {
namespace {

using nlohmann::json;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using Kind = FakeCluster::Kind;

constexpr Kind kUp = Kind::kUp;
constexpr Kind kDown = Kind::kDown;

class MemberTest : public ::testing::Test {
 protected:
  void Start(const std::vector<Kind>& kinds) {
    cluster_ = std::make_unique<FakeCluster>(kinds);
    for (v1::Group& group : *cluster_->map()->mutable_groups()) {
      *group.mutable_target() = group.members();
    }
    config_ = dir_.Write("cluster.conf", cluster_->ConfigText());
  }
  Ran Kv739(std::vector<std::string> words) {
    words.insert(words.begin(), {"-c", config_});
    return RunCommand(words);
  }
  json Json(std::vector<std::string> words, int exit) {
    words.push_back("--json");
    const Ran ran = Kv739(words);
    EXPECT_EQ(ran.exit, exit) << ran.out << ran.err;
    return json::parse(ran.out);
  }
  const std::string& At(size_t server) { return cluster_->address(server); }

  // Group 0 goes from servers 0-4 to 0-3 and 5, which is getting a snapshot.
  void BeginChange() {
    v1::Group* group = cluster_->map()->mutable_groups(0);
    group->mutable_target()->Set(4, 6);
    group->set_automatic(true);
    v1::ReplicaStatus* leader = cluster_->status(0)->mutable_replicas(0);
    for (uint64_t id = 1; id <= 5; ++id) leader->add_voters(id);
    leader->add_learners(6);
    v1::PeerStatus* peer = leader->add_peers();
    peer->set_node(6);
    peer->set_active(true);
    peer->set_learner(true);
    peer->set_needs_snapshot(true);
    leader->mutable_peers(3)->set_silent_ms(12'300);
    v1::ReplicaStatus* learner = cluster_->status(5)->add_replicas();
    learner->set_group(0);
    learner->mutable_receiving()->set_peer(1);
    learner->mutable_receiving()->set_bytes(3 << 20);
    learner->mutable_receiving()->set_keys(45);
    learner->mutable_receiving()->set_total_keys(100);
    v1::SnapshotTransfer* sending = leader->add_sending();
    *sending = learner->receiving();
    sending->set_peer(6);
  }

  TempDir dir_;
  std::unique_ptr<FakeCluster> cluster_;
  std::string config_;
};

TEST_F(MemberTest, ListHasPlacesAndStates) {
  Start({kUp, kUp, kUp, kUp, kDown, kUp, kUp});
  BeginChange();
  cluster_->map()->mutable_nodes(6)->set_state(v1::LEFT);
  const json members = Json({"member", "list"}, kOk)["members"];
  ASSERT_EQ(members.size(), 7u);
  EXPECT_EQ(members[0]["groups"],
            json::parse(R"([{"group":0,"role":"leader"}])"));
  EXPECT_EQ(members[1]["groups"][0]["role"], "voter");
  EXPECT_EQ(members[1]["alive"], true);
  EXPECT_EQ(members[4]["groups"][0]["role"], "leaving");
  EXPECT_EQ(members[4]["alive"], false);
  EXPECT_EQ(members[4]["reason"], "connection refused");
  EXPECT_EQ(members[5]["groups"][0]["role"], "learner");
  EXPECT_EQ(members[6]["state"], "left");
  EXPECT_EQ(members[6]["spare"], false);
  const Ran ran = Kv739({"member", "list"});
  EXPECT_THAT(ran.out,
              ContainsRegex(absl::StrCat(
                  At(5), " +0000000000000006 +active +yes +0 learner")));
}

TEST_F(MemberTest, StatusShowsTheChangeUnderWay) {
  Start({kUp, kUp, kUp, kUp, kDown, kUp});
  BeginChange();
  const Ran ran = Kv739({"status"});
  EXPECT_EQ(ran.exit, kDegraded);
  EXPECT_THAT(ran.out,
              HasSubstr(absl::StrCat(
                  "group 0 is replacing a server that is away: ", At(4),
                  " goes, ", At(5), " joins (receives a snapshot, 45 %)\n")));
  EXPECT_THAT(ran.out,
              HasSubstr("joining; receives a snapshot: 45 %, 3.0 MiB\n"));
  EXPECT_THAT(ran.out, HasSubstr("leaving; silent for 12.3s\n"));
  const json status = Json({"status"}, kDegraded);
  const json& group = status["groups"][0];
  EXPECT_EQ(group["changing"], true);
  EXPECT_EQ(group["automatic"], true);
  EXPECT_EQ(group["joint"], false);
  EXPECT_EQ(group["can_lose"], 1) << "the learner does not count";
  EXPECT_EQ(group["target"].size(), 5u);
  EXPECT_EQ(group["sending"][0]["peer"], At(5));
  EXPECT_EQ(group["members"][5]["state"], "learner");
  EXPECT_EQ(group["members"][5]["receiving"]["percent"], 45);
  EXPECT_EQ(group["members"][5]["needs_snapshot"], true);
  EXPECT_EQ(status["changes"].size(), 1u);
  EXPECT_EQ(status["problems"].size(), 1u) << "a learner's state is none";
}

TEST_F(MemberTest, BetweenOldAndNewVotersBothMajoritiesCount) {
  Start({kUp, kUp, kUp, kDown, kDown, kUp});
  BeginChange();
  v1::ReplicaStatus* leader = cluster_->status(0)->mutable_replicas(0);
  // From 0-4, of which two are down, to 0, 1, 2, 3 and 5.
  leader->mutable_voters()->Set(4, 6);
  for (uint64_t id = 1; id <= 5; ++id) leader->add_outgoing(id);
  const json group = Json({"status"}, kDegraded)["groups"][0];
  EXPECT_EQ(group["joint"], true);
  EXPECT_EQ(group["can_lose"], 0);
}

TEST_F(MemberTest, StatusShowsFaultsAndThoseThatLeave) {
  Start({kUp, kUp, kUp, kUp, kUp, kUp, kDown});
  cluster_->status(1)->mutable_replicas(0)->set_fault("hash differs");
  cluster_->map()->mutable_nodes(2)->set_state(v1::LEAVING);
  cluster_->map()->mutable_nodes(6)->set_state(v1::LEFT);
  const json status = Json({"status"}, kDegraded);
  EXPECT_EQ(status["problems"],
            json::array({At(1) + " does not serve group 0: hash differs"}));
  EXPECT_EQ(status["changes"], json::array({At(2) + " is leaving"}));
  EXPECT_EQ(status["groups"][0]["members"][1]["fault"], "hash differs");
  EXPECT_EQ(status["servers"][2]["state"], "leaving");
  EXPECT_EQ(status["servers"][5]["state"], "spare");
  EXPECT_EQ(status["servers"][6]["state"], "left");
}

TEST_F(MemberTest, SetGivesAGroupItsVoters) {
  Start({kUp, kUp, kUp, kUp, kUp, kUp});
  const std::vector<std::string> words = {"member", "set", "0",   At(0),
                                          At(1),    At(2), At(3), At(5)};
  const Ran ran = Kv739(words);
  EXPECT_EQ(ran.exit, kOk) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("group 0 has the voters "));
  EXPECT_EQ(cluster_->map()->groups(0).members(4), 6u);
  const json again = Json(words, kOk);
  EXPECT_EQ(again["group"], 0);
  EXPECT_EQ(again["settled"], true);
}

TEST_F(MemberTest, SetRefusesNamesThatAreNone) {
  Start({kUp, kUp, kUp});
  Ran ran = Kv739({"member", "set", "0", At(0), At(1), At(2) + "x"});
  EXPECT_EQ(ran.exit, kUsage);
  EXPECT_THAT(ran.err, HasSubstr(absl::StrCat("no such server: ", At(2),
                                              "x; did you mean 127.0.0.1:")));
  ran = Kv739({"member", "set", "0", At(0), At(1), At(1)});
  EXPECT_EQ(ran.exit, kUsage);
  EXPECT_THAT(ran.err, HasSubstr("named twice"));
  ran = Kv739({"member", "set", "7", At(0), At(1), At(2)});
  EXPECT_EQ(ran.exit, kUsage);
  EXPECT_THAT(ran.err, HasSubstr("no such group: 7"));
  ran = Kv739({"member", "set", "0"});
  EXPECT_EQ(ran.exit, kUsage);
}

TEST_F(MemberTest, RemoveAsksTheLeaderAndTellsItsWords) {
  Start({kUp, kUp, kUp, kUp, kUp});
  Ran ran = Kv739({"member", "remove", "--no-wait-stop", At(4)});
  EXPECT_EQ(ran.exit, kOk) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr(At(4) + " left\n"));
  ran = Kv739({"server", "leave", "localhost:1"});
  EXPECT_EQ(ran.exit, kUsage);
  EXPECT_THAT(ran.err, HasSubstr(At(0)));

  Start({kUp, kUp, kUp});
  ran = Kv739({"server", "leave", At(2)});
  EXPECT_EQ(ran.exit, kNo);
  EXPECT_THAT(ran.err, HasSubstr("group 0 would be left with 2 voters"));
}

TEST_F(MemberTest, StartOfOneThatRunsOrThatNobodyCanStart) {
  Start({kUp, kUp, kDown});
  Ran ran = Kv739({"server", "start", At(0)});
  EXPECT_EQ(ran.exit, kNo);
  EXPECT_THAT(ran.err, HasSubstr("runs already"));
  ran = Kv739({"server", "start", At(2)});
  EXPECT_EQ(ran.exit, kNo);
  EXPECT_THAT(ran.err, HasSubstr("run there: kv739d --cluster " + config_));
  ran = Kv739({"member", "add", At(2)});
  EXPECT_EQ(ran.exit, kNo);
  EXPECT_THAT(ran.err, HasSubstr("--join"));
}

TEST_F(MemberTest, CheckComparesWhatTheLeadersSay) {
  Start(std::vector<Kind>(10, kUp));
  for (uint64_t group = 0; group < 2; ++group) {
    v1::CheckedGroup* checked = cluster_->check()->add_groups();
    checked->set_group(group);
    for (uint64_t i = 1; i <= 5; ++i) {
      v1::CheckedReplica* replica = checked->add_replicas();
      replica->set_node(5 * group + i);
      replica->set_index(90);
      replica->set_hash(0xabc);
      replica->set_keys(12);
    }
  }
  Ran ran = Kv739({"check"});
  EXPECT_EQ(ran.exit, kOk) << ran.out << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("2 groups, 10 replicas: all equal\n"));
  EXPECT_THAT(ran.out, ContainsRegex(absl::StrCat(
                           "1  ", At(5), " +90  0000000000000abc +12  ok\n")));

  cluster_->check()->mutable_groups(1)->mutable_replicas(2)->set_hash(0xdef);
  cluster_->check()->mutable_groups(1)->mutable_replicas(2)->set_finding(
      "differs from the majority");
  ran = Kv739({"check"});
  EXPECT_EQ(ran.exit, kDegraded);
  EXPECT_THAT(ran.out, HasSubstr("10 replicas: 1 finding\n"));
  EXPECT_THAT(ran.out, HasSubstr("differs from the majority\n"));
  EXPECT_EQ(Json({"check", "0"}, kOk)["groups"].size(), 1u);
  const json one = Json({"check", "1"}, kDegraded);
  EXPECT_EQ(one["ok"], false);
  EXPECT_EQ(one["groups"][0]["leader"], At(5));
  const json& replica = one["groups"][0]["replicas"][2];
  EXPECT_EQ(replica["server"], At(7));
  EXPECT_EQ(replica["index"], 90);
  EXPECT_EQ(replica["hash"], "0000000000000def");
  EXPECT_EQ(replica["finding"], "differs from the majority");
  EXPECT_EQ(Kv739({"check", "2"}).exit, kUsage);
  EXPECT_EQ(Kv739({"check", "all"}).exit, kUsage);
}

TEST_F(MemberTest, AGroupThatNobodyComparedIsAFinding) {
  Start({kUp, kUp, kUp});
  EXPECT_EQ(Json({"check"}, kDegraded)["groups"][0]["problem"],
            "the leader's answer does not have it");
  for (size_t i = 0; i < 3; ++i) {
    cluster_->status(i)->mutable_replicas(0)->set_role(v1::FOLLOWER);
  }
  EXPECT_EQ(Json({"check"}, kDegraded)["groups"][0]["problem"], "no leader");
  Start({kDown, kDown, kDown});
  EXPECT_EQ(Kv739({"check"}).exit, kUnreachable);
  EXPECT_EQ(Kv739({"member", "list"}).exit, kUnreachable);
  EXPECT_EQ(Kv739({"member", "set", "0", At(0), At(1), At(2)}).exit,
            kUnreachable);
}

TEST_F(MemberTest, MistypedVerbsAreMadeOut) {
  Start({kUp, kUp, kUp});
  const Ran ran = Kv739({"member", "remvoe", At(0)});
  EXPECT_EQ(ran.exit, kUsage);
  EXPECT_THAT(ran.err, HasSubstr("did you mean remove?"));
  EXPECT_THAT(Kv739({"member"}).err,
              HasSubstr("member needs a verb: add, list, remove, set"));
}

}  // namespace
}  // namespace kv739::command
