// One connection by hand: time is an argument, and the other end a socket.
#include "server/peer_connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include "gtest/gtest.h"
#include "server/peer_link.h"

namespace kv739::server {
namespace {

using raft::NodeId;

class PeerConnectionTest : public ::testing::Test,
                           public PeerConnection::Owner {
 protected:
  PeerConnectionTest() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                         ends),
              0);
    far_ = Socket(ends[1]);
    near_ = Socket(ends[0]);
  }
  ~PeerConnectionTest() override {
    if (connection_ != nullptr) connection_->End(absl::OkStatus());
  }

  void Make(NodeId expected) {
    connection_ =
        std::make_shared<PeerConnection>(this, std::move(near_), expected);
    start_ = Poller::NowNanos();
  }
  uint64_t After(absl::Duration duration) const {
    return Poller::NowNanos() +
           static_cast<uint64_t>(absl::ToInt64Nanoseconds(duration));
  }
  void Say(const std::string& bytes) {
    ASSERT_EQ(send(far_.fd(), bytes.data(), bytes.size(), 0),
              static_cast<ssize_t>(bytes.size()));
    connection_->OnReady(EPOLLIN);
  }
  // What has come so far, of frames.
  std::vector<FrameType> Heard() {
    std::vector<FrameType> types;
    for (;;) {
      while (true) {
        const auto frame = parser_.Next();
        if (!frame.ok()) ADD_FAILURE() << frame.status();
        if (!frame.ok() || !frame->has_value()) break;
        types.push_back((*frame)->type);
      }
      const auto room = parser_.Room();
      const ssize_t n = recv(far_.fd(), room.data(), room.size(), 0);
      if (n <= 0) return types;
      parser_.Filled(static_cast<size_t>(n));
    }
  }
  static std::string Hello(uint64_t from, uint64_t to) {
    return EncodeFrame({FrameType::kHello, 0,
                        EncodeHelloPayload({7, NodeId(from), NodeId(to), 9})});
  }

  Poller* poller() override { return &poller_; }
  const std::atomic<uint64_t>* map_epoch() const override { return &epoch_; }
  PeerIdentity OwnIdentity() const override {
    return {7, NodeId(1), NodeId(), 8};
  }
  uint64_t max_queue_bytes() const override { return 1 << 20; }
  absl::StatusOr<std::shared_ptr<PeerLink>> Admit(const PeerIdentity& identity,
                                                  NodeId) override {
    if (identity.cluster_id != 7) {
      return absl::FailedPreconditionError("another cluster");
    }
    return link_;
  }
  void AddMessages(NodeId, std::vector<GroupMessage> messages) override {
    messages_ += messages.size();
  }
  void OnNodeMessage(NodeId, NodeMessage) override {}
  void OnEpoch(NodeId, uint64_t) override {}
  void OnGone(NodeId) override { ++gone_; }
  void OnEnded(PeerConnection*, const absl::Status& status) override {
    ended_ = status;
  }

  Poller poller_;
  std::atomic<uint64_t> epoch_{1};
  std::shared_ptr<PeerLink> link_ =
      std::make_shared<PeerLink>(NodeId(2), "other:1");
  Socket near_, far_;
  std::shared_ptr<PeerConnection> connection_;
  FrameParser parser_{kMaxFramePayload};
  uint64_t start_ = 0;
  size_t messages_ = 0;
  int gone_ = 0;
  std::optional<absl::Status> ended_;
};

TEST_F(PeerConnectionTest, WhoDoesNotGreetIsGivenUp) {
  Make(NodeId(2));
  connection_->Open();
  connection_->CheckTime(start_);
  EXPECT_FALSE(ended_.has_value());
  connection_->CheckTime(After(PeerConnection::kMaxGreeting));
  ASSERT_TRUE(ended_.has_value());
  EXPECT_EQ(ended_->code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(gone_, 0);
}

TEST_F(PeerConnectionTest, AnAnswerThatIsNotConfirmedIsGivenUpToo) {
  Make(NodeId());
  connection_->Accept({7, NodeId(2), NodeId(1), 9});
  EXPECT_EQ(Heard(), std::vector{FrameType::kHello});
  connection_->CheckTime(After(PeerConnection::kMaxGreeting));
  EXPECT_TRUE(ended_.has_value());
  EXPECT_FALSE(connection_->confirmed());
}

TEST_F(PeerConnectionTest, SaysThatItIsThereAndNoticesSilence) {
  Make(NodeId());
  connection_->Accept({7, NodeId(2), NodeId(1), 9});
  Say(EncodeFrame({FrameType::kBatch, 1, {}}));
  EXPECT_TRUE(connection_->confirmed());
  EXPECT_EQ(Heard(), std::vector{FrameType::kHello});
  connection_->CheckTime(After(PeerConnection::kSayWithin / 2));
  EXPECT_TRUE(Heard().empty());
  connection_->CheckTime(After(PeerConnection::kSayWithin));
  EXPECT_EQ(Heard(), std::vector{FrameType::kBatch});
  connection_->CheckTime(After(PeerConnection::kMaxSilence / 2));
  EXPECT_FALSE(ended_.has_value());
  connection_->CheckTime(After(PeerConnection::kMaxSilence));
  ASSERT_TRUE(ended_.has_value());
  EXPECT_EQ(ended_->code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(gone_, 1);
  EXPECT_FALSE(link_->Connected());
}

TEST_F(PeerConnectionTest, TheOpeningSideChecksTheAnswer) {
  Make(NodeId(2));
  connection_->Open();
  Say(EncodeFrame({FrameType::kBatch, 1, {}}));  // no hello
  ASSERT_TRUE(ended_.has_value());
  EXPECT_EQ(ended_->code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(PeerConnectionTest, BeforeTheAnswerFramesAreSmall) {
  Make(NodeId(2));
  connection_->Open();
  Say(EncodeFrame(
      {FrameType::kRefusal, 1, std::string(kMaxFirstPayload + 1, 'x')}));
  ASSERT_TRUE(ended_.has_value());
  EXPECT_EQ(ended_->code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(PeerConnectionTest, EveryHalfOfAnAnswerIsWaitedFor) {
  Make(NodeId(2));
  connection_->Open();
  const std::string bytes =
      Hello(2, 1) + EncodeFrame({FrameType::kBatch, 1, {}});
  for (char byte : bytes) {
    EXPECT_FALSE(ended_.has_value());
    Say(std::string(1, byte));
  }
  EXPECT_FALSE(ended_.has_value());
  EXPECT_TRUE(connection_->confirmed());
  EXPECT_TRUE(link_->Connected());
}

// A socket that is gone is found by who sends, and ends it in its own thread.
TEST_F(PeerConnectionTest, SendingIntoABrokenSocketIsCounted) {
  Make(NodeId());
  connection_->Accept({7, NodeId(2), NodeId(1), 9});
  Say(EncodeFrame({FrameType::kBatch, 1, {}}));
  far_.Close();
  const uint64_t dropped = link_->State().dropped_messages;
  connection_->Send({{raft::GroupId(0), raft::TimeoutNow{raft::Term(1)}}});
  connection_->Send({{raft::GroupId(0), raft::TimeoutNow{raft::Term(1)}}});
  EXPECT_EQ(link_->State().dropped_messages, dropped + 2);
  connection_->OnReady(EPOLLIN | EPOLLHUP);
  EXPECT_TRUE(ended_.has_value());
}

}  // namespace
}  // namespace kv739::server
