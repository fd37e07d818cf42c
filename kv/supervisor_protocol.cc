#include "kv/supervisor_protocol.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace kv739::kv {
namespace {

using Clock = std::chrono::steady_clock;

constexpr absl::StatusCode kCodes[] = {
    absl::StatusCode::kAlreadyExists, absl::StatusCode::kNotFound,
    absl::StatusCode::kInvalidArgument, absl::StatusCode::kUnavailable,
    absl::StatusCode::kInternal};

// Words of people in one line.
std::string OneLine(absl::string_view text) {
  std::string line(text.substr(0, kMaxSupervisorLine / 2));
  std::replace_if(
      line.begin(), line.end(),
      [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  return line;
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

absl::Status None(const std::string& path, absl::string_view why) {
  return absl::FailedPreconditionError(
      absl::StrCat("no supervisor at ", path, ": ", why));
}

absl::Status Connect(int fd, const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return None(path, "the path is too long");
  }
  memcpy(address.sun_path, path.data(), path.size());
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address),
                sizeof(address)) != 0) {
    return None(path, strerror(errno));
  }
  // A name in /tmp may be anybody's.
  ucred peer = {};
  socklen_t length = sizeof(peer);
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 ||
      (peer.uid != ::geteuid() && peer.uid != 0)) {
    return None(path, "it is another user's");
  }
  return absl::OkStatus();
}

// Up to the newline, which is taken off.
absl::StatusOr<std::string> ReadLine(int fd, Clock::time_point deadline) {
  std::string line;
  while (line.size() <= kMaxSupervisorLine) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - Clock::now());
    pollfd polled = {fd, POLLIN, 0};
    const int ready = ::poll(
        &polled, 1, static_cast<int>(std::max<int64_t>(left.count(), 0)));
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) {
      return absl::DeadlineExceededError("the supervisor does not answer");
    }
    char buffer[256];
    const ssize_t n = ready < 0 ? -1 : ::recv(fd, buffer, sizeof(buffer), 0);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n <= 0) {
      return absl::InternalError("the supervisor ended the connection");
    }
    line.append(buffer, static_cast<size_t>(n));
    const size_t end = line.find('\n');
    if (end != std::string::npos) return line.substr(0, end);
  }
  return absl::InternalError("the supervisor's answer has no end");
}

absl::Status NoAnswer(absl::string_view line) {
  return absl::InternalError(
      absl::StrCat("the supervisor answers with nonsense: ", OneLine(line)));
}

}  // namespace

std::string SupervisorDirectory() {
  const char* given = getenv("KV739_RUN_DIR");
  if (given != nullptr && *given != '\0') return given;
  const std::string user = absl::StrCat("/run/user/", ::geteuid());
  struct stat info = {};
  if (::stat(user.c_str(), &info) == 0 && S_ISDIR(info.st_mode) &&
      info.st_uid == ::geteuid()) {
    return absl::StrCat(user, "/kv739");
  }
  return absl::StrCat("/tmp/kv739-", ::geteuid());
}

std::string SupervisorSocketPath(uint64_t cluster_id) {
  return absl::StrFormat("%s/%016x.sock", SupervisorDirectory(), cluster_id);
}

std::string FormatRequest(const SupervisorRequest& request) {
  const std::string server = request.server.ToString();
  if (request.verb == SupervisorRequest::Verb::kStatus) {
    return absl::StrCat("status ", server);
  }
  return absl::StrCat("start ", server, request.is_new ? " new" : " old");
}

absl::StatusOr<SupervisorRequest> ParseRequest(absl::string_view line) {
  const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
  SupervisorRequest request;
  if (words.size() == 3 && words[0] == "start" &&
      (words[2] == "old" || words[2] == "new")) {
    request.verb = SupervisorRequest::Verb::kStart;
    request.is_new = words[2] == "new";
  } else if (words.size() != 2 || words[0] != "status") {
    return absl::InvalidArgumentError(
        "expected \"start ADDRESS old|new\" or \"status ADDRESS\"");
  }
  auto server = Address::Parse(words[1]);
  if (!server.ok()) return server.status();
  request.server = *std::move(server);
  return request;
}

std::string FormatAnswer(const SupervisorRequest& request,
                         const absl::StatusOr<ServerProcess>& answer) {
  if (!answer.ok()) {
    return absl::StrCat("error ",
                        absl::StatusCodeToString(answer.status().code()), " ",
                        OneLine(answer.status().message()));
  }
  if (request.verb == SupervisorRequest::Verb::kStart) {
    return absl::StrCat("ok ", answer->pid);
  }
  switch (answer->state) {
    case ServerProcess::State::kRunning:
      return absl::StrCat("running ", answer->pid);
    case ServerProcess::State::kEnded:
      return absl::StrCat("ended ", answer->code, " ", OneLine(answer->how));
    case ServerProcess::State::kUnknown:
      break;
  }
  return "unknown";
}

absl::StatusOr<ServerProcess> ParseAnswer(const SupervisorRequest& request,
                                          absl::string_view line) {
  const std::vector<absl::string_view> words =
      absl::StrSplit(line, absl::MaxSplits(' ', 2));
  if (words.size() == 3 && words[0] == "error") {
    for (const absl::StatusCode code : kCodes) {
      if (words[1] == absl::StatusCodeToString(code)) {
        return absl::Status(code, words[2]);
      }
    }
    return absl::InternalError(words[2]);
  }
  ServerProcess process;
  const bool start = request.verb == SupervisorRequest::Verb::kStart;
  if (words.size() == 2 && words[0] == (start ? "ok" : "running") &&
      absl::SimpleAtoi(words[1], &process.pid)) {
    process.state = ServerProcess::State::kRunning;
    return process;
  }
  if (start) return NoAnswer(line);
  if (line == "unknown") return process;
  if (words.size() == 3 && words[0] == "ended" &&
      absl::SimpleAtoi(words[1], &process.code)) {
    process.state = ServerProcess::State::kEnded;
    process.how = std::string(words[2]);
    return process;
  }
  return NoAnswer(line);
}

absl::StatusOr<ServerProcess> AskSupervisorAt(
    const std::string& path, const SupervisorRequest& request,
    std::chrono::milliseconds timeout) {
  const Clock::time_point deadline = Clock::now() + timeout;
  // Not blocking: a supervisor that accepts nobody any more is not waited for.
  const Descriptor fd(
      ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd.get() < 0) return absl::InternalError(strerror(errno));
  if (absl::Status status = Connect(fd.get(), path); !status.ok()) {
    return status;
  }
  const std::string line = FormatRequest(request) + "\n";
  if (::send(fd.get(), line.data(), line.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(line.size())) {
    return None(path, strerror(errno));
  }
  const auto answer = ReadLine(fd.get(), deadline);
  if (!answer.ok()) return answer.status();
  return ParseAnswer(request, *answer);
}

}  // namespace kv739::kv
