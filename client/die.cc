// Stopping a server, by one call on a channel of its own that is watched
// until nothing answers there any more. Its process may be flushing for a while
// yet; where a supervisor of this host runs it, that is waited for too.
#include <algorithm>
#include <chrono>
#include <initializer_list>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "client/servers.h"
#include "kv/supervisor_protocol.h"
#include "kv739/v1/admin.grpc.pb.h"

namespace kv739::client {
namespace {

using Clock = std::chrono::system_clock;

// Waits until the channel has a connection or could not make one, and says
// which; nothing when the deadline came first.
std::optional<bool> Connects(grpc::Channel* channel,
                             Clock::time_point deadline) {
  while (true) {
    const grpc_connectivity_state state = channel->GetState(true);
    if (state == GRPC_CHANNEL_READY) return true;
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE) return false;
    if (!channel->WaitForStateChange(state, deadline)) return std::nullopt;
  }
}

// True once no connection can be made.
bool WaitUntilGone(grpc::Channel* channel, Clock::time_point deadline) {
  while (true) {
    const std::optional<bool> connected = Connects(channel, deadline);
    if (!connected) return false;
    if (!*connected) return true;
    if (!channel->WaitForStateChange(GRPC_CHANNEL_READY, deadline)) {
      return false;
    }
  }
}

// The process has ended, or nobody here knows of it.
bool HasEnded(const kv::Address& server,
              std::initializer_list<uint64_t> names) {
  for (const uint64_t cluster : names) {
    const auto process = kv::AskSupervisorAt(
        kv::SupervisorSocketPath(cluster),
        {kv::SupervisorRequest::Verb::kStatus, server, false});
    if (process.ok() && process->state == kv::ServerProcess::State::kRunning) {
      return false;
    }
  }
  return true;
}

}  // namespace

int Client::Die(const std::string& server, bool clean, int timeout_ms,
                std::string* message) {
  const auto address = kv::Address::Parse(server);
  // Known from the file, from the map that this client has, or from the newest
  // one that a server has.
  bool known = address.ok() && (file_map_.FindNode(*address) != nullptr ||
                                KnownMap().FindNode(*address) != nullptr);
  if (!known) {
    Servers servers(this, timeout_ms == 0 ? options_.timeout_ms : timeout_ms);
    servers.Refresh();
    known = address.ok() && servers.map().FindNode(*address) != nullptr;
    if (!known) return UnknownServer(server, servers.map(), message);
  }
  const std::string name = address->ToString();
  const Clock::time_point deadline =
      Clock::now() + std::chrono::milliseconds(
                         timeout_ms == 0 ? options_.timeout_ms : timeout_ms);
  const auto channel = grpc::CreateCustomChannel(
      ChannelTarget(name), grpc::InsecureChannelCredentials(),
      ChannelSettings());
  const std::optional<bool> connected = Connects(channel.get(), deadline);
  if (!connected.value_or(false)) {
    *message = absl::StrCat("server ", name,
                            " cannot be reached; it may have been stopped "
                            "already");
    return KV739_E_UNAVAILABLE;
  }
  grpc::ClientContext context;
  context.set_deadline(deadline);
  v1::DieRequest request;
  request.set_clean(clean);
  v1::DieResponse response;
  const grpc::Status status =
      v1::Admin::NewStub(channel)->Die(&context, request, &response);
  // It may be gone before its answer is out.
  if (!status.ok() && status.error_code() != grpc::StatusCode::UNAVAILABLE) {
    *message = absl::StrCat("server ", name, ": ", status.error_message());
    switch (status.error_code()) {
      case grpc::StatusCode::PERMISSION_DENIED:
        return KV739_E_DENIED;
      case grpc::StatusCode::DEADLINE_EXCEEDED:
        return KV739_E_TIMEOUT;
      default:
        return KV739_E_INTERNAL;
    }
  }
  bool gone = WaitUntilGone(channel.get(), deadline);
  if (gone) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    Servers pauses(this, std::max<int>(1, static_cast<int>(left.count())));
    while (!HasEnded(*address, {KnownMap().cluster_id, file_map_.cluster_id}) &&
           (gone = pauses.Pause())) {
    }
  }
  if (gone) return KV739_OK;
  *message = status.ok()
                 ? absl::StrCat("server ", name,
                                " has begun to stop and was not gone before "
                                "the deadline")
                 : absl::StrCat("server ", name, ": ", status.error_message());
  return status.ok() ? KV739_E_TIMEOUT : KV739_E_UNAVAILABLE;
}

}  // namespace kv739::client
