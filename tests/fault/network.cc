#include "tests/fault/network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "tests/support/history.h"

namespace kv739::test {
namespace {

// Large, so that a stream needs few packets; the largest that a queue of the
// kernel takes without fuss.
constexpr int kPacketBytes = 16'000;
// The third byte and the net mask of all addresses.
constexpr char kNetwork[] = "10.73.0.";

int64_t NowUs() { return Now() / 1000; }

absl::Status Missing(absl::string_view what) {
  return absl::UnavailableError(absl::StrCat(
      "this machine does not allow it: ", what, ": ", std::strerror(errno)));
}

// The node of the TUN driver is in /dev where udev has made it.
int OpenTun() {
  int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (fd >= 0 || errno != ENOENT) return fd;
  const std::string path = absl::StrCat("/tmp/kv739-test-tun-", getpid());
  if (mknod(path.c_str(), S_IFCHR | 0600, makedev(10, 200)) != 0) return -1;
  fd = open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK);
  unlink(path.c_str());
  return fd;
}

void SetAddress(sockaddr* where, const std::string& text) {
  auto* address = reinterpret_cast<sockaddr_in*>(where);
  address->sin_family = AF_INET;
  inet_pton(AF_INET, text.c_str(), &address->sin_addr);
}

bool Up(int socket, const char* name) {
  ifreq request = {};
  std::strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  return ioctl(socket, SIOCSIFFLAGS, &request) == 0;
}

// An interface of this name and address in the namespace that we are in; the
// descriptor of the other end.
absl::StatusOr<int> MakeInterface(const std::string& host) {
  const int device = OpenTun();
  if (device < 0) return Missing("/dev/net/tun");
  ifreq request = {};
  std::strcpy(request.ifr_name, "kv739");
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  if (ioctl(device, TUNSETIFF, &request) != 0) {
    close(device);
    return Missing("a TUN interface");
  }
  const int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  SetAddress(&request.ifr_addr, host);
  bool good = ioctl(control, SIOCSIFADDR, &request) == 0;
  SetAddress(&request.ifr_netmask, "255.255.255.0");
  good = good && ioctl(control, SIOCSIFNETMASK, &request) == 0;
  request.ifr_mtu = kPacketBytes;
  good = good && ioctl(control, SIOCSIFMTU, &request) == 0;
  request.ifr_qlen = 4096;
  ioctl(control, SIOCSIFTXQLEN, &request);
  good = good && Up(control, "lo") && Up(control, "kv739");
  close(control);
  if (good) return device;
  close(device);
  return Missing("an interface's address");
}

}  // namespace

std::string Network::Host(int port) { return absl::StrCat(kNetwork, port + 1); }

absl::StatusOr<std::unique_ptr<Network>> Network::Create(int servers) {
  auto network = std::unique_ptr<Network>(new Network);
  const int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  for (int i = 0; i <= servers; ++i) {
    Port port;
    if (i < servers && unshare(CLONE_NEWNET) != 0) return Missing("unshare");
    auto device = MakeInterface(Host(i));
    if (i < servers) {
      port.name_space = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
      if (setns(home, CLONE_NEWNET) != 0) return Missing("setns");
    }
    if (!device.ok()) return device.status();
    port.device = *device;
    network->ports_.push_back(port);
  }
  close(home);
  network->ways_.resize(network->ports_.size() * network->ports_.size());
  network->wake_ = eventfd(0, EFD_CLOEXEC);
  network->thread_ = std::thread([n = network.get()] { n->Run(); });
  return network;
}

Network::~Network() {
  if (thread_.joinable()) {
    eventfd_write(wake_, 1);
    thread_.join();
  }
  if (wake_ >= 0) close(wake_);
  for (const Port& port : ports_) {
    close(port.device);
    if (port.name_space >= 0) close(port.name_space);
  }
}

void Network::Set(int from, int to, Line line) {
  const std::lock_guard lock(mutex_);
  way(from, to).line = line;
}

void Network::Heal() {
  const std::lock_guard lock(mutex_);
  for (Way& one : ways_) one.line = Line();
}

void Network::Run() {
  std::vector<pollfd> waits;
  for (const Port& port : ports_) waits.push_back({port.device, POLLIN, 0});
  waits.push_back({wake_, POLLIN, 0});
  while (true) {
    const int64_t next = Deliver();
    timespec patience = {};
    const int64_t left = std::max<int64_t>(0, next - NowUs());
    patience.tv_sec = left / 1'000'000;
    patience.tv_nsec = left % 1'000'000 * 1000;
    ppoll(waits.data(), waits.size(), next < 0 ? nullptr : &patience, nullptr);
    if (waits.back().revents != 0) return;
    for (size_t i = 0; i < ports_.size(); ++i) {
      if (waits[i].revents != 0) Receive(static_cast<int>(i));
    }
  }
}

// All that waits at one port, up to a bound: the others have their turn too.
void Network::Receive(int from) {
  char packet[kPacketBytes + 100];
  for (int i = 0; i < 64; ++i) {
    const ssize_t size = read(ports_[from].device, packet, sizeof packet);
    if (size <= 0) return;
    // IPv4, to an address of ours: its last byte is the port, from one on.
    if (size < 20 || (packet[0] & 0xf0) != 0x40) continue;
    in_addr to;
    std::memcpy(&to, packet + 16, sizeof to);
    const int port = static_cast<int>(ntohl(to.s_addr) & 0xff) - 1;
    if (port < 0 || port >= static_cast<int>(ports_.size())) continue;
    Carry(from, port, std::string(packet, static_cast<size_t>(size)));
  }
}

void Network::Carry(int from, int to, std::string packet) {
  {
    const std::lock_guard lock(mutex_);
    Way& one = way(from, to);
    const Line& line = one.line;
    const bool lost = line.cut || one.queue.size() >= kMaxQueued ||
                      (line.loss > 0 && std::uniform_real_distribution<>(
                                            0, 1)(random_) < line.loss);
    if (lost) {
      ++dropped_;
      return;
    }
    int64_t due = NowUs() + line.delay_us;
    if (line.jitter_us > 0) due += random_() % line.jitter_us;
    if (line.bytes_per_s > 0) {
      one.free_us =
          std::max(one.free_us, NowUs()) +
          static_cast<int64_t>(packet.size()) * 1'000'000 / line.bytes_per_s;
      due = std::max(due, one.free_us);
    }
    // In order: TCP takes a packet that overtakes for a loss of the others.
    if (!one.queue.empty()) due = std::max(due, one.queue.back().due_us);
    if (due > NowUs() || !one.queue.empty()) {
      one.queue.push_back({due, std::move(packet)});
      return;
    }
  }
  ++carried_;
  // A full queue of the receiver loses it.
  if (write(ports_[to].device, packet.data(), packet.size()) < 0) ++dropped_;
}

int64_t Network::Deliver() {
  const std::lock_guard lock(mutex_);
  const int64_t now = NowUs();
  int64_t next = -1;
  for (size_t i = 0; i < ways_.size(); ++i) {
    Way& one = ways_[i];
    const int device = ports_[i % ports_.size()].device;
    while (!one.queue.empty() && one.queue.front().due_us <= now) {
      const std::string& packet = one.queue.front().bytes;
      // What was on its way when the line was cut is lost with it.
      const bool lost =
          one.line.cut || write(device, packet.data(), packet.size()) < 0;
      ++(lost ? dropped_ : carried_);
      one.queue.pop_front();
    }
    if (one.queue.empty()) continue;
    const int64_t due = one.queue.front().due_us;
    next = next < 0 ? due : std::min(next, due);
  }
  return next;
}

}  // namespace kv739::test
