// TCP ports for servers of tests that run at the same time.
#ifndef KV739_TESTS_SUPPORT_PORTS_H_
#define KV739_TESTS_SUPPORT_PORTS_H_

#include <cstdint>
#include <vector>

namespace kv739::test {

// Ports of 127.0.0.1 that were free, reserved against other tests of this
// user until the object dies. They lie below the range from which the kernel
// takes the ports of outgoing connections: a client that tries to reach a
// server that is down can neither take the server's port nor connect to
// itself there. Other programs may still take one, so a start of servers must
// be tried again on other ports when one finds its port in use.
class Ports {
 public:
  // `count` up to kBlock.
  explicit Ports(int count);
  ~Ports();
  Ports(const Ports&) = delete;
  Ports& operator=(const Ports&) = delete;

  uint16_t operator[](int i) const { return ports_.at(i); }

 private:
  static constexpr int kBlock = 100;
  bool TryBlock(int first, int count);

  std::vector<uint16_t> ports_;
  int lock_ = -1;  // file whose lock reserves the block
};

// Whether nobody listens on this port of 127.0.0.1.
bool IsFree(uint16_t port);

}  // namespace kv739::test

#endif  // KV739_TESTS_SUPPORT_PORTS_H_
