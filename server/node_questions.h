// joining.h over the network: both ends of raft.v1.Raft/Inquire and Join.
#ifndef KV739_SERVER_NODE_QUESTIONS_H_
#define KV739_SERVER_NODE_QUESTIONS_H_

#include <functional>

#include "server/data_directory.h"
#include "server/joining.h"
#include "server/map_holder.h"
#include "server/node_service.h"

namespace kv739::server {

// The side of the one that asks; see node_client.h for the errors.
ServerQuestions OverTheNetwork();

// The side of the one that is asked. All must outlive the service.
NodeService::Rules AnswerOverTheNetwork(
    const MapHolder* maps, const DataDirectory* directory,
    std::function<void(const kv::DirectoryChange&, DirectoryDone)> propose);

}  // namespace kv739::server

#endif  // KV739_SERVER_NODE_QUESTIONS_H_
