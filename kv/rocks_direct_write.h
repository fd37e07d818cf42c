// A large batch in key order, written to a table file that RocksDB then takes
// over: the work of the memtable and of its flush is saved, and what was
// written is durable at once. Facts of RocksDB 7.8 that this relies on are
// those of kv/rocks_ingestion.cc, and:
// - Ranges that a file deletes hide what the store held before and nothing of
//   the file itself, so they need not come first there.
// - One file is one record of the manifest: a crash leaves all of it or
// nothing.
#ifndef KV739_KV_ROCKS_DIRECT_WRITE_H_
#define KV739_KV_ROCKS_DIRECT_WRITE_H_

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "kv/engine.h"

namespace rocksdb {
class DB;
}

namespace kv739::kv {

// Writes what `fill` puts into the batch that it gets; see Engine::ApplySorted.
// Makes its file in the directory of the store. One at a time for a store.
// After an error the store holds nothing of it, but where RocksDB could not
// write its manifest: then it says so as a background error, and the next
// opening shows all of it or nothing.
absl::Status WriteDirectly(rocksdb::DB* db,
                           absl::FunctionRef<void(Batch* batch)> fill);

// Removes what a crash left of one. For a store that was just opened.
absl::Status RemoveDirectWrite(rocksdb::DB* db);

}  // namespace kv739::kv

#endif  // KV739_KV_ROCKS_DIRECT_WRITE_H_
