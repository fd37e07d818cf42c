// A network of the tests' own: every server in a network namespace with one
// interface, and between the interfaces a switch in this program, which loses,
// delays and holds back packets as it is told, each direction for itself.
// Needs no tools and no rules of the kernel's packet filter; the interfaces
// (TUN) carry IP packets to this program and from it.
//
// Ports: 0 to servers() - 1 the servers, at Host(i); servers() the clients,
// which is this program itself.
//
// Threads: Create() on the main one before there are others; the rest any. The
// switch has a thread of its own. Queues are bounded by kMaxQueued packets for
// each direction; what is beyond is lost, as on a real line.
#ifndef KV739_TESTS_FAULT_NETWORK_H_
#define KV739_TESTS_FAULT_NETWORK_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"

namespace kv739::test {

// One direction from one port to another.
struct Line {
  bool cut = false;
  double loss = 0;          // share of the packets
  int64_t delay_us = 0;     // of each packet
  int64_t jitter_us = 0;    // up to this much more
  int64_t bytes_per_s = 0;  // 0: no limit
  bool operator==(const Line&) const = default;
};

class Network {
 public:
  static constexpr size_t kMaxQueued = 4096;

  // After EnterPrivateWorld(true). UNAVAILABLE where TUN is not allowed.
  static absl::StatusOr<std::unique_ptr<Network>> Create(int servers);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  int servers() const { return static_cast<int>(ports_.size()) - 1; }
  int clients() const { return servers(); }
  static std::string Host(int port);
  // Descriptor of the namespace of a server, for ProcessOptions.
  int Namespace(int port) const { return ports_.at(port).name_space; }

  void Set(int from, int to, Line line);
  void Both(int a, int b, Line line) {
    Set(a, b, line);
    Set(b, a, line);
  }
  // All lines as they were.
  void Heal();
  // Packets that a cut, the loss or a full queue has eaten.
  uint64_t dropped() const { return dropped_; }
  uint64_t carried() const { return carried_; }

 private:
  struct Port {
    int device = -1;
    int name_space = -1;
  };
  struct Packet {
    int64_t due_us = 0;
    std::string bytes;
  };
  // One direction, with what is on its way.
  struct Way {
    Line line;
    std::deque<Packet> queue;
    int64_t free_us = 0;  // when the line has sent all before
  };

  Network() = default;
  void Run();
  void Receive(int from);
  void Carry(int from, int to, std::string packet);
  // Sends what is due; when the next is, or -1.
  int64_t Deliver();
  Way& way(int from, int to) { return ways_[from * ports_.size() + to]; }

  std::vector<Port> ports_;
  int wake_ = -1;  // eventfd: the thread is to end
  std::atomic<uint64_t> dropped_{0};
  std::atomic<uint64_t> carried_{0};
  std::mutex mutex_;  // guards what follows
  std::vector<Way> ways_;
  std::mt19937 random_{7};
  std::thread thread_;
};

}  // namespace kv739::test

#endif  // KV739_TESTS_FAULT_NETWORK_H_
