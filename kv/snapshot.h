// A group's snapshot on its way from one engine to another: SnapshotReader
// cuts the group's range, as it was at one instant, into chunks;
// SnapshotWriter takes them beside the old state and puts the new one in its
// place in one step. No network, no threads: whoever streams the chunks
// chooses pace and thread, and both ends block for the disk.
//
// What a snapshot says of itself (position, configuration, versions) is read
// from the same view as its data, and the receiver takes it from the data.
//
// Memory is bounded at both ends however large the group: one chunk before
// and one after compression, a table file being built, and 8 (receiver) or
// 40 (sender) bytes for each chunk so far. (MemoryEngine keeps all of it in
// memory, being in memory.)
//
// Each object: one thread at a time. The engine must outlive it.
#ifndef KV739_KV_SNAPSHOT_H_
#define KV739_KV_SNAPSHOT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kv/engine.h"
#include "kv/session_check.h"
#include "kv/snapshot_chunk.h"
#include "kv/types.h"
#include "raft/configuration.h"
#include "raft/types.h"

namespace kv739::kv {

// Up to where a crash now would leave the group, as StateMachine::durable()
// without a state machine. NOT_FOUND when it would leave nothing. Any thread.
absl::StatusOr<raft::LogPosition> DurablePosition(const Engine& engine,
                                                  raft::GroupId group);

struct SnapshotDescription {
  raft::LogPosition applied;
  raft::Configuration configuration;
  Version last_version = 0;
  // Estimates, to show progress against.
  uint64_t keys = 0;
  uint64_t bytes = 0;
};

// Sender. Holds a view of the engine, and with it what has been overwritten
// since, for as long as it lives.
class SnapshotReader {
 public:
  // NOT_FOUND when the engine does not hold the group.
  static absl::StatusOr<std::unique_ptr<SnapshotReader>> Open(
      Engine* engine, raft::GroupId group);

  // Another one of the same view, at its beginning. Any thread, and beside
  // anything that this one does.
  std::unique_ptr<SnapshotReader> Fork() const;

  const SnapshotDescription& meta() const { return meta_; }
  uint64_t snapshot_id() const { return id_; }
  // What the chunks so far have held.
  const SnapshotTotals& made() const { return totals_; }

  // True and *chunk set; false after the last one. After an error the same
  // chunk may be asked for again.
  absl::StatusOr<bool> Next(std::string* chunk);

  // The next chunk gets the number `chunk` and the records that follow
  // `last_key`: what the receiver says with next_chunk() and last_key(). May
  // go back or forward. Cheap for a place that this reader has passed;
  // otherwise all that is before it is read once. INVALID_ARGUMENT for a key
  // that the snapshot does not have.
  //
  // When this reader is gone, another one can go on only if it is of the same
  // position (the same snapshot_id()): states of equal positions are equal, so
  // it may even be another node's. If the group has gone on meanwhile, the
  // receiver has to start anew with a new SnapshotWriter.
  absl::Status Seek(uint64_t chunk, absl::string_view last_key);

  // Held now, beside the caller's chunk.
  size_t buffer_bytes() const {
    return records_.capacity() + last_key_.capacity();
  }

 private:
  // Where a chunk ends.
  struct Place {
    uint64_t key_hash;
    bool end;
    SnapshotTotals totals;
  };

  SnapshotReader(std::shared_ptr<const View> view, raft::GroupId group);
  absl::Status Describe(raft::GroupId group);
  absl::Status SeekByReading(absl::string_view last_key,
                             SnapshotTotals* totals) const;

  const raft::GroupId group_;
  const std::shared_ptr<const View> view_;
  const std::string begin_;
  const std::string end_;
  SnapshotDescription meta_;
  uint64_t id_ = 0;

  uint64_t number_ = 0;    // of the next chunk
  std::string last_key_;   // of the one before; without the group's prefix
  SnapshotTotals totals_;  // of all before
  bool done_ = false;
  std::vector<Place>
      places_;  // ends of chunks 0, 1, ... as far as made in turn

  std::string records_;
  ChunkEncoder encoder_;
};

// Receiver.
class SnapshotWriter {
 public:
  // Begins to receive a snapshot of the group, which the engine need not hold
  // yet. `dir`: for files under way; best on the file system of the engine. It
  // belongs to this engine alone. FAILED_PRECONDITION while another writer
  // for the group lives.
  static absl::StatusOr<std::unique_ptr<SnapshotWriter>> Create(
      Engine* engine, raft::GroupId group, const std::string& dir);

  // Takes the next chunk. The one that was taken under its number before is
  // accepted again and ignored. What is refused changes nothing:
  //   DATA_LOSS            damaged on the way: send it again
  //   OUT_OF_RANGE         not the next one; the message says which one is
  //   FAILED_PRECONDITION  of another snapshot or group, or after an end
  //   INVALID_ARGUMENT     not damaged, and yet not what a group consists of
  // Any other error is the engine's, and ends this writer.
  absl::Status Add(absl::string_view chunk);

  // What the sender is to go on with.
  uint64_t next_chunk() const { return checksums_.size(); }
  const std::string& last_key() const { return last_key_; }
  // The last chunk was taken.
  bool complete() const { return complete_; }
  // 0 and none before the first chunk.
  uint64_t snapshot_id() const { return id_; }
  raft::LogPosition position() const { return position_; }
  const SnapshotTotals& received() const { return totals_; }

  // Puts the snapshot in the place of all that the engine holds of the group;
  // see Ingestion::Commit. The owner of the group must apply nothing
  // meanwhile, and afterwards open the StateMachine anew or Reload() it; Gets
  // beside it see the old or the new value. FAILED_PRECONDITION before the
  // last chunk, and when the group has been applied beyond the snapshot: a
  // state never goes back. May be tried again after an error of the engine.
  absl::Status Commit();

  // Removes what it has made; so does the end of its life.
  void Abandon();

  // Held now, beside what the engine holds for the table file.
  size_t buffer_bytes() const {
    return decoder_.buffer_bytes() + last_key_.capacity() + key_.capacity();
  }

 private:
  SnapshotWriter(Engine* engine, raft::GroupId group,
                 std::unique_ptr<Ingestion> ingestion);
  absl::Status CheckPlace(const ChunkHeader& header, absl::string_view chunk,
                          bool* repeated) const;
  absl::Status CheckRecords(const ChunkHeader& header,
                            absl::string_view records, SnapshotTotals* totals,
                            SessionCheck* sessions) const;
  absl::Status CheckNotBehind() const;

  Engine* const engine_;
  const raft::GroupId group_;
  const std::string begin_;
  std::unique_ptr<Ingestion> ingestion_;  // null when ended
  absl::Status error_;                    // of the engine; final

  uint64_t id_ = 0;
  raft::LogPosition position_;
  std::vector<uint64_t> checksums_;  // of the chunks taken
  std::string last_key_;
  SnapshotTotals totals_;
  SessionCheck sessions_;
  bool complete_ = false;

  std::string key_;
  ChunkDecoder decoder_;
};

}  // namespace kv739::kv

#endif  // KV739_KV_SNAPSHOT_H_
