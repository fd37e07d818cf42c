#include "server/map_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "kv/directory.h"
#include "tests/unit/server/outer_temp_dir.h"

namespace kv739::server {
namespace {

kv::ClusterMap MapOf(uint64_t epoch) {
  kv::ClusterMap map =
      kv::InitialClusterMap(*kv::ParseClusterFile("a:1\nb:1\nc:1\n", "test"));
  map.epoch = epoch;
  return map;
}

MapHolder::Map Shared(uint64_t epoch) {
  return std::make_shared<kv::ClusterMap>(MapOf(epoch));
}

TEST(MapFile, ComesBackAsItWasOrNotAtAll) {
  const OuterTempDir temp;
  const std::string path = temp.Sub("cluster_map");
  EXPECT_EQ(*ReadMapFile(path), nullptr);
  for (uint64_t epoch : {1, 900}) {
    ASSERT_TRUE(WriteMapFile(path, MapOf(epoch)).ok());
    EXPECT_EQ(**ReadMapFile(path), MapOf(epoch));
  }
  const std::string good = ReadText(path);
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1 << i % 8);
    WriteText(path, bad);
    EXPECT_TRUE(absl::IsDataLoss(ReadMapFile(path).status())) << i;
    WriteText(path, good.substr(0, i));
    EXPECT_TRUE(absl::IsDataLoss(ReadMapFile(path).status())) << i;
  }
}

// Runs the jobs when the test wants it.
class ManualBackground : public Background {
 public:
  void Run(Job job) override { jobs_.push_back(std::move(job)); }
  size_t RunAll() {
    std::vector<Job> jobs = std::move(jobs_);
    jobs_.clear();
    for (Job& job : jobs) job();
    return jobs.size();
  }

 private:
  std::vector<Job> jobs_;
};

TEST(MapSaver, WritesTheNewestAndWaitsForNobody) {
  const OuterTempDir temp;
  const std::string path = temp.Sub("cluster_map");
  MapHolder maps(Shared(1));
  ManualBackground background;
  MapSaver saver(path, &maps, &background, 1);
  maps.Listen([&] { saver.OnNewMap(); });
  saver.OnNewMap();
  EXPECT_EQ(background.RunAll(), 1u);
  EXPECT_EQ(*ReadMapFile(path), nullptr) << "it is in the file already";
  for (uint64_t epoch = 2; epoch < 10; ++epoch) maps.Offer(Shared(epoch));
  EXPECT_EQ(*ReadMapFile(path), nullptr) << "written by who brought it";
  EXPECT_EQ(background.RunAll(), 1u);
  EXPECT_EQ((*ReadMapFile(path))->epoch, 9u);
  maps.Offer(Shared(10));
  EXPECT_EQ(background.RunAll(), 1u);
  EXPECT_EQ((*ReadMapFile(path))->epoch, 10u);
}

TEST(MapSaver, AFailureIsTriedAgain) {
  const OuterTempDir temp;
  const std::string dir = temp.Sub("not_there_yet");
  MapHolder maps(Shared(1));
  ManualBackground background;
  MapSaver saver(dir + "/cluster_map", &maps, &background, 0);
  saver.Save();
  std::filesystem::create_directory(dir);
  saver.OnNewMap();
  EXPECT_EQ(background.RunAll(), 1u);
  EXPECT_EQ((*ReadMapFile(dir + "/cluster_map"))->epoch, 1u);
}

}  // namespace
}  // namespace kv739::server
