// The file system as the write-ahead log sees it: a seam for tests and the
// simulator, which lose, tear and flip what a real disk may.
#ifndef KV739_SERVER_WAL_FILE_SYSTEM_H_
#define KV739_SERVER_WAL_FILE_SYSTEM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kv739::wal {

// Direct I/O works in whole blocks of this size from aligned memory; our
// files keep to it always.
inline constexpr uint64_t kBlockBytes = 4096;

// A file of fixed length that is overwritten in place. WriteAt by one thread
// at a time; ReadAt by any thread beside it.
class File {
 public:
  virtual ~File() = default;
  // `offset` and `data.size()` are multiples of kBlockBytes and `data` is
  // aligned to it. Durable on return when the file was opened with
  // `sync_on_write`, else after Sync().
  virtual absl::Status WriteAt(uint64_t offset, absl::string_view data) = 0;
  // Reads exactly `size` bytes, or OUT_OF_RANGE when the file ends before.
  virtual absl::Status ReadAt(uint64_t offset, uint64_t size,
                              char* out) const = 0;
  virtual absl::Status Sync() = 0;
  virtual absl::StatusOr<uint64_t> Size() const = 0;
  // True when WriteAt is durable by itself (O_DIRECT|O_DSYNC was granted).
  virtual bool sync_on_write() const = 0;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;
  // The real one; lives for ever.
  static FileSystem* Posix();

  // Opens an existing file for reading and writing. With `direct`, tries
  // O_DIRECT|O_DSYNC and falls back to buffered I/O where it is refused.
  virtual absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path,
                                                     bool direct) = 0;
  // Creates a file of `size` zero bytes that are written, not only reserved,
  // and syncs it. ALREADY_EXISTS when there is one.
  virtual absl::Status CreateFilled(const std::string& path, uint64_t size) = 0;
  virtual absl::Status Rename(const std::string& from,
                              const std::string& to) = 0;
  virtual absl::Status Remove(const std::string& path) = 0;
  // Makes creations, renames and removals in `dir` durable.
  virtual absl::Status SyncDir(const std::string& dir) = 0;
  virtual absl::StatusOr<std::vector<std::string>> List(
      const std::string& dir) = 0;  // names, sorted
};

}  // namespace kv739::wal

#endif  // KV739_SERVER_WAL_FILE_SYSTEM_H_
