// A view of a BufferedEngine: frozen generations over a view of the engine
// below.
#ifndef KV739_KV_BUFFERED_VIEW_H_
#define KV739_KV_BUFFERED_VIEW_H_

#include <memory>
#include <vector>

#include "kv/buffer_generation.h"
#include "kv/buffer_table.h"
#include "kv/engine.h"

namespace kv739::kv {

class BufferedView : public View {
 public:
  // `frozen`: oldest first.
  BufferedView(std::vector<BufferTable::Frozen> frozen,
               std::unique_ptr<View> below);

  absl::StatusOr<bool> Get(absl::string_view key,
                           std::string* value) const override;
  std::unique_ptr<Cursor> NewCursor(absl::string_view begin,
                                    absl::string_view end,
                                    CacheUse cache) const override;
  RangeEstimate Estimate(absl::string_view begin,
                         absl::string_view end) const override;

 private:
  class MergingCursor;

  // What the view below has of the key does not count.
  bool Hidden(absl::string_view key) const;

  std::vector<BufferTable::Frozen> frozen_;  // newest first
  std::vector<const DeletedRange*> ranges_;  // of all of them
  const std::unique_ptr<View> below_;
};

}  // namespace kv739::kv

#endif  // KV739_KV_BUFFERED_VIEW_H_
