// The other end of a connection between nodes, by hand.
#ifndef KV739_TESTS_UNIT_SERVER_RAW_PEER_H_
#define KV739_TESTS_UNIT_SERVER_RAW_PEER_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <string>

#include "gtest/gtest.h"
#include "raft/v1/raft.pb.h"
#include "server/peer_frame.h"
#include "tests/unit/server/rpc_fakes.h"

namespace kv739::server {

class RawPeer {
 public:
  explicit RawPeer(int port)
      : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address),
                         sizeof address) == 0;
  }
  ~RawPeer() { Close(); }
  RawPeer(const RawPeer&) = delete;
  RawPeer& operator=(const RawPeer&) = delete;

  bool connected() const { return connected_; }
  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }
  // False when the other side has broken the connection.
  bool Say(const std::string& bytes) {
    size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t n =
          send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return false;
      sent += static_cast<size_t>(n);
    }
    return true;
  }
  static std::string Opening(const PeerIdentity& identity,
                             uint64_t map_epoch = 0) {
    return std::string(kPeerMagic) +
           EncodeFrame(
               {FrameType::kHello, map_epoch, EncodeHelloPayload(identity)});
  }
  static std::string Batch(const ::raft::v1::PeerBatch& batch,
                           uint64_t map_epoch = 0) {
    return EncodeFrame(
        {FrameType::kBatch, map_epoch, batch.SerializeAsString()});
  }

  // A frame whose payload is a copy.
  struct Heard {
    FrameType type;
    uint64_t map_epoch;
    std::string payload;
    ::raft::v1::PeerBatch batch() const {
      ::raft::v1::PeerBatch parsed;
      EXPECT_TRUE(parsed.ParseFromString(payload));
      return parsed;
    }
  };
  // The next one; none when the connection has ended.
  std::optional<Heard> Hear() {
    for (;;) {
      const auto frame = parser_.Next();
      EXPECT_TRUE(frame.ok()) << frame.status();
      if (!frame.ok()) return std::nullopt;
      if (frame->has_value()) {
        return Heard{(*frame)->type, (*frame)->map_epoch,
                     std::string((*frame)->payload)};
      }
      pollfd wait = {.fd = fd_, .events = POLLIN, .revents = 0};
      const int ready = ::poll(
          &wait, 1, static_cast<int>(absl::ToInt64Milliseconds(kPatience)));
      EXPECT_EQ(ready, 1) << "waited in vain";
      if (ready != 1) return std::nullopt;
      const absl::Span<char> room = parser_.Room();
      const ssize_t n = recv(fd_, room.data(), room.size(), 0);
      if (n <= 0) return std::nullopt;
      parser_.Filled(static_cast<size_t>(n));
    }
  }
  bool Ended() {
    while (Hear().has_value()) {
    }
    return true;
  }
  // What the refusal says; empty when there is none.
  std::string Refusal() {
    std::string why;
    while (const auto heard = Hear()) {
      if (heard->type == FrameType::kRefusal) why = heard->payload;
    }
    return why;
  }
  int fd() const { return fd_; }

 private:
  int fd_;
  bool connected_ = false;
  FrameParser parser_{kMaxFramePayload};
};

}  // namespace kv739::server

#endif  // KV739_TESTS_UNIT_SERVER_RAW_PEER_H_
