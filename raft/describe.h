// Text for logs and tests. One line per value, except Ready and CoreStatus,
// whose lines end with a newline each.
#ifndef KV739_RAFT_DESCRIBE_H_
#define KV739_RAFT_DESCRIBE_H_

#include <string>

#include "absl/strings/string_view.h"
#include "raft/configuration.h"
#include "raft/core.h"
#include "raft/message.h"
#include "raft/ready.h"
#include "raft/types.h"

namespace kv739::raft {

absl::string_view Name(Role role);

std::string Describe(LogPosition position);  // term/index
// With the data of a command as far as it can be printed.
std::string Describe(const Entry& entry);
std::string Describe(const HardState& hard_state);
std::string Describe(const SoftState& soft_state);
std::string Describe(const Configuration& configuration);
std::string Describe(const SnapshotMeta& meta);
std::string Describe(const Message& message);
std::string Describe(const Envelope& envelope);
std::string Describe(const Ready& ready);
std::string Describe(const CoreStatus& status);

}  // namespace kv739::raft

#endif  // KV739_RAFT_DESCRIBE_H_
