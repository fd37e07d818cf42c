// The replica host, with messages, log writes and time in the test's hand.
#include "server/host.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/host_cluster.h"

namespace kv739::server {
namespace {

using testing::HostCluster;

constexpr raft::GroupId kGroup{0};

Operation Put(const std::string& key, const std::string& value) {
  Operation operation;
  operation.kind = OpKind::kPut;
  operation.key = key;
  operation.value = value;
  return operation;
}

Operation Get(const std::string& key) {
  Operation operation;
  operation.kind = OpKind::kGet;
  operation.key = key;
  return operation;
}

Operation With(Operation operation, kv::SessionId session,
               kv::Sequence sequence, kv::Sequence floor = 1) {
  operation.session = session;
  operation.sequence = sequence;
  operation.floor = floor;
  return operation;
}

kv::SessionId OpenSession(HostCluster& cluster) {
  Operation operation;
  operation.kind = OpKind::kOpenSession;
  operation.group = kGroup;
  Reply reply = cluster.Call(std::move(operation));
  EXPECT_EQ(reply.code, ReplyCode::kOk) << reply.message;
  EXPECT_NE(reply.session, 0u);
  return reply.session;
}

TEST(HostTest, PutAnswersTheOldValueAndGetTheNewOne) {
  HostCluster cluster(5);
  Reply reply = cluster.Call(Put("a", "1"));
  EXPECT_EQ(reply.code, ReplyCode::kOk) << reply.message;
  EXPECT_FALSE(reply.found);
  const kv::Version first = reply.version;
  reply = cluster.Call(Put("a", "2"));
  EXPECT_TRUE(reply.found);
  EXPECT_EQ(reply.value, "1");
  EXPECT_GT(reply.version, first);
  reply = cluster.Call(Get("a"));
  EXPECT_TRUE(reply.found);
  EXPECT_EQ(reply.value, "2");
  EXPECT_FALSE(cluster.Call(Get("b")).found);
}

TEST(HostTest, NothingIsAnsweredBeforeAMajorityIsDurable) {
  HostCluster cluster(5);
  const int leader = cluster.ElectLeader(kGroup);
  cluster.Tick(10);
  int stalled = 0;
  for (int i = 0; i < 5 && stalled < 3; ++i) {
    if (i == leader) continue;
    cluster.StallLog(i, true);
    ++stalled;
  }
  Operation operation = Put("a", "1");
  operation.tag = 7;
  cluster.Submit(leader, std::move(operation));
  EXPECT_FALSE(cluster.answers()->Has(7));
  for (int i = 0; i < 5; ++i) cluster.StallLog(i, false);
  cluster.Settle();
  EXPECT_EQ(cluster.answers()->Of(7).code, ReplyCode::kOk);
}

// A read waits for what was committed before it, however long the store takes.
TEST(HostTest, AReadWaitsUntilWhatItMustSeeIsApplied) {
  HostCluster cluster(3, HostOptions(), HostCluster::Disks());
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(cluster.PowerOn(i));
  ASSERT_EQ(cluster.Call(Put("a", "1")).code, ReplyCode::kOk);
  const int leader = cluster.ElectLeader(kGroup);
  cluster.steps(leader).SetFull(true);
  Operation put = Put("a", "2");
  put.tag = 7;
  cluster.Submit(leader, std::move(put));
  EXPECT_FALSE(cluster.answers()->Has(7));
  cluster.Tick(10);
  Operation get = Get("a");
  get.tag = 8;
  cluster.Submit(leader, std::move(get));
  cluster.Tick(10);
  EXPECT_FALSE(cluster.answers()->Has(8));
  cluster.steps(leader).SetFull(false);
  cluster.Tick(10);
  EXPECT_EQ(cluster.answers()->Of(7).code, ReplyCode::kOk);
  EXPECT_EQ(cluster.answers()->Of(8).value, "2");
}

TEST(HostTest, FollowersNameTheLeader) {
  HostCluster cluster(5);
  const int leader = cluster.ElectLeader(kGroup);
  cluster.Tick(10);
  const int other = (leader + 1) % 5;
  Operation operation = Put("a", "1");
  operation.tag = 8;
  cluster.Submit(other, std::move(operation));
  const Reply& reply = cluster.answers()->Of(8);
  EXPECT_EQ(reply.code, ReplyCode::kNotLeader);
  EXPECT_EQ(reply.leader, cluster.map().nodes[leader].address.ToString());
}

TEST(HostTest, SlotsOfOtherGroupsAreRefusedWithTheEpoch) {
  HostCluster cluster(10);
  ASSERT_EQ(cluster.map().groups.size(), 2u);
  std::string key;
  for (int i = 0;; ++i) {
    key = absl::StrCat("k", i);
    if (cluster.map().OwnerOf(kv::SlotOf(key)) == raft::GroupId(1)) break;
  }
  Operation operation = Get(key);
  operation.tag = 9;
  cluster.Submit(0, std::move(operation));  // a member of group 0
  const Reply& reply = cluster.answers()->Of(9);
  EXPECT_EQ(reply.code, ReplyCode::kWrongGroup);
  EXPECT_EQ(reply.map_epoch, 1u);
  EXPECT_EQ(reply.group, raft::GroupId(1));
}

TEST(HostTest, LimitsAreNamedAndNothingIsWritten) {
  HostCluster cluster(5);
  Reply reply = cluster.Call(Put(std::string(257, 'k'), "v"));
  EXPECT_EQ(reply.code, ReplyCode::kInvalidArgument);
  EXPECT_EQ(reply.message, "the key has 257 bytes; the limit is 256");
  reply = cluster.Call(Put("a", std::string(1'024'001, 'v')));
  EXPECT_EQ(reply.message, "the value has 1024001 bytes; the limit is 1024000");
  EXPECT_EQ(cluster.Call(Put("", "v")).message, "the key is empty");
  EXPECT_FALSE(cluster.Call(Get("a")).found);
}

TEST(HostTest, ARepeatedWriteGetsItsFirstAnswer) {
  HostCluster cluster(5);
  const kv::SessionId session = OpenSession(cluster);
  const Reply first = cluster.Call(With(Put("a", "1"), session, 1));
  EXPECT_FALSE(first.found);
  // Not "1": that would be the write seeing itself.
  const Reply again = cluster.Call(With(Put("a", "1"), session, 1));
  EXPECT_EQ(again.code, ReplyCode::kOk);
  EXPECT_FALSE(again.found);
  EXPECT_EQ(again.version, first.version);
}

TEST(HostTest, ARepetitionAtTheNextLeaderGetsTheFirstAnswerToo) {
  HostCluster cluster(5);
  const kv::SessionId session = OpenSession(cluster);
  const Reply first = cluster.Call(With(Put("a", "1"), session, 1));
  cluster.Crash(cluster.ElectLeader(kGroup));
  const Reply again = cluster.Call(With(Put("a", "1"), session, 1));
  EXPECT_EQ(again.code, ReplyCode::kOk) << again.message;
  EXPECT_FALSE(again.found);
  EXPECT_EQ(again.version, first.version);
}

TEST(HostTest, WritesUnderWayAreUnknownWhenLeadershipIsLost) {
  HostCluster cluster(5);
  const int leader = cluster.ElectLeader(kGroup);
  cluster.Tick(10);
  cluster.Isolate(leader, true);
  Operation operation = Put("a", "1");
  operation.tag = 11;
  cluster.Submit(leader, std::move(operation));
  EXPECT_FALSE(cluster.answers()->Has(11));
  // The quorum check makes it step down.
  cluster.Tick(100);
  EXPECT_EQ(cluster.answers()->Of(11).code, ReplyCode::kUnknown);
}

// Turns that proposed something, and what they proposed.
std::pair<uint64_t, uint64_t> Proposals(HostCluster& cluster, int node) {
  const server::HostStats stats = cluster.Stats(node);
  uint64_t turns = 0;
  for (uint64_t count : stats.proposals_per_turn.counts()) turns += count;
  return {turns, stats.proposals_per_turn.sum()};
}

void SubmitPuts(HostCluster& cluster, int leader, uint64_t first_tag,
                uint64_t last_tag) {
  for (uint64_t tag = first_tag; tag <= last_tag; ++tag) {
    Operation operation = Put("key", std::to_string(tag));
    operation.tag = tag;
    cluster.Submit(leader, std::move(operation));
  }
}

// The log of the leader is busy with the first: the others would have to wait
// for it anyway.
TEST(HostTest, WritesThatWaitForTheLogAreProposedTogether) {
  HostCluster cluster(5);
  const int leader = cluster.ElectLeader(kGroup);
  cluster.Tick(10);
  const auto before = Proposals(cluster, leader);
  cluster.StallLog(leader, true);
  SubmitPuts(cluster, leader, 1, 5);
  cluster.Tick(1);
  EXPECT_EQ(Proposals(cluster, leader).first, before.first + 1);
  EXPECT_EQ(Proposals(cluster, leader).second, before.second + 1);
  EXPECT_FALSE(cluster.answers()->Has(1));
  cluster.StallLog(leader, false);
  cluster.Settle();
  EXPECT_EQ(Proposals(cluster, leader).first, before.first + 2);
  EXPECT_EQ(Proposals(cluster, leader).second, before.second + 5);
  for (uint64_t tag = 1; tag <= 5; ++tag) {
    EXPECT_EQ(cluster.answers()->Of(tag).code, ReplyCode::kOk);
    EXPECT_EQ(cluster.answers()->Of(tag).value,
              tag == 1 ? "" : std::to_string(tag - 1));
  }
}

// However many come, they go out in large batches while the log is busy.
TEST(HostTest, ALargeBatchDoesNotWaitForTheLog) {
  HostCluster cluster(5);
  const int leader = cluster.ElectLeader(kGroup);
  cluster.Tick(10);
  const auto before = Proposals(cluster, leader);
  cluster.StallLog(leader, true);
  SubmitPuts(cluster, leader, 1, 600);
  const auto during = Proposals(cluster, leader);
  EXPECT_GT(during.second, before.second + 500);
  EXPECT_LT(during.first, before.first + 10);
  cluster.StallLog(leader, false);
  cluster.Settle();
  EXPECT_EQ(Proposals(cluster, leader).second, before.second + 600);
  EXPECT_EQ(cluster.answers()->Of(600).code, ReplyCode::kOk);
}

// What was never proposed is known not to have happened.
TEST(HostTest, WritesThatWaitForTheLogAreRefusedWhenLeadershipIsLost) {
  HostCluster cluster(5);
  const int leader = cluster.ElectLeader(kGroup);
  cluster.Tick(10);
  cluster.StallLog(leader, true);
  cluster.Isolate(leader, true);
  SubmitPuts(cluster, leader, 1, 3);
  cluster.Tick(100);
  EXPECT_EQ(cluster.answers()->Of(1).code, ReplyCode::kUnknown);
  EXPECT_EQ(cluster.answers()->Of(2).code, ReplyCode::kNotLeader);
  EXPECT_EQ(cluster.answers()->Of(3).code, ReplyCode::kNotLeader);
}

TEST(HostTest, AReadAtADeposedLeaderIsNotAnsweredFromOldState) {
  HostCluster cluster(5);
  EXPECT_EQ(cluster.Call(Put("a", "old")).code, ReplyCode::kOk);
  const int leader = cluster.ElectLeader(kGroup);
  cluster.Isolate(leader, true);
  EXPECT_EQ(cluster.Call(Put("a", "new")).code, ReplyCode::kOk);
  Operation operation = Get("a");
  operation.tag = 12;
  cluster.Submit(leader, std::move(operation));
  cluster.Tick(100);
  EXPECT_EQ(cluster.answers()->Of(12).code, ReplyCode::kNotLeader);
}

TEST(HostTest, EverythingAcknowledgedSurvivesACrashOfAll) {
  HostCluster cluster(5);
  for (int i = 0; i < 50; ++i) {
    ASSERT_EQ(cluster.Call(Put(absl::StrCat("k", i), absl::StrCat(i))).code,
              ReplyCode::kOk);
  }
  const auto terms = [&] {
    raft::Term highest;
    for (int n = 0; n < 5; ++n) {
      highest = std::max(highest, cluster.Stats(n).replicas[0].core.soft.term);
    }
    return highest;
  };
  const raft::Term before = terms();
  for (int n = 0; n < 5; ++n) cluster.Crash(n);
  for (int n = 0; n < 5; ++n) cluster.Restart(n);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(cluster.Call(Get(absl::StrCat("k", i))).value, absl::StrCat(i));
  }
  EXPECT_GE(terms(), before);
}

TEST(HostTest, VersionsRiseThoughTheClockFalls) {
  HostCluster cluster(5);
  const kv::Version before = cluster.Call(Put("a", "1")).version;
  cluster.clock().SetWall(1'000);
  cluster.Crash(cluster.ElectLeader(kGroup));
  EXPECT_GT(cluster.Call(Put("a", "2")).version, before);
}

TEST(HostTest, LeadershipGoesWhereItIsAsked) {
  HostCluster cluster(5);
  const int leader = cluster.ElectLeader(kGroup);
  cluster.Tick(10);
  const raft::NodeId target = cluster.map().nodes[(leader + 2) % 5].id;
  absl::StatusOr<raft::NodeId> result = absl::UnknownError("no answer");
  cluster.host(leader)->TransferLeadership(
      kGroup, target, [&](absl::StatusOr<raft::NodeId> r) { result = r; });
  cluster.Tick(5);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(*result, target);
  EXPECT_EQ(cluster.ElectLeader(kGroup), (leader + 2) % 5);
}

TEST(HostTest, ATransferThatNobodyTakesIsAborted) {
  HostCluster cluster(5);
  const int leader = cluster.ElectLeader(kGroup);
  cluster.Tick(10);
  const int target = (leader + 1) % 5;
  cluster.Crash(target);
  absl::StatusOr<raft::NodeId> result = absl::UnknownError("no answer");
  cluster.host(leader)->TransferLeadership(
      kGroup, cluster.map().nodes[target].id,
      [&](absl::StatusOr<raft::NodeId> r) { result = r; });
  cluster.Tick(60);
  EXPECT_TRUE(absl::IsAborted(result.status())) << result.status();
  EXPECT_EQ(cluster.Call(Put("a", "1")).code, ReplyCode::kOk);
}

TEST(HostTest, AStoppingHostHandsOverAndRefuses) {
  HostCluster cluster(5);
  const int leader = cluster.ElectLeader(kGroup);
  cluster.Tick(10);
  int still_led = -1;
  cluster.host(leader)->BeginStop([&](int n) { still_led = n; });
  cluster.Tick(5);
  EXPECT_EQ(still_led, 0);
  Operation operation = Get("a");
  operation.tag = 13;
  cluster.Submit(leader, std::move(operation));
  EXPECT_EQ(cluster.answers()->Of(13).code, ReplyCode::kUnavailable);
  EXPECT_NE(cluster.ElectLeader(kGroup), leader);
}

TEST(HostTest, ALeaderWhosePeersAreAllGoneStopsInBoundedTime) {
  HostCluster cluster(5);
  const int leader = cluster.ElectLeader(kGroup);
  cluster.Tick(10);
  for (int i = 0; i < 5; ++i) {
    if (i != leader) cluster.Crash(i);
  }
  int still_led = -1;
  cluster.host(leader)->BeginStop([&](int n) { still_led = n; });
  cluster.Tick(60);
  EXPECT_EQ(still_led, 1);
}

TEST(HostTest, StatusTellsTheSizeOfTheLog) {
  HostCluster cluster(5);
  const int leader = cluster.ElectLeader(kGroup);
  const uint64_t before = cluster.Stats(leader).replicas[0].log_bytes;
  cluster.Call(Put("a", std::string(1000, 'v')));
  const uint64_t after = cluster.Stats(leader).replicas[0].log_bytes;
  EXPECT_GT(after, before + 1000);
  EXPECT_LT(after, before + 1200);
}

TEST(HostTest, StopAnswersEverythingThatWaits) {
  HostCluster cluster(5);
  const int leader = cluster.ElectLeader(kGroup);
  cluster.Tick(10);
  cluster.Isolate(leader, true);
  Operation put = Put("a", "1");
  put.tag = 14;
  cluster.Submit(leader, std::move(put));
  Operation get = Get("a");
  get.tag = 15;
  cluster.Submit(leader, std::move(get));
  cluster.host(leader)->Stop();
  EXPECT_EQ(cluster.answers()->Of(14).code, ReplyCode::kUnknown);
  EXPECT_EQ(cluster.answers()->Of(15).code, ReplyCode::kUnavailable);
}

TEST(HostTest, AFollowerThatWasAwayCatchesUpFromTheLog) {
  HostOptions options;
  options.raft.max_cached_bytes = 1;  // nothing is kept in memory
  HostCluster cluster(5, options);
  const int leader = cluster.ElectLeader(kGroup);
  const int away = (leader + 1) % 5;
  cluster.Isolate(away, true);
  for (int i = 0; i < 60; ++i) {
    ASSERT_EQ(cluster.Call(Put(absl::StrCat("k", i), "v")).code,
              ReplyCode::kOk);
  }
  cluster.Isolate(away, false);
  cluster.Tick(50);
  const auto leader_core = cluster.Stats(leader).replicas[0].core;
  const auto away_core = cluster.Stats(away).replicas[0].core;
  EXPECT_EQ(away_core.applied, leader_core.applied);
  EXPECT_EQ(away_core.last_index, leader_core.last_index);
}

// Ticks until the voters of `group` are those without `gone`, with `comes`.
void Replace(HostCluster& cluster, raft::GroupId group, int gone, int comes) {
  const raft::NodeId out = cluster.map().nodes[gone].id;
  const raft::NodeId in = cluster.map().nodes[comes].id;
  for (int i = 0; i < 500; ++i) {
    Host* directory = cluster.host(cluster.ElectLeader(kv::kDirectoryGroup));
    const kv::GroupInfo info = *directory->map()->FindGroup(group);
    if (!info.changing() && !info.Concerns(out) && info.Concerns(in)) return;
    kv::SetTarget change;
    change.group = {group, info.target, info.target};
    auto& target = change.group.target;
    if (std::erase(target, out) > 0) {
      target.push_back(in);
      std::sort(target.begin(), target.end());
      directory->ProposeDirectoryChange(change, [](auto) {});
    }
    cluster.Tick(5);
  }
  FAIL() << "node " << gone << " is not replaced by " << comes;
}

// The file with the map is written after the map is in use.
TEST(HostTest, AVoterThatStartsWithAMapFromBeforeItWasOneForgetsNothing) {
  constexpr raft::GroupId kOther{1};
  HostCluster cluster(11);
  Replace(cluster, kOther, 5, 10);
  const auto index_of = [&](int node) {
    for (const ReplicaStats& replica : cluster.Stats(node).replicas) {
      if (replica.group == kOther) return replica.core.last_index;
    }
    return raft::Index();
  };
  cluster.Tick(5);
  const raft::Index had = index_of(10);
  ASSERT_GT(had, raft::Index());
  cluster.Crash(10);
  cluster.Isolate(10, true);
  cluster.Restart(10);
  ASSERT_EQ(cluster.host(10)->map()->epoch, 1u);
  cluster.Tick(10);
  EXPECT_EQ(index_of(10), had);
  // And goes when a newer map says so.
  cluster.Isolate(10, false);
  Replace(cluster, kOther, 10, 5);
  cluster.Tick(10);
  EXPECT_TRUE(cluster.Stats(10).replicas.empty());
}

// A replica that was made by an early message, or again by a late one, would
// have a say in a group that it is not in (H5, O4).
TEST(HostTest, MessagesOfAGroupThatItIsNotInMakeNoReplica) {
  constexpr raft::GroupId kOther{1};
  HostCluster cluster(11);
  const raft::NodeId peer = cluster.map().nodes[6].id;
  const raft::LogPosition far{raft::Term(9), raft::Index(900)};
  raft::Configuration everybody;
  for (const auto& node : cluster.map().nodes) {
    everybody.voters.push_back(node.id);
  }
  std::sort(everybody.voters.begin(), everybody.voters.end());
  raft::AppendEntries append;
  append.term = raft::Term(9);
  append.previous = kv::kFirstPosition;
  append.entries.push_back({raft::Term(9), kv::kFirstPosition.index + 1,
                            raft::EntryKind::kNoop, raft::MakePayload("")});
  const auto expect_nothing = [&](int node) {
    ASSERT_TRUE(cluster.Stats(node).replicas.empty());
    const std::vector<raft::Message> messages = {
        append,
        raft::Heartbeat{raft::Term(9), raft::Index(2), 1},
        raft::RequestVote{raft::Term(9), far, true, false},
        raft::RequestVote{raft::Term(9), far, false, true},
        raft::InstallSnapshot{raft::Term(9), {far, everybody}},
        raft::TimeoutNow{raft::Term(9)}};
    for (const raft::Message& message : messages) {
      cluster.host(node)->OnPeerMessages(peer, {{kOther, message}});
      EXPECT_TRUE(cluster.Stats(node).replicas.empty()) << message.index();
    }
    cluster.Tick(60);
    EXPECT_TRUE(cluster.Stats(node).replicas.empty());
    EXPECT_EQ(cluster.Stats(node).peer_messages_dropped, messages.size());
  };
  expect_nothing(10);  // a spare, so far
  Replace(cluster, kOther, 5, 10);
  cluster.Tick(10);
  expect_nothing(5);  // was a member until just now
  Operation put = Put("a", "1");
  EXPECT_EQ(cluster.Call(put).code, ReplyCode::kOk);
}

// Who has been idle for how long is told by indexes: clocks that jump by days,
// on all servers, end no session (K3).
TEST(HostTest, NoClockEndsASession) {
  HostCluster cluster(5);
  const uint64_t now = cluster.clock().WallMillis();
  constexpr uint64_t kDay = 86'400'000;
  const kv::SessionId session = OpenSession(cluster);
  const Reply first = cluster.Call(With(Put("a", "1"), session, 1));
  kv::Sequence sequence = 1;
  for (const uint64_t wall :
       {now + kDay, now - kDay, now + 400 * kDay, uint64_t{1}, now}) {
    cluster.clock().SetWall(wall);
    cluster.Tick(20);
    // Others write and open sessions at that time.
    ASSERT_EQ(cluster.Call(Put("b", "x")).code, ReplyCode::kOk);
    OpenSession(cluster);
    cluster.Crash(cluster.ElectLeader(kGroup));
    for (int n = 0; n < 5; ++n) {
      if (!cluster.running(n)) cluster.Restart(n);
    }
    const Reply again = cluster.Call(With(Put("a", "1"), session, 1));
    EXPECT_EQ(again.code, ReplyCode::kOk) << again.message;
    EXPECT_EQ(again.version, first.version);
    EXPECT_FALSE(again.found);
    const Reply next = cluster.Call(With(Put("a", "2"), session, ++sequence));
    EXPECT_EQ(next.code, ReplyCode::kOk) << next.message;
    EXPECT_GT(next.version, first.version);
  }
}

// It has told another to lead at once and hears no more: what it has is old as
// soon as that one leads, however short ago it was confirmed (R3).
TEST(HostTest, ALeaderThatHasHandedOverAnswersNoReadAlone) {
  HostCluster cluster(5);
  ASSERT_EQ(cluster.Call(Put("a", "old")).code, ReplyCode::kOk);
  const int old = cluster.ElectLeader(kGroup);
  cluster.Tick(10);
  const int next = (old + 2) % 5;
  ASSERT_EQ(cluster.Call(Get("a")).value, "old");  // confirmed just now
  cluster.SetSendHook([&](int from, int, const GroupMessage& message) {
    if (from == next &&
        std::holds_alternative<raft::RequestVote>(message.message)) {
      cluster.Isolate(old, true);  // before it hears of the vote
    }
  });
  cluster.host(old)->TransferLeadership(kGroup, cluster.map().nodes[next].id,
                                        [](auto) {});
  cluster.Settle();
  Operation write = Put("a", "new");
  write.tag = 21;
  cluster.Submit(next, std::move(write));
  ASSERT_TRUE(cluster.answers()->Has(21));
  ASSERT_EQ(cluster.answers()->Of(21).code, ReplyCode::kOk);
  ASSERT_EQ(cluster.Stats(old).replicas[0].core.soft.role, raft::Role::kLeader);
  Operation read = Get("a");
  read.tag = 22;
  cluster.Submit(old, std::move(read));
  EXPECT_FALSE(cluster.answers()->Has(22));
  cluster.Tick(100);
  EXPECT_EQ(cluster.answers()->Of(22).code, ReplyCode::kNotLeader);
}

}  // namespace
}  // namespace kv739::server
