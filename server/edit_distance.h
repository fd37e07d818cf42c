// Names that somebody may have meant, for errors.
#ifndef KV739_SERVER_EDIT_DISTANCE_H_
#define KV739_SERVER_EDIT_DISTANCE_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace kv739::server {

// Letters to insert, delete, replace or swap with their neighbour, to get
// from one to the other.
size_t EditDistance(absl::string_view a, absl::string_view b);

// The known name that is nearest to `name`, or empty when none is near: more
// than a third of the letters would have to change. The first one of several.
std::string NearestName(absl::string_view name,
                        const std::vector<std::string>& known);

}  // namespace kv739::server

#endif  // KV739_SERVER_EDIT_DISTANCE_H_
