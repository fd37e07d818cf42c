// Who a server is when it starts: every case that a data directory, a cluster
// file and the answers of others can make. The others are functions here.
#include "server/joining.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kv/directory.h"
#include "server/exit_code.h"
#include "server/map_file.h"
#include "tests/unit/server/outer_temp_dir.h"

namespace kv739::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

kv::ClusterFile File(const std::string& text) {
  auto file = kv::ParseClusterFile(text, "test");
  EXPECT_TRUE(file.ok()) << file.status();
  return *std::move(file);
}

kv::Address At(const std::string& text) { return *kv::Address::Parse(text); }

constexpr char kFive[] = "h:1\nh:2\nh:3\nh:4\nh:5\n";

class JoiningTest : public testing::Test {
 protected:
  JoiningTest() {
    config_.cluster = File(kFive);
    config_.listen = At("h:1");
    config_.data_dir = temp_.Sub("data");
    config_.deadline = absl::ZeroDuration();
    cluster_ = kv::InitialClusterMap(config_.cluster);
    questions_.inquire = [this](const kv::Address& to, const kv::Address& own,
                                absl::Duration) { return Inquire(to, own); };
    questions_.join = [this](const kv::Address& to,
                             const JoinQuestion& question,
                             absl::Duration) { return AnswerTo(to, question); };
  }

  absl::StatusOr<InquiryReply> Inquire(const kv::Address& to,
                                       const kv::Address& own) {
    const std::lock_guard lock(mutex_);
    EXPECT_EQ(own, config_.listen);
    asked_.insert(to.ToString());
    if (silent_ > 0) --silent_;
    if (!up_ || silent_ > 0) return absl::UnavailableError("refused");
    return InquiryReply{cluster_, met_ && to == At("h:3")};
  }

  // The leader of the directory is at h:4.
  absl::StatusOr<JoinReply> AnswerTo(const kv::Address& to,
                                     const JoinQuestion& question) {
    joins_.push_back(to.ToString());
    if (!refusal_.ok()) return refusal_;
    if (joins_.size() < 3) return absl::UnavailableError("no leader yet");
    if (!(to == At("h:4"))) return JoinReply{"h:4", std::nullopt};
    auto after =
        kv::ApplyDirectoryChange(&cluster_, kv::AddNode{question.node});
    if (!after.ok()) return after.status();
    cluster_ = *after;
    return JoinReply{"", cluster_};
  }

  absl::StatusOr<Membership> Begin() {
    return BeginMembership(config_, questions_);
  }
  // Expects an error and returns its text.
  std::string Fail(ExitCode code) {
    const auto membership = Begin();
    EXPECT_FALSE(membership.ok());
    EXPECT_EQ(ExitCodeOf(membership.status()), code) << membership.status();
    return std::string(membership.status().message());
  }
  // As the node does it; the directory is given up again.
  Membership Start() {
    auto membership = Begin();
    EXPECT_TRUE(membership.ok()) << membership.status();
    if (!membership.ok()) return Membership();
    if (membership->joining) {
      config_.deadline = absl::Minutes(1);
      absl::Status status =
          Join(config_, questions_, membership->directory.get(), &*membership);
      EXPECT_TRUE(status.ok()) << status;
    }
    WriteText(membership->directory->wal_path() + "/1", "x");
    WriteText(membership->directory->db_path() + "/CURRENT", "x");
    EXPECT_TRUE(membership->directory->MarkInitialized().ok());
    membership->directory = nullptr;
    return *std::move(membership);
  }
  void Save(const kv::ClusterMap& map) {
    ASSERT_TRUE(WriteMapFile(config_.data_dir + "/cluster_map", map).ok());
  }
  raft::NodeId FileId(const std::string& address) {
    return kv::InitialClusterMap(File(kFive)).FindNode(At(address))->id;
  }
  void Change(const kv::DirectoryChange& change) {
    auto after = kv::ApplyDirectoryChange(&cluster_, change);
    ASSERT_TRUE(after.ok()) << after.status();
    cluster_ = *after;
  }

  OuterTempDir temp_;
  MembershipConfig config_;
  ServerQuestions questions_;

  std::mutex mutex_;
  kv::ClusterMap cluster_;  // as the others have it
  bool up_ = false;         // they answer
  int silent_ = 0;          // this many questions later
  bool met_ = false;
  std::set<std::string> asked_;
  std::vector<std::string> joins_;
  absl::Status refusal_;
};

TEST_F(JoiningTest, TheFirstStartOfAllIsFromTheFile) {
  const Membership made = Start();
  EXPECT_EQ(made.self.id, FileId("h:1"));
  EXPECT_EQ(made.self.metrics_port, 9090);
  EXPECT_EQ(*made.map, cluster_);
  EXPECT_EQ(made.first, cluster_);
  EXPECT_THAT(asked_, ElementsAre("h:2", "h:3", "h:4", "h:5"));
  // The second start asks nobody.
  asked_.clear();
  EXPECT_EQ(Start().self.id, made.self.id);
  EXPECT_TRUE(asked_.empty());
}

TEST_F(JoiningTest, TheLastOfTheFirstFindsTheOthersRunning) {
  up_ = true;
  const Membership made = Start();
  EXPECT_EQ(made.self.id, FileId("h:1"));
  EXPECT_EQ(made.first.groups.size(), 1u);
  EXPECT_TRUE(joins_.empty());
}

// Its place was given to another before it ever came: it must not make the
// replica that the cluster began with.
TEST_F(JoiningTest, AFirstServerThatComesTooLateMakesNoReplica) {
  up_ = true;
  kv::NodeInfo other;
  other.id = raft::NodeId(9);
  other.address = At("h:9");
  Change(kv::AddNode{other});
  std::vector<raft::NodeId> target = cluster_.groups[0].target;
  const std::vector<raft::NodeId> before = target;
  std::replace(target.begin(), target.end(), FileId("h:1"), other.id);
  std::sort(target.begin(), target.end());
  Change(kv::SetTarget{{raft::GroupId(0), before, target}, true});
  EXPECT_EQ(Begin()->first.groups.size(), 1u) << "still a member";
  std::filesystem::remove_all(config_.data_dir);
  Change(kv::GroupSettled{raft::GroupId(0), raft::Index(9), target});
  const Membership made = Start();
  EXPECT_EQ(made.self.id, FileId("h:1"));
  EXPECT_TRUE(made.first.groups.empty());
  EXPECT_EQ(made.map->epoch, cluster_.epoch);
}

TEST_F(JoiningTest, ALostDirectoryComesBackAsANewServer) {
  up_ = met_ = true;
  const Membership made = Start();
  EXPECT_NE(made.self.id, FileId("h:1"));
  EXPECT_TRUE(made.first.groups.empty() ||
              !made.first.groups[0].Concerns(made.self.id));
  EXPECT_EQ(joins_.back(), "h:4");
  EXPECT_EQ(made.map->FindNode(FileId("h:1"))->state, kv::NodeState::kLeft);
  EXPECT_TRUE(made.map->groups[0].Concerns(made.self.id));
  // Its next start is its own, whoever answers.
  up_ = false;
  EXPECT_EQ(Start().self.id, made.self.id);
  // Lost once more, and nobody has met the second one: its id gives it away.
  std::filesystem::remove_all(config_.data_dir);
  up_ = true;
  met_ = false;
  const Membership third = Start();
  EXPECT_NE(third.self.id, made.self.id);
  EXPECT_NE(third.self.id, FileId("h:1"));
}

TEST_F(JoiningTest, AServerThatIsNotInTheClusterNeedsToSayJoin) {
  up_ = true;
  config_.cluster = File(absl::StrCat(kFive, "h:6\n"));
  config_.listen = At("h:6");
  EXPECT_THAT(Fail(kExitUsage), HasSubstr("--join"));
  EXPECT_FALSE(*DataDirectory::HasIdentity(config_.data_dir));
  config_.join = true;
  const Membership made = Start();
  EXPECT_EQ(made.map->cluster_id, cluster_.cluster_id);
  EXPECT_EQ(made.self.metrics_port, 9095) << "the file's line";
  EXPECT_EQ(cluster_.Spares(), std::vector<raft::NodeId>{made.self.id});
  // With the old file or the new one, with or without --join.
  for (const char* text : {kFive, "h:7\nh:8\nh:3\n"}) {
    for (bool join : {true, false}) {
      config_.cluster = File(text);
      config_.join = join;
      EXPECT_EQ(Start().self.id, made.self.id) << text;
    }
  }
}

TEST_F(JoiningTest, PortsOfAServerThatIsInNoFile) {
  up_ = true;
  config_.listen = At("h:6");
  config_.join = true;
  {
    const auto made = Begin();
    EXPECT_EQ(made->self.metrics_port, 9095);
    EXPECT_EQ(made->self.http_port, 8085);
    EXPECT_FALSE(made->first.groups[0].Concerns(made->self.id));
  }
  std::filesystem::remove_all(config_.data_dir);
  config_.metrics_port = 77;
  const Membership made = Start();
  EXPECT_EQ(made.map->FindNode(made.self.id)->metrics_port, 77);
  EXPECT_EQ(made.map->FindNode(made.self.id)->http_port, 8085);
  config_.metrics_port = 0;
  EXPECT_EQ(Start().self.metrics_port, 77) << "as the map has it";
}

TEST_F(JoiningTest, JoiningThatWasCutOffGoesOnUnderTheSameId) {
  up_ = true;
  config_.listen = At("h:6");
  config_.join = true;
  const raft::NodeId id = Begin()->self.id;
  config_.join = false;
  {
    const auto again = Begin();
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_TRUE(again->joining);
    EXPECT_EQ(again->self.id, id);
  }
  // The directory has it, the answer was lost.
  kv::NodeInfo node;
  node.id = id;
  node.address = config_.listen;
  Change(kv::AddNode{node});
  const auto again = Begin();
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_FALSE(again->joining);
  EXPECT_EQ(again->self.id, id);
  EXPECT_TRUE(joins_.empty());
}

TEST_F(JoiningTest, JoiningWaitsForTheOthersAndFollowsTheLeader) {
  up_ = true;
  silent_ = 12;
  config_.deadline = absl::Minutes(1);
  config_.listen = At("h:6");
  config_.join = true;
  Start();
  EXPECT_EQ(silent_, 0);
  EXPECT_GE(joins_.size(), 3u);
  EXPECT_EQ(joins_.back(), "h:4");
}

TEST_F(JoiningTest, JoiningEndsWithWhatTheOthersRefuse) {
  up_ = true;
  config_.listen = At("h:6");
  config_.join = true;
  auto made = Begin();
  refusal_ = absl::FailedPreconditionError("we are full");
  absl::Status status =
      Join(config_, questions_, made->directory.get(), &*made);
  EXPECT_THAT(std::string(status.message()), HasSubstr("we are full"));
  EXPECT_EQ(joins_.size(), 1u);
  refusal_ = absl::UnavailableError("not now");
  status = Join(config_, questions_, made->directory.get(), &*made);
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("not now"));
}

TEST_F(JoiningTest, CancelEndsTheWait) {
  absl::Notification cancel;
  cancel.Notify();
  config_.cancel = &cancel;
  config_.deadline = absl::InfiniteDuration();
  config_.listen = At("h:6");
  config_.join = true;
  const auto membership = Begin();
  EXPECT_TRUE(absl::IsCancelled(membership.status()));
  EXPECT_EQ(ExitCodeOf(membership.status()), kExitStopped);
}

TEST_F(JoiningTest, WithoutAnAnswerJoiningFails) {
  config_.join = true;
  EXPECT_THAT(Fail(kExitFailure), HasSubstr("no server"));
  EXPECT_FALSE(*DataDirectory::HasIdentity(config_.data_dir));
}

TEST_F(JoiningTest, OneOfTheFirstServersIsNotMadeNewByJoin) {
  Start();
  config_.join = true;
  EXPECT_THAT(Fail(kExitDirectory), HasSubstr("without --join"));
}

TEST_F(JoiningTest, TheIdentityDecidesAndNotTheFile) {
  Start();
  Save(cluster_);
  // Another file with one server that is still good.
  config_.cluster = File("x:1\nh:5\ny:1\nh:1\n");
  EXPECT_EQ(Start().self.id, FileId("h:1"));
  // One that has nobody of the cluster but us.
  config_.cluster = File("x:1\ny:1\nh:1\n");
  EXPECT_THAT(Fail(kExitDirectory), HasSubstr("not to cluster"));
  config_.cluster = File(kFive);
  config_.listen = At("h:2");
  EXPECT_THAT(Fail(kExitDirectory), HasSubstr("belongs to server h:1"));
}

TEST_F(JoiningTest, WithoutASavedMapTheFileMustBeOfTheCluster) {
  Start();
  config_.cluster = File("x:1\nh:5\nh:1\n");
  EXPECT_THAT(Fail(kExitDirectory), HasSubstr("of cluster"));
}

TEST_F(JoiningTest, WhoHasLeftDoesNotStartAgain) {
  up_ = true;
  config_.listen = At("h:6");
  config_.join = true;
  const Membership made = Start();
  Change(kv::RemoveNode{made.self.id, {}});
  EXPECT_EQ(Start().self.id, made.self.id) << "nobody has told it";
  Save(cluster_);
  EXPECT_THAT(Fail(kExitUsage), HasSubstr("has left the cluster"));
  std::filesystem::remove_all(config_.data_dir);
  config_.join = false;
  config_.cluster = File(absl::StrCat(kFive, "h:6\n"));
  EXPECT_THAT(Fail(kExitUsage), HasSubstr("--join"));
  config_.join = true;
  EXPECT_NE(Start().self.id, made.self.id);
}

TEST_F(JoiningTest, ADamagedMapIsFetchedAgain) {
  up_ = true;
  config_.listen = At("h:6");
  config_.join = true;
  const Membership made = Start();
  const std::string path = config_.data_dir + "/cluster_map";
  std::string bytes = ReadText(path);
  bytes[30] ^= 1;
  WriteText(path, bytes);
  EXPECT_EQ(Start().self.id, made.self.id);
  EXPECT_EQ(**ReadMapFile(path), cluster_);
  std::filesystem::remove(path);
  up_ = false;
  config_.deadline = absl::ZeroDuration();
  Fail(kExitFailure);
}

TEST_F(JoiningTest, ServersOfTwoClustersInOneFileAreNoted) {
  config_.join = true;
  config_.listen = At("h:6");
  questions_.inquire = [&](const kv::Address& to, const kv::Address&,
                           absl::Duration) -> absl::StatusOr<InquiryReply> {
    InquiryReply answer{cluster_, false};
    if (to == At("h:2")) answer.map.cluster_id ^= 1;
    return answer;
  };
  EXPECT_THAT(Fail(kExitUsage), HasSubstr("different clusters"));
}

// ---- the server that is asked ----

TEST_F(JoiningTest, AnInquiryTellsOfServersThatHaveBeenMet) {
  const MapHolder maps(std::make_shared<kv::ClusterMap>(cluster_));
  auto own = Begin();
  ASSERT_TRUE(own->directory->CheckPeer(FileId("h:2"), 5).ok());
  EXPECT_TRUE(HandleInquiry(maps, *own->directory, "h:2").met);
  EXPECT_FALSE(HandleInquiry(maps, *own->directory, "h:3").met);
  EXPECT_FALSE(HandleInquiry(maps, *own->directory, "h:9").met);
  EXPECT_FALSE(HandleInquiry(maps, *own->directory, "rub bish").met);
  EXPECT_EQ(HandleInquiry(maps, *own->directory, "h:3").map, cluster_);
}

TEST_F(JoiningTest, AJoinIsProposedAndAnswered) {
  MapHolder maps(std::make_shared<kv::ClusterMap>(cluster_));
  JoinQuestion question{cluster_.cluster_id, {}};
  question.node.id = raft::NodeId(9);
  question.node.address = At("h:9");
  DirectoryAnswer reply;
  int proposed = 0;
  const auto propose = [&](const kv::DirectoryChange& change,
                           DirectoryDone done) {
    ++proposed;
    if (reply.status.ok()) {
      Change(change);
      maps.Offer(std::make_shared<kv::ClusterMap>(cluster_));
    }
    done(reply);
  };
  const auto ask = [&]() -> absl::StatusOr<JoinReply> {
    absl::StatusOr<JoinReply> got = absl::InternalError("not called");
    HandleJoin(question, &maps, propose,
               [&](absl::StatusOr<JoinReply> answer) { got = answer; });
    return got;
  };
  reply.status = absl::UnavailableError("not leader");
  EXPECT_TRUE(absl::IsUnavailable(ask().status()));
  reply.leader = "h:3";
  EXPECT_EQ(ask()->leader, "h:3");
  EXPECT_FALSE(ask()->map.has_value());
  reply = DirectoryAnswer();
  EXPECT_NE(ask()->map->FindNode(raft::NodeId(9)), nullptr);
  reply.status = absl::FailedPreconditionError("full");
  EXPECT_TRUE(absl::IsFailedPrecondition(ask().status()));
  proposed = 0;
  question.cluster_id ^= 1;
  EXPECT_TRUE(absl::IsFailedPrecondition(ask().status()));
  question.cluster_id ^= 1;
  question.node.id = raft::NodeId();
  EXPECT_TRUE(absl::IsInvalidArgument(ask().status()));
  EXPECT_EQ(proposed, 0);
}

}  // namespace
}  // namespace kv739::server
