#include "tests/support/workload.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace kv739::test {
namespace {

// Before a client goes on after an error.
constexpr absl::Duration kPauseAfterError = absl::Milliseconds(10);

}  // namespace

Workload::Workload(std::string config, WorkloadOptions options)
    : config_(std::move(config)), options_(std::move(options)) {}

Workload::~Workload() { Stop(); }

std::vector<std::string> Workload::keys() const {
  std::vector<std::string> keys;
  for (int i = 0; i < options_.keys; ++i) {
    keys.push_back(absl::StrCat(options_.key_prefix, i));
  }
  return keys;
}

absl::Status Workload::Start() {
  for (int i = 0; i < options_.clients; ++i) {
    auto client = Client::Open(config_, options_.timeout_ms);
    if (!client.ok()) return client.status();
    clients_.push_back(*std::move(client));
  }
  for (int i = 0; i < options_.clients; ++i) {
    threads_.emplace_back([this, i] { Run(i); });
  }
  return absl::OkStatus();
}

void Workload::Stop() {
  if (threads_.empty()) return;
  stop_.Notify();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  clients_.clear();
  operations_ = history_.Take();
}

Operation Workload::Step(Client& client, int number, uint32_t random,
                         int64_t sequence) {
  Operation op;
  op.client = number;
  op.key = absl::StrCat(options_.key_prefix, random / 100 % options_.keys);
  Answer answer;
  if (static_cast<int>(random % 100) < options_.gets_percent) {
    op.kind = Kind::kGet;
    op.start = Now();
    answer = client.Get(op.key);
  } else {
    op.kind = options_.appends ? Kind::kAppend : Kind::kPut;
    op.value = absl::StrCat(number, ".", sequence, ";");
    op.start = Now();
    answer = options_.appends ? client.Append(op.key, op.value)
                              : client.Put(op.key, op.value);
  }
  op.end = Now();
  op.outcome = OutcomeOf(answer.code);
  if (answer.ok()) op.seen = answer.seen;
  return op;
}

void Workload::Run(int number) {
  std::mt19937 random(options_.seed * 1000 + number);
  Client& client = *clients_[number];
  for (int64_t sequence = 0; !stop_.HasBeenNotified(); ++sequence) {
    Operation op = Step(client, number, random(), sequence);
    absl::Duration pause = options_.pace - absl::Nanoseconds(op.end - op.start);
    if (op.outcome != Outcome::kDone) {
      pause = std::max(pause, kPauseAfterError);
    } else if (op.kind != Kind::kGet) {
      ++writes_done_;
    }
    history_.Add(std::move(op));
    if (pause > absl::ZeroDuration()) {
      stop_.WaitForNotificationWithTimeout(pause);
    }
  }
}

bool Workload::WaitForWrites(int64_t count, absl::Duration timeout) const {
  const int64_t goal = writes_done_ + count;
  const absl::Time deadline = absl::Now() + timeout;
  while (writes_done_ < goal) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(5));
  }
  return true;
}

Tally Count(const std::vector<Operation>& operations, bool gets) {
  Tally tally;
  for (const Operation& op : operations) {
    if ((op.kind == Kind::kGet) != gets) continue;
    switch (op.outcome) {
      case Outcome::kDone:
        ++tally.done;
        break;
      case Outcome::kUnknown:
        ++tally.unknown;
        break;
      case Outcome::kRefused:
        ++tally.refused;
        break;
    }
  }
  return tally;
}

absl::Duration LongestGap(const std::vector<Operation>& operations, Nanos from,
                          Nanos to) {
  // When the clients stopped, all of them had just ended an operation.
  Nanos last = from;
  for (const Operation& op : operations) last = std::max(last, op.end);
  to = std::min(to, last);
  std::vector<Nanos> ends = {from, to};
  for (const Operation& op : operations) {
    if (op.kind != Kind::kGet && op.outcome == Outcome::kDone &&
        op.end > from && op.end < to) {
      ends.push_back(op.end);
    }
  }
  std::sort(ends.begin(), ends.end());
  Nanos longest = 0;
  for (size_t i = 1; i < ends.size(); ++i) {
    longest = std::max(longest, ends[i] - ends[i - 1]);
  }
  return absl::Nanoseconds(longest);
}

}  // namespace kv739::test
