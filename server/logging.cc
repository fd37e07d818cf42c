#include "server/logging.h"

#include <grpc/support/log.h>
#include <spdlog/formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <xxhash.h>

#include <array>
#include <chrono>
#include <ctime>
#include <memory>
#include <utility>

#include "absl/strings/ascii.h"

namespace kv739::server {
namespace {

constexpr std::array<absl::string_view, 5> kLevelNames = {
    "trace", "debug", "info", "warn", "error"};

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kTrace:
      return spdlog::level::trace;
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

absl::string_view LevelName(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::trace:
      return "trace";
    case spdlog::level::debug:
      return "debug";
    case spdlog::level::info:
      return "info";
    case spdlog::level::warn:
      return "warn";
    default:
      return "error";
  }
}

// "2026-01-31T12:00:00.123Z"
std::string FormatTime(spdlog::log_clock::time_point time) {
  const int64_t millis = std::chrono::duration_cast<std::chrono::milliseconds>(
                             time.time_since_epoch())
                             .count();
  const std::time_t seconds = millis / 1000;
  std::tm parts;
  ::gmtime_r(&seconds, &parts);
  char text[40];
  const size_t n =
      std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
  return absl::StrCat(absl::string_view(text, n), ".",
                      absl::Dec(millis % 1000, absl::kZeroPad3), "Z");
}

// With \n, \xNN and so on for control characters; `json` also \" and the
// \u00NN that JSON wants. Bytes from 0x80 on are kept: UTF-8.
std::string Escape(absl::string_view text, bool json) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      out += "\\n";
    } else if (json && (c == '"' || c == '\\')) {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      absl::StrAppend(&out, json ? "\\u00" : "\\x",
                      absl::Hex(byte, absl::kZeroPad2));
    } else {
      out += c;
    }
  }
  return out;
}

// Length of the UTF-8 character that `text` begins with; 0 when it is none
// (Unicode standard, table 3-7: no overlong forms, no surrogates).
size_t Utf8Length(absl::string_view text) {
  const auto at = [&](size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
  };
  const int first = at(0);
  const size_t length = first < 0x80                     ? 1
                        : first >= 0xc2 && first <= 0xdf ? 2
                        : first >= 0xe0 && first <= 0xef ? 3
                        : first >= 0xf0 && first <= 0xf4 ? 4
                                                         : 0;
  for (size_t i = 1; i < length; ++i) {
    if (at(i) >> 6 != 0x2) return 0;
  }
  const int second = at(1);
  if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
      (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f)) {
    return 0;
  }
  return length;
}

// JSON may hold nothing else: bytes that are no UTF-8 become "?".
std::string ToUtf8(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t length = Utf8Length(text);
    if (length == 0) {
      out += '?';
      text.remove_prefix(1);
    } else {
      out.append(text.data(), length);
      text.remove_prefix(length);
    }
  }
  return out;
}

class LineFormatter : public spdlog::formatter {
 public:
  LineFormatter(bool json, std::string node)
      : json_(json), node_(std::move(node)) {}

  void format(const spdlog::details::log_msg& msg,
              spdlog::memory_buf_t& out) override {
    const absl::string_view text(msg.payload.data(), msg.payload.size());
    const std::string line = json_ ? Json(msg, text) : Text(msg, text);
    out.append(line.data(), line.data() + line.size());
  }

  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<LineFormatter>(json_, node_);
  }

 private:
  std::string Text(const spdlog::details::log_msg& msg,
                   absl::string_view text) const {
    const absl::string_view level = LevelName(msg.level);
    return absl::StrCat(FormatTime(msg.time), " ", level,
                        level.size() < 5 ? "  " : " ", node_,
                        node_.empty() ? "" : " ", Escape(text, false), "\n");
  }

  std::string Json(const spdlog::details::log_msg& msg,
                   absl::string_view text) const {
    return absl::StrCat(
        "{\"time\":\"", FormatTime(msg.time), "\",\"level\":\"",
        LevelName(msg.level), "\"",
        node_.empty() ? "" : absl::StrCat(",\"node\":\"", node_, "\""),
        ",\"message\":\"", ToUtf8(Escape(text, true)), "\"}\n");
  }

  const bool json_;
  const std::string node_;
};

// Never destroyed: other threads may log until the very end.
spdlog::logger* MakeLogger() {
  auto* logger = new spdlog::logger(
      "kv739d", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_formatter(std::make_unique<LineFormatter>(false, ""));
  logger->set_level(spdlog::level::info);
  return logger;
}

spdlog::logger* Logger() {
  static spdlog::logger* const logger = MakeLogger();
  return logger;
}

void LogForGrpc(gpr_log_func_args* args) {
  const LogLevel level = args->severity == GPR_LOG_SEVERITY_ERROR
                             ? LogLevel::kWarn  // theirs are seldom fatal
                             : LogLevel::kDebug;
  LogPieces(level, "grpc: ", args->message);
}

}  // namespace

absl::Status StartLogging(const LogOptions& options) {
  size_t level = 0;
  while (level < kLevelNames.size() && kLevelNames[level] != options.level) {
    ++level;
  }
  if (level == kLevelNames.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("unknown log level '", options.level, "'"));
  }
  if (options.format != "text" && options.format != "json") {
    return absl::InvalidArgumentError(
        absl::StrCat("unknown log format '", options.format, "'"));
  }
  const bool json = options.format == "json";
  Logger()->set_formatter(std::make_unique<LineFormatter>(
      json,
      json ? ToUtf8(Escape(options.node, true)) : Escape(options.node, false)));
  Logger()->set_level(ToSpdlog(static_cast<LogLevel>(level)));
  gpr_set_log_function(LogForGrpc);
  return absl::OkStatus();
}

bool LogEnabled(LogLevel level) {
  return Logger()->should_log(ToSpdlog(level));
}

void Log(LogLevel level, absl::string_view message) {
  Logger()->log(ToSpdlog(level),
                spdlog::string_view_t(message.data(), message.size()));
}

std::string LoggableKey(absl::string_view key) {
  return absl::StrCat(
      "key of ", key.size(), " bytes #",
      absl::Hex(XXH3_64bits(key.data(), key.size()), absl::kZeroPad16));
}

bool LogLimit::Admit(uint64_t* left_out) {
  const uint64_t now = clock_->MonotonicNanos();
  uint64_t next = next_nanos_.load(std::memory_order_relaxed);
  // The thread that moves the time on writes the line.
  if (now < next ||
      !next_nanos_.compare_exchange_strong(next, now + interval_nanos_,
                                           std::memory_order_relaxed)) {
    left_out_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  *left_out = left_out_.exchange(0, std::memory_order_relaxed);
  return true;
}

}  // namespace kv739::server
