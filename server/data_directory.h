// The data directory of a node: wal/, db/, LOCK, identity, peers, cluster_map.
// Owned by one process at a time.
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
  // identity cannot be read, or what belongs to it is gone; INVALID_ARGUMENT
  // when it holds files but no identity.
  static absl::StatusOr<std::unique_ptr<DataDirectory>> Open(
      const std::string& path);
  // The same, and gives it this identity when it has none. INVALID_ARGUMENT
  // also when it is another cluster's or node's, naming both.
  static absl::StatusOr<std::unique_ptr<DataDirectory>> Open(
      const std::string& path, uint64_t cluster_id, raft::NodeId node,
      const std::string& address);
  // Whether there is a directory that has been given one; touches nothing.
  static absl::StatusOr<bool> HasIdentity(const std::string& path);
  virtual ~DataDirectory() = default;  // gives up the lock

  // Until then only the lock is there.
  virtual bool has_identity() const = 0;
  virtual absl::Status MakeIdentity(uint64_t cluster_id, raft::NodeId node,
                                    const std::string& address) = 0;
  virtual const Identity& identity() const = 0;
  // The replicas of this node were never made: a first start, or one that
  // was cut off. MarkInitialized() makes it durable that they are.
  virtual bool initialized() const = 0;
  virtual absl::Status MarkInitialized() = 0;

  virtual std::string wal_path() const = 0;  // exist, both
  virtual std::string db_path() const = 0;
  virtual std::string map_path() const = 0;  // see map_file.h
  // Files under way of snapshots that are being received.
  virtual std::string install_path() const = 0;

  // The incarnation under which a peer is known: remembered durably at first
  // contact. FAILED_PRECONDITION when it is known under another one. Any
  // thread.
  virtual absl::Status CheckPeer(raft::NodeId peer, uint64_t incarnation) = 0;
  // A peer with this id has been here. Any thread.
  virtual bool HasMet(raft::NodeId peer) const = 0;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_DATA_DIRECTORY_H_
