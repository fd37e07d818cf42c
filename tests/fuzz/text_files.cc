// What people write: the cluster file, the settings, the command line of the
// server, addresses. Promises: an answer or an error with the place, never an
// end of the process; what was understood can be written down and is
// understood as the same.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kv/cluster_file.h"
#include "kv/cluster_map.h"
#include "kv/directory.h"
#include "server/command_line.h"
#include "server/settings.h"
#include "tests/fuzz/fuzz.h"

namespace kv739::fuzz {
namespace {

void ClusterFiles(absl::string_view text) {
  const auto file = kv::ParseClusterFile(text, "cluster.conf");
  if (!file.ok()) {
    KV739_FUZZ_CHECK(!file.status().message().empty(), "an error says nothing");
    return;
  }
  std::string again =
      absl::StrCat("groups_per_five=", file->groups_per_five, "\n");
  for (const kv::ServerLine& line : file->servers) {
    absl::StrAppend(&again, line.address.ToString(),
                    " metrics=", line.metrics_port, " http=", line.http_port,
                    "\n");
  }
  const auto parsed = kv::ParseClusterFile(again, "again");
  KV739_FUZZ_CHECK(parsed.ok(), parsed.status().ToString());
  KV739_FUZZ_CHECK(parsed->servers.size() == file->servers.size(),
                   "servers were lost");
  KV739_FUZZ_CHECK(parsed->groups_per_five == file->groups_per_five,
                   "another number of groups");
  for (size_t i = 0; i < file->servers.size(); ++i) {
    KV739_FUZZ_CHECK(parsed->servers[i].address == file->servers[i].address,
                     "another address");
  }
  if (file->servers.size() > kv::kMaxNodes) return;
  const absl::Status status = kv::CheckClusterMap(kv::InitialClusterMap(*file));
  KV739_FUZZ_CHECK(status.ok(), status.ToString());
}

void Addresses(absl::string_view text) {
  const auto address = kv::Address::Parse(text);
  if (!address.ok()) return;
  const auto again = kv::Address::Parse(address->ToString());
  KV739_FUZZ_CHECK(again.ok() && *again == *address, "another address");
}

void SettingsFiles(absl::string_view text) {
  const auto settings = server::Settings::Parse(text, "kv739d.yaml");
  if (!settings.ok()) return;
  const std::string yaml = settings->ToYaml();
  const auto again = server::Settings::Parse(yaml, "again");
  KV739_FUZZ_CHECK(again.ok(), again.status().ToString());
  KV739_FUZZ_CHECK(again->ToYaml() == yaml, "other settings");
}

void CommandLines(Input* in) {
  std::vector<std::string> arguments = {"kv739d"};
  while (!in->done() && arguments.size() < 16) {
    static constexpr const char* kWords[] = {
        "--cluster",       "-c",          "--listen",
        "--data",          "--join",      "--settings",
        "--help",          "--version",   "--print-settings",
        "--metrics-port",  "--http-port", "--data-root",
        "localhost:50051", "=",           "--"};
    std::string word;
    const uint64_t known = in->Below(std::size(kWords) + 4);
    if (known < std::size(kWords)) word = kWords[known];
    if (known >= std::size(kWords) || in->Below(4) == 0) {
      const absl::string_view more = in->Bytes(40);
      word.append(more.data(), more.size());
    }
    arguments.push_back(word.c_str());  // ends at the first zero, as in argv
  }
  std::vector<const char*> argv;
  for (const std::string& argument : arguments)
    argv.push_back(argument.c_str());
  argv.push_back(nullptr);
  const auto line =
      server::ParseCommandLine(static_cast<int>(argv.size()) - 1, argv.data());
  KV739_FUZZ_CHECK(line.ok() || !line.status().message().empty(),
                   "an error says nothing");
}

}  // namespace

KV739_FUZZ_TARGET(text_files, 1500) {
  Input in(bytes);
  switch (in.Below(4)) {
    case 0:
      return ClusterFiles(in.rest());
    case 1:
      return Addresses(in.rest());
    case 2:
      return SettingsFiles(in.rest());
    default:
      return CommandLines(&in);
  }
}

}  // namespace kv739::fuzz
