#include "tests/support/ports.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"

namespace kv739::test {
namespace {

constexpr int kLowestPort = 10000;  // below it live well-known services

// First port that the kernel gives to outgoing connections.
int FirstEphemeralPort() {
  std::ifstream file("/proc/sys/net/ipv4/ip_local_port_range");
  int first = 0;
  return file >> first ? first : 32768;
}

}  // namespace

bool IsFree(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_ANY);
  address.sin_port = htons(port);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const bool free =
      bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  close(fd);
  return free;
}

Ports::Ports(int count) {
  const int blocks = (FirstEphemeralPort() - kLowestPort) / kBlock;
  if (blocks < 1 || count > kBlock) {
    std::fprintf(stderr, "no room for %d test ports\n", count);
    std::abort();
  }
  const int start = static_cast<int>(std::random_device{}() % blocks);
  for (int i = 0; i < blocks; ++i) {
    if (TryBlock(kLowestPort + (start + i) % blocks * kBlock, count)) return;
  }
  std::fprintf(stderr, "no block of %d free ports\n", count);
  std::abort();
}

bool Ports::TryBlock(int first, int count) {
  const std::string dir = absl::StrCat("/tmp/kv739-test-ports-", getuid());
  mkdir(dir.c_str(), 0700);
  const std::string name = absl::StrCat(dir, "/", first);
  lock_ = open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock_ >= 0 && flock(lock_, LOCK_EX | LOCK_NB) == 0) {
    for (int port = first; port < first + kBlock; ++port) {
      if (IsFree(static_cast<uint16_t>(port))) {
        ports_.push_back(static_cast<uint16_t>(port));
      }
      if (static_cast<int>(ports_.size()) == count) return true;
    }
  }
  if (lock_ >= 0) close(lock_);
  lock_ = -1;
  ports_.clear();
  return false;
}

Ports::~Ports() {
  if (lock_ >= 0) close(lock_);
}

}  // namespace kv739::test
