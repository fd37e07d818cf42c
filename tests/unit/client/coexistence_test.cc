// A program with its own gRPC and full protobuf, that compiles the same
// .proto files into itself, links lib739kv and uses both. With another full
// protobuf runtime inside the library it would end at its start, because a
// file may be registered once in a process.
#include <google/protobuf/descriptor.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <string>

#include "client/lib739kv.h"
#include "kv739/v1/cluster.grpc.pb.h"
#include "kv739/v1/kv.grpc.pb.h"
#include "tests/support/fake_kv_server.h"

namespace kv739 {
namespace {

TEST(CoexistenceTest, TheProgramsOwnStubsAndTheLibraryBesideEachOther) {
  testing::FakeCluster cluster(5);
  ASSERT_EQ(kv739_init(cluster.config_file().c_str()), 0);
  ASSERT_EQ(kv739_put("k", "library", nullptr), 1) << kv739_last_error();

  // The program's own client of the same service, with reflection, which the
  // lite runtime does not have.
  const auto channel = grpc::CreateChannel(cluster.address(0),
                                           grpc::InsecureChannelCredentials());
  const auto stub = v1::KeyValue::NewStub(channel);
  grpc::ClientContext context;
  const auto stream = stub->Stream(&context);
  v1::OperationBatch batch;
  v1::Operation* operation = batch.add_operations();
  operation->set_tag(7);
  operation->mutable_get()->set_key("k");
  ASSERT_TRUE(stream->Write(batch));
  v1::ResultBatch results;
  ASSERT_TRUE(stream->Read(&results));
  EXPECT_EQ(results.results(0).get().value(), "library");
  EXPECT_EQ(results.GetDescriptor()->full_name(), "kv739.v1.ResultBatch");
  EXPECT_NE(google::protobuf::DescriptorPool::generated_pool()->FindFileByName(
                "kv739/v1/kv.proto"),
            nullptr);
  EXPECT_NE(batch.ShortDebugString().find("tag: 7"), std::string::npos);
  stream->WritesDone();

  std::string old_value;
  EXPECT_EQ(kv739_put("k", "again", old_value), 0);
  EXPECT_EQ(old_value, "library");
  EXPECT_EQ(kv739_shutdown(), 0);

  // The program's gRPC goes on without the library's client.
  grpc::ClientContext other;
  v1::GetMapResponse map;
  EXPECT_TRUE(v1::Cluster::NewStub(channel)->GetMap(&other, {}, &map).ok());
  EXPECT_EQ(map.nodes_size(), 5);
}

}  // namespace
}  // namespace kv739
