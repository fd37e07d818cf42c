// What is said to the supervisor of a host (`kv739d -c`), by the servers that
// it runs and by clients on that host: one line to its Unix socket, one line
// back, and the connection ends.
//
//   start ADDRESS old|new  ->  ok PID
//   status ADDRESS         ->  running PID | ended CODE TEXT | unknown
//   anything               ->  error CODE TEXT
//
// CODE of `ended` is the exit code, or 128 + the signal; that of `error` is the
// name of a status: ALREADY_EXISTS (it runs, or its data directory is not
// empty), NOT_FOUND (no such server or no data directory), INVALID_ARGUMENT
// (not of this host, or no such line), UNAVAILABLE (the supervisor is
// stopping), INTERNAL (it cannot be started). Lines end with \n, have at most
// kMaxSupervisorLine bytes and no other control characters.
//
// Stateless; any thread.
#ifndef KV739_KV_SUPERVISOR_PROTOCOL_H_
#define KV739_KV_SUPERVISOR_PROTOCOL_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kv/cluster_file.h"

namespace kv739::kv {

inline constexpr size_t kMaxSupervisorLine = 1024;
// How long a supervisor may take to answer: it looks at a directory and forks.
inline constexpr std::chrono::milliseconds kSupervisorTimeout{2000};
// In the environment of its servers: the path of its socket.
inline constexpr char kSupervisorVariable[] = "KV739_SUPERVISOR";

// Where a supervisor of this user has its socket: $KV739_RUN_DIR, else
// /run/user/UID/kv739, else /tmp/kv739-UID; then the cluster's id in 16
// hexadecimal digits and ".sock".
std::string SupervisorDirectory();
std::string SupervisorSocketPath(uint64_t cluster_id);

struct SupervisorRequest {
  enum class Verb : uint8_t { kStart, kStatus };
  Verb verb = Verb::kStatus;
  Address server;
  bool is_new = false;  // kStart: on an empty data directory, to join
};

struct ServerProcess {
  enum class State : uint8_t { kUnknown, kRunning, kEnded };
  State state = State::kUnknown;
  int64_t pid = 0;  // kRunning
  int code = 0;     // kEnded
  std::string how;  // kEnded, for people: "ended with code 3 (...)"
};

// Without the newline.
std::string FormatRequest(const SupervisorRequest& request);
absl::StatusOr<SupervisorRequest> ParseRequest(absl::string_view line);
std::string FormatAnswer(const SupervisorRequest& request,
                         const absl::StatusOr<ServerProcess>& answer);
// INTERNAL when it is no answer to the request.
absl::StatusOr<ServerProcess> ParseAnswer(const SupervisorRequest& request,
                                          absl::string_view line);

// Asks the supervisor at `path`. FAILED_PRECONDITION: there is none, or it is
// another user's; DEADLINE_EXCEEDED: it does not answer; otherwise what it
// says.
absl::StatusOr<ServerProcess> AskSupervisorAt(
    const std::string& path, const SupervisorRequest& request,
    std::chrono::milliseconds timeout = kSupervisorTimeout);

}  // namespace kv739::kv

#endif  // KV739_KV_SUPERVISOR_PROTOCOL_H_
