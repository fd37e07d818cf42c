#include "server/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kv739/version.h"
#include "server/edit_distance.h"

namespace kv739::server {
namespace {

struct Flags {
  std::string cluster;
  std::string supervised;
  std::string listen;
  std::string data;
  std::string data_root;
  std::string settings;
  bool join = false;
  uint16_t metrics_port = 0;
  uint16_t http_port = 0;
  bool print_settings = false;
  bool version = false;
  bool help = false;
};

std::unique_ptr<CLI::App> MakeApp(Flags* flags) {
  auto app = std::make_unique<CLI::App>(
      absl::StrCat(
          "Runs one server of a cluster, or with -c all of its servers "
          "that are on this host.\n\n",
          UsageText()),
      "kv739d");
  app->set_help_flag("");  // so that --help is a flag like the others
  app->allow_extras();     // to name the nearest flag
  app->add_option("--cluster", flags->cluster,
                  "The cluster file: one host:port a line.")
      ->option_text("FILE");
  app->add_option("--listen", flags->listen,
                  "Which server of the cluster to be.")
      ->option_text("HOST:PORT");
  app->add_option("--data", flags->data,
                  "The server's data directory; made when it is not there.")
      ->option_text("DIR");
  app->add_option("--settings", flags->settings,
                  "Settings; see --print-settings.")
      ->option_text("FILE.yaml");
  app->add_flag("--join", flags->join,
                "Become a new server of a running cluster, on an empty data "
                "directory. The cluster file need not have its address, only "
                "some that are still good.");
  app->add_option("--metrics-port", flags->metrics_port,
                  "With --join, for an address that the file does not have. "
                  "Default: the next one of this host from 9090 on")
      ->check(CLI::Range(1, 65535))
      ->option_text("PORT");
  app->add_option("--http-port", flags->http_port,
                  "The same for HTTP, from 8080 on.")
      ->check(CLI::Range(1, 65535))
      ->option_text("PORT");
  app->add_option("-c", flags->supervised,
                  "Run all servers of this cluster file that are on this "
                  "host. Ctrl-C stops them, again kills them.")
      ->option_text("FILE");
  app->add_option("--data-root", flags->data_root,
                  "With -c: where the data directories are, one HOST-PORT for "
                  "each server. Default: data")
      ->option_text("DIR");
  app->add_flag("--print-settings", flags->print_settings,
                "Print the settings in force, with their descriptions.");
  app->add_flag("--version", flags->version, "Print version and revision.");
  app->add_flag("-h,--help", flags->help, "Print this.");
  app->footer(
      "Exit codes: 0 stopped in order, 2 bad arguments or configuration,\n"
      "3 data directory in use or damaged, 1 anything else.");
  return app;
}

absl::Status Bad(absl::string_view what) {
  return absl::InvalidArgumentError(what);
}

// The first argument that no flag took.
absl::Status Refuse(const CLI::App& app, const std::string& extra) {
  if (!absl::StartsWith(extra, "-") || extra == "-" || extra == "--") {
    return Bad(absl::StrCat("unexpected argument '", extra, "'"));
  }
  const std::string flag = extra.substr(0, extra.find('='));
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      known.push_back(absl::StrCat("--", name));
    }
    for (const std::string& name : option->get_snames()) {
      known.push_back(absl::StrCat("-", name));
    }
  }
  const std::string nearest = NearestName(flag, known);
  return Bad(absl::StrCat(
      "unknown flag '", flag, "'",
      nearest.empty() ? "" : absl::StrCat("; did you mean '", nearest, "'?")));
}

absl::StatusOr<CommandLine> Interpret(const CLI::App& app, const Flags& flags) {
  CommandLine line;
  line.cluster = flags.cluster;
  line.listen = flags.listen;
  line.data = flags.data;
  line.settings = flags.settings;
  line.join = flags.join;
  line.metrics_port = flags.metrics_port;
  line.http_port = flags.http_port;
  for (const CLI::Option* option : app.get_options()) {
    if (option->count() > 0 && option->get_items_expected_max() > 0 &&
        option->results().front().empty()) {
      return Bad(absl::StrCat(option->get_name(), " has an empty value"));
    }
  }
  if (flags.help) {
    line.action = CommandLine::Action::kPrintHelp;
    return line;
  }
  if (flags.version) {
    line.action = CommandLine::Action::kPrintVersion;
    return line;
  }
  if (flags.print_settings) {
    line.action = CommandLine::Action::kPrintSettings;
    return line;
  }
  if ((flags.metrics_port != 0 || flags.http_port != 0) && !flags.join) {
    return Bad("--metrics-port and --http-port go with --join");
  }
  if (!flags.supervised.empty()) {
    if (flags.join) return Bad("--join is for a single server, not for -c");
    for (const auto& [name, value] :
         {std::pair<const char*, const std::string&>{"--cluster",
                                                     flags.cluster},
          {"--listen", flags.listen},
          {"--data", flags.data}}) {
      if (!value.empty()) {
        return Bad(absl::StrCat("-c runs all servers of this host; ", name,
                                " is for a single one"));
      }
    }
    line.action = CommandLine::Action::kRunSupervisor;
    line.cluster = flags.supervised;
    if (!flags.data_root.empty()) line.data_root = flags.data_root;
    return line;
  }
  if (!flags.data_root.empty()) {
    return Bad("--data-root goes with -c; one server takes --data");
  }
  for (const auto& [name, value] :
       {std::pair<const char*, const std::string&>{"--cluster", flags.cluster},
        {"--listen", flags.listen},
        {"--data", flags.data}}) {
    if (value.empty()) {
      return Bad(absl::StrCat(name,
                              " is missing: one server takes --cluster, "
                              "--listen and --data; -c FILE runs all of this "
                              "host"));
    }
  }
  line.action = CommandLine::Action::kRunNode;
  return line;
}

}  // namespace

absl::StatusOr<CommandLine> ParseCommandLine(int argc,
                                             const char* const* argv) {
  Flags flags;
  const std::unique_ptr<CLI::App> app = MakeApp(&flags);
  // CLI11 speaks in exceptions; they end here.
  try {
    app->parse(argc, argv);
    const std::vector<std::string> extras = app->remaining();
    if (!extras.empty()) {
      // A mistyped flag leaves its value behind as well: name the flag.
      const auto flag = std::find_if(
          extras.begin(), extras.end(),
          [](const std::string& e) { return e.size() > 1 && e[0] == '-'; });
      return Refuse(*app, flag == extras.end() ? extras.front() : *flag);
    }
    return Interpret(*app, flags);
  } catch (const CLI::Error& e) {
    return Bad(e.what());
  }
}

std::string UsageText() {
  return "usage: kv739d --cluster FILE --listen HOST:PORT --data DIR "
         "[--join] [--settings FILE.yaml]\n"
         "       kv739d -c FILE [--data-root DIR] [--settings FILE.yaml]\n"
         "       kv739d --print-settings | --version | --help\n";
}

std::string HelpText() {
  Flags flags;
  return MakeApp(&flags)->help();
}

std::string VersionText() {
  return absl::StrCat("kv739d ", kVersion, " (", kGitRevision, ")");
}

}  // namespace kv739::server
