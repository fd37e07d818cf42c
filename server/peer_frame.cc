#include "server/peer_frame.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace kv739::server {
namespace {

template <typename T>
void Put(char* to, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) {
    to[i] = static_cast<char>(value >> (8 * i));
  }
}
template <typename T>
T Take(const char* from) {
  T value = 0;
  for (size_t i = sizeof(T); i-- > 0;) {
    value = static_cast<T>(value << 8 | static_cast<uint8_t>(from[i]));
  }
  return value;
}

// Offsets in a header.
constexpr size_t kLength = 0;    // 4 bytes, of the payload
constexpr size_t kType = 4;      // 1
constexpr size_t kVersion = 5;   // 1
constexpr size_t kReserved = 6;  // 2, zero
constexpr size_t kEpoch = 8;     // 8
constexpr size_t kChecksum = 16;

// Over all of the header before it, seeded with the hash of the payload.
uint64_t Checksum(const char* header, uint64_t payload_hash) {
  return XXH3_64bits_withSeed(header, kChecksum, payload_hash);
}

absl::Status CheckHeader(const char* header, uint32_t max_payload) {
  const auto version = Take<uint8_t>(header + kVersion);
  if (version != kPeerProtocolVersion) {
    return absl::InvalidArgumentError(absl::StrCat("frame of protocol version ",
                                                   int{version}, ", this is ",
                                                   int{kPeerProtocolVersion}));
  }
  const auto type = Take<uint8_t>(header + kType);
  if (type < static_cast<uint8_t>(FrameType::kHello) ||
      type > static_cast<uint8_t>(FrameType::kRefusal) ||
      Take<uint16_t>(header + kReserved) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("frame of unknown type ", int{type}));
  }
  const auto length = Take<uint32_t>(header + kLength);
  if (length > max_payload) {
    return absl::InvalidArgumentError(absl::StrCat(
        "frame of ", length, " bytes; the limit is ", max_payload));
  }
  return absl::OkStatus();
}

// Header and payload, whole.
absl::StatusOr<Frame> DecodeFrame(const char* bytes) {
  const absl::string_view payload(bytes + kFrameHeaderBytes,
                                  Take<uint32_t>(bytes + kLength));
  if (Checksum(bytes, HashPayload(payload)) !=
      Take<uint64_t>(bytes + kChecksum)) {
    return absl::DataLossError(absl::StrCat("frame of ", payload.size(),
                                            " bytes with a wrong checksum"));
  }
  return Frame{static_cast<FrameType>(Take<uint8_t>(bytes + kType)),
               Take<uint64_t>(bytes + kEpoch), payload};
}

}  // namespace

uint64_t HashPayload(absl::string_view payload) {
  return XXH3_64bits(payload.data(), payload.size());
}

void EncodeFrameHeader(FrameType type, uint64_t map_epoch,
                       uint32_t payload_bytes, uint64_t payload_hash,
                       char header[kFrameHeaderBytes]) {
  Put(header + kLength, payload_bytes);
  Put(header + kType, static_cast<uint8_t>(type));
  Put(header + kVersion, kPeerProtocolVersion);
  Put(header + kReserved, uint16_t{0});
  Put(header + kEpoch, map_epoch);
  Put(header + kChecksum, Checksum(header, payload_hash));
}

std::string EncodeFrame(const Frame& frame) {
  char header[kFrameHeaderBytes];
  EncodeFrameHeader(frame.type, frame.map_epoch,
                    static_cast<uint32_t>(frame.payload.size()),
                    HashPayload(frame.payload), header);
  return absl::StrCat(absl::string_view(header, sizeof header), frame.payload);
}

std::string EncodeHelloPayload(const PeerIdentity& identity) {
  std::string payload(kHelloPayloadBytes, '\0');
  Put(payload.data(), identity.cluster_id);
  Put(payload.data() + 8, identity.from.value());
  Put(payload.data() + 16, identity.to.value());
  Put(payload.data() + 24, identity.incarnation);
  return payload;
}

absl::StatusOr<PeerIdentity> DecodeHelloPayload(absl::string_view payload) {
  if (payload.size() != kHelloPayloadBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("hello of ", payload.size(), " bytes"));
  }
  return PeerIdentity{Take<uint64_t>(payload.data()),
                      raft::NodeId(Take<uint64_t>(payload.data() + 8)),
                      raft::NodeId(Take<uint64_t>(payload.data() + 16)),
                      Take<uint64_t>(payload.data() + 24)};
}

absl::StatusOr<Opening> ReadOpening(absl::string_view first) {
  const size_t common = std::min(first.size(), kPeerMagic.size());
  if (first.substr(0, common) != kPeerMagic.substr(0, common)) {
    return Opening{Opening::Kind::kOther, {}};
  }
  if (first.size() < kPeerMagic.size() + kFrameHeaderBytes) return Opening{};
  const char* header = first.data() + kPeerMagic.size();
  const absl::Status status = CheckHeader(header, kHelloPayloadBytes);
  if (!status.ok()) return status;
  if (Take<uint8_t>(header + kType) !=
          static_cast<uint8_t>(FrameType::kHello) ||
      Take<uint32_t>(header + kLength) != kHelloPayloadBytes) {
    return absl::InvalidArgumentError("the first frame is no hello");
  }
  if (first.size() < kOpeningBytes) return Opening{};
  const absl::StatusOr<Frame> frame = DecodeFrame(header);
  if (!frame.ok()) return frame.status();
  const auto identity = DecodeHelloPayload(frame->payload);
  if (!identity.ok()) return identity.status();
  return Opening{Opening::Kind::kPeer, *identity};
}

absl::Span<char> FrameParser::Room() {
  if (begin_ == end_) {
    begin_ = end_ = 0;
    if (capacity_ > kBufferBytes) capacity_ = 0;
  }
  // The rest of the frame that is under way, when its length is known, but no
  // more than has come already.
  size_t wanted = kFrameHeaderBytes;
  if (waiting() >= kFrameHeaderBytes) {
    wanted += std::min(Take<uint32_t>(buffer_.get() + begin_ + kLength),
                       max_payload_);
  }
  const size_t needed = std::max(kBufferBytes, std::min(wanted, 2 * waiting()));
  if (capacity_ < needed) {
    std::unique_ptr<char[]> larger(new char[needed]);
    if (waiting() > 0) {
      std::memcpy(larger.get(), buffer_.get() + begin_, waiting());
    }
    buffer_ = std::move(larger);
    capacity_ = needed;
    end_ = waiting();
    begin_ = 0;
  } else if (begin_ > 0 && (end_ == capacity_ || begin_ + wanted > capacity_)) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, waiting());
    end_ = waiting();
    begin_ = 0;
  }
  return absl::MakeSpan(buffer_.get() + end_, capacity_ - end_);
}

absl::StatusOr<std::optional<Frame>> FrameParser::Next() {
  if (waiting() < kFrameHeaderBytes) return std::nullopt;
  const char* header = buffer_.get() + begin_;
  const absl::Status status = CheckHeader(header, max_payload_);
  if (!status.ok()) return status;
  const size_t bytes = kFrameHeaderBytes + Take<uint32_t>(header + kLength);
  if (waiting() < bytes) return std::nullopt;
  absl::StatusOr<Frame> frame = DecodeFrame(header);
  if (!frame.ok()) return frame.status();
  begin_ += bytes;
  return *frame;
}

}  // namespace kv739::server
