// What stands behind the pointers of the C interface, and the calls that the
// classic and the handle-based interface share. None of them throws beyond
// std::bad_alloc; errors are noted with Fail().
#ifndef KV739_CLIENT_HANDLE_H_
#define KV739_CLIENT_HANDLE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "client/client.h"
#include "client/lib739kv.h"
#include "client/operation.h"

// Every call takes its own reference, so that a close beside it frees nothing
// that it still uses.
struct kv739_client {
  std::shared_ptr<kv739::client::Client> client;
};

struct kv739_result {
  bool found = false;
  uint64_t version = 0;
  std::string value;
};

struct kv739_scan_result {
  std::shared_ptr<kv739::client::ScanPage> page;
};

namespace kv739::client {

// What all calls on a handle have in common, before their request is made.
int Enter(kv739_client* handle, int timeout_ms, bool synchronous,
          std::shared_ptr<Client>* client);

// A client for the servers of a file; `message` says why not.
int OpenClient(const char* config_file, const Client::Options& options,
               std::shared_ptr<Client>* client);

// The request in `*request`, or the error. `value` is for writes that have
// one; `has_value` says whether this one does.
int MakeRequest(OpKind kind, const void* key, size_t key_length, bool has_value,
                const void* value, size_t value_length, uint64_t expected,
                Request* request);
// KV739_OK when the client may be used here with this timeout.
int CheckUse(const Client* client, int timeout_ms, bool synchronous);

// Runs one operation to its end. 0, 1 or an error; *result is set on 0 and 1
// alone and may be nullptr.
int RunSync(Client* client, Request request, int timeout_ms, Outcome* outcome);

// Die, Start or Leave of a client.
using ServerCall = int (Client::*)(const std::string& server, bool flag,
                                   int timeout_ms, std::string* message);
int RunOnServer(Client* client, ServerCall call, const char* server, int flag,
                int timeout_ms);

}  // namespace kv739::client

#endif  // KV739_CLIENT_HANDLE_H_
