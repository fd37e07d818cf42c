// The cluster file, the same for servers and clients: one server a line,
// `host:port [key=value ...]`, groups are consecutive fives. A line of its own,
// `groups_per_five=N`, gives every five N groups instead of one.
#ifndef KV739_KV_CLUSTER_FILE_H_
#define KV739_KV_CLUSTER_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kv739::kv {

// Bounds of what is accepted.
inline constexpr size_t kMaxClusterFileBytes = 4 << 20;
inline constexpr size_t kMaxClusterFileLineBytes = 1024;
inline constexpr size_t kMinClusterServers = 3;
inline constexpr uint32_t kMaxGroupsPerFive = 1024;
// Servers of a group at the start; kFew when there are fewer than kFive.
inline constexpr size_t kFive = 5;
inline constexpr size_t kFew = 3;

// Parse brings a host into one spelling: names in lower case, IPv6 in its
// shortest form. Names are not looked up, so "localhost" and "127.0.0.1" are
// two hosts here.
struct Address {
  std::string host;  // IPv6 without brackets
  uint16_t port = 0;
  bool operator==(const Address&) const = default;
  // "host:port", "[::1]:port"; the one spelling used everywhere.
  std::string ToString() const;
  // INVALID_ARGUMENT says what is wrong with it.
  static absl::StatusOr<Address> Parse(absl::string_view text);
};

struct ServerLine {
  Address address;
  // Ports for metrics and HTTP: as given, else 9090 and 8080 plus the
  // server's position among those of the same host in the file (counting
  // those with given ports). A default that is taken already is an error, not
  // moved: where a server's metrics are must be plain from the file.
  uint16_t metrics_port = 0;
  uint16_t http_port = 0;
  int line = 0;
};

struct ClusterFile {
  std::vector<ServerLine> servers;  // in the file's order
  // Groups on the same five servers.
  uint32_t groups_per_five = 1;
};

// `name` is what errors call the file. INVALID_ARGUMENT, as
// "name:line:column: what", for a malformed or duplicate line, an unknown
// attribute, a port twice on one host, fewer than three servers,
// groups_per_five twice or not in 1..kMaxGroupsPerFive, or more groups than
// there are slots for them. Comments, blank lines, CRLF and trailing spaces are
// fine.
absl::StatusOr<ClusterFile> ParseClusterFile(absl::string_view text,
                                             absl::string_view name);
// The same, from a file; NOT_FOUND names the path and the reason.
absl::StatusOr<ClusterFile> ReadClusterFile(const std::string& path);

}  // namespace kv739::kv

#endif  // KV739_KV_CLUSTER_FILE_H_
