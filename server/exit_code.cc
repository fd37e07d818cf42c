#include "server/exit_code.h"

#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace kv739::server {
namespace {

constexpr char kExitPayload[] = "kv739/exit";

}  // namespace

absl::Status WithExit(absl::Status status, ExitCode code) {
  status.SetPayload(kExitPayload, absl::Cord(absl::StrCat(int{code})));
  return status;
}

ExitCode ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return kExitStopped;
  const auto payload = status.GetPayload(kExitPayload);
  int code = 0;
  if (!payload || !absl::SimpleAtoi(std::string(*payload), &code)) {
    return kExitFailure;
  }
  return static_cast<ExitCode>(code);
}

}  // namespace kv739::server
