// Ingestions of the RocksDB engine.
#ifndef KV739_KV_ROCKS_INGESTION_H_
#define KV739_KV_ROCKS_INGESTION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "kv/engine.h"
#include "kv/range_set.h"

namespace rocksdb {
class DB;
}

namespace kv739::kv {

// What keeps the store from working; OK when nothing does.
using BackgroundError = std::function<absl::Status()>;

// `number` is unique in the process. `db` outlives it.
std::unique_ptr<Ingestion> NewRocksIngestion(rocksdb::DB* db,
                                             BackgroundError background_error,
                                             RangeSet::Claim claim,
                                             const std::string& dir,
                                             uint64_t number);

}  // namespace kv739::kv

#endif  // KV739_KV_ROCKS_INGESTION_H_
