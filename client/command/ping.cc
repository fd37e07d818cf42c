// ping: small requests, one after another, and how they fared.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/command/interrupt.h"
#include "client/command/ping_stats.h"
#include "client/command/verbs.h"

namespace kv739::command {
namespace {

using Json = nlohmann::ordered_json;

constexpr absl::Duration kAnswerWithin = absl::Seconds(1);

double Milliseconds(absl::Duration time) {
  return absl::ToDoubleMilliseconds(time);
}

void Summarize(const Context& context, const PingStats& stats) {
  const double rate =
      stats.sent() == 0 ? 0 : double(stats.answered()) / double(stats.sent());
  if (context.options.json) {
    context.Print({{"sent", stats.sent()},
                   {"answered", stats.answered()},
                   {"success_rate", rate},
                   {"mean_ms", Milliseconds(stats.mean())},
                   {"p50_ms", Milliseconds(stats.Percentile(50))},
                   {"p90_ms", Milliseconds(stats.Percentile(90))},
                   {"p99_ms", Milliseconds(stats.Percentile(99))},
                   {"max_ms", Milliseconds(stats.max())}});
    return;
  }
  context.io.out << absl::StrFormat("%d of %d answered (%.1f %%)",
                                    stats.answered(), stats.sent(), 100 * rate);
  if (stats.answered() > 0) {
    context.io.out << absl::StrFormat(
        ": mean %.3f ms, p50 %.3f, p90 %.3f, p99 %.3f, max %.3f",
        Milliseconds(stats.mean()), Milliseconds(stats.Percentile(50)),
        Milliseconds(stats.Percentile(90)), Milliseconds(stats.Percentile(99)),
        Milliseconds(stats.max()));
  }
  context.io.out << std::endl;
}

}  // namespace

int Ping(Context& context, const PingArguments& arguments) {
  absl::Duration delay;
  if (!absl::ParseDuration(arguments.delay, &delay) ||
      delay < absl::ZeroDuration()) {
    return context.Fail(kUsage, absl::StrCat("--delay ", arguments.delay,
                                             " is no time; try 1s or 100ms"));
  }
  Interrupt interrupt;
  absl::StatusOr<ClusterClient*> client = context.Cluster();
  if (!client.ok()) {
    return context.Fail(kUsage, std::string(client.status().message()));
  }
  std::vector<std::string> addresses = {arguments.address};
  if (arguments.address.empty()) {
    addresses.clear();
    for (const kv::ServerLine& line : (*client)->file().servers) {
      addresses.push_back(line.address.ToString());
    }
  }
  int64_t requests = arguments.requests;
  if (requests == 0 && !arguments.continuous) {
    requests = static_cast<int64_t>(addresses.size());
  }
  const absl::Duration timeout = context.Timeout(kAnswerWithin);
  PingStats stats;
  for (int64_t i = 0; requests == 0 || i < requests; ++i) {
    // One round over all servers at once, then a pause.
    const bool pause = i > 0 && i % int64_t(addresses.size()) == 0;
    if (interrupt.Wait(pause ? delay : absl::ZeroDuration())) break;
    const std::string& address = addresses[i % int64_t(addresses.size())];
    const absl::Time start = absl::Now();
    const absl::Status status = (*client)->Ping(address, timeout);
    const absl::Duration time = absl::Now() - start;
    if (status.ok()) {
      stats.Answered(time);
      if (!context.options.json) {
        context.io.err << absl::StrFormat("%s answered in %.3f ms\n", address,
                                          Milliseconds(time));
      }
    } else {
      stats.Lost();
      context.io.err << address << ": " << status.message() << "\n";
    }
  }
  context.io.err.flush();
  Summarize(context, stats);
  return stats.sent() > 0 && stats.answered() == stats.sent() ? kOk : kNo;
}

}  // namespace kv739::command
