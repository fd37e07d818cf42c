// The data directory of a node: wal/, db/, LOCK and identity. Owned by one
// process at a time.
#ifndef KV739_SERVER_DATA_DIRECTORY_H_
#define KV739_SERVER_DATA_DIRECTORY_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "raft/types.h"

namespace kv739::server {

// Written once, when the directory is made; never changed.
struct Identity {
  uint64_t cluster_id = 0;
  raft::NodeId node;
  std::string address;  // host:port, for people
  // Drawn at random when the directory is made. A node that lost its disk
  // comes back with another one, and its peers refuse it.
  uint64_t incarnation = 0;
};

class DataDirectory {
 public:
  // Makes the directory if needed and takes its lock. FAILED_PRECONDITION
  // when another process has it, naming the process; DATA_LOSS when its
  // identity cannot be read; INVALID_ARGUMENT when it is another cluster's or
  // node's, naming both, or holds files but no identity.
  static absl::StatusOr<std::unique_ptr<DataDirectory>> Open(
      const std::string& path, uint64_t cluster_id, raft::NodeId node,
      const std::string& address);
  virtual ~DataDirectory() = default;  // gives up the lock

  virtual const Identity& identity() const = 0;
  // The replicas of this node were never made: a first start, or one that
  // was cut off. MarkInitialized() makes it durable that they are.
  virtual bool initialized() const = 0;
  virtual absl::Status MarkInitialized() = 0;

  virtual std::string wal_path() const = 0;  // exist, both
  virtual std::string db_path() const = 0;
  // Files under way of snapshots that are being received.
  virtual std::string install_path() const = 0;

  // The incarnation under which a peer is known: remembered durably at first
  // contact. FAILED_PRECONDITION when it is known under another one. Any
  // thread.
  virtual absl::Status CheckPeer(raft::NodeId peer, uint64_t incarnation) = 0;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_DATA_DIRECTORY_H_
