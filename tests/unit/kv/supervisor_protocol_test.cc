// What is said to a supervisor: lines there and back, and a connection on which
// the other side may do anything. The supervisor itself is tested with the
// server (outer_supervisor_socket_test).
#include "kv/supervisor_protocol.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/unit/kv/state_support.h"

namespace kv739::kv {
namespace {

using Verb = SupervisorRequest::Verb;
using State = ServerProcess::State;

// Longer than any machine needs.
constexpr std::chrono::milliseconds kPatient{60'000};

SupervisorRequest Request(Verb verb, bool is_new = false) {
  return {verb, {"localhost", 50051}, is_new};
}

TEST(SupervisorProtocol, RequestsThereAndBack) {
  for (const SupervisorRequest& request :
       {Request(Verb::kStatus), Request(Verb::kStart),
        Request(Verb::kStart, true)}) {
    const auto parsed = ParseRequest(FormatRequest(request));
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(parsed->verb, request.verb);
    EXPECT_EQ(parsed->server, request.server);
    EXPECT_EQ(parsed->is_new, request.is_new);
  }
  for (const char* line :
       {"", "status", "status a:1 b", "start a:1", "start a:1 maybe",
        "stop a:1", "status nowhere", "start a:99999 old"}) {
    EXPECT_EQ(ParseRequest(line).status().code(),
              absl::StatusCode::kInvalidArgument)
        << line;
  }
}

TEST(SupervisorProtocol, AnswersThereAndBack) {
  const SupervisorRequest start = Request(Verb::kStart);
  const SupervisorRequest status = Request(Verb::kStatus);
  ServerProcess running{State::kRunning, 4711, 0, ""};
  for (const SupervisorRequest& request : {start, status}) {
    const auto answer = ParseAnswer(request, FormatAnswer(request, running));
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(answer->state, State::kRunning);
    EXPECT_EQ(answer->pid, 4711);
  }
  ServerProcess ended{State::kEnded, 0, 137, "ended\nby a signal"};
  auto answer = ParseAnswer(status, FormatAnswer(status, ended));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->state, State::kEnded);
  EXPECT_EQ(answer->code, 137);
  EXPECT_EQ(answer->how, "ended by a signal");
  answer = ParseAnswer(status, FormatAnswer(status, ServerProcess()));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->state, State::kUnknown);
}

TEST(SupervisorProtocol, ErrorsKeepTheirCodeAndSentence) {
  const SupervisorRequest request = Request(Verb::kStart);
  for (const absl::Status& error :
       {absl::AlreadyExistsError("it runs"), absl::NotFoundError("no such"),
        absl::InvalidArgumentError("not here"),
        absl::UnavailableError("stopping"), absl::InternalError("no fork")}) {
    EXPECT_EQ(ParseAnswer(request, FormatAnswer(request, error)).status(),
              error);
  }
  // One that a supervisor does not give.
  EXPECT_EQ(
      ParseAnswer(request, FormatAnswer(request, absl::AbortedError("odd")))
          .status(),
      absl::InternalError("odd"));
}

TEST(SupervisorProtocol, NonsenseIsNoAnswer) {
  for (const char* line : {"", "ok", "ok x", "running 3", "unknown",
                           "ended 3 why", "error INTERNAL", "ok 3 4"}) {
    EXPECT_EQ(ParseAnswer(Request(Verb::kStart), line).status().code(),
              absl::StatusCode::kInternal)
        << line;
  }
  for (const char* line : {"", "ok 3", "running", "running x", "ended",
                           "ended x why", "ended 3"}) {
    EXPECT_EQ(ParseAnswer(Request(Verb::kStatus), line).status().code(),
              absl::StatusCode::kInternal)
        << line;
  }
}

TEST(SupervisorProtocol, TheSocketIsWhereTheEnvironmentSays) {
  ASSERT_EQ(setenv("KV739_RUN_DIR", "/some/where", 1), 0);
  EXPECT_EQ(SupervisorSocketPath(0xab), "/some/where/00000000000000ab.sock");
  ASSERT_EQ(unsetenv("KV739_RUN_DIR"), 0);
  EXPECT_TRUE(absl::EndsWith(
      SupervisorDirectory(),
      absl::StrCat("kv739", absl::StartsWith(SupervisorDirectory(), "/tmp/")
                                ? absl::StrCat("-", geteuid())
                                : "")))
      << SupervisorDirectory();
}

// One who answers one line with these bytes.
class Supervisor {
 public:
  explicit Supervisor(std::string answer, bool hang_up = true)
      : path_(dir_.path() + "/s"), hang_up_(hang_up) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(bind(listener_, reinterpret_cast<const sockaddr*>(&address),
                   sizeof(address)),
              0);
    EXPECT_EQ(listen(listener_, 1), 0);
    thread_ = std::thread([this, answer] {
      connection_ = accept(listener_, nullptr, nullptr);
      char c = 0;
      while (recv(connection_, &c, 1, 0) == 1 && c != '\n') asked_ += c;
      send(connection_, answer.data(), answer.size(), MSG_NOSIGNAL);
      if (hang_up_) shutdown(connection_, SHUT_RDWR);
    });
  }
  ~Supervisor() {
    if (thread_.joinable()) thread_.join();
    close(connection_);
    close(listener_);
  }
  const std::string& path() const { return path_; }
  std::string asked() {
    thread_.join();
    return asked_;
  }

 private:
  TempDir dir_;
  std::string path_;
  const bool hang_up_;
  int listener_ = -1;
  int connection_ = -1;
  std::string asked_;
  std::thread thread_;
};

TEST(AskSupervisor, AsksInOneLineAndReadsOne) {
  Supervisor supervisor("running 42\nand more");
  const auto answer =
      AskSupervisorAt(supervisor.path(), Request(Verb::kStatus), kPatient);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->pid, 42);
  EXPECT_EQ(supervisor.asked(), "status localhost:50051");
}

TEST(AskSupervisor, AnAnswerWithoutAnEndIsNone) {
  Supervisor supervisor(std::string(3 * kMaxSupervisorLine, 'x'));
  const auto answer =
      AskSupervisorAt(supervisor.path(), Request(Verb::kStatus), kPatient);
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kInternal);
}

TEST(AskSupervisor, OneThatHangsUpIsAnError) {
  Supervisor supervisor("runn");
  const auto answer =
      AskSupervisorAt(supervisor.path(), Request(Verb::kStatus), kPatient);
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kInternal);
}

TEST(AskSupervisor, OneThatSaysNothingIsWaitedForUpToTheTimeout) {
  Supervisor supervisor("", /*hang_up=*/false);
  const auto answer = AskSupervisorAt(supervisor.path(), Request(Verb::kStatus),
                                      std::chrono::milliseconds(20));
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(AskSupervisor, NoneIsThere) {
  TempDir dir;
  EXPECT_EQ(AskSupervisorAt(dir.path() + "/none", Request(Verb::kStatus))
                .status()
                .code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(AskSupervisorAt("/" + std::string(200, 'x'), Request(Verb::kStatus))
                .status()
                .code(),
            absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace kv739::kv
