// What faults need of the machine, and what a cluster must be made of for them:
// a network of its own, small disks, shims below its servers.
#ifndef KV739_TESTS_FAULT_WORLD_H_
#define KV739_TESTS_FAULT_WORLD_H_

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/fault/disk_shim.h"
#include "tests/fault/network.h"
#include "tests/support/cluster.h"
#include "tests/support/private_world.h"

namespace kv739::test {

extern const std::vector<std::string> kFaultKinds;

// The control file of one server's shim.
class Shim {
 public:
  explicit Shim(const std::string& path);
  ~Shim();
  Shim(const Shim&) = delete;
  Shim& operator=(const Shim&) = delete;

  std::vector<std::string> Environment() const;
  void Set(ShimMode mode);
  uint32_t hits() const { return control_->hits; }

 private:
  const std::string path_;
  ShimControl* control_;
};

struct World {
  // By position, or empty.
  std::vector<std::unique_ptr<SmallDisk>> disks;
  std::vector<std::unique_ptr<Shim>> shims;
  std::unique_ptr<Network> network;  // or null
  TempDir dir;
};

// Kinds of faults that are asked for; a kind's needs are those of its faults.
struct Needs {
  bool network = false;
  bool disks = false;
  bool shims = false;
  bool spares = false;
};
Needs NeedsOf(const std::set<std::string>& kinds);

// Places for `total` servers, and the rest of the options that the world asks
// for. UNAVAILABLE where the machine lacks the right.
absl::Status MakeWorld(const Needs& needs, World* world,
                       ClusterOptions* options);

}  // namespace kv739::test

#endif  // KV739_TESTS_FAULT_WORLD_H_
