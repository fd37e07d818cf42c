// The write-ahead log without accidents, and its refusals.
#include "server/wal/wal.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fake_file_system.h"
#include "tests/support/wal_model.h"

namespace kv739::wal {
namespace {

using raft::GroupId;
using raft::HardState;
using raft::Index;
using raft::LogPosition;
using raft::NodeId;
using raft::Term;
using testing::HasSubstr;

constexpr char kDir[] = "wal";
const GroupId kGroup(4);

WalOptions Options() {
  WalOptions options;
  options.segment_bytes = 4 * kBlockBytes;
  options.new_log_id = 739;
  return options;
}

std::unique_ptr<Wal> MustOpen(FakeFileSystem* fs,
                              const WalOptions& options = Options()) {
  auto wal = Wal::Open(fs, kDir, options);
  EXPECT_TRUE(wal.ok()) << wal.status();
  return wal.ok() ? *std::move(wal) : nullptr;
}

GroupWrite Entries(uint64_t term, uint64_t first, uint64_t count,
                   uint64_t size = 100, GroupId group = kGroup) {
  GroupWrite write;
  write.group = group;
  for (uint64_t i = 0; i < count; ++i) {
    write.entries.push_back(
        MakeEntry(term, first + i, std::string(size, 'a' + i % 26)));
  }
  return write;
}

absl::Status AppendOne(Wal& wal, GroupWrite write) {
  return wal.Append({&write, 1});
}

uint64_t LastIndex(Wal& wal, GroupId group, uint64_t from) {
  auto entries = wal.Read(group, Index(from), Index(1 << 20), ~uint64_t{0});
  return entries.ok() ? entries->back().index.value() : 0;
}

TEST(Wal, AnEmptyDirectoryIsAnEmptyLog) {
  FakeFileSystem fs;
  auto wal = MustOpen(&fs);
  EXPECT_TRUE(wal->recovered().empty());
  EXPECT_EQ(wal->Read(kGroup, Index(1), Index(1), 1).status().code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_TRUE(wal->Append({}).ok());
  EXPECT_TRUE(fs.Paths().empty());  // nothing is written for nothing
}

TEST(Wal, RemembersAllThatWasAppended) {
  FakeFileSystem fs;
  auto wal = MustOpen(&fs);
  GroupWrite write = Entries(3, 1, 3);
  write.hard_state = HardState{Term(3), NodeId(2), Index(1)};
  write.entries[1].kind = raft::EntryKind::kConfiguration;
  ASSERT_TRUE(AppendOne(*wal, write).ok());
  ASSERT_TRUE(AppendOne(*wal, Entries(5, 3, 2)).ok());
  wal.reset();
  fs.PowerLoss([] { return false; });
  wal = MustOpen(&fs);
  ASSERT_EQ(wal->recovered().size(), 1u);
  const RecoveredGroup& group = wal->recovered().at(kGroup);
  EXPECT_EQ(group.hard_state, (HardState{Term(3), NodeId(2), Index(1)}));
  EXPECT_EQ(group.start, LogPosition());
  EXPECT_EQ(group.last_index, Index(4));
  ASSERT_EQ(group.terms.size(), 2u);
  EXPECT_EQ(group.terms[1].first, Index(3));
  EXPECT_EQ(group.terms[1].term, Term(5));
  auto entries = wal->Read(kGroup, Index(1), Index(4), 1 << 20);
  ASSERT_TRUE(entries.ok());
  ASSERT_EQ(entries->size(), 4u);
  EXPECT_EQ((*entries)[1].kind, raft::EntryKind::kConfiguration);
  EXPECT_EQ((*entries)[1].term, Term(3));
  EXPECT_EQ(*(*entries)[3].data, std::string(100, 'b'));
}

TEST(Wal, OneAppendOfManyGroupsIsOneSync) {
  for (bool direct : {true, false}) {
    FakeFileSystem fs(direct);
    auto wal = MustOpen(&fs);
    ASSERT_TRUE(AppendOne(*wal, Entries(1, 1, 1)).ok());
    const uint64_t before = fs.syncs();
    std::vector<GroupWrite> writes;
    for (uint64_t g = 10; g < 30; ++g) {
      writes.push_back(Entries(1, 1, 2, 50, GroupId(g)));
      writes.back().hard_state = HardState{Term(1), NodeId(1), Index()};
    }
    ASSERT_TRUE(wal->Append(writes).ok());
    EXPECT_EQ(fs.syncs(), before + 1);
    EXPECT_EQ(wal->stats().appends, 2u);
    EXPECT_EQ(wal->stats().entries, 41u);
  }
}

TEST(Wal, ReadBoundsBytesAndRange) {
  for (uint64_t cache : {0, 1 << 20}) {
    FakeFileSystem fs;
    WalOptions options = Options();
    options.cache_bytes = cache;
    auto wal = MustOpen(&fs, options);
    for (uint64_t i = 1; i <= 40; i += 4) {
      ASSERT_TRUE(AppendOne(*wal, Entries(1, i, 4, 1000)).ok());
    }
    EXPECT_GT(wal->stats().segments, 2u);
    EXPECT_EQ(wal->Read(kGroup, Index(3), Index(40), 2500)->size(), 2u);
    EXPECT_EQ(wal->Read(kGroup, Index(3), Index(40), 0)->size(), 1u);
    EXPECT_EQ(wal->Read(kGroup, Index(3), Index(5), 1 << 20)->size(), 3u);
    EXPECT_EQ(wal->Read(kGroup, Index(1), Index(99), 1 << 20)->size(), 40u);
    for (uint64_t bad : {0, 41}) {
      EXPECT_EQ(wal->Read(kGroup, Index(bad), Index(50), 1000).status().code(),
                absl::StatusCode::kOutOfRange);
    }
  }
}

TEST(Wal, CacheSharesPayloadsAndIsBounded) {
  FakeFileSystem fs;
  WalOptions options = Options();
  options.cache_bytes = 5000;
  auto wal = MustOpen(&fs, options);
  GroupWrite write = Entries(1, 1, 20, 1000);
  const raft::Payload last = write.entries.back().data;
  const raft::Payload first = write.entries.front().data;
  ASSERT_TRUE(AppendOne(*wal, write).ok());
  EXPECT_LE(wal->stats().cached_bytes, 5000u);
  EXPECT_GT(wal->stats().cached_bytes, 3000u);
  auto read = wal->Read(kGroup, Index(20), Index(20), 1);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->front().data, last);  // no copy
  read = wal->Read(kGroup, Index(1), Index(1), 1);
  ASSERT_TRUE(read.ok());
  EXPECT_NE(read->front().data, first);  // from the file
  EXPECT_EQ(*read->front().data, *first);
  // Replaced and removed entries leave the cache.
  ASSERT_TRUE(AppendOne(*wal, Entries(2, 1, 1, 10)).ok());
  EXPECT_LT(wal->stats().cached_bytes, 200u);
  GroupWrite removal;
  removal.group = kGroup;
  removal.remove_group = true;
  ASSERT_TRUE(AppendOne(*wal, removal).ok());
  EXPECT_EQ(wal->stats().cached_bytes, 0u);
  EXPECT_EQ(wal->stats().live_bytes, 0u);
}

TEST(Wal, ARemovedGroupKeepsItsVote) {
  FakeFileSystem fs;
  auto wal = MustOpen(&fs);
  GroupWrite write = Entries(1, 1, 10);
  write.hard_state = raft::HardState{Term(3), raft::NodeId(2), Index(7)};
  ASSERT_TRUE(AppendOne(*wal, write).ok());
  GroupWrite removal;
  removal.group = kGroup;
  removal.remove_group = true;
  ASSERT_TRUE(AppendOne(*wal, removal).ok());
  for (int i = 0; i < 2; ++i) {  // and the second time out of a later segment
    wal.reset();
    wal = MustOpen(&fs);
    const RecoveredGroup& group = wal->recovered().at(kGroup);
    EXPECT_EQ(group.hard_state,
              (raft::HardState{Term(3), raft::NodeId(2), Index()}));
    EXPECT_EQ(group.last_index, Index());
    EXPECT_EQ(group.start, LogPosition());
  }
  EXPECT_TRUE(AppendOne(*wal, Entries(4, 1, 2)).ok());
}

TEST(Wal, CompactionKeepsOrDropsTheRest) {
  FakeFileSystem fs;
  auto wal = MustOpen(&fs);
  ASSERT_TRUE(AppendOne(*wal, Entries(1, 1, 10)).ok());
  GroupWrite compact;
  compact.group = kGroup;
  compact.compact = LogPosition{Term(1), Index(4)};
  ASSERT_TRUE(AppendOne(*wal, compact).ok());
  EXPECT_EQ(wal->Read(kGroup, Index(4), Index(9), 1).status().code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(LastIndex(*wal, kGroup, 5), 10u);
  compact.compact = LogPosition{Term(1), Index(3)};  // not ahead: ignored
  ASSERT_TRUE(AppendOne(*wal, compact).ok());
  EXPECT_EQ(LastIndex(*wal, kGroup, 5), 10u);
  compact.compact = LogPosition{Term(2), Index(6)};  // another history
  ASSERT_TRUE(AppendOne(*wal, compact).ok());
  EXPECT_EQ(LastIndex(*wal, kGroup, 7), 0u);
  ASSERT_TRUE(AppendOne(*wal, Entries(2, 7, 2)).ok());
  compact.compact = LogPosition{Term(3), Index(100)};  // ahead of everything
  ASSERT_TRUE(AppendOne(*wal, compact).ok());
  wal.reset();
  wal = MustOpen(&fs);
  const RecoveredGroup& group = wal->recovered().at(kGroup);
  EXPECT_EQ(group.start, (LogPosition{Term(3), Index(100)}));
  EXPECT_EQ(group.last_index, Index(100));
  EXPECT_TRUE(group.terms.empty());
  EXPECT_TRUE(AppendOne(*wal, Entries(3, 101, 1)).ok());
}

TEST(Wal, EntriesThatDoNotFitAreRefusedAndChangeNothing) {
  FakeFileSystem fs;
  auto wal = MustOpen(&fs);
  GroupWrite compact = Entries(1, 1, 5);
  compact.compact = LogPosition{Term(1), Index(2)};
  ASSERT_TRUE(AppendOne(*wal, compact).ok());
  const uint64_t operations = fs.operations();
  std::vector<GroupWrite> bad = {
      Entries(1, 7, 1),                   // a gap
      Entries(1, 2, 1),                   // compacted
      Entries(1, 2, 1, 10, GroupId(77)),  // unknown group
  };
  bad.push_back(Entries(1, 6, 2));
  bad.back().entries[1].index = Index(9);  // a gap inside
  bad.push_back(Entries(2, 6, 2));
  bad.back().entries[1].term = Term(1);  // term goes down
  bad.push_back(Entries(1, 6, 1));
  bad.back().entries[0].data = nullptr;
  for (const GroupWrite& write : bad) {
    EXPECT_EQ(AppendOne(*wal, write).code(),
              absl::StatusCode::kInvalidArgument);
  }
  // One bad write keeps the others of its append out, too.
  std::vector<GroupWrite> mixed = {Entries(1, 6, 1), Entries(1, 9, 1)};
  EXPECT_EQ(wal->Append(mixed).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(fs.operations(), operations);
  EXPECT_EQ(LastIndex(*wal, kGroup, 3), 5u);
  mixed[1] = Entries(1, 7, 1);
  EXPECT_TRUE(wal->Append(mixed).ok());  // the same group twice
  EXPECT_EQ(LastIndex(*wal, kGroup, 3), 7u);
}

TEST(Wal, RecordLargerThanASegmentGetsOneOfItsOwn) {
  FakeFileSystem fs;
  auto wal = MustOpen(&fs);
  ASSERT_TRUE(AppendOne(*wal, Entries(1, 1, 1, 10)).ok());
  ASSERT_TRUE(AppendOne(*wal, Entries(1, 2, 2, 5 << 20)).ok());
  ASSERT_TRUE(AppendOne(*wal, Entries(1, 4, 1, 10)).ok());
  wal.reset();
  fs.PowerLoss([] { return false; });
  wal = MustOpen(&fs);
  auto read = wal->Read(kGroup, Index(1), Index(4), 1 << 30);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), 4u);
  EXPECT_EQ((*read)[2].data->size(), 5u << 20);
}

// D1. After a failed write or sync nothing is believed any more, whatever the
// later ones say.
TEST(Wal, AfterAFailedSyncNothingSucceeds) {
  for (bool direct : {true, false}) {
    for (int which = 0; which < (direct ? 1 : 2); ++which) {
      FakeFileSystem fs(direct);
      auto wal = MustOpen(&fs);
      ASSERT_TRUE(AppendOne(*wal, Entries(1, 1, 2)).ok());
      fs.FailAt(fs.operations() + 1 + which);
      const absl::Status failure = AppendOne(*wal, Entries(1, 3, 1));
      EXPECT_EQ(failure.code(), absl::StatusCode::kInternal);
      EXPECT_THAT(failure.message(), HasSubstr("injected failure"));
      const uint64_t operations = fs.operations();
      EXPECT_EQ(AppendOne(*wal, Entries(1, 3, 1)), failure);
      EXPECT_EQ(wal->Append({}), failure);
      EXPECT_EQ(wal->Maintain(), failure);
      EXPECT_EQ(wal->Read(kGroup, Index(1), Index(1), 1).status(), failure);
      EXPECT_FALSE(wal->wants_maintenance());
      EXPECT_EQ(fs.operations(), operations);  // no retry
      wal.reset();
      fs.PowerLoss([] { return false; });
      wal = MustOpen(&fs);
      EXPECT_EQ(LastIndex(*wal, kGroup, 1), 2u);
    }
  }
}

// A failed sync leaves in the cache what it has not written, and the next one
// passes over it. What a start has found there is durable afterwards.
TEST(Wal, WhatAStartFindsAfterAFailedSyncStays) {
  for (const bool direct : {true, false}) {
    FakeFileSystem fs(direct);
    auto wal = MustOpen(&fs);
    ASSERT_TRUE(AppendOne(*wal, Entries(1, 1, 2)).ok());
    bool fail = true;
    const DiskOp durable = direct ? DiskOp::kWrite : DiskOp::kSync;
    fs.SetFaults([&](const DiskCall& call) {
      DiskFault fault;
      if (call.op == durable && std::exchange(fail, false)) {
        fault.kind = DiskFault::kSyncFails;
      }
      return fault;
    });
    EXPECT_FALSE(AppendOne(*wal, Entries(1, 3, 1)).ok());
    EXPECT_FALSE(fail);
    wal.reset();
    fs.Restart();
    wal = MustOpen(&fs);
    EXPECT_EQ(LastIndex(*wal, kGroup, 1), 3u);  // from the cache
    ASSERT_TRUE(AppendOne(*wal, Entries(1, 4, 1)).ok());
    wal.reset();
    fs.PowerLoss([] { return false; });
    wal = MustOpen(&fs);
    EXPECT_EQ(LastIndex(*wal, kGroup, 1), 4u);
  }
}

// Every storage operation fails once, at any point of a busy history.
TEST(Wal, AnyFailedOperationIsFinalOrHarmless) {
  bool failed = true;
  for (uint64_t n = 1; failed; ++n) {
    FakeFileSystem fs(n % 2 == 0);
    fs.FailAt(n);
    auto opened = Wal::Open(&fs, kDir, Options());
    if (!opened.ok()) continue;
    Wal& wal = **opened;
    failed = false;
    ModelState state;
    ModelState maybe;
    for (uint64_t i = 1; i <= 30 && !failed; ++i) {
      GroupWrite write = Entries(1, i, 1, 1500);
      if (i > 2) write.compact = LogPosition{Term(1), Index(i - 2)};
      maybe = ModelAfter(state, {&write, 1});
      absl::Status s = AppendOne(wal, write);
      if (s.ok()) state = maybe;
      if (s.ok() && wal.wants_maintenance()) s = wal.Maintain();
      failed = !s.ok();
      if (failed) {
        EXPECT_FALSE(AppendOne(wal, Entries(1, i + 1, 1)).ok()) << n;
      }
    }
    opened->reset();
    fs.FailAt(0);
    fs.PowerLoss([] { return false; });
    auto reopened = MustOpen(&fs);
    auto found = Observe(*reopened);
    ASSERT_TRUE(found.ok()) << n << " " << found.status();
    EXPECT_TRUE(*found == state || *found == maybe) << n;
    ASSERT_LT(n, 1000u);
  }
}

// D7.
TEST(Wal, AFullDiskIsNamedAndFinalOnlyWhenTheSpaceIsNeeded) {
  FakeFileSystem fs;
  auto wal = MustOpen(&fs);
  ASSERT_TRUE(AppendOne(*wal, Entries(1, 1, 1)).ok());
  fs.SetCapacity(5 * kBlockBytes);
  ASSERT_TRUE(wal->wants_maintenance());
  const absl::Status full = wal->Maintain();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(full.message(), HasSubstr("wal/filling-"));
  EXPECT_THAT(full.message(), HasSubstr("16384 bytes"));
  EXPECT_FALSE(wal->wants_maintenance());  // not again and again
  ASSERT_TRUE(AppendOne(*wal, Entries(1, 2, 1)).ok());
  const absl::Status failure = AppendOne(*wal, Entries(1, 3, 5, 4000));
  EXPECT_EQ(failure.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(AppendOne(*wal, Entries(1, 3, 1)), failure);
  // After the space is there again, a restart is enough.
  wal.reset();
  fs.SetCapacity(1 << 20);
  wal = MustOpen(&fs);
  EXPECT_GE(LastIndex(*wal, kGroup, 1), 2u);
}

TEST(Wal, SparesAreFilledAheadAndRecycled) {
  FakeFileSystem fs;
  auto wal = MustOpen(&fs);
  while (wal->wants_maintenance()) ASSERT_TRUE(wal->Maintain().ok());
  EXPECT_EQ(wal->stats().spares, 1u);
  for (uint64_t i = 1; i <= 200; ++i) {
    GroupWrite write = Entries(1, i, 1, 3000);
    if (i > 2) write.compact = LogPosition{Term(1), Index(i - 2)};
    ASSERT_TRUE(AppendOne(*wal, write).ok());
    while (wal->wants_maintenance()) ASSERT_TRUE(wal->Maintain().ok());
  }
  const WalStats stats = wal->stats();
  EXPECT_EQ(stats.inline_segments, 0u);
  EXPECT_GT(stats.recycled_segments, 50u);
  EXPECT_LE(stats.segments, 3u);
  EXPECT_LE(fs.Paths().size(), 5u);
}

// An idle group does not keep a segment for ever, and what is moved for it is
// bounded by Append.
TEST(Wal, IdleGroupsDoNotPinSegments) {
  FakeFileSystem fs;
  WalOptions options = Options();
  options.segment_bytes = 1 << 20;
  auto wal = MustOpen(&fs, options);
  ModelState state;
  const auto append = [&](std::vector<GroupWrite> writes) {
    ASSERT_TRUE(wal->Append(writes).ok());
    state = ModelAfter(state, writes);
    while (wal->wants_maintenance()) ASSERT_TRUE(wal->Maintain().ok());
  };
  for (uint64_t g = 100; g < 200; ++g) {
    GroupWrite write = Entries(1, 1, 3, 1000, GroupId(g));
    write.hard_state = HardState{Term(1), NodeId(g), Index(2)};
    append({write});
  }
  uint64_t rewritten = 0;
  for (uint64_t i = 1; i <= 200; ++i) {
    GroupWrite write = Entries(1, i, 1, 50000);
    if (i > 2) write.compact = LogPosition{Term(1), Index(i - 2)};
    append({write});
    const uint64_t now = wal->stats().rewritten_bytes;
    EXPECT_LE(now - rewritten, kMaxRewriteBytes);
    rewritten = now;
  }
  EXPECT_GT(rewritten, 300u * 1000);
  EXPECT_LE(wal->stats().segments, 4u);
  wal.reset();
  fs.PowerLoss([] { return false; });
  wal = MustOpen(&fs, options);
  auto found = Observe(*wal);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, state);
}

// Every life begins a segment of its own. A node runs Maintain before it
// writes, so each life also empties an old one.
TEST(Wal, RestartsDoNotPileUpSegments) {
  FakeFileSystem fs;
  ModelState state;
  for (uint64_t i = 1; i <= 40; ++i) {
    auto wal = MustOpen(&fs);
    while (wal->wants_maintenance()) ASSERT_TRUE(wal->Maintain().ok());
    const std::vector<GroupWrite> writes = {Entries(1, i, 1, 10)};
    ASSERT_TRUE(wal->Append(writes).ok());
    state = ModelAfter(state, writes);
    while (wal->wants_maintenance()) ASSERT_TRUE(wal->Maintain().ok());
  }
  EXPECT_LE(fs.Paths().size(), 7u);
  auto wal = MustOpen(&fs);
  auto found = Observe(*wal);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, state);
}

// A read holds the file that it reads: the segment is freed meanwhile, but its
// file is not used again.
TEST(Wal, ASegmentThatIsReadIsNotRecycled) {
  FakeFileSystem fs;
  WalOptions options = Options();
  options.cache_bytes = 0;
  auto wal = MustOpen(&fs, options);
  ASSERT_TRUE(AppendOne(*wal, Entries(1, 1, 10, 300)).ok());
  uint64_t recycled_before = 0;
  fs.SetReadHook([&] {
    fs.SetReadHook(nullptr);
    for (uint64_t i = 11; i <= 60; ++i) {
      GroupWrite write = Entries(1, i, 1, 3000);
      write.compact = LogPosition{Term(1), Index(i - 1)};
      ASSERT_TRUE(AppendOne(*wal, write).ok());
      while (wal->wants_maintenance()) ASSERT_TRUE(wal->Maintain().ok());
    }
    recycled_before = wal->stats().recycled_segments;
  });
  auto read = wal->Read(kGroup, Index(1), Index(10), 1 << 20);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), 10u);
  EXPECT_EQ(*read->back().data, std::string(300, 'a' + 9));
  EXPECT_EQ(wal->stats().removed_segments, 1u);
  EXPECT_GT(recycled_before, 5u);
}

TEST(Wal, OptionsThatMakeNoSenseAreRefused) {
  FakeFileSystem fs;
  WalOptions options = Options();
  for (uint64_t bytes : {uint64_t{0}, kBlockBytes, kBlockBytes * 3 + 1}) {
    options.segment_bytes = bytes;
    EXPECT_EQ(Wal::Open(&fs, kDir, options).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace kv739::wal
