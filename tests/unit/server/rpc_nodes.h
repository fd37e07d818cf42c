// Several servers in one process, with fake handlers, that talk to each other.
#ifndef KV739_TESTS_UNIT_SERVER_RPC_NODES_H_
#define KV739_TESTS_UNIT_SERVER_RPC_NODES_H_

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kv/command.h"
#include "tests/unit/server/rpc_fakes.h"

namespace kv739::server {

inline GroupMessage Beat(uint64_t round) {
  return {raft::GroupId(0),
          raft::Heartbeat{raft::Term(1), raft::Index(1), round}};
}
inline uint64_t RoundOf(const GroupMessage& message) {
  return std::get<raft::Heartbeat>(message.message).round;
}
// One put with a value of this size.
inline GroupMessage Append(size_t bytes) {
  const std::string value(bytes, 'x');
  kv::Command command;
  command.key = "k";
  command.value = value;
  raft::AppendEntries append;
  append.term = raft::Term(1);
  append.entries.push_back({raft::Term(1), raft::Index(1),
                            raft::EntryKind::kCommand,
                            raft::MakePayload(kv::EncodeCommand(command))});
  return {raft::GroupId(0), std::move(append)};
}

// A port that nobody listens on; the socket holds it until the server binds.
inline int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)),
            0);
  socklen_t size = sizeof(address);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  close(fd);
  return ntohs(address.sin_port);
}

class RpcNodesTest : public ::testing::Test {
 protected:
  struct Node {
    std::unique_ptr<FakeHandler> handler;
    std::unique_ptr<RpcServer> server;
  };

  void MakePorts(int count) {
    std::vector<int> ports;
    for (int i = 0; i < count; ++i) ports.push_back(FreePort());
    map_ = std::make_shared<const kv::ClusterMap>(MakeMap(ports));
  }
  RpcServerOptions Options(uint64_t id) {
    RpcServerOptions options = TestOptions();
    options.listen = map_->nodes[id - 1].address.ToString();
    options.transport.self = raft::NodeId(id);
    options.transport.incarnation = 100 + id;
    return options;
  }
  void Start(uint64_t id, RpcServerOptions options) {
    Node& node = nodes_[id];
    node.handler = std::make_unique<FakeHandler>(map_);
    absl::StatusOr<std::unique_ptr<RpcServer>> server =
        RpcServer::Create(std::move(options));
    ASSERT_TRUE(server.ok()) << server.status();
    node.server = *std::move(server);
    node.server->Start(node.handler.get());
  }
  void Start(uint64_t id) { Start(id, Options(id)); }
  void Stop(uint64_t id) {
    nodes_[id].server->Shutdown(absl::Now());
    nodes_.erase(id);
  }
  FakeHandler& handler(uint64_t id) { return *nodes_[id].handler; }
  void Send(uint64_t from, uint64_t to, std::vector<GroupMessage> messages) {
    nodes_[from].server->transport()->Send(raft::NodeId(to),
                                           std::move(messages));
  }
  PeerState StateOf(uint64_t node, uint64_t peer) {
    for (const PeerState& state : nodes_[node].server->Peers()) {
      if (state.id == raft::NodeId(peer)) return state;
    }
    ADD_FAILURE() << "no peer " << peer;
    return {};
  }
  // Looks again after each tick of the node.
  void Await(uint64_t node, const std::function<bool()>& condition) {
    const absl::Time end = absl::Now() + kPatience;
    while (!condition()) {
      ASSERT_LT(absl::Now(), end) << "waited in vain";
      handler(node).AwaitTicks(1);
    }
  }
  void AwaitConnected(uint64_t a, uint64_t b) {
    Await(a,
          [&] { return StateOf(a, b).connected && StateOf(b, a).connected; });
  }

  std::shared_ptr<const kv::ClusterMap> map_;
  std::map<uint64_t, Node> nodes_;
};

}  // namespace kv739::server

#endif  // KV739_TESTS_UNIT_SERVER_RPC_NODES_H_
