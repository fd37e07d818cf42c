// The log and its file system on a real disk, direct and buffered.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "server/wal/wal.h"
#include "tests/support/wal_model.h"

namespace kv739::wal {
namespace {

class WalPosix : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "kv739-wal-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    dir_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  std::string Path(const std::string& name) const { return dir_ + "/" + name; }

  FileSystem* const fs_ = FileSystem::Posix();
  std::string dir_;
};

TEST_P(WalPosix, FilesAreOverwrittenInPlace) {
  const std::string path = Path("a");
  ASSERT_TRUE(fs_->CreateFilled(path, 3 * kBlockBytes).ok());
  EXPECT_EQ(fs_->CreateFilled(path, kBlockBytes).code(),
            absl::StatusCode::kAlreadyExists);
  auto file = fs_->Open(path, GetParam());
  ASSERT_TRUE(file.ok()) << file.status();
  std::unique_ptr<char, void (*)(void*)> block(
      static_cast<char*>(std::aligned_alloc(kBlockBytes, kBlockBytes)),
      std::free);
  std::fill_n(block.get(), kBlockBytes, 'b');
  const absl::string_view bytes(block.get(), kBlockBytes);
  ASSERT_TRUE((*file)->WriteAt(kBlockBytes, bytes).ok());
  ASSERT_TRUE((*file)->Sync().ok());
  EXPECT_EQ(*(*file)->Size(), 3 * kBlockBytes);
  std::string out(20, 'x');
  ASSERT_TRUE((*file)->ReadAt(kBlockBytes - 10, 20, out.data()).ok());
  EXPECT_EQ(out, std::string(10, '\0') + std::string(10, 'b'));
  out.resize(3 * kBlockBytes);
  ASSERT_TRUE((*file)->ReadAt(0, out.size(), out.data()).ok());
  EXPECT_EQ(out.substr(kBlockBytes, kBlockBytes), bytes);
  EXPECT_EQ((*file)->ReadAt(3 * kBlockBytes - 5, 10, out.data()).code(),
            absl::StatusCode::kOutOfRange);
  // Not a whole number of blocks, as after damage.
  ASSERT_EQ(truncate(path.c_str(), 5000), 0);
  ASSERT_TRUE((*file)->ReadAt(4990, 10, out.data()).ok());
  EXPECT_EQ((*file)->ReadAt(4990, 11, out.data()).code(),
            absl::StatusCode::kOutOfRange);
  ASSERT_TRUE((*file)->ReadAt(0, 5000, out.data()).ok());
  EXPECT_EQ((*file)->ReadAt(0, 9000, out.data()).code(),
            absl::StatusCode::kOutOfRange);
}

// Blocks that are only reserved look like a hole, and the first write to each
// would change the file system's metadata within the sync of the log.
TEST_P(WalPosix, FilledFilesAreWritten) {
  for (const uint64_t size :
       {uint64_t{0}, uint64_t{5000}, kBlockBytes, (2 << 20) + kBlockBytes}) {
    const std::string path = Path(std::to_string(size));
    ASSERT_TRUE(fs_->CreateFilled(path, size).ok());
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    if (size > 0) {
      EXPECT_EQ(lseek(fd, 0, SEEK_HOLE), static_cast<off_t>(size));
    }
    close(fd);
    auto file = fs_->Open(path, GetParam());
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(*(*file)->Size(), size);
    std::string out(size, 'x');
    ASSERT_TRUE((*file)->ReadAt(0, size, out.data()).ok());
    EXPECT_EQ(out, std::string(size, '\0'));
  }
}

TEST_P(WalPosix, NamesAndErrors) {
  EXPECT_EQ(fs_->Open(Path("none"), GetParam()).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(fs_->List(Path("none")).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_FALSE(fs_->SyncDir(Path("none")).ok());
  EXPECT_FALSE(fs_->Remove(Path("none")).ok());
  EXPECT_FALSE(fs_->Rename(Path("none"), Path("b")).ok());
  ASSERT_TRUE(fs_->CreateFilled(Path("b"), kBlockBytes).ok());
  ASSERT_TRUE(fs_->CreateFilled(Path("a"), kBlockBytes).ok());
  ASSERT_TRUE(fs_->Rename(Path("b"), Path("c")).ok());
  ASSERT_TRUE(fs_->SyncDir(dir_).ok());
  EXPECT_EQ(*fs_->List(dir_), (std::vector<std::string>{"a", "c"}));
  ASSERT_TRUE(fs_->Remove(Path("a")).ok());
  EXPECT_EQ(*fs_->List(dir_), (std::vector<std::string>{"c"}));
}

TEST_P(WalPosix, ReopensWithAllThatWasAppended) {
  std::mt19937_64 random(GetParam() ? 1 : 2);
  WalOptions options;
  options.segment_bytes = 8 * kBlockBytes;
  options.cache_bytes = 3000;
  options.direct = GetParam();
  ModelState state;
  for (int life = 0; life < 8; ++life) {
    auto wal = Wal::Open(fs_, dir_, options);
    ASSERT_TRUE(wal.ok()) << wal.status();
    auto found = Observe(**wal);
    ASSERT_TRUE(found.ok()) << found.status();
    ASSERT_EQ(*found, Normalized(state)) << Describe(*found);
    for (int i = 0; i < 30; ++i) {
      const std::vector<GroupWrite> writes = RandomWrites(state, {}, random);
      ASSERT_TRUE((*wal)->Append(writes).ok());
      state = ModelAfter(state, writes);
      if ((*wal)->wants_maintenance()) {
        ASSERT_TRUE((*wal)->Maintain().ok());
      }
    }
    options.direct = !options.direct;  // the format is the same
  }
}

// The limit on the size of files stands for a full disk: a file that could
// not be filled is gone, and the message names it and the bytes.
void FillBeyondTheLimit() {
  std::string dir = testing::TempDir() + "kv739-wal-XXXXXX";
  if (mkdtemp(dir.data()) == nullptr) std::exit(2);
  rlimit limit;
  limit.rlim_cur = limit.rlim_max = 1 << 20;
  signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &limit);
  const std::string path = dir + "/a";
  const absl::Status full = FileSystem::Posix()->CreateFilled(path, 8 << 20);
  const bool gone = access(path.c_str(), F_OK) != 0;
  std::filesystem::remove_all(dir);
  std::fprintf(stderr, "%s\n", full.ToString().c_str());
  std::exit(full.ok() || !gone ? 1 : 0);
}

TEST(WalPosixErrors, AFileThatCannotBeFilledIsRemoved) {
  EXPECT_EXIT(FillBeyondTheLimit(), testing::ExitedWithCode(0),
              "fill with 8388608 bytes .*/a");
}

INSTANTIATE_TEST_SUITE_P(Io, WalPosix, testing::Bool());

}  // namespace
}  // namespace kv739::wal
