// Small files that are whole or not there, whatever happens: written under
// another name, synced, renamed, and the directory synced too (a rename alone
// is not durable).
#ifndef KV739_SERVER_DURABLE_FILE_H_
#define KV739_SERVER_DURABLE_FILE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kv739::server {

// A file being written is called by its name and this.
inline constexpr absl::string_view kUnfinishedSuffix = ".unfinished";

// After an error the old content, or the new one, is there.
absl::Status WriteFileDurably(const std::string& path,
                              absl::string_view content);
// NOT_FOUND when there is none; RESOURCE_EXHAUSTED beyond `max_bytes`.
absl::StatusOr<std::string> ReadWholeFile(const std::string& path,
                                          size_t max_bytes);
// Makes what was created, renamed or removed in it durable.
absl::Status SyncDirectory(const std::string& path);
// Makes a directory and those above it, durably; OK when it is there.
// INVALID_ARGUMENT when something else has the name.
absl::Status MakeDirectories(const std::string& path);

// "what path: reason", for `error` (an errno): NOT_FOUND, PERMISSION_DENIED,
// RESOURCE_EXHAUSTED for a full disk, else INTERNAL.
absl::Status FileError(absl::string_view what, absl::string_view path,
                       int error);

}  // namespace kv739::server

#endif  // KV739_SERVER_DURABLE_FILE_H_
