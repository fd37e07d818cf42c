// Finds the addresses of other servers without making the asker wait.
//
// Numeric ones and those found before are there at once; a name found before is
// asked for again all the same, for the next time. One thread, which starts
// with the first name, asks for one name after the other; at the end it is
// waited for, which takes as long as the system's resolver takes for a name.
//
// Any thread. Callbacks run in the caller's thread, before Resolve() returns,
// or in the resolver's.
#ifndef KV739_SERVER_ADDRESS_RESOLVER_H_
#define KV739_SERVER_ADDRESS_RESOLVER_H_

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "server/listen_address.h"

namespace kv739::server {

class AddressResolver {
 public:
  using Addresses = std::vector<SocketAddress>;
  using Done = absl::AnyInvocable<void(absl::StatusOr<Addresses>)>;
  // Names that wait, and names that are remembered.
  static constexpr size_t kMaxNames = 4096;

  ~AddressResolver();
  void Resolve(const std::string& host_port, Done done);
  // Callbacks that were not called are dropped.
  void Stop();

 private:
  struct Question {
    std::string host_port;
    std::vector<Done> askers;
  };
  void Run();

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<Question> questions_;
  absl::flat_hash_map<std::string, Addresses> found_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_ADDRESS_RESOLVER_H_
