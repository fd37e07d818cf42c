// What the server says: one line per event on standard error, with time,
// level and the node's address; or one JSON object a line.
//
//   2026-01-31T12:00:00.123Z info  localhost:50051 group 3: leader in term 7
//   {"time":"2026-01-31T12:00:00.123Z","level":"info","node":"...","message":"..."}
//
// A line is written with one call and holds no control characters, so that
// lines of several processes or hostile input do not mix. Keys and values of
// users are never logged at info or above, and below it only as
// LoggableKey().
//
// Any thread. Before StartLogging(), lines go to standard error as text at
// info.
#ifndef KV739_SERVER_LOGGING_H_
#define KV739_SERVER_LOGGING_H_

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/clock.h"

namespace kv739::server {

enum class LogLevel : uint8_t { kTrace, kDebug, kInfo, kWarn, kError };

struct LogOptions {
  std::string level = "info";   // as Settings::log_level
  std::string format = "text";  // as Settings::log_format
  std::string node;             // host:port; left out when empty
};

// INVALID_ARGUMENT for a word that is not known; nothing is changed then.
// Also takes over what gRPC has to say (its errors and warnings).
absl::Status StartLogging(const LogOptions& options);

bool LogEnabled(LogLevel level);
void Log(LogLevel level, absl::string_view message);

// LogInfo("group ", id, ": ", what): pieces as absl::StrCat takes them, put
// together only when the level is on.
template <typename... Pieces>
void LogPieces(LogLevel level, const Pieces&... pieces) {
  if (LogEnabled(level)) Log(level, absl::StrCat(pieces...));
}
template <typename... Pieces>
void LogDebug(const Pieces&... pieces) {
  LogPieces(LogLevel::kDebug, pieces...);
}
template <typename... Pieces>
void LogInfo(const Pieces&... pieces) {
  LogPieces(LogLevel::kInfo, pieces...);
}
template <typename... Pieces>
void LogWarn(const Pieces&... pieces) {
  LogPieces(LogLevel::kWarn, pieces...);
}
template <typename... Pieces>
void LogError(const Pieces&... pieces) {
  LogPieces(LogLevel::kError, pieces...);
}

// A key as it may appear in a debug line: its length and hash, not itself.
std::string LoggableKey(absl::string_view key);

// For an event that may come very often: lets one line through per interval
// and counts the others, of which the next line tells. One object per event
// (a static one, or a member). Any thread, no lock.
class LogLimit {
 public:
  explicit LogLimit(uint64_t interval_s, const Clock* clock = Clock::Real())
      : interval_nanos_(interval_s * 1'000'000'000), clock_(clock) {}

  template <typename... Pieces>
  void Log(LogLevel level, const Pieces&... pieces) {
    uint64_t left_out = 0;
    if (!LogEnabled(level) || !Admit(&left_out)) return;
    if (left_out == 0) {
      server::Log(level, absl::StrCat(pieces...));
    } else {
      server::Log(
          level, absl::StrCat(pieces..., " (and ", left_out, " more like it)"));
    }
  }

  // True when a line may be written now; how many were not since the last.
  bool Admit(uint64_t* left_out);

 private:
  const uint64_t interval_nanos_;
  const Clock* const clock_;
  std::atomic<uint64_t> next_nanos_{0};
  std::atomic<uint64_t> left_out_{0};
};

}  // namespace kv739::server

#endif  // KV739_SERVER_LOGGING_H_
