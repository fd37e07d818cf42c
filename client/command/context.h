// What a verb works with: streams, options, and connections that are opened
// when they are first needed and kept for the next verb of the shell.
#ifndef KV739_CLIENT_COMMAND_CONTEXT_H_
#define KV739_CLIENT_COMMAND_CONTEXT_H_

#include <istream>
#include <memory>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/command/cluster_client.h"
#include "client/command/exit_code.h"
#include "client/command/options.h"
#include "client/lib739kv.h"

namespace kv739::command {

// Data goes to `out`, everything else to `err`. Streams outlive the context.
struct Io {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  bool in_terminal = false;
  bool out_terminal = false;
  GetEnv env;
  bool err_terminal = false;
};

class Context {
 public:
  Context(Options chosen, Io streams);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  Options options;
  const Io io;
  bool in_shell = false;  // "-" is a value there, not standard input

  bool UseColor() const;
  // The option --timeout, else `otherwise`.
  absl::Duration Timeout(absl::Duration otherwise) const;

  // The errors of both are about the cluster file. Owned by the context.
  absl::StatusOr<kv739_client*> Data();
  absl::StatusOr<ClusterClient*> Cluster();

  // "kv739: what" on err; returns `code`.
  int Fail(ExitCode code, const std::string& what) const;
  // One line of JSON on out.
  void Print(const nlohmann::ordered_json& json) const;

 private:
  std::string config_;  // found once
  absl::Status FindConfigOnce();
  kv739_client* data_ = nullptr;
  std::unique_ptr<ClusterClient> cluster_;
};

}  // namespace kv739::command

#endif  // KV739_CLIENT_COMMAND_CONTEXT_H_
