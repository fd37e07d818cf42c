// The small files of a data directory, in memory: identity, peers, the saved
// cluster map. The same rules as server/data_directory.cc; each change is
// durable at once and whole, as those files are written.
#ifndef KV739_TESTS_SIMULATION_SIM_DISK_DIRECTORY_H_
#define KV739_TESTS_SIMULATION_SIM_DISK_DIRECTORY_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "kv/cluster_map.h"
#include "server/data_directory.h"
#include "tests/support/sim_random.h"

namespace kv739::world {

class SimDirectory : public server::DataDirectory {
 public:
  explicit SimDirectory(uint64_t incarnation) {
    identity_.incarnation = incarnation;
  }

  bool has_identity() const override { return has_identity_; }
  absl::Status MakeIdentity(uint64_t cluster_id, raft::NodeId node,
                            const std::string& address) override {
    identity_.cluster_id = cluster_id;
    identity_.node = node;
    identity_.address = address;
    has_identity_ = true;
    return absl::OkStatus();
  }
  const server::Identity& identity() const override { return identity_; }
  bool initialized() const override { return initialized_; }
  absl::Status MarkInitialized() override {
    initialized_ = true;
    return absl::OkStatus();
  }
  std::string wal_path() const override { return "/wal"; }
  std::string db_path() const override { return "/db"; }
  std::string map_path() const override { return "/cluster_map"; }
  std::string install_path() const override { return ""; }
  absl::Status CheckPeer(raft::NodeId peer, uint64_t incarnation) override {
    const auto [known, first] = peers_.emplace(peer, incarnation);
    if (known->second == incarnation) return absl::OkStatus();
    return absl::FailedPreconditionError("another incarnation");
  }
  bool HasMet(raft::NodeId peer) const override {
    return peers_.contains(peer);
  }

  std::shared_ptr<const kv::ClusterMap> saved_map() const { return map_; }
  void SaveMap(std::shared_ptr<const kv::ClusterMap> map) {
    map_ = std::move(map);
  }

 private:
  bool has_identity_ = false;
  bool initialized_ = false;
  server::Identity identity_;
  std::map<raft::NodeId, uint64_t> peers_;
  std::shared_ptr<const kv::ClusterMap> map_;
};

}  // namespace kv739::world

#endif  // KV739_TESTS_SIMULATION_SIM_DISK_DIRECTORY_H_
