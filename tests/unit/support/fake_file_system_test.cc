// The disk that tests rely on misbehaves exactly as it is told to.
#include "tests/support/fake_file_system.h"

#include <gtest/gtest.h>

#include <cstring>
#include <deque>

namespace kv739::wal {
namespace {

constexpr char kPath[] = "d/a";
constexpr uint64_t kFileBytes = 4 * kBlockBytes;

// A block of memory that direct I/O accepts.
class Block {
 public:
  explicit Block(char fill, uint64_t bytes = kBlockBytes)
      : bytes_(bytes),
        data_(static_cast<char*>(std::aligned_alloc(kBlockBytes, bytes))) {
    std::memset(data_, fill, bytes);
  }
  ~Block() { std::free(data_); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  absl::string_view view() const { return {data_, bytes_}; }

 private:
  const uint64_t bytes_;
  char* const data_;
};

class FakeDiskTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(disk_.CreateFilled(kPath, kFileBytes).ok());
    ASSERT_TRUE(disk_.SyncDir("d").ok());
  }

  std::unique_ptr<File> Open(bool direct = false) {
    return *disk_.Open(kPath, direct);
  }
  absl::Status Write(File& file, char fill, uint64_t block = 0) {
    return file.WriteAt(block * kBlockBytes, Block(fill).view());
  }
  // The next operation of this kind gets `fault`; all others none.
  void Next(DiskOp op, DiskFault fault) {
    disk_.SetFaults(
        [this, op, fault, used = false](const DiskCall& call) mutable {
          calls_.push_back(call);
          if (used || call.op != op) return DiskFault();
          used = true;
          return fault;
        });
  }
  char At(uint64_t offset) const { return disk_.Contents(kPath)[offset]; }
  static bool Never() { return false; }
  static bool Always() { return true; }

  FakeFileSystem disk_;
  std::deque<DiskCall> calls_;
};

TEST_F(FakeDiskTest, CallbackSeesEachCall) {
  auto file = Open();
  Next(DiskOp::kRead, {});
  ASSERT_TRUE(Write(*file, 'x', 1).ok());
  ASSERT_TRUE(file->Sync().ok());
  char out[8];
  ASSERT_TRUE(file->ReadAt(16, 8, out).ok());
  ASSERT_TRUE(disk_.Rename(kPath, "d/b").ok());
  ASSERT_TRUE(file->Sync().ok());
  ASSERT_EQ(calls_.size(), 5u);
  EXPECT_EQ(calls_[0].op, DiskOp::kWrite);
  EXPECT_EQ(calls_[0].path, kPath);
  EXPECT_EQ(calls_[0].offset, kBlockBytes);
  EXPECT_EQ(calls_[0].size, kBlockBytes);
  EXPECT_EQ(calls_[0].operation, 3u);
  EXPECT_EQ(calls_[1].op, DiskOp::kSync);
  EXPECT_EQ(calls_[1].operation, 4u);
  EXPECT_EQ(calls_[2].op, DiskOp::kRead);
  EXPECT_EQ(calls_[2].operation, 0u);
  EXPECT_EQ(calls_[3].op, DiskOp::kRename);
  EXPECT_EQ(calls_[4].path, "d/b");  // an open file goes on under its new name
  EXPECT_EQ(disk_.operations(), 6u);
}

TEST_F(FakeDiskTest, MisdirectedWriteDamagesWhatItHits) {
  auto file = Open(true);
  ASSERT_TRUE(Write(*file, 'x').ok());
  ASSERT_TRUE(disk_.CreateFilled("d/b", kFileBytes).ok());
  DiskFault fault{DiskFault::kMisdirect};
  fault.offset = kSectorBytes;
  Next(DiskOp::kWrite, fault);
  ASSERT_TRUE(Write(*file, 'y', 2).ok());
  EXPECT_EQ(At(0), 'x');
  EXPECT_EQ(At(kSectorBytes), 'y');
  EXPECT_EQ(At(kSectorBytes + kBlockBytes - 1), 'y');
  EXPECT_EQ(At(2 * kBlockBytes), '\0');
  // Into another file, over its end.
  fault.path = "d/b";
  fault.offset = kFileBytes - kSectorBytes;
  Next(DiskOp::kWrite, fault);
  ASSERT_TRUE(Write(*file, 'z', 3).ok());
  EXPECT_EQ(disk_.Contents("d/b").back(), 'z');
  EXPECT_EQ(disk_.FileBytes("d/b"), kFileBytes);
  EXPECT_EQ(At(3 * kBlockBytes), '\0');
  ASSERT_TRUE(disk_.SyncDir("d").ok());
  disk_.PowerLoss(Never);
  EXPECT_EQ(disk_.Contents("d/b").back(), 'z');  // it was as durable as any
}

TEST_F(FakeDiskTest, LostWriteReportsSuccess) {
  auto file = Open(true);
  Next(DiskOp::kWrite, {DiskFault::kLose});
  ASSERT_TRUE(Write(*file, 'x').ok());
  EXPECT_EQ(At(0), '\0');
}

TEST_F(FakeDiskTest, FailedSyncForgetsAndTheNextOneSucceeds) {
  auto file = Open();
  ASSERT_TRUE(Write(*file, 'x').ok());
  DiskFault fault{DiskFault::kSyncFails};
  fault.survives = [odd = false]() mutable { return odd = !odd; };
  Next(DiskOp::kSync, fault);
  EXPECT_FALSE(file->Sync().ok());
  EXPECT_TRUE(file->Sync().ok());
  disk_.Restart();
  EXPECT_EQ(At(kSectorBytes), 'x');  // readers still see it
  disk_.DropCaches();
  EXPECT_EQ(At(0), 'x');
  EXPECT_EQ(At(kSectorBytes), '\0');
  // What is written again is synced again.
  ASSERT_TRUE(Write(*file, 'y').ok());
  ASSERT_TRUE(file->Sync().ok());
  disk_.PowerLoss(Never);
  EXPECT_EQ(At(kSectorBytes), 'y');
}

TEST_F(FakeDiskTest, FailedSyncOfAWriteThatSyncsIsGoneWithThePower) {
  auto file = Open(true);
  Next(DiskOp::kWrite, {DiskFault::kSyncFails});
  EXPECT_FALSE(Write(*file, 'x').ok());
  EXPECT_EQ(At(0), 'x');
  disk_.PowerLoss(Always);  // nothing waits for the disk any more
  EXPECT_EQ(At(0), '\0');
}

TEST_F(FakeDiskTest, DropCachesKeepsWhatIsNotSyncedYet) {
  auto file = Open();
  ASSERT_TRUE(Write(*file, 'x').ok());
  disk_.DropCaches();
  EXPECT_EQ(At(0), 'x');
  disk_.PowerLoss(Never);
  EXPECT_EQ(At(0), '\0');
}

TEST_F(FakeDiskTest, UnreadableSectorsHealWhenWritten) {
  auto file = Open(true);
  disk_.MakeUnreadable(kPath, kBlockBytes + 100, 1);
  char out[kSectorBytes];
  EXPECT_TRUE(file->ReadAt(kBlockBytes - 1, 1, out).ok());
  EXPECT_FALSE(file->ReadAt(kBlockBytes - 1, 2, out).ok());
  EXPECT_FALSE(file->ReadAt(kBlockBytes + kSectorBytes - 1, 2, out).ok());
  EXPECT_TRUE(file->ReadAt(kBlockBytes + kSectorBytes, 2, out).ok());
  disk_.PowerLoss(Never);
  EXPECT_FALSE(file->ReadAt(kBlockBytes, 1, out).ok());
  ASSERT_TRUE(Write(*file, 'x', 1).ok());
  EXPECT_TRUE(file->ReadAt(kBlockBytes, 1, out).ok());
}

TEST_F(FakeDiskTest, ReadsFailForAWhile) {
  auto file = Open();
  Next(DiskOp::kRead, {DiskFault::kError});
  char out[8];
  EXPECT_FALSE(file->ReadAt(0, 8, out).ok());
  EXPECT_TRUE(file->ReadAt(0, 8, out).ok());
}

TEST_F(FakeDiskTest, FullDiskRefusesWritesThatAllocate) {
  auto file = Open(true);
  disk_.SetCapacity(kFileBytes);
  EXPECT_TRUE(Write(*file, 'x').ok());  // in place
  EXPECT_TRUE(absl::IsResourceExhausted(disk_.CreateFilled("d/b", 1)));
  disk_.SetCapacity(kFileBytes, true);
  EXPECT_TRUE(absl::IsResourceExhausted(Write(*file, 'y')));
  EXPECT_EQ(At(0), 'x');
  disk_.SetCapacity(kFileBytes + kBlockBytes, true);
  EXPECT_TRUE(Write(*file, 'z').ok());
  Next(DiskOp::kWrite, {DiskFault::kNoSpace});
  EXPECT_TRUE(absl::IsResourceExhausted(Write(*file, 'y')));
  EXPECT_EQ(At(0), 'z');
}

TEST_F(FakeDiskTest, CallsTakeTheTimeThatTheCallbackSays) {
  auto file = Open();
  std::vector<std::pair<DiskOp, uint64_t>> spent;
  disk_.SetFaults(
      [](const DiskCall& call) {
        DiskFault fault;
        if (call.op == DiskOp::kSync) {
          fault.kind = DiskFault::kError;
          fault.nanos = 10'000'000'000;
        } else if (call.op == DiskOp::kWrite) {
          fault.nanos = call.size;
        }
        return fault;
      },
      [&](const DiskCall& call, uint64_t nanos) {
        spent.emplace_back(call.op, nanos);
      });
  ASSERT_TRUE(Write(*file, 'x').ok());
  EXPECT_FALSE(file->Sync().ok());
  ASSERT_TRUE(disk_.SyncDir("d").ok());
  EXPECT_EQ(spent, (std::vector<std::pair<DiskOp, uint64_t>>{
                       {DiskOp::kWrite, kBlockBytes},
                       {DiskOp::kSync, 10'000'000'000}}));
}

TEST_F(FakeDiskTest, CrashOfTheCallbackIsACrash) {
  auto file = Open(true);
  Next(DiskOp::kWrite, {DiskFault::kCrash});
  EXPECT_FALSE(Write(*file, 'x').ok());
  EXPECT_FALSE(Write(*file, 'y').ok());
  EXPECT_FALSE(disk_.SyncDir("d").ok());
  disk_.PowerLoss(
      [first = true]() mutable { return std::exchange(first, false); });
  EXPECT_EQ(At(kSectorBytes - 1), 'x');
  EXPECT_EQ(At(kSectorBytes), '\0');
  EXPECT_TRUE(Write(*file, 'z').ok());
}

TEST_F(FakeDiskTest, SectorIsTorn) {
  auto file = Open();
  ASSERT_TRUE(Write(*file, 'x').ok());
  disk_.PowerLoss(Always, [] { return 100; });
  EXPECT_EQ(At(99), 'x');
  EXPECT_EQ(At(100), '\0');
  EXPECT_EQ(At(kSectorBytes), 'x');
  ASSERT_TRUE(Write(*file, 'y').ok());
  disk_.PowerLoss(Always, [] { return kSectorBytes + 1; });
  EXPECT_EQ(At(kSectorBytes - 1), 'y');
}

TEST_F(FakeDiskTest, BitsFlipAtRest) {
  disk_.FlipBit(kPath, 8 * 700 + 3);
  EXPECT_EQ(At(700), 1 << 3);
  disk_.PowerLoss(Never);
  EXPECT_EQ(At(700), 1 << 3);
}

}  // namespace
}  // namespace kv739::wal
