// Bytes that were read: lent by the engine, which then makes no copy, or the
// reader's own.
#ifndef KV739_KV_LENT_VALUE_H_
#define KV739_KV_LENT_VALUE_H_

#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "kv/buffer_record.h"

namespace kv739::kv {

class LentValue {
 public:
  // Valid until this is changed or gone.
  absl::string_view bytes() const {
    return record_ ? record_->value() : absl::string_view(copy_);
  }

  void Lend(RecordRef record) { record_ = std::move(record); }
  // To be filled by the engine; what was lent is given back.
  std::string* copy() {
    record_ = RecordRef();
    return &copy_;
  }

 private:
  RecordRef record_;
  std::string copy_;
};

}  // namespace kv739::kv

#endif  // KV739_KV_LENT_VALUE_H_
