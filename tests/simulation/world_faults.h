// Makes things go wrong, and lets people do what people do, at times that the
// seed decides.
#ifndef KV739_TESTS_SIMULATION_WORLD_FAULTS_H_
#define KV739_TESTS_SIMULATION_WORLD_FAULTS_H_

#include <utility>
#include <vector>

#include "tests/simulation/sim_server.h"
#include "tests/simulation/world_profile.h"
#include "tests/support/sim_random.h"

namespace kv739::world {

class World;

class FaultMaker {
 public:
  FaultMaker(World* world, uint64_t seed) : world_(world), random_(seed) {}
  void Start();
  // Nothing new from now on.
  void Stop() { stopped_ = true; }

 private:
  void Later(Fault fault);
  void Make(Fault fault);
  SimServer* AnyServer();
  SimServer* AnyRunning();
  uint64_t Between(uint64_t low_ms, uint64_t high_ms) {
    return random_.Between(low_ms, high_ms) * kMillisecond;
  }
  uint64_t DownTime();

  // Blocks these directions for a while.
  void Cut(std::vector<std::pair<int, int>> directions);
  void Partition();
  void OneWay();
  void Shape();
  void SlowLink();
  void Break();
  void KillAll();
  void Wipe();
  void ChangeMembers();
  void Transfer();
  void Check();
  void FlushStores();

  World* const world_;
  sim::SimRandom random_;
  bool stopped_ = false;
};

}  // namespace kv739::world

#endif  // KV739_TESTS_SIMULATION_WORLD_FAULTS_H_
