// Who comes to a shared port: peers, others, and those who never say.
#include "server/acceptor.h"

#include <condition_variable>
#include <mutex>
#include <random>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/unit/server/raw_peer.h"

namespace kv739::server {
namespace {

class AcceptorTest : public ::testing::Test {
 protected:
  ~AcceptorTest() override {
    poller_.Stop();
    if (acceptor_ != nullptr) acceptor_->Stop();
  }
  void Start(absl::Duration patience, size_t max_undecided) {
    auto listening = ListenOn("127.0.0.1:0");
    ASSERT_TRUE(listening.ok()) << listening.status();
    port_ = listening->port;
    Acceptor::Options options;
    options.patience = patience;
    options.max_undecided = max_undecided;
    options.on_peer = [this](Socket, const PeerIdentity& identity) {
      Add(absl::StrCat("peer ", identity.from.value()));
    };
    options.on_bad_peer = [this](int, const absl::Status&) { Add("bad"); };
    options.on_other = [this](Socket socket, int) {
      char bytes[64];
      const ssize_t n = recv(socket.fd(), bytes, sizeof bytes, 0);
      Add(absl::StrCat("other ",
                       absl::string_view(bytes, static_cast<size_t>(n))));
    };
    acceptor_ = std::make_unique<Acceptor>(
        &poller_, std::move(listening->sockets), std::move(options));
    acceptor_->Start();
    poller_.Start();
  }
  void Add(std::string what) {
    const std::lock_guard lock(mutex_);
    seen_.push_back(std::move(what));
    changed_.notify_all();
  }
  std::vector<std::string> Await(size_t count) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, absl::ToChronoSeconds(kPatience),
                                  [&] { return seen_.size() >= count; }));
    return seen_;
  }
  static std::string Opening(uint64_t from) {
    return RawPeer::Opening({1, raft::NodeId(from), raft::NodeId(2), 3});
  }

  Poller poller_;
  std::unique_ptr<Acceptor> acceptor_;
  int port_ = 0;
  std::mutex mutex_;  // guards seen_
  std::condition_variable changed_;
  std::vector<std::string> seen_;
};

TEST_F(AcceptorTest, EachIsHandedToWhomItWants) {
  Start(absl::Hours(1), 16);
  RawPeer peer(port_);
  peer.Say(Opening(7));
  EXPECT_EQ(Await(1)[0], "peer 7");
  // All bytes are still there for whoever gets it.
  RawPeer other(port_);
  other.Say("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  EXPECT_EQ(Await(2)[1], "other PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  // The first bytes of the magic, then something else.
  RawPeer almost(port_);
  almost.Say(std::string(kPeerMagic.substr(0, 3)));
  almost.Say("!");
  EXPECT_EQ(Await(3)[2], absl::StrCat("other ", kPeerMagic.substr(0, 3), "!"));
  RawPeer bad(port_);
  bad.Say(std::string(kPeerMagic) + std::string(100, 'x'));
  EXPECT_EQ(Await(4)[3], "bad");
  EXPECT_TRUE(bad.Ended());
}

TEST_F(AcceptorTest, HalfAnOpeningAtEachByteIsWaitedFor) {
  Start(absl::Hours(1), 100);
  const std::string opening = Opening(9);
  std::vector<std::unique_ptr<RawPeer>> peers;
  for (size_t n = 0; n <= opening.size(); ++n) {
    peers.push_back(std::make_unique<RawPeer>(port_));
    peers.back()->Say(opening.substr(0, n));
  }
  Await(1);  // the last one
  for (size_t n = 0; n < opening.size(); ++n) {
    EXPECT_EQ(Await(0).size(), n + 1);
    peers[n]->Say(opening.substr(n));
    EXPECT_EQ(Await(n + 2).back(), "peer 9");
  }
}

TEST_F(AcceptorTest, WhoSaysTooLittleIsSentAwayInTime) {
  Start(absl::Milliseconds(20), 100);
  std::vector<std::unique_ptr<RawPeer>> peers;
  for (size_t n = 0; n < kOpeningBytes; n += 5) {
    peers.push_back(std::make_unique<RawPeer>(port_));
    peers.back()->Say(Opening(9).substr(0, n));
  }
  for (const auto& peer : peers) EXPECT_TRUE(peer->Ended());
  EXPECT_TRUE(Await(0).empty());
  RawPeer peer(port_);
  peer.Say(Opening(7));
  EXPECT_EQ(Await(1)[0], "peer 7");
}

TEST_F(AcceptorTest, OfTooManyTheOldestGo) {
  Start(absl::Hours(1), 8);
  std::vector<std::unique_ptr<RawPeer>> peers;
  for (int i = 0; i < 50; ++i) {
    peers.push_back(std::make_unique<RawPeer>(port_));
    ASSERT_TRUE(peers.back()->connected());
  }
  for (int i = 0; i < 42; ++i) EXPECT_TRUE(peers[i]->Ended()) << i;
  // The others are still heard, and so is a new one among them.
  peers[49]->Say(Opening(7));
  EXPECT_EQ(Await(1)[0], "peer 7");
  for (int i = 42; i < 49; ++i) {
    peers[i]->Say(Opening(static_cast<uint64_t>(i)));
    EXPECT_EQ(Await(static_cast<size_t>(i) - 40).back(),
              absl::StrCat("peer ", i));
  }
}

TEST_F(AcceptorTest, WhoLeavesEarlyLeavesNothing) {
  Start(absl::Hours(1), 1000);
  for (int i = 0; i < 200; ++i) {
    RawPeer peer(port_);
    peer.Say(Opening(9).substr(0, static_cast<size_t>(i) % kOpeningBytes));
  }
  RawPeer peer(port_);
  peer.Say(Opening(7));
  EXPECT_EQ(Await(1)[0], "peer 7");
  // The ends came before or come soon; asked in the thread that owns it.
  for (bool empty = false; !empty;) {
    std::mutex mutex;
    std::condition_variable changed;
    bool answered = false;
    poller_.Post([&] {
      const std::lock_guard lock(mutex);
      empty = acceptor_->undecided() == 0;
      answered = true;
      changed.notify_one();
    });
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return answered; });
  }
}

}  // namespace
}  // namespace kv739::server
