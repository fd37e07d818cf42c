// Frames between nodes: bytes in, frames or an error out.
#include "server/peer_frame.h"

#include <algorithm>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace kv739::server {
namespace {

const PeerIdentity kIdentity{1, raft::NodeId(2), raft::NodeId(3), 4};

// Feeds the parser `pieces` at a time; what came out, as type and payload.
struct Parsed {
  std::vector<std::pair<FrameType, std::string>> frames;
  absl::Status status;
};
Parsed Parse(const std::string& bytes, size_t piece,
             uint32_t max_payload = kMaxFramePayload) {
  FrameParser parser(max_payload);
  Parsed parsed;
  size_t at = 0;
  for (;;) {
    const auto frame = parser.Next();
    if (!frame.ok()) {
      parsed.status = frame.status();
      return parsed;
    }
    if (frame->has_value()) {
      parsed.frames.emplace_back((*frame)->type, (*frame)->payload);
      continue;
    }
    if (at == bytes.size()) return parsed;
    const absl::Span<char> room = parser.Room();
    EXPECT_FALSE(room.empty());
    const size_t n = std::min({piece, room.size(), bytes.size() - at});
    std::copy_n(bytes.data() + at, n, room.data());
    parser.Filled(n);
    at += n;
  }
}

std::string Payload(size_t size) {
  std::string payload(size, '\0');
  std::minstd_rand random(static_cast<uint32_t>(size));
  for (char& byte : payload) byte = static_cast<char>(random());
  return payload;
}

TEST(PeerFrameTest, FramesComeBackHoweverTheyAreCut) {
  std::string bytes;
  std::vector<std::string> payloads;
  for (size_t size : {0, 1, 23, 24, 25, 1000, 0, 3}) {
    payloads.push_back(Payload(size));
    bytes += EncodeFrame({FrameType::kBatch, size, payloads.back()});
  }
  for (size_t piece = 1; piece <= bytes.size(); ++piece) {
    const Parsed parsed = Parse(bytes, piece);
    ASSERT_TRUE(parsed.status.ok()) << parsed.status;
    ASSERT_EQ(parsed.frames.size(), payloads.size());
    for (size_t i = 0; i < payloads.size(); ++i) {
      ASSERT_EQ(parsed.frames[i].second, payloads[i]);
    }
  }
}

TEST(PeerFrameTest, LargeFramesBetweenSmallOnes) {
  std::string bytes;
  std::vector<std::string> payloads;
  for (size_t size : {10, 1 << 20, 10, 65536 - 24, 65536, 200'000, 1}) {
    payloads.push_back(Payload(size));
    bytes += EncodeFrame({FrameType::kBatch, 0, payloads.back()});
  }
  for (size_t piece : {1000, 4096, 65536, 1 << 20, 1 << 24}) {
    const Parsed parsed = Parse(bytes, piece);
    ASSERT_TRUE(parsed.status.ok()) << parsed.status;
    ASSERT_EQ(parsed.frames.size(), payloads.size());
    for (size_t i = 0; i < payloads.size(); ++i) {
      ASSERT_EQ(parsed.frames[i].second, payloads[i]) << i;
    }
  }
}

TEST(PeerFrameTest, TheEpochTravels) {
  const std::string bytes =
      EncodeFrame({FrameType::kBatch, ~uint64_t{0} - 7, "abc"});
  FrameParser parser(3);
  std::copy(bytes.begin(), bytes.end(), parser.Room().begin());
  parser.Filled(bytes.size());
  const auto frame = parser.Next();
  ASSERT_TRUE(frame.ok() && frame->has_value());
  EXPECT_EQ((*frame)->map_epoch, ~uint64_t{0} - 7);
  EXPECT_EQ((*frame)->payload, "abc");
}

TEST(PeerFrameTest, EveryChangedBitIsFound) {
  const std::string first = EncodeFrame({FrameType::kBatch, 1, "first"});
  const std::string good = EncodeFrame({FrameType::kBatch, 77, Payload(40)});
  for (size_t bit = 0; bit < 8 * good.size(); ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    const Parsed parsed = Parse(first + bad + std::string(200, 'x'), 1 << 16);
    ASSERT_EQ(parsed.frames.size(), 1u) << bit;
    // A length that is larger and still possible waits for its bytes.
    const bool waits = bit >= 8 && bit <= 24;
    ASSERT_EQ(parsed.status.ok(), waits) << bit;
  }
}

TEST(PeerFrameTest, TheLimitHolds) {
  const std::string at = EncodeFrame({FrameType::kBatch, 0, Payload(100)});
  EXPECT_EQ(Parse(at, 1 << 16, 100).frames.size(), 1u);
  const Parsed over = Parse(at, 1 << 16, 99);
  EXPECT_EQ(over.status.code(), absl::StatusCode::kInvalidArgument);
  // It is seen before the bytes come.
  EXPECT_FALSE(Parse(at.substr(0, kFrameHeaderBytes), 1, 99).status.ok());
}

// Memory follows what has come, not what was announced.
TEST(PeerFrameTest, AnAnnouncedLengthTakesNoMemory) {
  char header[kFrameHeaderBytes];
  EncodeFrameHeader(FrameType::kBatch, 0, kMaxFramePayload, 0, header);
  FrameParser parser(kMaxFramePayload);
  std::copy_n(header, sizeof header, parser.Room().begin());
  parser.Filled(sizeof header);
  ASSERT_TRUE(parser.Next().ok());
  EXPECT_LE(parser.Room().size(), FrameParser::kBufferBytes);
  // And is given back after a large frame.
  const std::string large =
      EncodeFrame({FrameType::kBatch, 0, Payload(4 << 20)});
  FrameParser other(kMaxFramePayload);
  for (size_t at = 0; at < large.size();) {
    const absl::Span<char> room = other.Room();
    EXPECT_LE(room.size(), std::max(FrameParser::kBufferBytes, 2 * at));
    const size_t n = std::min(room.size(), large.size() - at);
    std::copy_n(large.data() + at, n, room.begin());
    other.Filled(n);
    at += n;
    if (at < large.size()) {
      ASSERT_FALSE(other.Next()->has_value());
    }
  }
  EXPECT_TRUE(other.Next()->has_value());
  EXPECT_EQ(other.Room().size(), FrameParser::kBufferBytes);
}

TEST(PeerFrameTest, OpeningsAreToldFromOtherProtocols) {
  const std::string opening =
      std::string(kPeerMagic) +
      EncodeFrame({FrameType::kHello, 9, EncodeHelloPayload(kIdentity)});
  ASSERT_EQ(opening.size(), kOpeningBytes);
  for (size_t n = 0; n < opening.size(); ++n) {
    const auto part = ReadOpening(opening.substr(0, n));
    ASSERT_TRUE(part.ok()) << n;
    EXPECT_EQ(part->kind, Opening::Kind::kUndecided) << n;
  }
  const auto whole = ReadOpening(opening);
  ASSERT_TRUE(whole.ok());
  EXPECT_EQ(whole->kind, Opening::Kind::kPeer);
  EXPECT_EQ(whole->identity, kIdentity);
  for (const char* other :
       {"PRI * HTTP/2.0\r\n", "GET / HTTP/1.1", "\x16\x03\x01", "\n"}) {
    EXPECT_EQ(ReadOpening(other)->kind, Opening::Kind::kOther) << other;
  }
  for (size_t i = 0; i < opening.size(); ++i) {
    std::string bad = opening;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    const auto read = ReadOpening(bad);
    if (i < kPeerMagic.size()) {
      EXPECT_EQ(read->kind, Opening::Kind::kOther) << i;
    } else {
      EXPECT_FALSE(read.ok()) << i;
    }
  }
}

}  // namespace
}  // namespace kv739::server
