// The network between simulated replicas: late, lost, repeated, out of order,
// and cut in one direction or both. Time is in units of the simulation.
#ifndef KV739_TESTS_SUPPORT_SIM_NETWORK_H_
#define KV739_TESTS_SUPPORT_SIM_NETWORK_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "raft/message.h"
#include "tests/support/sim_random.h"

namespace kv739::sim {

struct NetworkFaults {
  uint64_t drop_permille = 0;
  uint64_t duplicate_permille = 0;
  uint64_t min_delay = 1;
  uint64_t max_delay = 1;  // different delays reorder
};

class SimNetwork {
 public:
  explicit SimNetwork(SimRandom* random) : random_(random) {}

  void set_faults(const NetworkFaults& faults) { faults_ = faults; }
  void Send(const raft::Envelope& envelope, uint64_t now);
  // The next message due at `now`, or none. What is on a cut link then is lost.
  std::optional<raft::Envelope> Next(uint64_t now);

  void Cut(raft::NodeId from, raft::NodeId to) { cut_.insert({from, to}); }
  void Heal() { cut_.clear(); }
  bool IsCut(raft::NodeId from, raft::NodeId to) const {
    return cut_.contains({from, to});
  }

 private:
  SimRandom* const random_;
  NetworkFaults faults_;
  uint64_t sequence_ = 0;
  // By time of arrival, then by order of sending.
  std::map<std::pair<uint64_t, uint64_t>, raft::Envelope> flying_;
  std::set<std::pair<raft::NodeId, raft::NodeId>> cut_;
};

}  // namespace kv739::sim

#endif  // KV739_TESTS_SUPPORT_SIM_NETWORK_H_
