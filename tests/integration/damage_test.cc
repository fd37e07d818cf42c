// Bits that flip in one replica's store: found by the comparison of replicas,
// never told to a reader, and put right from the others.
#include <filesystem>
#include <fstream>

#include "absl/strings/match.h"
#include "kv/engine.h"
#include "kv/records.h"
#include "tests/integration/cluster_test.h"
#include "tests/support/bulk.h"

namespace kv739::test {
namespace {

constexpr int kKeys = 3000;

class DamageTest : public ClusterTest {
 protected:
  // Stops a follower that holds kKeys, on its disk.
  void StopOne() {
    ASSERT_NO_FATAL_FAILURE(StartCluster());
    client_ = OpenClient();
    bulk_ = std::make_unique<Bulk>(*client_, 200);
    const absl::Status put = bulk_->Put(0, kKeys, 1);
    ASSERT_TRUE(put.ok()) << put;
    ASSERT_TRUE(cluster().WaitForEqualReplicas(0).ok());
    bad_ = (cluster().WaitForLeader(0) + 1) % 5;
    cluster().Terminate(bad_);
    ASSERT_EQ(cluster().WaitExit(bad_), 0);
  }
  // What the bad one says of a key, asked for its own state; never wrong.
  void ReadFromTheBadOne() {
    auto stub = cluster().KeyValueStub(bad_);
    for (int i = 0; i < kKeys; i += 7) {
      grpc::ClientContext context;
      SetDeadline(context);
      v1::GetRequest request;
      request.set_key(Bulk::Key(i));
      request.set_consistency(v1::STALE);
      v1::GetResponse response;
      const grpc::Status status = stub->Get(&context, request, &response);
      if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) return;
      if (!status.ok()) continue;
      ASSERT_TRUE(response.found()) << Bulk::Key(i);
      ASSERT_EQ(response.value(), bulk_->Value(i, 1))
          << "a wrong value is told";
    }
  }
  // The comparison finds the bad one.
  void FindIt() {
    ASSERT_TRUE(cluster().Restart(bad_).ok());
    ASSERT_NO_FATAL_FAILURE(ReadFromTheBadOne());
    const uint64_t bad_node = cluster().NodeId(bad_);
    bool found = false;
    EXPECT_TRUE(Eventually([&] {
      auto checked = cluster().Check(0);
      if (!checked.ok()) return false;
      for (const v1::CheckedReplica& replica : checked->replicas()) {
        if (replica.finding().empty() ||
            replica.index() + replica.hash() == 0) {
          found = found || (replica.node() == bad_node &&
                            absl::StrContains(replica.finding(), "read"));
          continue;
        }
        EXPECT_EQ(replica.node(), bad_node) << replica.finding();
        found = true;
      }
      return found;
    })) << "nothing was found";
    if (cluster().running(bad_)) {
      ASSERT_NO_FATAL_FAILURE(ReadFromTheBadOne());
    }
  }
  // All five are equal, the bad one as well, and it may lead.
  void CheckThatAllIsWell() {
    const absl::Status equal = cluster().WaitForEqualHashes(0);
    ASSERT_TRUE(equal.ok()) << equal << cluster().LogTails();
    EXPECT_TRUE(Eventually([&] {
      auto replica = cluster().Replica(bad_, 0);
      return replica && replica->fault().empty();
    }));
    ASSERT_TRUE(Eventually([&] {
      return cluster().TransferLeader(0, bad_).ok() &&
             cluster().WaitForLeader(0) == bad_;
    }));
    const absl::Status read = bulk_->Verify(0, kKeys, 1);
    EXPECT_TRUE(read.ok()) << read;
    EXPECT_TRUE(bulk_->Put(0, kKeys, 2).ok());
  }

  std::unique_ptr<Client> client_;
  std::unique_ptr<Bulk> bulk_;
  int bad_ = -1;
};

// As a bit that flips before the store sums up its block.
TEST_F(DamageTest, AValueThatChangedInTheStoreIsFoundAndPutRight) {
  ASSERT_NO_FATAL_FAILURE(StopOne());
  {
    auto engine = kv::OpenRocksEngine(cluster().data_dir(bad_) + "/db", {});
    ASSERT_TRUE(engine.ok()) << engine.status();
    std::string key;
    kv::SetDataKey(raft::GroupId(0), Bulk::Key(7), &key);
    std::string record;
    auto found = (*engine)->Get(key, &record);
    ASSERT_TRUE(found.ok() && *found);
    record.back() = static_cast<char>(record.back() ^ 4);
    auto batch = (*engine)->NewBatch();
    batch->Put(key, record);
    ASSERT_TRUE((*engine)->Apply(batch.get()).ok());
    ASSERT_TRUE((*engine)->Flush().ok());
  }
  ASSERT_NO_FATAL_FAILURE(FindIt());
  ASSERT_NO_FATAL_FAILURE(CheckThatAllIsWell());
}

// As a bit that flips on the disk. The replica is rebuilt; but the store still
// has the damaged file and stops the server when it comes to rewrite it. The
// server is then given a new disk, and comes back as another one.
TEST_F(DamageTest, ABlockThatIsDamagedOnTheDiskIsFoundAndNeverRead) {
  ASSERT_NO_FATAL_FAILURE(StopOne());
  std::string largest;
  uintmax_t size = 0;
  for (const auto& file :
       std::filesystem::directory_iterator(cluster().data_dir(bad_) + "/db")) {
    if (file.path().extension() == ".sst" && file.file_size() > size) {
      largest = file.path();
      size = file.file_size();
    }
  }
  ASSERT_GT(size, 100'000u);
  {
    std::fstream file(largest, std::ios::in | std::ios::out | std::ios::binary);
    const auto place = static_cast<std::streamoff>(size / 2);
    file.seekg(place);
    const char byte = static_cast<char>(file.get() ^ 16);
    file.seekp(place);
    file.put(byte);
    ASSERT_TRUE(file.good());
  }
  ASSERT_NO_FATAL_FAILURE(FindIt());
  // Asked to write and to shorten its log, it meets the file at the latest when
  // it stops; then the disk is replaced.
  EXPECT_TRUE(bulk_->Put(0, kKeys, 1).ok());
  cluster().KillHard(bad_);
  std::filesystem::remove_all(cluster().data_dir(bad_));
  ASSERT_TRUE(cluster().Restart(bad_).ok());
  const absl::Status members = cluster().WaitForMembers(0, {0, 1, 2, 3, 4});
  ASSERT_TRUE(members.ok()) << members;
  ASSERT_NO_FATAL_FAILURE(CheckThatAllIsWell());
}

}  // namespace
}  // namespace kv739::test
