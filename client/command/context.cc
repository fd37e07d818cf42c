#include "client/command/context.h"

#include <utility>

#include "absl/status/status.h"

namespace kv739::command {

Context::Context(Options chosen, Io streams)
    : options(std::move(chosen)), io(std::move(streams)) {}

Context::~Context() { kv739_close(data_); }

bool Context::UseColor() const {
  return command::UseColor(options.color, io.out_terminal, io.env);
}

absl::Duration Context::Timeout(absl::Duration otherwise) const {
  return options.timeout_ms > 0 ? absl::Milliseconds(options.timeout_ms)
                                : otherwise;
}

absl::Status Context::FindConfigOnce() {
  if (!config_.empty()) return absl::OkStatus();
  absl::StatusOr<std::string> found = FindConfig(options.config, io.env);
  if (!found.ok()) return found.status();
  config_ = *std::move(found);
  return absl::OkStatus();
}

absl::StatusOr<kv739_client*> Context::Data() {
  if (data_ != nullptr) return data_;
  if (absl::Status status = FindConfigOnce(); !status.ok()) return status;
  if (kv739_open(config_.c_str(), nullptr, &data_) != KV739_OK) {
    return absl::InvalidArgumentError(kv739_last_error());
  }
  return data_;
}

absl::StatusOr<ClusterClient*> Context::Cluster() {
  if (cluster_ != nullptr) return cluster_.get();
  if (absl::Status status = FindConfigOnce(); !status.ok()) return status;
  absl::StatusOr<kv::ClusterFile> file = kv::ReadClusterFile(config_);
  if (!file.ok()) return file.status();
  cluster_ = std::make_unique<ClusterClient>(*std::move(file));
  return cluster_.get();
}

int Context::Fail(ExitCode code, const std::string& what) const {
  io.err << "kv739: " << what << std::endl;
  return code;
}

void Context::Print(const nlohmann::ordered_json& json) const {
  using Json = nlohmann::ordered_json;
  io.out << json.dump(-1, ' ', false, Json::error_handler_t::replace)
         << std::endl;
}

}  // namespace kv739::command
