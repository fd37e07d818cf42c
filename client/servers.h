// What operators ask of servers: blocking, on the calling thread, on channels
// of its own, until a deadline. One is made for one call (die, leave, start);
// not thread-safe. The client outlives it.
//
// Looking again and again is what the calls do, since no server tells when a
// change has ended: a look every kFirstLook, doubling to kLastLook.
#ifndef KV739_CLIENT_SERVERS_H_
#define KV739_CLIENT_SERVERS_H_

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/client.h"
#include "kv/cluster_map.h"
#include "kv739/v1/cluster.pb.h"

namespace kv739::client {

inline constexpr std::chrono::milliseconds kFirstLook{25};
inline constexpr std::chrono::milliseconds kLastLook{250};
// One question to one server.
inline constexpr std::chrono::milliseconds kAskTimeout{1000};
// One that the directory's log must carry.
inline constexpr std::chrono::milliseconds kChangeTimeout{5000};

class Servers {
 public:
  using Clock = std::chrono::system_clock;

  Servers(Client* client, int timeout_ms)
      : client_(client),
        map_(client->KnownMap()),
        timeout_ms_(timeout_ms),
        deadline_(Clock::now() + std::chrono::milliseconds(timeout_ms)) {}

  // Asks every server that may know the map; the newest is map() and the
  // client's from then on. False when none answered.
  bool Refresh();
  const kv::ClusterMap& map() const { return map_; }
  // Of those that answer, by address. `silent`: how many of the others did not
  // refuse the connection, and may be alive.
  std::map<std::string, v1::GetStatusResponse> Statuses(
      const std::vector<std::string>& addresses, size_t* silent = nullptr);

  std::shared_ptr<grpc::Channel> To(const std::string& address);
  // Ends the call after `at_most`, or at the deadline.
  void Limit(std::chrono::milliseconds at_most,
             grpc::ClientContext* context) const;

  // Lets a little time pass between two looks. False when there is no more.
  bool Pause();
  // After that: the code, and `message` with what was being waited for.
  int GiveUp(const std::string& waiting, std::string* message) const;

  // What was asked last may have been cut short.
  bool Late() const { return Clock::now() >= deadline_; }

 private:
  Client* const client_;
  kv::ClusterMap map_;
  const int timeout_ms_;
  const Clock::time_point deadline_;
  std::chrono::milliseconds next_look_ = kFirstLook;
  bool closed_ = false;
  std::map<std::string, std::shared_ptr<grpc::Channel>> channels_;
};

// KV739_E_INVALID for a name that neither the map nor the file has; `message`
// lists those that there are.
int UnknownServer(const std::string& server, const kv::ClusterMap& map,
                  std::string* message);
// What a server said when it refused: its own words, and the code for them.
int Refusal(const std::string& server, const grpc::Status& status,
            std::string* message);
// Worth asking another server, or the same again.
bool IsPassing(const grpc::Status& status);

}  // namespace kv739::client

#endif  // KV739_CLIENT_SERVERS_H_
