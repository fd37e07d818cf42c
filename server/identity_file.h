// Text of the files `identity` and `peers` in a data directory.
//
//   kv739 data directory, format 1
//   cluster 00c0ffee00c0ffee
//   node 0123456789abcdef
//   address localhost:50051
//   incarnation fedcba9876543210
//   checksum 8d1f4a7700c2ee01
//
//   kv739 peers, format 1
//   peer 0123456789abcdef incarnation fedcba9876543210
//   checksum 77aa...
//
// Numbers are 16 lower-case hexadecimal digits. The checksum is XXH3-64 of
// all lines before it. A text is taken only when it is exactly what writing
// its content would give: no flipped bit gets through.
#ifndef KV739_SERVER_IDENTITY_FILE_H_
#define KV739_SERVER_IDENTITY_FILE_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "raft/types.h"
#include "server/data_directory.h"

namespace kv739::server {

using PeerIncarnations = std::map<raft::NodeId, uint64_t>;

std::string FormatIdentity(const Identity& identity);
std::string FormatPeers(const PeerIncarnations& peers);

// DATA_LOSS says what is wrong; FAILED_PRECONDITION when another version of
// this program wrote it. `path` is for the message.
absl::StatusOr<Identity> ParseIdentity(absl::string_view text,
                                       absl::string_view path);
absl::StatusOr<PeerIncarnations> ParsePeers(absl::string_view text,
                                            absl::string_view path);

// The spelling of ids in files and errors: 16 hexadecimal digits.
std::string FormatId(uint64_t id);

}  // namespace kv739::server

#endif  // KV739_SERVER_IDENTITY_FILE_H_
