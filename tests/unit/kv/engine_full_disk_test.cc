// The RocksDB engine on a disk that was full and has room again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/time/clock.h"
#include "kv/engine.h"
#include "tests/support/private_world.h"

namespace kv739::kv {
namespace {

absl::Status PutAndFlush(Engine* engine, int first, int count) {
  auto batch = engine->NewBatch();
  for (int i = first; i < first + count; ++i) {
    batch->Put("a" + std::to_string(i), std::string(1000, 'v'));
  }
  absl::Status status = engine->Apply(batch.get());
  return status.ok() ? engine->Flush() : status;
}

absl::Status WriteSorted(Engine* engine, int count) {
  return engine->ApplySorted([&](Batch* batch) {
    for (int i = 0; i < count; ++i) {
      batch->Put("s" + std::to_string(10'000 + i), std::string(1000, 'v'));
    }
  });
}

TEST(EngineFullDisk, MustBeOpenedAnewWhenTheDiskHasRoomAgain) {
  const absl::Status world = test::EnterPrivateWorld(false);
  if (!world.ok()) GTEST_SKIP() << world.message();
  auto disk = test::SmallDisk::Mount(256 << 20);
  ASSERT_TRUE(disk.ok()) << disk.status();
  const std::string dir = (*disk)->path() + "/db";
  auto opened = OpenRocksEngine(dir, EngineOptions());
  ASSERT_TRUE(opened.ok()) << opened.status();
  std::unique_ptr<Engine> engine = *std::move(opened);
  ASSERT_TRUE(PutAndFlush(engine.get(), 0, 100).ok());
  ASSERT_TRUE((*disk)->FillUpTo(0).ok());
  // A file that does not fit is no error of the store.
  EXPECT_TRUE(absl::IsResourceExhausted(WriteSorted(engine.get(), 1000)));
  EXPECT_TRUE(engine->background_error().ok());
  EXPECT_FALSE(PutAndFlush(engine.get(), 100, 1000).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(engine->background_error()));
  (*disk)->MakeRoom();
  // RocksDB looks for room every five seconds.
  const absl::Time end = absl::Now() + absl::Seconds(30);
  while (!absl::IsAborted(engine->background_error()) && absl::Now() < end) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  // It claims to have recovered, and must not be believed.
  EXPECT_TRUE(absl::IsAborted(engine->background_error()));
  EXPECT_TRUE(absl::IsAborted(PutAndFlush(engine.get(), 2000, 100)));
  EXPECT_TRUE(absl::IsAborted(engine->Flush()));
  EXPECT_TRUE(absl::IsAborted(WriteSorted(engine.get(), 10)));
  {
    auto ingestion = engine->NewIngestion("b", "c", (*disk)->path() + "/in");
    ASSERT_TRUE(ingestion.ok()) << ingestion.status();
    ASSERT_TRUE((*ingestion)->Put("b1", "1").ok());
    EXPECT_TRUE(absl::IsAborted((*ingestion)->Commit()));
  }
  engine.reset();
  opened = OpenRocksEngine(dir, EngineOptions());
  ASSERT_TRUE(opened.ok()) << opened.status();
  engine = *std::move(opened);
  EXPECT_TRUE(PutAndFlush(engine.get(), 3000, 100).ok());
  {
    auto ingestion = engine->NewIngestion("b", "c", (*disk)->path() + "/in");
    ASSERT_TRUE(ingestion.ok()) << ingestion.status();
    ASSERT_TRUE((*ingestion)->Put("b1", "1").ok());
    const absl::Status committed = (*ingestion)->Commit();
    EXPECT_TRUE(committed.ok()) << committed;
  }
  std::string value;
  for (const char* key : {"a0", "a99", "a3099", "b1"}) {
    auto found = engine->Get(key, &value);
    EXPECT_TRUE(found.ok() && *found) << key;
  }
}

}  // namespace
}  // namespace kv739::kv
