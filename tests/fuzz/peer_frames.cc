// What comes on a connection of another node: sound frames that say anything,
// damaged ones, and other bytes, cut anywhere. Frames come out as they were
// put in or an error ends it, however the bytes are cut; what decodes in them
// makes sense.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "raft/v1/raft.pb.h"
#include "server/message_codec.h"
#include "server/peer_frame.h"
#include "tests/fuzz/fuzz.h"

namespace kv739::fuzz {
namespace {

constexpr uint32_t kMaxPayload = 4096;

struct Outcome {
  std::vector<std::string> frames;
  absl::StatusCode end = absl::StatusCode::kOk;
  bool operator==(const Outcome&) const = default;
};

void Batch(absl::string_view payload) {
  ::raft::v1::PeerBatch batch;
  if (!batch.ParseFromArray(payload.data(), static_cast<int>(payload.size()))) {
    return;
  }
  for (::raft::v1::GroupMessage& message : *batch.mutable_messages()) {
    const auto decoded = server::DecodeMessage(&message);
    if (decoded.ok()) server::ApproximateBytes(*decoded);
  }
}

template <typename Piece>
Outcome Parse(absl::string_view bytes, Piece piece) {
  server::FrameParser parser(kMaxPayload);
  Outcome outcome;
  for (;;) {
    const auto frame = parser.Next();
    if (!frame.ok()) {
      outcome.end = frame.status().code();
      return outcome;
    }
    if (frame->has_value()) {
      const server::Frame& f = **frame;
      outcome.frames.push_back(server::EncodeFrame(f));
      continue;
    }
    if (bytes.empty()) return outcome;
    const auto room = parser.Room();
    KV739_FUZZ_CHECK(!room.empty(), "no room");
    const size_t n = std::min({size_t{1} + piece(), room.size(), bytes.size()});
    std::copy_n(bytes.data(), n, room.data());
    parser.Filled(n);
    bytes.remove_prefix(n);
  }
}

void Openings(Input* in) {
  server::PeerIdentity identity{in->Number(), raft::NodeId(in->Number()),
                                raft::NodeId(in->Number()), in->Number()};
  std::string bytes(server::kPeerMagic);
  bytes += server::EncodeFrame({server::FrameType::kHello, in->Number(),
                                server::EncodeHelloPayload(identity)});
  const size_t cut = in->Below(bytes.size() + 1);
  bytes.resize(cut);
  absl::StrAppend(&bytes, in->rest());
  // More bytes decide, and never decide otherwise.
  bool decided = false;
  for (size_t n = 0; n <= std::min<size_t>(bytes.size(), 100); ++n) {
    const auto opening =
        server::ReadOpening(absl::string_view(bytes).substr(0, n));
    const bool now =
        !opening.ok() || opening->kind != server::Opening::Kind::kUndecided;
    KV739_FUZZ_CHECK(now || !decided, "undecided again");
    KV739_FUZZ_CHECK(now || n < server::kOpeningBytes, "never decides");
    decided = now;
  }
}

}  // namespace

KV739_FUZZ_TARGET(peer_frames, 4000) {
  Input in(bytes);
  if (in.Below(4) == 0) return Openings(&in);
  std::string stream;
  std::vector<std::string> sound;
  bool damaged = false;
  for (uint64_t i = in.Below(6); i > 0; --i) {
    server::Frame frame;
    frame.type = static_cast<server::FrameType>(1 + in.Below(3));
    frame.map_epoch = in.Number();
    const std::string payload(in.Bytes(300));
    frame.payload = payload;
    Batch(payload);
    std::string encoded = server::EncodeFrame(frame);
    if (in.Below(8) == 0) {
      const size_t at = in.Below(encoded.size());
      const auto change = static_cast<char>(1 + in.Below(255));
      encoded[at] = static_cast<char>(encoded[at] ^ change);
      damaged = true;
    }
    if (!damaged) sound.push_back(encoded);
    stream += encoded;
  }
  const bool other = in.Bool();
  if (other) absl::StrAppend(&stream, in.Bytes(200));
  const Outcome whole = Parse(stream, [] { return size_t{1} << 20; });
  const Outcome cut = Parse(stream, [&] { return in.Below(64); });
  KV739_FUZZ_CHECK(whole == cut, "another outcome when cut");
  KV739_FUZZ_CHECK(
      whole.frames.size() >= sound.size() &&
          std::equal(sound.begin(), sound.end(), whole.frames.begin()),
      "a sound frame is lost");
  if (damaged) {
    KV739_FUZZ_CHECK(whole.frames.size() == sound.size(),
                     "a damaged frame was taken");
  }
}

}  // namespace kv739::fuzz
