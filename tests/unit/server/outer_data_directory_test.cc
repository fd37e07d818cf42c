// The data directory: one owner, one identity, nothing taken that is damaged.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/data_directory.h"
#include "server/durable_file.h"
#include "server/identity_file.h"
#include "server/wal/wal.h"
#include "tests/unit/server/outer_temp_dir.h"

namespace kv739::server {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr uint64_t kCluster = 0xc0ffee;
constexpr raft::NodeId kNode{17};
constexpr char kAddress[] = "localhost:50051";

absl::StatusOr<std::unique_ptr<DataDirectory>> Open(const std::string& path) {
  return DataDirectory::Open(path, kCluster, kNode, kAddress);
}

std::string Message(const absl::Status& status) {
  return std::string(status.message());
}

// Makes it look like a directory in which a node has worked.
void Use(DataDirectory* dir) {
  WriteText(dir->wal_path() + "/1", "x");
  WriteText(dir->db_path() + "/CURRENT", "x");
  ASSERT_TRUE(dir->MarkInitialized().ok());
}

TEST(DataDirectory, IsMadeOnceAndKeepsItsIdentity) {
  const OuterTempDir temp;
  const std::string path = temp.Sub("a/b/data");
  Identity first;
  {
    auto dir = Open(path);
    ASSERT_TRUE(dir.ok()) << dir.status();
    first = (*dir)->identity();
    EXPECT_EQ(first.cluster_id, kCluster);
    EXPECT_EQ(first.node, kNode);
    EXPECT_EQ(first.address, kAddress);
    EXPECT_NE(first.incarnation, 0u);
    EXPECT_FALSE((*dir)->initialized());
    EXPECT_TRUE(fs::is_directory((*dir)->wal_path()));
    EXPECT_TRUE(fs::is_directory((*dir)->db_path()));
  }
  {
    auto dir = Open(path + "/");
    ASSERT_TRUE(dir.ok()) << dir.status();
    EXPECT_EQ((*dir)->identity().incarnation, first.incarnation);
    EXPECT_FALSE((*dir)->initialized()) << "nobody said so";
    Use(dir->get());
    EXPECT_TRUE((*dir)->initialized());
  }
  auto dir = Open(path);
  ASSERT_TRUE(dir.ok()) << dir.status();
  EXPECT_TRUE((*dir)->initialized());
  EXPECT_TRUE((*dir)->MarkInitialized().ok());
  EXPECT_EQ((*dir)->identity().incarnation, first.incarnation);

  const OuterTempDir other;
  auto second = Open(other.path());
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_NE((*second)->identity().incarnation, first.incarnation);
}

TEST(DataDirectory, HasOneOwnerInAProcess) {
  const OuterTempDir temp;
  auto first = Open(temp.path());
  ASSERT_TRUE(first.ok()) << first.status();
  auto second = Open(temp.path());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(second.status()),
              HasSubstr(absl::StrCat("in use by process ", getpid())));
  first->reset();
  EXPECT_TRUE(Open(temp.path()).ok());
}

TEST(DataDirectory, HasOneOwnerAmongProcessesAndSurvivesAKill) {
  const OuterTempDir temp;
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto dir = Open(temp.path());
    const char answer = dir.ok() ? 'y' : 'n';
    if (write(ready[1], &answer, 1) != 1) _exit(1);
    for (;;) pause();  // killed below
  }
  char answer = 0;
  ASSERT_EQ(read(ready[0], &answer, 1), 1);
  EXPECT_EQ(answer, 'y');
  auto dir = Open(temp.path());
  EXPECT_EQ(dir.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(dir.status()),
              HasSubstr(absl::StrCat("in use by process ", child)));
  ASSERT_EQ(kill(child, SIGKILL), 0);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  close(ready[0]);
  close(ready[1]);
  dir = Open(temp.path());
  EXPECT_TRUE(dir.ok()) << dir.status();
}

TEST(DataDirectory, RefusesAnotherClusterAndAnotherNode) {
  const OuterTempDir temp;
  ASSERT_TRUE(Open(temp.path()).ok());
  const std::string before = ReadText(temp.Sub("identity"));

  auto dir = DataDirectory::Open(temp.path(), 0xbeef, kNode, kAddress);
  EXPECT_EQ(dir.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(dir.status()), HasSubstr("0000000000c0ffee"));
  EXPECT_THAT(Message(dir.status()), HasSubstr("000000000000beef"));

  dir = DataDirectory::Open(temp.path(), kCluster, raft::NodeId(18), "h:2");
  EXPECT_EQ(dir.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(dir.status()), HasSubstr("localhost:50051"));
  EXPECT_THAT(Message(dir.status()), HasSubstr("h:2"));
  EXPECT_EQ(ReadText(temp.Sub("identity")), before);
}

TEST(DataDirectory, RefusesADamagedIdentityAtEveryByte) {
  const OuterTempDir temp;
  ASSERT_TRUE(Open(temp.path()).ok());
  const std::string path = temp.Sub("identity");
  const std::string good = ReadText(path);
  const auto refused = [&](const std::string& text) {
    WriteText(path, text);
    const auto code = Open(temp.path()).status().code();
    EXPECT_EQ(ReadText(path), text) << "must not be touched";
    return code;
  };
  for (size_t i = 0; i < good.size(); ++i) {
    for (const int bit : {0, 5, 7}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ (1 << bit));
      EXPECT_EQ(refused(bad), absl::StatusCode::kDataLoss) << i << " " << bit;
    }
    EXPECT_EQ(refused(good.substr(0, i)), absl::StatusCode::kDataLoss) << i;
  }
  EXPECT_EQ(refused(good + "\n"), absl::StatusCode::kDataLoss);
  EXPECT_EQ(refused(good + good), absl::StatusCode::kDataLoss);
  EXPECT_EQ(refused(std::string(100'000, 'x')), absl::StatusCode::kDataLoss);
  fs::remove(path);
  fs::create_directory(path);
  EXPECT_EQ(Open(temp.path()).status().code(), absl::StatusCode::kDataLoss);
  fs::remove(path);
  fs::create_symlink("nowhere", path);
  EXPECT_EQ(Open(temp.path()).status().code(), absl::StatusCode::kDataLoss);
  fs::remove(path);
  WriteText(path, good);
  EXPECT_TRUE(Open(temp.path()).ok());
}

TEST(DataDirectory, SaysWhenAnotherVersionWroteIt) {
  Identity identity;
  identity.incarnation = 1;
  std::string text = FormatIdentity(identity);
  ASSERT_TRUE(ParseIdentity(text, "p").ok());
  EXPECT_EQ(ParsePeers(text, "p").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(ParsePeers(text, "p").status()),
              HasSubstr("another kind of file"));
  const size_t title = text.find("format 1");
  ASSERT_NE(title, std::string::npos);
  text = text.replace(title, 8, "format 2").substr(0, text.find("checksum"));
  text += absl::StrCat("checksum ",
                       FormatId(XXH3_64bits(text.data(), text.size())), "\n");
  const absl::Status newer = ParseIdentity(text, "p").status();
  EXPECT_EQ(newer.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(newer), HasSubstr("has format 2"));
}

// What a crash can leave of a first start, at each of its steps.
TEST(DataDirectory, FirstStartThatWasCutOffIsBegunAgain) {
  Identity identity;
  identity.cluster_id = kCluster;
  identity.node = kNode;
  identity.address = kAddress;
  identity.incarnation = 5;
  const std::string whole = FormatIdentity(identity);
  for (const size_t written :
       {size_t{0}, size_t{1}, whole.size() - 1, whole.size()}) {
    const OuterTempDir temp;
    WriteText(temp.Sub("LOCK"), "");
    WriteText(temp.Sub("identity.unfinished"), whole.substr(0, written));
    auto dir = Open(temp.path());
    ASSERT_TRUE(dir.ok()) << dir.status();
    EXPECT_NE((*dir)->identity().incarnation, 5u)
        << "an identity that was never finished was never anybody's";
    EXPECT_FALSE(fs::exists(temp.Sub("identity.unfinished")));
  }
  // After the identity, before the directories; after an unfinished marker.
  const OuterTempDir temp;
  WriteText(temp.Sub("identity"), whole);
  WriteText(temp.Sub("initialized.unfinished"), "The rep");
  WriteText(temp.Sub("peers.unfinished"), "kv739 pe");
  auto dir = Open(temp.path());
  ASSERT_TRUE(dir.ok()) << dir.status();
  EXPECT_EQ((*dir)->identity().incarnation, 5u);
  EXPECT_FALSE((*dir)->initialized());
  EXPECT_TRUE(fs::is_directory((*dir)->wal_path()));
  EXPECT_TRUE((*dir)->CheckPeer(raft::NodeId(3), 4).ok());
}

TEST(DataDirectory, LeavesOtherPeoplesDirectoriesAlone) {
  const OuterTempDir temp;
  WriteText(temp.Sub("thesis.tex"), "x");
  auto dir = Open(temp.path());
  EXPECT_EQ(dir.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(dir.status()), HasSubstr("'thesis.tex'"));
  EXPECT_FALSE(fs::exists(temp.Sub("LOCK"))) << "nothing was to be changed";

  // Ours, with the identity gone.
  const OuterTempDir ours;
  ASSERT_TRUE(Open(ours.path()).ok());
  fs::remove(ours.Sub("identity"));
  EXPECT_EQ(Open(ours.path()).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(fs::exists(ours.Sub("identity")));

  // A fresh file system of its own is fine.
  const OuterTempDir mount;
  fs::create_directory(mount.Sub("lost+found"));
  EXPECT_TRUE(Open(mount.path()).ok());

  const OuterTempDir file;
  WriteText(file.Sub("data"), "x");
  EXPECT_EQ(Open(file.Sub("data")).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Open(file.Sub("data/below")).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Open("").status().code(), absl::StatusCode::kInvalidArgument);
}

// The log makes its first file with its first write, and a server may be
// killed before it has one.
TEST(DataDirectory, TakesAServerThatWasKilledBeforeItsFirstWrite) {
  const OuterTempDir temp;
  {
    auto dir = Open(temp.path());
    ASSERT_TRUE(dir.ok()) << dir.status();
    WriteText((*dir)->db_path() + "/CURRENT", "x");
    ASSERT_TRUE((*dir)->MarkInitialized().ok());
  }
  {
    auto dir = Open(temp.path());
    ASSERT_TRUE(dir.ok()) << dir.status();
    EXPECT_TRUE((*dir)->initialized());
    wal::WalOptions options;
    options.segment_bytes = 1 << 20;
    auto log =
        wal::Wal::Open(wal::FileSystem::Posix(), (*dir)->wal_path(), options);
    EXPECT_TRUE(log.ok()) << log.status();
  }
  EXPECT_TRUE(Open(temp.path()).ok());
  fs::remove_all(temp.Sub("wal"));
  fs::create_directory(temp.Sub("wal"));
  EXPECT_EQ(Open(temp.path()).status().code(), absl::StatusCode::kDataLoss);
}

// A server that was in use and finds nothing must not vote again (M6).
TEST(DataDirectory, RefusesAUsedServerWhoseLogOrDataIsGone) {
  for (const char* part : {"wal", "db"}) {
    for (const bool remove_all : {false, true}) {
      const OuterTempDir temp;
      {
        auto dir = Open(temp.path());
        ASSERT_TRUE(dir.ok()) << dir.status();
        Use(dir->get());
      }
      ASSERT_TRUE(Open(temp.path()).ok());
      fs::remove_all(temp.Sub(part));
      if (!remove_all) fs::create_directory(temp.Sub(part));
      const auto dir = Open(temp.path());
      EXPECT_EQ(dir.status().code(), absl::StatusCode::kDataLoss);
      EXPECT_THAT(Message(dir.status()), HasSubstr(temp.Sub(part)));
    }
  }
}

TEST(DataDirectory, RemembersPeersOverARestart) {
  const OuterTempDir temp;
  {
    auto dir = Open(temp.path());
    ASSERT_TRUE(dir.ok()) << dir.status();
    EXPECT_TRUE((*dir)->CheckPeer(raft::NodeId(1), 100).ok());
    EXPECT_TRUE((*dir)->CheckPeer(raft::NodeId(2), 200).ok());
    EXPECT_TRUE((*dir)->CheckPeer(raft::NodeId(1), 100).ok());
    // Ourselves, and somebody who says that he is us.
    EXPECT_TRUE((*dir)->CheckPeer(kNode, (*dir)->identity().incarnation).ok());
    EXPECT_EQ((*dir)->CheckPeer(kNode, 12345).code(),
              absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ((*dir)->CheckPeer(raft::NodeId(0), 5).code(),
              absl::StatusCode::kInvalidArgument);
    EXPECT_EQ((*dir)->CheckPeer(raft::NodeId(5), 0).code(),
              absl::StatusCode::kInvalidArgument);
  }
  auto dir = Open(temp.path());
  ASSERT_TRUE(dir.ok()) << dir.status();
  const absl::Status wiped = (*dir)->CheckPeer(raft::NodeId(1), 101);
  EXPECT_EQ(wiped.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(wiped), HasSubstr(FormatId(100)));
  EXPECT_THAT(Message(wiped), HasSubstr(FormatId(101)));
  EXPECT_TRUE((*dir)->CheckPeer(raft::NodeId(1), 100).ok());
  EXPECT_TRUE((*dir)->CheckPeer(raft::NodeId(2), 200).ok());
  EXPECT_TRUE((*dir)->CheckPeer(raft::NodeId(3), 300).ok());
}

TEST(DataDirectory, RefusesDamagedPeersAtEveryByte) {
  const OuterTempDir temp;
  {
    auto dir = Open(temp.path());
    ASSERT_TRUE(dir.ok()) << dir.status();
    ASSERT_TRUE((*dir)->CheckPeer(raft::NodeId(1), 100).ok());
    ASSERT_TRUE((*dir)->CheckPeer(raft::NodeId(2), 200).ok());
  }
  const std::string path = temp.Sub("peers");
  const std::string good = ReadText(path);
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    WriteText(path, bad);
    EXPECT_EQ(Open(temp.path()).status().code(), absl::StatusCode::kDataLoss)
        << i;
    WriteText(path, good.substr(0, i));
    EXPECT_EQ(Open(temp.path()).status().code(), absl::StatusCode::kDataLoss)
        << i;
  }
}

// A peer that could not be written down is not accepted, and the next try
// does better.
TEST(DataDirectory, PeerThatCannotBeWrittenIsNotAccepted) {
  const OuterTempDir temp;
  auto dir = Open(temp.path());
  ASSERT_TRUE(dir.ok()) << dir.status();
  fs::create_directory(temp.Sub("peers.unfinished"));  // in the way
  EXPECT_FALSE((*dir)->CheckPeer(raft::NodeId(1), 100).ok());
  EXPECT_FALSE(fs::exists(temp.Sub("peers")));
  fs::remove(temp.Sub("peers.unfinished"));
  EXPECT_TRUE((*dir)->CheckPeer(raft::NodeId(1), 101).ok())
      << "the first one was never accepted";
  EXPECT_FALSE((*dir)->CheckPeer(raft::NodeId(1), 100).ok());
}

TEST(DataDirectory, PeersComeFromManyThreads) {
  const OuterTempDir temp;
  constexpr int kThreads = 8;
  constexpr uint64_t kPeers = 10;
  std::vector<std::pair<uint64_t, uint64_t>> accepted[kThreads];
  {
    auto dir = Open(temp.path());
    ASSERT_TRUE(dir.ok()) << dir.status();
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (uint64_t peer = 100; peer < 100 + kPeers; ++peer) {
          const uint64_t incarnation = 1 + (t % 2);
          if ((*dir)->CheckPeer(raft::NodeId(peer), incarnation).ok()) {
            accepted[t].emplace_back(peer, incarnation);
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  // Each peer under one incarnation, and that one is what a restart knows.
  std::map<uint64_t, uint64_t> winners;
  for (const auto& list : accepted) {
    for (const auto& [peer, incarnation] : list) {
      EXPECT_EQ(winners.emplace(peer, incarnation).first->second, incarnation);
    }
  }
  EXPECT_EQ(winners.size(), kPeers);
  auto dir = Open(temp.path());
  ASSERT_TRUE(dir.ok()) << dir.status();
  for (const auto& [peer, incarnation] : winners) {
    EXPECT_TRUE((*dir)->CheckPeer(raft::NodeId(peer), incarnation).ok());
    EXPECT_FALSE((*dir)->CheckPeer(raft::NodeId(peer), 3 - incarnation).ok());
  }
}

TEST(DurableFile, ReplacesWholeFilesAndNamesFailures) {
  const OuterTempDir temp;
  const std::string path = temp.Sub("f");
  EXPECT_EQ(ReadWholeFile(path, 10).status().code(),
            absl::StatusCode::kNotFound);
  ASSERT_TRUE(WriteFileDurably(path, "one").ok());
  ASSERT_TRUE(WriteFileDurably(path, "").ok());
  EXPECT_EQ(*ReadWholeFile(path, 0), "");
  ASSERT_TRUE(WriteFileDurably(path, "four").ok());
  EXPECT_EQ(*ReadWholeFile(path, 4), "four");
  EXPECT_EQ(ReadWholeFile(path, 3).status().code(),
            absl::StatusCode::kResourceExhausted);
  const absl::Status s = WriteFileDurably(temp.Sub("no/f"), "x");
  EXPECT_EQ(s.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(s), HasSubstr("no/f"));
}

}  // namespace
}  // namespace kv739::server
