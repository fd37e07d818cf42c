// A file system for the WAL that tells a SyncMonitor how long each durable
// write took; everything else goes straight to the one below.
#ifndef KV739_SERVER_TIMED_FILE_SYSTEM_H_
#define KV739_SERVER_TIMED_FILE_SYSTEM_H_

#include <memory>

#include "server/sync_monitor.h"
#include "server/wal/file_system.h"

namespace kv739::server {

// Both must outlive it and the files that it opens. Threads as `below`.
std::unique_ptr<wal::FileSystem> MakeTimedFileSystem(wal::FileSystem* below,
                                                     SyncMonitor* monitor);

}  // namespace kv739::server

#endif  // KV739_SERVER_TIMED_FILE_SYSTEM_H_
