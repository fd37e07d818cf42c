// KeyValue.Stream: operations in flight, bounds, broken streams, stop.
#include <map>
#include <random>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kv739/v1/kv.grpc.pb.h"
#include "tests/unit/server/rpc_fakes.h"

namespace kv739::server {
namespace {

using ::testing::HasSubstr;

class RpcStreamTest : public RpcFixture {
 protected:
  using Call = grpc::ClientReaderWriter<v1::OperationBatch, v1::ResultBatch>;

  void Start(RpcServerOptions options = TestOptions()) {
    RpcFixture::Start(std::move(options));
    stub_ = v1::KeyValue::NewStub(channel_);
    Open();
  }
  void Open() {
    call_.reset();
    context_ = std::make_unique<grpc::ClientContext>();
    SetPatience(context_.get());
    call_ = stub_->Stream(context_.get());
  }
  static v1::OperationBatch Gets(uint64_t first, uint64_t count,
                                 const std::string& key = "k") {
    v1::OperationBatch batch;
    for (uint64_t i = 0; i < count; ++i) {
      v1::Operation* operation = batch.add_operations();
      operation->set_tag(first + i);
      operation->mutable_get()->set_key(key);
    }
    return batch;
  }
  // Reads until `count` results are there, or the stream ends.
  std::map<uint64_t, v1::OperationResult> Read(size_t count) {
    std::map<uint64_t, v1::OperationResult> results;
    v1::ResultBatch batch;
    while (results.size() < count && call_->Read(&batch)) {
      epoch_ = batch.map_epoch();
      largest_message_ = std::max(largest_message_, batch.ByteSizeLong());
      for (v1::OperationResult& result : *batch.mutable_results()) {
        const uint64_t tag = result.tag();
        EXPECT_TRUE(results.emplace(tag, std::move(result)).second) << tag;
      }
    }
    EXPECT_EQ(results.size(), count);
    return results;
  }
  static void Answer(std::vector<Operation>* operations) {
    for (Operation& operation : *operations) {
      Reply reply;
      reply.tag = operation.tag;
      reply.kind = operation.kind;
      reply.found = true;
      reply.value = "v" + std::to_string(operation.tag);
      operation.sink->Deliver(std::move(reply));
    }
    for (Operation& operation : *operations) operation.sink->Flush();
    operations->clear();
  }
  std::vector<Operation> TakeExactly(size_t count) {
    std::vector<Operation> all;
    while (all.size() < count) {
      std::vector<Operation> some = handler_.Take(1);
      if (some.empty()) break;
      for (Operation& operation : some) all.push_back(std::move(operation));
    }
    EXPECT_EQ(all.size(), count);
    return all;
  }

  std::unique_ptr<v1::KeyValue::Stub> stub_;
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<Call> call_;
  uint64_t epoch_ = 0;
  size_t largest_message_ = 0;
};

TEST_F(RpcStreamTest, AThousandInFlightAnsweredInAnyOrder) {
  Start();
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(call_->Write(Gets(static_cast<uint64_t>(100 * i), 100)));
  }
  std::vector<Operation> operations = TakeExactly(1000);
  EXPECT_GE(handler_.largest_submit(), 100u);
  std::mt19937 random(7);
  std::shuffle(operations.begin(), operations.end(), random);
  // From two threads, as the loop and the log would.
  std::vector<Operation> half(std::make_move_iterator(operations.begin() + 500),
                              std::make_move_iterator(operations.end()));
  operations.resize(500);
  std::thread other([&] { Answer(&half); });
  Answer(&operations);
  const auto results = Read(1000);
  other.join();
  for (const auto& [tag, result] : results) {
    EXPECT_FALSE(result.has_error());
    EXPECT_EQ(result.get().value(), "v" + std::to_string(tag));
  }
  EXPECT_EQ(epoch_, 5u);
  call_->WritesDone();
  EXPECT_TRUE(call_->Finish().ok());
}

TEST_F(RpcStreamTest, EachKindGetsItsAnswer) {
  handler_.SetAnswer([](const Operation& operation) {
    Reply reply;
    if (operation.key == "bad") {
      reply.code = ReplyCode::kNotLeader;
      reply.leader = "there:1";
    }
    reply.session = 5;
    reply.version = 6;
    return reply;
  });
  Start();
  v1::OperationBatch batch;
  auto add = [&, tag = 0]() mutable {
    v1::Operation* operation = batch.add_operations();
    operation->set_tag(static_cast<uint64_t>(++tag));
    return operation;
  };
  add()->mutable_get();
  add()->mutable_put();
  add()->mutable_delete_();
  add()->mutable_append();
  add()->mutable_compare_and_swap();
  add()->mutable_open_session();
  add();  // says not what to do
  add()->mutable_get()->set_key("bad");
  ASSERT_TRUE(call_->Write(batch));
  auto results = Read(8);
  EXPECT_TRUE(results[1].has_get());
  for (uint64_t tag : {2, 3, 4, 5}) {
    EXPECT_EQ(results[tag].write().version(), 6u) << tag;
  }
  EXPECT_EQ(results[6].open_session().session(), 5u);
  EXPECT_EQ(results[7].error().code(), v1::INVALID_ARGUMENT);
  EXPECT_EQ(results[8].error().code(), v1::NOT_LEADER);
  EXPECT_EQ(results[8].error().leader(), "there:1");
  EXPECT_FALSE(results[8].has_get());
}

TEST_F(RpcStreamTest, BeyondTheBoundOperationsAreRefused) {
  RpcServerOptions options = TestOptions();
  options.key_value.stream.max_operations = 100;
  Start(options);
  ASSERT_TRUE(call_->Write(Gets(0, 150)));
  auto refused = Read(50);
  for (const auto& [tag, result] : refused) {
    EXPECT_GE(tag, 100u);
    EXPECT_EQ(result.error().code(), v1::OVERLOADED);
  }
  std::vector<Operation> operations = TakeExactly(100);
  Answer(&operations);
  Read(100);
  // There is room again.
  ASSERT_TRUE(call_->Write(Gets(0, 100)));
  operations = TakeExactly(100);
  Answer(&operations);
  for (const auto& [tag, result] : Read(100)) {
    EXPECT_FALSE(result.has_error());
  }
}

TEST_F(RpcStreamTest, AMessageOfTooManyOperationsEndsTheStream) {
  RpcServerOptions options = TestOptions();
  options.key_value.stream.max_message_operations = 100;
  Start(options);
  ASSERT_TRUE(call_->Write(Gets(0, 101)));
  Read(0);
  v1::ResultBatch batch;
  EXPECT_FALSE(call_->Read(&batch));
  const grpc::Status status = call_->Finish();
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("100"));
}

TEST_F(RpcStreamTest, ResultsAreCutIntoMessages) {
  handler_.SetAnswer([](const Operation&) {
    Reply reply;
    reply.found = true;
    reply.value.assign(1'000'000, 'x');
    return reply;
  });
  Start();
  ASSERT_TRUE(call_->Write(Gets(0, 30)));
  Read(30);
  EXPECT_LT(largest_message_, size_t{4 << 20});
  // In several messages, and never one value a message.
  EXPECT_GT(largest_message_, size_t{1'900'000});
}

TEST_F(RpcStreamTest, AClientThatReadsNothingIsNotReadFrom) {
  RpcServerOptions options = TestOptions();
  options.key_value.stream.pause_bytes = 4 << 20;
  Start(options);
  ASSERT_TRUE(call_->Write(Gets(0, 20)));
  std::vector<Operation> operations = TakeExactly(20);
  for (Operation& operation : operations) {
    Reply reply;
    reply.tag = operation.tag;
    reply.value.assign(1'000'000, 'x');
    operation.sink->Deliver(std::move(reply));
  }
  operations[0].sink->Flush();
  // The read that was under way is the last one.
  ASSERT_TRUE(call_->Write(Gets(20, 1)));
  ASSERT_TRUE(call_->Write(Gets(21, 1)));
  operations = TakeExactly(1);
  EXPECT_EQ(operations[0].tag, 20u);
  handler_.AwaitTicks(20);
  EXPECT_TRUE(handler_.Take(0).empty());
  Read(20);
  std::vector<Operation> last = TakeExactly(1);
  EXPECT_EQ(last[0].tag, 21u);
}

TEST_F(RpcStreamTest, ValuesBeyondTheBoundAreNotKept) {
  RpcServerOptions options = TestOptions();
  options.key_value.stream.max_waiting_bytes = 4'500'000;
  Start(options);
  v1::OperationBatch batch = Gets(0, 10);
  for (uint64_t tag = 10; tag < 40; ++tag) {
    v1::Operation* operation = batch.add_operations();
    operation->set_tag(tag);
    operation->mutable_put()->set_key("k");
  }
  ASSERT_TRUE(call_->Write(batch));
  std::vector<Operation> operations = TakeExactly(40);
  for (Operation& operation : operations) {
    Reply reply;
    reply.tag = operation.tag;
    reply.kind = operation.kind;
    reply.value.assign(1'000'000, 'x');
    operation.sink->Deliver(std::move(reply));
  }
  operations[0].sink->Flush();
  // Four values of reads fit; those of writes get four times the room, 17
  // values in all.
  for (const auto& [tag, result] : Read(40)) {
    if (tag < 4) {
      EXPECT_EQ(result.get().value().size(), 1'000'000u) << tag;
    } else if (tag < 10) {
      EXPECT_EQ(result.error().code(), v1::OVERLOADED) << tag;
    } else if (tag < 23) {
      EXPECT_EQ(result.write().old_value().size(), 1'000'000u) << tag;
    } else {
      EXPECT_EQ(result.error().code(), v1::UNKNOWN) << tag;
    }
  }
}

// gRPC takes no message above 4 MiB.
TEST_F(RpcStreamTest, PagesShareMessagesAsFarAsTheyFit) {
  Start();
  constexpr int kPages = 8;
  v1::OperationBatch batch;
  for (uint64_t tag = 0; tag < kPages; ++tag) {
    v1::Operation* operation = batch.add_operations();
    operation->set_tag(tag);
    operation->mutable_scan()->set_slot(static_cast<uint32_t>(tag));
  }
  ASSERT_TRUE(call_->Write(batch));
  std::vector<Operation> operations = TakeExactly(kPages);
  for (Operation& operation : operations) {
    Reply reply;
    reply.tag = operation.tag;
    reply.kind = operation.kind;
    reply.page = std::make_shared<kv::ScanPage>();
    reply.page->entries = {{"key", std::string(kv::kMaxScanBytes, 'x'), 1}};
    reply.page->bytes = kv::kMaxScanBytes + 3;
    operation.sink->Deliver(std::move(reply));
  }
  operations[0].sink->Flush();
  for (const auto& [tag, result] : Read(kPages)) {
    ASSERT_EQ(result.scan().entries_size(), 1) << tag;
    EXPECT_EQ(result.scan().entries(0).value().size(), kv::kMaxScanBytes);
    EXPECT_FALSE(result.scan().more());
  }
}

TEST_F(RpcStreamTest, ABrokenStreamDropsItsResults) {
  Start();
  ASSERT_TRUE(call_->Write(Gets(0, 100)));
  std::vector<Operation> operations = TakeExactly(100);
  std::weak_ptr<ReplySink> sink = operations[0].sink;
  context_->TryCancel();
  EXPECT_FALSE(call_->Finish().ok());
  Answer(&operations);
  // The server goes on, and nothing of the old stream is kept.
  Open();
  handler_.SetAnswer([](const Operation&) { return Reply(); });
  ASSERT_TRUE(call_->Write(Gets(0, 1)));
  Read(1);
  const absl::Time end = absl::Now() + kPatience;
  while (!sink.expired()) {
    ASSERT_LT(absl::Now(), end);
    handler_.AwaitTicks(1);
  }
}

TEST_F(RpcStreamTest, ManyStreamsBreakWhileAnswersCome) {
  Start();
  for (int round = 0; round < 20; ++round) {
    ASSERT_TRUE(call_->Write(Gets(0, 50)));
    std::vector<Operation> operations = TakeExactly(50);
    std::thread answerer([&] {
      for (Operation& operation : operations) {
        Reply reply;
        reply.tag = operation.tag;
        reply.value = "some value";
        operation.sink->Deliver(std::move(reply));
        operation.sink->Flush();
      }
    });
    context_->TryCancel();
    call_->Finish();
    answerer.join();
    Open();
  }
}

TEST_F(RpcStreamTest, WritesDoneStillGetsWhatIsUnderWay) {
  Start();
  ASSERT_TRUE(call_->Write(Gets(0, 10)));
  call_->WritesDone();
  std::vector<Operation> operations = TakeExactly(10);
  handler_.AwaitTicks(3);
  Answer(&operations);
  Read(10);
  v1::ResultBatch batch;
  EXPECT_FALSE(call_->Read(&batch));
  EXPECT_TRUE(call_->Finish().ok());
}

TEST_F(RpcStreamTest, StopAnswersWhatIsUnderWayAndEndsTheStream) {
  Start();
  ASSERT_TRUE(call_->Write(Gets(0, 10)));
  std::vector<Operation> operations = TakeExactly(10);
  std::thread answerer([&] {
    handler_.AwaitTicks(5);
    Answer(&operations);
  });
  const absl::Time start = absl::Now();
  Stop(start + kPatience);
  EXPECT_LT(absl::Now() - start, kPatience);
  answerer.join();
  Read(10);
  v1::ResultBatch batch;
  EXPECT_FALSE(call_->Read(&batch));
  EXPECT_EQ(call_->Finish().error_code(), grpc::UNAVAILABLE);
}

TEST_F(RpcStreamTest, StopBreaksAStreamThatIsNeverAnswered) {
  Start();
  ASSERT_TRUE(call_->Write(Gets(0, 10)));
  std::vector<Operation> operations = TakeExactly(10);
  Stop(absl::Now());
  EXPECT_FALSE(call_->Finish().ok());
  Answer(&operations);  // nobody is there
}

TEST_F(RpcStreamTest, AnIdleStreamDoesNotHoldUpTheStop) {
  Start();
  handler_.SetAnswer([](const Operation&) { return Reply(); });
  ASSERT_TRUE(call_->Write(Gets(0, 1)));
  Read(1);
  const absl::Time start = absl::Now();
  Stop(start + kPatience);
  EXPECT_LT(absl::Now() - start, kPatience / 2);
}

}  // namespace
}  // namespace kv739::server
