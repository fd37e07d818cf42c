// The core's messages in their form on the wire, raft.v1.GroupMessage.
//
// Values, no threads. Encoding copies each entry's bytes once, into the
// protobuf; decoding moves them out of it. Whatever arrives, decoding gives a
// message that makes sense by itself or an error.
#ifndef KV739_SERVER_MESSAGE_CODEC_H_
#define KV739_SERVER_MESSAGE_CODEC_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "raft/message.h"
#include "raft/v1/raft.pb.h"
#include "server/transport.h"

namespace kv739::server {

// Overwrites `out`.
void EncodeMessage(const GroupMessage& message, ::raft::v1::GroupMessage* out);

// INVALID_ARGUMENT says what is wrong: no or an unknown kind, an entry of an
// unknown kind, a command that does not decode, entries with gaps, terms that
// go back or lie above the message's, a snapshot of no position, of a later
// term, or of a configuration that is none. `in` is left without its entries'
// bytes.
absl::StatusOr<GroupMessage> DecodeMessage(::raft::v1::GroupMessage* in);

// About how many bytes the message takes on the wire and in a queue.
uint64_t ApproximateBytes(const GroupMessage& message);

}  // namespace kv739::server

#endif  // KV739_SERVER_MESSAGE_CODEC_H_
