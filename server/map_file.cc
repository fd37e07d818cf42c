#include "server/map_file.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kv/directory.h"
#include "server/durable_file.h"
#include "server/logging.h"

namespace kv739::server {
namespace {

constexpr size_t kMaxMapBytes = 4 << 20;

}  // namespace

absl::Status WriteMapFile(const std::string& path, const kv::ClusterMap& map) {
  return WriteFileDurably(path, kv::EncodeClusterMap(map));
}

absl::StatusOr<std::shared_ptr<const kv::ClusterMap>> ReadMapFile(
    const std::string& path) {
  const auto bytes = ReadWholeFile(path, kMaxMapBytes);
  if (absl::IsNotFound(bytes.status())) return nullptr;
  if (!bytes.ok()) return absl::DataLossError(bytes.status().message());
  auto map = kv::DecodeClusterMap(*bytes);
  if (!map.ok()) {
    return absl::DataLossError(
        absl::StrCat(path, " is damaged: ", map.status().message()));
  }
  return std::make_shared<const kv::ClusterMap>(*std::move(map));
}

void MapSaver::OnNewMap() {
  if (waiting_.exchange(true)) return;
  background_->Run([this] { Save(); });
}

// The lock is held while it writes: for Save() alone, which blocks anyway.
void MapSaver::Save() {
  const absl::MutexLock lock(&mutex_);
  waiting_.store(false);
  const MapHolder::Map map = maps_->Get();
  if (map->epoch <= saved_) return;
  const absl::Status status = WriteMapFile(path_, *map);
  if (status.ok()) {
    saved_ = map->epoch;
  } else {
    LogWarn("cluster map of epoch ", map->epoch,
            " could not be saved: ", status.ToString());
  }
}

}  // namespace kv739::server
