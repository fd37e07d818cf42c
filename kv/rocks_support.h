// What the files of the RocksDB engine share.
#ifndef KV739_KV_ROCKS_SUPPORT_H_
#define KV739_KV_ROCKS_SUPPORT_H_

#include <rocksdb/slice.h>
#include <rocksdb/status.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace kv739::kv {

inline rocksdb::Slice ToSlice(absl::string_view bytes) {
  return rocksdb::Slice(bytes.data(), bytes.size());
}
inline absl::string_view ToView(const rocksdb::Slice& slice) {
  return absl::string_view(slice.data(), slice.size());
}

inline absl::Status ToStatus(const rocksdb::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const std::string what = status.ToString();
  if (status.IsCorruption()) return absl::DataLossError(what);
  if (status.IsIncomplete() || status.IsNoSpace()) {
    return absl::ResourceExhaustedError(what);
  }
  if (status.IsInvalidArgument()) return absl::InvalidArgumentError(what);
  return absl::InternalError(what);
}

}  // namespace kv739::kv

#endif  // KV739_KV_ROCKS_SUPPORT_H_
