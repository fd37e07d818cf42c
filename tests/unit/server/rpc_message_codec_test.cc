// The core's messages on the wire: each type there and back, and bytes that
// make no sense.
#include <functional>
#include <random>
#include <string>

#include "gtest/gtest.h"
#include "kv/command.h"
#include "server/message_codec.h"

namespace kv739::server {
namespace {

namespace wire = ::raft::v1;
using raft::Index;
using raft::NodeId;
using raft::Term;

// Through bytes, as on a stream.
absl::StatusOr<GroupMessage> Travel(const raft::Message& message) {
  wire::GroupMessage out;
  EncodeMessage({raft::GroupId(9), message}, &out);
  wire::GroupMessage in;
  EXPECT_TRUE(in.ParseFromString(out.SerializeAsString()));
  return DecodeMessage(&in);
}

template <typename M>
M Arrived(const M& message) {
  absl::StatusOr<GroupMessage> got = Travel(message);
  EXPECT_TRUE(got.ok()) << got.status();
  if (!got.ok()) return M();
  EXPECT_EQ(got->group, raft::GroupId(9));
  const M* m = std::get_if<M>(&got->message);
  EXPECT_NE(m, nullptr);
  return m != nullptr ? *m : M();
}

std::string SampleCommand() {
  kv::Command command;
  command.key = "key";
  command.value = absl::string_view("a\0b", 3);
  return kv::EncodeCommand(command);
}

raft::AppendEntries SampleAppend() {
  raft::AppendEntries m;
  m.term = Term(7);
  m.previous = {Term(5), Index(10)};
  m.commit = Index(8);
  m.entries = {
      {Term(5), Index(11), raft::EntryKind::kCommand,
       raft::MakePayload(SampleCommand())},
      {Term(7), Index(12), raft::EntryKind::kNoop, raft::MakePayload("")},
      {Term(7), Index(13), raft::EntryKind::kConfiguration,
       raft::MakePayload(std::string(100000, 'x'))}};
  return m;
}

TEST(MessageCodecTest, RequestVote) {
  for (bool flag : {false, true}) {
    const auto m =
        Arrived(raft::RequestVote{Term(3), {Term(2), Index(9)}, flag, !flag});
    EXPECT_EQ(m.term, Term(3));
    EXPECT_EQ(m.last, (raft::LogPosition{Term(2), Index(9)}));
    EXPECT_EQ(m.pre_vote, flag);
    EXPECT_EQ(m.transfer, !flag);
  }
}

TEST(MessageCodecTest, RequestVoteResponse) {
  for (bool flag : {false, true}) {
    const auto m = Arrived(raft::RequestVoteResponse{Term(3), flag, !flag});
    EXPECT_EQ(m.term, Term(3));
    EXPECT_EQ(m.pre_vote, flag);
    EXPECT_EQ(m.granted, !flag);
  }
}

TEST(MessageCodecTest, AppendEntries) {
  const raft::AppendEntries sent = SampleAppend();
  const auto m = Arrived(sent);
  EXPECT_EQ(m.term, sent.term);
  EXPECT_EQ(m.previous, sent.previous);
  EXPECT_EQ(m.commit, sent.commit);
  ASSERT_EQ(m.entries.size(), sent.entries.size());
  for (size_t i = 0; i < m.entries.size(); ++i) {
    EXPECT_EQ(m.entries[i].term, sent.entries[i].term);
    EXPECT_EQ(m.entries[i].index, sent.entries[i].index);
    EXPECT_EQ(m.entries[i].kind, sent.entries[i].kind);
    EXPECT_EQ(*m.entries[i].data, *sent.entries[i].data);
  }
}

TEST(MessageCodecTest, AppendEntriesResponse) {
  for (bool flag : {false, true}) {
    const auto m = Arrived(raft::AppendEntriesResponse{
        Term(4), flag, Index(6), {Term(2), Index(5)}});
    EXPECT_EQ(m.term, Term(4));
    EXPECT_EQ(m.success, flag);
    EXPECT_EQ(m.index, Index(6));
    EXPECT_EQ(m.hint, (raft::LogPosition{Term(2), Index(5)}));
  }
}

TEST(MessageCodecTest, HeartbeatsAndTimeoutNow) {
  const auto beat = Arrived(raft::Heartbeat{Term(4), Index(6), 12});
  EXPECT_EQ(beat.term, Term(4));
  EXPECT_EQ(beat.commit, Index(6));
  EXPECT_EQ(beat.round, 12u);
  const auto answer = Arrived(raft::HeartbeatResponse{Term(4), 13, true});
  EXPECT_EQ(answer.term, Term(4));
  EXPECT_EQ(answer.round, 13u);
  EXPECT_TRUE(answer.promise);
  EXPECT_EQ(Arrived(raft::TimeoutNow{Term(8)}).term, Term(8));
}

raft::InstallSnapshot SampleInstall() {
  raft::InstallSnapshot m;
  m.term = Term(9);
  m.meta.position = {Term(8), Index(4711)};
  m.meta.configuration.voters = {NodeId(1), NodeId(2), NodeId(~uint64_t{0})};
  m.meta.configuration.outgoing = {NodeId(2), NodeId(3)};
  m.meta.configuration.learners = {NodeId(4)};
  return m;
}

TEST(MessageCodecTest, InstallSnapshot) {
  const raft::InstallSnapshot sent = SampleInstall();
  const auto m = Arrived(sent);
  EXPECT_EQ(m.term, sent.term);
  EXPECT_EQ(m.meta, sent.meta);
}

TEST(MessageCodecTest, InstallSnapshotThatMakesNoSense) {
  auto refused = [](const std::function<void(wire::InstallSnapshot*)>& spoil) {
    wire::GroupMessage message;
    EncodeMessage({raft::GroupId(1), SampleInstall()}, &message);
    spoil(message.mutable_install_snapshot());
    return DecodeMessage(&message).status().code() ==
           absl::StatusCode::kInvalidArgument;
  };
  EXPECT_FALSE(refused([](auto*) {}));
  EXPECT_TRUE(refused([](auto* m) { m->set_last_term(0); }));
  EXPECT_TRUE(refused([](auto* m) { m->set_last_index(0); }));
  EXPECT_TRUE(refused([](auto* m) { m->set_last_term(10); }));
  EXPECT_TRUE(refused([](auto* m) { m->clear_configuration(); }));
  EXPECT_TRUE(refused([](auto* m) { m->mutable_configuration()->pop_back(); }));
  EXPECT_TRUE(
      refused([](auto* m) { m->mutable_configuration()->push_back('x'); }));
  EXPECT_TRUE(refused([](auto* m) {
    raft::Configuration none;
    none.voters = {NodeId(2), NodeId(1)};
    m->set_configuration(raft::EncodeConfiguration(none));
  }));
}

TEST(MessageCodecTest, ReusedMessagesKeepNothing) {
  wire::GroupMessage out;
  EncodeMessage({raft::GroupId(1), SampleAppend()}, &out);
  EncodeMessage({raft::GroupId(2), raft::TimeoutNow{Term(1)}}, &out);
  EXPECT_EQ(out.kind_case(), wire::GroupMessage::kTimeoutNow);
  EXPECT_EQ(out.group(), 2u);
}

// What only a broken or a newer peer sends.
class BadAppendTest : public ::testing::Test {
 protected:
  BadAppendTest() {
    EncodeMessage({raft::GroupId(1), SampleAppend()}, &message_);
  }
  wire::Entry* entry(int i) {
    return message_.mutable_append_entries()->mutable_entries(i);
  }
  void ExpectRefused() {
    EXPECT_EQ(DecodeMessage(&message_).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
  wire::GroupMessage message_;
};

TEST_F(BadAppendTest, GapBehindPrevious) {
  message_.mutable_append_entries()->set_previous_index(9);
  ExpectRefused();
}
TEST_F(BadAppendTest, GapBetweenEntries) {
  entry(2)->set_index(14);
  ExpectRefused();
}
TEST_F(BadAppendTest, RepeatedIndex) {
  entry(2)->set_index(12);
  ExpectRefused();
}
TEST_F(BadAppendTest, TermGoesBack) {
  entry(1)->set_term(4);
  ExpectRefused();
}
TEST_F(BadAppendTest, TermAboveTheMessages) {
  entry(2)->set_term(8);
  ExpectRefused();
}
TEST_F(BadAppendTest, PreviousTermAboveTheMessages) {
  message_.mutable_append_entries()->clear_entries();
  message_.mutable_append_entries()->set_previous_term(8);
  ExpectRefused();
}
// It would stop every replica that came to apply it.
TEST_F(BadAppendTest, CommandThatDoesNotDecode) {
  const std::string command = SampleCommand();
  for (const std::string& bytes :
       {std::string(), std::string("x"), command + "x",
        command.substr(0, command.size() - 1)}) {
    EncodeMessage({raft::GroupId(1), SampleAppend()}, &message_);
    entry(0)->set_data(bytes);
    ExpectRefused();
  }
}
TEST_F(BadAppendTest, UnknownEntryKind) {
  for (uint32_t kind : {0u, 4u, 257u, ~0u}) {
    entry(0)->set_kind(kind);
    ExpectRefused();
  }
}
TEST_F(BadAppendTest, IndexWrapsAround) {
  message_.mutable_append_entries()->set_previous_index(~uint64_t{0});
  entry(0)->set_index(0);
  ExpectRefused();
}
TEST_F(BadAppendTest, NoKind) {
  message_.clear_kind();
  ExpectRefused();
}

TEST(MessageCodecTest, RandomAndCutBytesNeverHarm) {
  wire::GroupMessage sample;
  raft::AppendEntries append = SampleAppend();
  append.entries[2].data = raft::MakePayload("xyz");
  EncodeMessage({raft::GroupId(1), append}, &sample);
  wire::GroupMessage install;
  EncodeMessage({raft::GroupId(1), SampleInstall()}, &install);
  int decoded = 0;
  auto feed = [&](const std::string& input) {
    wire::GroupMessage in;
    if (!in.ParseFromString(input)) return;
    const absl::StatusOr<GroupMessage> message = DecodeMessage(&in);
    if (!message.ok()) return;
    ++decoded;
    // What was accepted has a form, and that is accepted again.
    wire::GroupMessage again;
    EncodeMessage(*message, &again);
    ASSERT_TRUE(DecodeMessage(&again).ok());
  };
  std::mt19937 random(739);
  const std::string samples[] = {sample.SerializeAsString(),
                                 install.SerializeAsString()};
  for (const std::string& bytes : samples) {
    for (size_t cut = 0; cut <= bytes.size(); ++cut) {
      feed(bytes.substr(0, cut));
    }
  }
  for (int i = 0; i < 40000; ++i) {
    std::string input = samples[i / 2 % 2];
    if (i % 2 == 0) {
      input[random() % input.size()] ^= static_cast<char>(1 << random() % 8);
    } else {
      input.resize(random() % 64);
      for (char& c : input) c = static_cast<char>(random());
    }
    feed(input);
  }
  EXPECT_GT(decoded, 0);
}

TEST(MessageCodecTest, SizeCountsTheEntries) {
  EXPECT_GE(ApproximateBytes({raft::GroupId(1), SampleAppend()}), 100003u);
  EXPECT_LT(ApproximateBytes({raft::GroupId(1), SampleAppend()}), 101000u);
  wire::GroupMessage install;
  EncodeMessage({raft::GroupId(1), SampleInstall()}, &install);
  EXPECT_GE(ApproximateBytes({raft::GroupId(1), SampleInstall()}),
            install.ByteSizeLong());
}

}  // namespace
}  // namespace kv739::server
