// Operations and replies in their form on the wire, kv739.v1. Values, no
// threads; keys and values are moved, never copied.
#ifndef KV739_SERVER_OPERATION_CODEC_H_
#define KV739_SERVER_OPERATION_CODEC_H_

#include <grpcpp/support/status.h>

#include "kv739/v1/kv.pb.h"
#include "server/operation.h"

namespace kv739::server {

// Trailer of unary calls that failed: a serialized kv739.v1.Error.
inline constexpr char kErrorTrailer[] = "kv739-error-bin";

// Fill in everything but tag, sink and time; `in` loses its key and value.
void DecodeRequest(v1::GetRequest* in, Operation* out);
void DecodeRequest(v1::PutRequest* in, Operation* out);
void DecodeRequest(v1::DeleteRequest* in, Operation* out);
void DecodeRequest(v1::AppendRequest* in, Operation* out);
void DecodeRequest(v1::CompareAndSwapRequest* in, Operation* out);
void DecodeRequest(v1::OpenSessionRequest* in, Operation* out);
void DecodeRequest(v1::ScanRequest* in, Operation* out);
// With the tag. False when it says not what to do; `out` has the tag then.
bool DecodeOperation(v1::Operation* in, Operation* out);

// Of replies that are kOk; `in` loses its value.
void EncodeResponse(Reply* in, v1::GetResponse* out);
void EncodeResponse(Reply* in, v1::WriteResponse* out);
void EncodeResponse(Reply* in, v1::OpenSessionResponse* out);
void EncodeResponse(Reply* in, v1::ScanResponse* out);
void EncodeError(const Reply& in, v1::Error* out);
// Either of them, with the tag. `out` is empty before.
void EncodeResult(Reply* in, v1::OperationResult* out);

v1::ErrorCode ToErrorCode(ReplyCode code);
grpc::StatusCode ToStatusCode(ReplyCode code);
// The status of a unary call that failed.
grpc::Status ToStatus(const Reply& reply);

// The answer to an operation that was refused before it reached a group.
Reply RefusedReply(const Operation& operation, ReplyCode code,
                   std::string message);

}  // namespace kv739::server

#endif  // KV739_SERVER_OPERATION_CODEC_H_
