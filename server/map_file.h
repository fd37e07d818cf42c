// The file `cluster_map` of a data directory: the newest cluster map that this
// node knew (kv/directory.h has the form). With it a server finds its cluster
// again when the cluster file is old, and knows that it has left.
#ifndef KV739_SERVER_MAP_FILE_H_
#define KV739_SERVER_MAP_FILE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "kv/cluster_map.h"
#include "server/background.h"
#include "server/map_holder.h"

namespace kv739::server {

// Durable when it returns OK; after an error the old or the new one is there.
absl::Status WriteMapFile(const std::string& path, const kv::ClusterMap& map);
// Null when there is no such file; DATA_LOSS when it is damaged.
absl::StatusOr<std::shared_ptr<const kv::ClusterMap>> ReadMapFile(
    const std::string& path);

// Keeps the file up with a MapHolder. A map that cannot be written is told of
// in the log and tried again with the next one.
class MapSaver {
 public:
  // `epoch` is in the file already. All must outlive it; jobs of `background`
  // must have ended when it goes.
  MapSaver(std::string path, const MapHolder* maps, Background* background,
           uint64_t epoch)
      : path_(std::move(path)),
        maps_(maps),
        background_(background),
        saved_(epoch) {}

  // Never blocks; any thread. At most one write waits: it takes the newest.
  void OnNewMap();
  // Blocks for the disk.
  void Save();

 private:
  const std::string path_;
  const MapHolder* const maps_;
  Background* const background_;
  std::atomic<bool> waiting_{false};
  absl::Mutex mutex_;
  uint64_t saved_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kv739::server

#endif  // KV739_SERVER_MAP_FILE_H_
