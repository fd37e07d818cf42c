// Clients that read and write a few keys until they are told to stop, and
// keep the history of it.
#ifndef KV739_TESTS_SUPPORT_WORKLOAD_H_
#define KV739_TESTS_SUPPORT_WORKLOAD_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "tests/support/client.h"
#include "tests/support/history.h"

namespace kv739::test {

struct WorkloadOptions {
  int clients = 8;  // threads, each with a handle of its own
  int keys = 16;
  std::string key_prefix = "key";
  int gets_percent = 20;  // of the operations; the rest are writes
  // Appends of unique tokens to the keys instead of puts.
  bool appends = false;
  int timeout_ms = 0;  // 0: the default of the handle
  uint32_t seed = 1;
  // Shortest time from one operation of a client to its next; bounds the size
  // of long histories.
  absl::Duration pace = absl::ZeroDuration();
};

class Workload {
 public:
  Workload(std::string config, WorkloadOptions options);
  ~Workload();

  absl::Status Start();
  // Waits for the operations under way.
  void Stop();

  std::vector<std::string> keys() const;
  // Writes that ended well so far.
  int64_t writes_done() const { return writes_done_; }
  // Waits until `count` more writes have ended well.
  bool WaitForWrites(int64_t count,
                     absl::Duration timeout = absl::Seconds(60)) const;
  // After Stop().
  const std::vector<Operation>& operations() const { return operations_; }

 private:
  void Run(int client);
  Operation Step(Client& client, int number, uint32_t random, int64_t sequence);

  const std::string config_;
  const WorkloadOptions options_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::vector<std::thread> threads_;
  absl::Notification stop_;
  std::atomic<int64_t> writes_done_{0};
  History history_;
  std::vector<Operation> operations_;
};

struct Tally {
  int64_t done = 0;
  int64_t unknown = 0;
  int64_t refused = 0;
};
// Writes alone, or gets alone.
Tally Count(const std::vector<Operation>& operations, bool gets);

// Longest time within [from, to] in which no write ended well; not beyond the
// end of the last operation.
absl::Duration LongestGap(const std::vector<Operation>& operations, Nanos from,
                          Nanos to);

}  // namespace kv739::test

#endif  // KV739_TESTS_SUPPORT_WORKLOAD_H_
