// A view of a BufferedEngine: frozen generations over a view of the engine
// below.
#ifndef KV739_KV_BUFFERED_VIEW_H_
#define KV739_KV_BUFFERED_VIEW_H_

#include <memory>
#include <mutex>
#include <vector>

#include "kv/buffer_table.h"
#include "kv/engine.h"

namespace kv739::kv {

// The records in the order of their keys; of records of one key the one of
// the latest generation alone.
std::vector<const BufferRecord*> SortedRecords(
    absl::Span<const BufferTable::Frozen> generations);

class BufferedView : public View {
 public:
  BufferedView(std::vector<BufferTable::Frozen> frozen,
               std::unique_ptr<View> below);

  absl::StatusOr<bool> Get(absl::string_view key,
                           std::string* value) const override;
  absl::Status Scan(
      absl::string_view begin, absl::string_view end,
      absl::FunctionRef<bool(absl::string_view key, absl::string_view value)>
          visit) const override;
  RangeEstimate Estimate(absl::string_view begin,
                         absl::string_view end) const override;

 private:
  using Records = std::vector<const BufferRecord*>;

  const Records& records() const;
  Records::const_iterator From(absl::string_view key) const;
  // What the view below has of the key does not count.
  bool Hidden(absl::string_view key) const;

  const std::vector<BufferTable::Frozen> frozen_;
  const std::unique_ptr<View> below_;
  mutable std::once_flag sorted_once_;
  mutable Records sorted_;  // made when it is first needed
};

}  // namespace kv739::kv

#endif  // KV739_KV_BUFFERED_VIEW_H_
