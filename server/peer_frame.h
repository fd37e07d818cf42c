// The bytes between two nodes: what a connection begins with, and frames.
// docs/peer_protocol.md draws them.
//
// A connection begins with kPeerMagic, by which a port that also serves gRPC
// tells peers from clients, and a hello frame; the other side answers with a
// hello or with a refusal. From then on both send batches.
//
// Pure: bytes in, frames or an error out. Values, no threads. Numbers are
// little-endian.
#ifndef KV739_SERVER_PEER_FRAME_H_
#define KV739_SERVER_PEER_FRAME_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "raft/types.h"

namespace kv739::server {

// Begins with a byte that neither HTTP nor TLS begins with.
inline constexpr absl::string_view kPeerMagic = "\xf7kv739\r\n";
static_assert(kPeerMagic.size() == 8);
inline constexpr uint8_t kPeerProtocolVersion = 1;
inline constexpr size_t kFrameHeaderBytes = 24;
// Payload of a frame of a peer that was checked, and of one that was not.
inline constexpr uint32_t kMaxFramePayload = 17 << 20;
inline constexpr uint32_t kMaxFirstPayload = 4096;
inline constexpr size_t kHelloPayloadBytes = 32;
inline constexpr size_t kOpeningBytes =
    kPeerMagic.size() + kFrameHeaderBytes + kHelloPayloadBytes;

enum class FrameType : uint8_t {  // the numbers are on the wire
  kHello = 1,
  kBatch = 2,    // raft.v1.PeerBatch; empty: only says that we are there
  kRefusal = 3,  // why, for a log; the connection ends
};

struct Frame {
  FrameType type = FrameType::kBatch;
  uint64_t map_epoch = 0;  // the newest that the sender knew
  absl::string_view payload;
};

// What a hello says about its sender and receiver.
struct PeerIdentity {
  uint64_t cluster_id = 0;
  raft::NodeId from;
  raft::NodeId to;
  uint64_t incarnation = 0;
  bool operator==(const PeerIdentity&) const = default;
};

// ---- sending ----

// Of a payload, so that it need not be hashed for every receiver.
uint64_t HashPayload(absl::string_view payload);
// The header goes before the payload.
void EncodeFrameHeader(FrameType type, uint64_t map_epoch,
                       uint32_t payload_bytes, uint64_t payload_hash,
                       char header[kFrameHeaderBytes]);
std::string EncodeFrame(const Frame& frame);
std::string EncodeHelloPayload(const PeerIdentity& identity);

// ---- receiving ----

absl::StatusOr<PeerIdentity> DecodeHelloPayload(absl::string_view payload);

// What the first bytes of a connection are, before any were taken.
struct Opening {
  enum class Kind {
    kUndecided,  // too few
    kOther,      // somebody else's protocol
    kPeer,       // the first kOpeningBytes are a peer's
  };
  Kind kind = Kind::kUndecided;
  PeerIdentity identity;  // of a peer
};
// An error: a peer, with a version or bytes that make no sense.
absl::StatusOr<Opening> ReadOpening(absl::string_view first);

// Cuts what comes on one connection into frames. Takes memory as bytes come,
// whatever lengths they speak of, and gives it back after a large frame.
class FrameParser {
 public:
  static constexpr size_t kBufferBytes = 64 << 10;

  explicit FrameParser(uint32_t max_payload) : max_payload_(max_payload) {}
  void set_max_payload(uint32_t bytes) { max_payload_ = bytes; }

  // Where the next bytes go; never empty. Once Next() has no more; what it gave
  // is invalid then.
  absl::Span<char> Room();
  // So many have come, at the beginning of the room.
  void Filled(size_t bytes) { end_ += bytes; }
  // The next frame, or none before more bytes come. INVALID_ARGUMENT for a
  // length, version or type that cannot be, DATA_LOSS for a wrong checksum;
  // nothing after an error makes sense.
  absl::StatusOr<std::optional<Frame>> Next();

 private:
  size_t waiting() const { return end_ - begin_; }

  uint32_t max_payload_;
  std::unique_ptr<char[]> buffer_;
  size_t capacity_ = 0;
  size_t begin_ = 0;  // of what was not given out
  size_t end_ = 0;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_PEER_FRAME_H_
