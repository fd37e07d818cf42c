#include "server/metrics.h"

#include <netdb.h>
#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <exception>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"

namespace kv739::server {
namespace {

// Connections served at one time, and how long an idle one may hold its
// thread.
constexpr int kHttpThreads = 4;
constexpr int kRequestTimeoutMs = 5'000;

// One question to the host that all who scrape at the moment wait for. Kept
// alive by the host's callback, so a late answer meets something.
class HostQuestion {
 public:
  using Ask = std::function<void(absl::AnyInvocable<void(HostStats)>)>;

  // Nothing when there is no answer in time; the question then stays open and
  // the next caller waits for it too.
  static std::optional<HostStats> Put(
      const std::shared_ptr<HostQuestion>& question, const Ask& ask,
      absl::Duration timeout) {
    std::shared_ptr<Round> round;
    bool first = false;
    {
      absl::MutexLock lock(&question->mutex_);
      if (question->open_ == nullptr) {
        question->open_ = std::make_shared<Round>();
        first = true;
      }
      round = question->open_;
    }
    if (first) {
      ask([question, round](HostStats stats) {
        absl::MutexLock lock(&question->mutex_);
        round->answer = std::move(stats);
        question->open_ = nullptr;
      });
    }
    absl::MutexLock lock(&question->mutex_);
    question->mutex_.AwaitWithTimeout(
        absl::Condition(
            +[](Round* r) { return r->answer.has_value(); }, round.get()),
        timeout);
    return round->answer;
  }

 private:
  struct Round {
    std::optional<HostStats> answer;
  };
  absl::Mutex mutex_;
  std::shared_ptr<Round> open_ ABSL_GUARDED_BY(mutex_);
};

class Collector : public prometheus::Collectable {
 public:
  Collector(const MetricsOptions& options, MetricsParts parts)
      : options_(options), parts_(std::move(parts)) {}

  std::vector<prometheus::MetricFamily> Collect() const override {
    MetricsSource source;
    source.host =
        HostQuestion::Put(question_, parts_.host, options_.host_timeout);
    if (!source.host) timeouts_.fetch_add(1, std::memory_order_relaxed);
    source.host_timeouts = timeouts_.load(std::memory_order_relaxed);
    if (parts_.wal) source.wal = parts_.wal();
    if (parts_.peers) source.peers = parts_.peers();
    if (parts_.syncs != nullptr) source.syncs = parts_.syncs->Read();
    if (auto process = ReadProcessStats(); process.ok()) {
      source.process = *process;
    }
    source.healthy =
        source.host && !source.host->stopping &&
        (!source.syncs ||
         (source.syncs->failures == 0 &&
          absl::Nanoseconds(source.syncs->oldest_nanos) <= options_.max_sync));
    return MakeMetricFamilies(source, parts_.address_of);
  }

 private:
  const MetricsOptions options_;
  const MetricsParts parts_;
  const std::shared_ptr<HostQuestion> question_ =
      std::make_shared<HostQuestion>();
  mutable std::atomic<uint64_t> timeouts_{0};
};

using AddrInfo = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

// Null when it is no address; `rc` is getaddrinfo()'s then.
AddrInfo Resolve(const std::string& host, uint16_t port, int* rc) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  *rc = ::getaddrinfo(host.c_str(), absl::StrCat(port).c_str(), &hints, &found);
  return AddrInfo(*rc == 0 ? found : nullptr, ::freeaddrinfo);
}

// Says why an address cannot be listened on; the HTTP library does not.
absl::Status WhyNot(const MetricsOptions& options) {
  const std::string what = absl::StrCat(
      "cannot serve metrics on ", options.host, " port ", options.port, ": ");
  int rc = 0;
  const AddrInfo address = Resolve(options.host, options.port, &rc);
  if (address == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(what, ::gai_strerror(rc)));
  }
  const int fd = ::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int error = fd < 0 ? errno : 0;
  if (fd >= 0) {
    const int on = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (::bind(fd, address->ai_addr, address->ai_addrlen) != 0 ||
        ::listen(fd, 1) != 0) {
      error = errno;
    }
    ::close(fd);
  }
  return absl::UnavailableError(absl::StrCat(
      what, error == 0 ? "the HTTP server did not start" : strerror(error)));
}

// Connects and hangs up.
void Knock(const std::string& host, uint16_t port) {
  int rc = 0;
  const AddrInfo address = Resolve(host, port, &rc);
  if (address == nullptr) return;
  const int fd = ::socket(address->ai_family,
                          SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return;
  // An unspecified address (0.0.0.0) leads to this host. Whether it works is
  // no matter.
  (void)!::connect(fd, address->ai_addr, address->ai_addrlen);
  ::close(fd);
}

class ExposedMetrics : public MetricsServer {
 public:
  ExposedMetrics(const MetricsOptions& options, MetricsParts parts)
      : host_(options.host),
        collector_(std::make_shared<Collector>(options, std::move(parts))) {}

  // The HTTP library looks whether it shall stop when its wait for
  // connections ends, every two seconds; a connection ends it sooner.
  ~ExposedMetrics() override {
    if (exposer_ == nullptr) return;
    const uint16_t where = port();
    absl::Notification ended;
    std::thread knocker([&] {
      do {
        Knock(host_, where);
      } while (!ended.WaitForNotificationWithTimeout(absl::Milliseconds(5)));
    });
    exposer_.reset();
    ended.Notify();
    knocker.join();
  }

  // Throws what the HTTP server throws.
  void Listen(const MetricsOptions& options) {
    const std::string host = absl::StrContains(options.host, ':')
                                 ? absl::StrCat("[", options.host, "]")
                                 : options.host;
    exposer_ = std::make_unique<prometheus::Exposer>(std::vector<std::string>{
        "listening_ports", absl::StrCat(host, ":", options.port), "num_threads",
        absl::StrCat(kHttpThreads), "request_timeout_ms",
        absl::StrCat(kRequestTimeoutMs)});
    exposer_->RegisterCollectable(collector_);
  }

  uint16_t port() const override {
    const std::vector<int> ports = exposer_->GetListeningPorts();
    return ports.empty() ? 0 : static_cast<uint16_t>(ports.front());
  }

 private:
  const std::string host_;
  const std::shared_ptr<Collector> collector_;
  std::unique_ptr<prometheus::Exposer> exposer_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(
    const MetricsOptions& options, MetricsParts parts) {
  auto server = std::make_unique<ExposedMetrics>(options, std::move(parts));
  try {
    server->Listen(options);
  } catch (const std::exception&) {
    return WhyNot(options);
  }
  return server;
}

}  // namespace kv739::server
