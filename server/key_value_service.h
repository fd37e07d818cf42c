// kv739.v1.KeyValue: turns calls into operations for the handler and replies
// into answers. Limits on keys and values are the handler's.
//
// Threads: everything in the loop's thread, but Start() before it runs and
// Release() after it has ended.
#ifndef KV739_SERVER_KEY_VALUE_SERVICE_H_
#define KV739_SERVER_KEY_VALUE_SERVICE_H_

#include <memory>

#include "absl/container/flat_hash_set.h"
#include "kv739/v1/kv.grpc.pb.h"
#include "server/operation_stream.h"
#include "server/rpc_loop.h"
#include "server/unary_call.h"

namespace kv739::server {

struct KeyValueLimits {
  // Calls of Get and of Put that wait for a request at any time; the other
  // methods have kOtherArmedCalls.
  int armed_calls = 256;
  // Of each method, running; beyond it OVERLOADED.
  int max_calls = 16384;
  StreamLimits stream;
};

class KeyValueService {
 public:
  KeyValueService(RpcLoop* loop, const KeyValueLimits& limits);
  ~KeyValueService();

  grpc::Service* service() { return &service_; }
  void Start();
  // Streams end when what is under way is answered.
  void BeginStop();
  void Release();

 private:
  static constexpr int kOtherArmedCalls = 16;
  static constexpr int kArmedStreams = 4;

  void ArmStream();

  RpcLoop* const loop_;
  const KeyValueLimits limits_;
  v1::KeyValue::AsyncService service_;
  UnaryPool<v1::GetRequest, v1::GetResponse> get_;
  UnaryPool<v1::PutRequest, v1::WriteResponse> put_;
  UnaryPool<v1::DeleteRequest, v1::WriteResponse> delete_;
  UnaryPool<v1::AppendRequest, v1::WriteResponse> append_;
  UnaryPool<v1::CompareAndSwapRequest, v1::WriteResponse> compare_and_swap_;
  UnaryPool<v1::OpenSessionRequest, v1::OpenSessionResponse> open_session_;
  UnaryPool<v1::ScanRequest, v1::ScanResponse> scan_;
  absl::flat_hash_set<std::shared_ptr<OperationStream>> streams_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_KEY_VALUE_SERVICE_H_
