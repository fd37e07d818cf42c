#include "server/client_sockets.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "server/listen_address.h"

namespace kv739::server {
namespace {

constexpr uint64_t kNow = 1'000'000'000;
constexpr uint64_t kNextLook = kNow + ClientSockets::kLookNanos;
constexpr uint32_t kAlways = 1'000'000;  // milliseconds: all are in use

// Both ends of a connection over loopback, where what is sent has arrived when
// send() returns.
struct Connection {
  Connection() {
    Socket listener(socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* plain = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(bind(listener.fd(), plain, size), 0);
    EXPECT_EQ(listen(listener.fd(), 1), 0);
    EXPECT_EQ(getsockname(listener.fd(), plain, &size), 0);
    client = Socket(socket(AF_INET, SOCK_STREAM, 0));
    EXPECT_EQ(connect(client.fd(), plain, size), 0);
    server = Socket(accept(listener.fd(), nullptr, nullptr));
    const int on = 1;
    setsockopt(server.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  void Answer(const std::string& text) {
    EXPECT_EQ(send(server.fd(), text.data(), text.size(), 0),
              static_cast<ssize_t>(text.size()));
  }
  std::string Arrived() {
    char bytes[256];
    const ssize_t n = recv(client.fd(), bytes, sizeof bytes, MSG_DONTWAIT);
    return n > 0 ? std::string(bytes, static_cast<size_t>(n)) : "";
  }
  bool corked() const {
    int on = 0;
    socklen_t size = sizeof on;
    EXPECT_EQ(getsockopt(server.fd(), IPPROTO_TCP, TCP_CORK, &on, &size), 0);
    return on != 0;
  }
  Socket client;
  Socket server;
};

TEST(ClientSockets, AnswersOfABurstLeaveAtItsEnd) {
  Connection connection;
  ClientSockets sockets(kAlways);
  sockets.Add(connection.server.fd());
  {
    const ClientSockets::Burst burst(&sockets, 4, kNow);
    connection.Answer("one ");
    connection.Answer("two");
    EXPECT_EQ(connection.Arrived(), "");
  }
  EXPECT_EQ(connection.Arrived(), "one two");
  EXPECT_FALSE(connection.corked());
  connection.Answer("three");
  EXPECT_EQ(connection.Arrived(), "three");
}

TEST(ClientSockets, FewAnswersDoNotWait) {
  Connection a;
  Connection b;
  ClientSockets sockets(kAlways);
  sockets.Add(a.server.fd());
  sockets.Add(b.server.fd());
  // Enough for one socket, not for two.
  for (size_t answers : {size_t{0}, size_t{3}, size_t{7}}) {
    const ClientSockets::Burst burst(&sockets, answers, kNow);
    EXPECT_FALSE(a.corked()) << answers;
    EXPECT_FALSE(b.corked()) << answers;
  }
  const ClientSockets::Burst burst(&sockets, 8, kNow);
  EXPECT_TRUE(a.corked());
  EXPECT_TRUE(b.corked());
}

TEST(ClientSockets, SocketsThatRestAreLeftAlone) {
  Connection connection;
  ClientSockets sockets(/*in_use_millis=*/0);
  sockets.Add(connection.server.fd());
  const ClientSockets::Burst burst(&sockets, 1000, kNow);
  EXPECT_FALSE(connection.corked());
  EXPECT_EQ(sockets.size(), 1u);
}

TEST(ClientSockets, DescriptorOfAnotherSocketIsForgotten) {
  ClientSockets sockets(kAlways);
  Connection other;
  int fd = -1;
  {
    Connection gone;
    fd = gone.server.fd();
    sockets.Add(fd);
  }
  ASSERT_EQ(dup2(other.server.fd(), fd), fd);
  const Socket reused(fd);
  {
    const ClientSockets::Burst burst(&sockets, 4, kNow);
    EXPECT_FALSE(other.corked());
  }
  EXPECT_EQ(sockets.size(), 0u);
  // Known by its own name it is corked.
  sockets.Add(fd);
  const ClientSockets::Burst burst(&sockets, 4, kNow);
  EXPECT_TRUE(other.corked());
}

TEST(ClientSockets, ClosedOnesMakeRoom) {
  ClientSockets sockets(kAlways);
  std::vector<Connection> connections(ClientSockets::kMaxSockets);
  for (Connection& connection : connections) {
    sockets.Add(connection.server.fd());
  }
  Connection one_more;
  sockets.Add(one_more.server.fd());
  {
    const ClientSockets::Burst burst(&sockets, 1000, kNow);
    EXPECT_TRUE(connections.front().corked());
    EXPECT_FALSE(one_more.corked());
  }
  connections.pop_back();
  sockets.Add(one_more.server.fd());
  EXPECT_EQ(sockets.size(), ClientSockets::kMaxSockets);
  const ClientSockets::Burst burst(&sockets, 1000, kNextLook);
  EXPECT_TRUE(one_more.corked());
}

TEST(ClientSockets, WithoutSocketsABurstDoesNothing) {
  const ClientSockets::Burst none(nullptr, 1000, kNow);
  ClientSockets sockets;
  sockets.Add(-1);
  int pipes[2];
  ASSERT_EQ(pipe(pipes), 0);
  sockets.Add(pipes[0]);
  EXPECT_EQ(sockets.size(), 0u);
  const ClientSockets::Burst burst(&sockets, 1000, kNow);
  close(pipes[0]);
  close(pipes[1]);
}

}  // namespace
}  // namespace kv739::server
