// Asks for the cluster map when nobody brings it.
//
// Maps come over the streams between nodes, and those are opened by the smaller
// id, to nodes that the map has. A node that was taken out of the cluster while
// it was down is therefore called by nobody; if its own calls reach nobody
// either, because its id is large or its map old, it would wait for ever for
// streams that do not come. So a node that has no stream with a majority of the
// other nodes of its map asks, one after the other, those that it misses for
// their maps. It is no burden in a partition: one small call each kPause.
//
// Threads: one of its own, which blocks for the answers. The functions of Parts
// are called there, and so are the listeners of the maps.
#ifndef KV739_SERVER_MAP_SEEKER_H_
#define KV739_SERVER_MAP_SEEKER_H_

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "kv/cluster_map.h"
#include "raft/types.h"
#include "server/map_holder.h"

namespace kv739::server {

class MapSeeker {
 public:
  // Streams come up within this after a start, as a rule.
  static constexpr absl::Duration kPause = absl::Seconds(1);
  static constexpr absl::Duration kTimeout = absl::Seconds(1);
  // How often the log says that nobody is there.
  static constexpr int kRoundsPerWarning = 60;

  struct Parts {
    raft::NodeId self;
    MapHolder* maps = nullptr;
    std::function<bool(raft::NodeId)> connected;
    // Blocks up to the timeout.
    std::function<absl::StatusOr<kv::ClusterMap>(const kv::Address& to,
                                                 absl::Duration timeout)>
        inquire;
    // Addresses of the cluster file, for a map whose nodes are all gone.
    std::vector<kv::Address> others = {};
  };

  explicit MapSeeker(Parts parts);
  ~MapSeeker();  // waits for the call under way
  MapSeeker(const MapSeeker&) = delete;
  MapSeeker& operator=(const MapSeeker&) = delete;

  void Start();
  // One look, and one question where one is due. True when it brought a newer
  // map. For tests; otherwise its thread calls it every kPause.
  bool Round();

 private:
  std::vector<kv::Address> Missing(const kv::ClusterMap& map) const;

  const Parts parts_;
  size_t next_ = 0;
  int rounds_alone_ = 0;
  absl::Notification stop_;
  std::thread thread_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_MAP_SEEKER_H_
