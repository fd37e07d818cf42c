// What a starting server asks others over the network (raft.v1.Raft).
#ifndef KV739_SERVER_NODE_QUESTIONS_H_
#define KV739_SERVER_NODE_QUESTIONS_H_

#include "server/joining.h"

namespace kv739::server {

// UNAVAILABLE when nobody answers, at once when nobody listens;
// DEADLINE_EXCEEDED; what the other server refuses with.
ServerQuestions OverTheNetwork();

}  // namespace kv739::server

#endif  // KV739_SERVER_NODE_QUESTIONS_H_
