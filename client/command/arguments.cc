#include "client/command/arguments.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/command/text.h"
#include "client/command/verbs.h"
#include "kv739/version.h"

namespace kv739::command {
namespace {

constexpr int kMaxTimeoutMs = 24 * 60 * 60 * 1000;

// Where the parser puts what it reads; verbs copy from here.
struct Words {
  std::string key;
  std::string value;
  std::string address;
  std::vector<std::string> addresses;
  std::string output = "text";
  uint64_t number = 0;  // a version or a group
  bool flag = false;
  GetArguments get;
  ScanArguments scan;
  PingArguments ping;
  bench::BenchArguments bench;
};

using Action = std::function<int(Context&)>;

// The parser would take -1 for a very large number.
CLI::Validator WholeNumber() {
  return CLI::Validator(
      [](const std::string& word) {
        uint64_t number = 0;
        return absl::SimpleAtoi(word, &number) && word.front() != '-'
                   ? std::string()
                   : "not a whole number: " + Escape(word);
      },
      "UINT");
}

// Adds a verb whose parsing sets *chosen.
CLI::App* AddVerb(CLI::App* app, const char* name, const char* what,
                  Action* chosen, Action action) {
  CLI::App* verb = app->add_subcommand(name, what);
  verb->callback([chosen, action = std::move(action)] { *chosen = action; });
  return verb;
}

constexpr char kScanHelp[] =
    "In the order of the store: by slot (a hash of the key), then by key; not\n"
    "sorted over all. One line for each: key, tab, value, with bytes that are "
    "no\n"
    "text as \\xNN. It is no snapshot: a key that comes or goes meanwhile may "
    "be\n"
    "printed or not, all others are, once.";

// The words outlive the parser: verbs run after it is gone.
void AddDataVerbs(CLI::App* app, const std::shared_ptr<Words>& w,
                  Action* chosen) {
  const char* value_help = "its value; - reads standard input";
  CLI::App* get =
      AddVerb(app, "get", "Print the value of a key", chosen, [w](Context& c) {
        w->get.key = w->key;
        w->get.raw = w->output == "raw";
        return Get(c, w->get);
      });
  get->add_option("KEY", w->key, "the key")->required();
  get->add_option("-o,--output", w->output, "raw: no newline after the value")
      ->check(CLI::IsMember({"text", "raw"}));
  get->add_flag("-v,--verbose", w->get.verbose, "the version on stderr");

  CLI::App* put =
      AddVerb(app, "put", "Store a value; says what was there", chosen,
              [w](Context& c) { return Put(c, w->key, w->value); });
  put->add_option("KEY", w->key, "the key")->required();
  put->add_option("VALUE", w->value, value_help)->required();

  CLI::App* scan =
      AddVerb(app, "scan", "Print the keys with a prefix and their values",
              chosen, [w](Context& c) { return Scan(c, w->scan); });
  scan->add_option("PREFIX", w->scan.prefix, "of the keys; without: all");
  scan->add_flag("-k,--keys-only", w->scan.keys_only, "without the values");
  scan->add_option("--limit", w->scan.limit, "so many keys at most; 0: all")
      ->check(WholeNumber());
  scan->add_flag("-0,--null", w->scan.nul,
                 "bytes as they are, a NUL after each key and value");
  scan->footer(kScanHelp);

  CLI::App* del =
      AddVerb(app, "del", "Delete a key; 1 when there is none", chosen,
              [w](Context& c) { return Delete(c, w->key); });
  del->add_option("KEY", w->key, "the key")->required();

  CLI::App* append =
      AddVerb(app, "append", "Append to a value, making it when there is none",
              chosen, [w](Context& c) { return Append(c, w->key, w->value); });
  append->add_option("KEY", w->key, "the key")->required();
  append
      ->add_option("VALUE", w->value, "what to append; - reads standard input")
      ->required();

  CLI::App* cas = AddVerb(
      app, "cas", "Store a value if the key's version is the expected one",
      chosen, [w](Context& c) {
        return CompareAndSwap(c, w->key, w->number, w->value);
      });
  cas->add_option("KEY", w->key, "the key")->required();
  cas->add_option("EXPECTED_VERSION", w->number,
                  "as `get -v` says; 0: only if there is no such key")
      ->required()
      ->check(WholeNumber());
  cas->add_option("VALUE", w->value, value_help)->required();
}

constexpr char kStartHelp[] =
    "Its host's supervisor (kv739d -c) starts it; where there is none, the\n"
    "error says what to run. Returns when it has caught up (--timeout, 120 s).";
constexpr char kLeaveHelp[] =
    "Spares take its places; it then stops by itself. Refused when a group\n"
    "would be left with fewer than three voters or without a live majority.";

// A verb below another, for one server. What was meant by the name, the
// library says: it has the newest map.
CLI::App* AddAddressVerb(CLI::App* app, const char* name, const char* what,
                         const std::shared_ptr<Words>& w, Action* chosen,
                         Action action) {
  CLI::App* verb = AddVerb(app, name, what, chosen, std::move(action));
  verb->add_option("ADDRESS", w->address, "host:port")->required();
  return verb;
}

void AddLeaveVerb(CLI::App* app, const char* name,
                  const std::shared_ptr<Words>& w, Action* chosen) {
  CLI::App* leave = AddAddressVerb(
      app, name, "Take a server out of its groups for good", w, chosen,
      [w](Context& c) { return ServerLeave(c, w->address, !w->flag); });
  leave->add_flag(
      "--no-wait-stop", w->flag,
      "return when it is out, without waiting until it has stopped");
  leave->footer(kLeaveHelp);
}

void AddServerVerbs(CLI::App* app, const std::shared_ptr<Words>& w,
                    Action* chosen) {
  CLI::App* server =
      app->add_subcommand("server", "List, start, stop or remove servers");
  server->require_subcommand(1);
  AddVerb(server, "list", "All servers, how they are, where their metrics are",
          chosen, [](Context& c) { return ServerList(c); });
  CLI::App* start = AddAddressVerb(
      server, "start", "Start a server and wait until it has caught up", w,
      chosen, [w](Context& c) { return ServerStart(c, w->address, w->flag); });
  start->add_flag("--new", w->flag,
                  "on an empty data directory, to join the cluster");
  start->footer(kStartHelp);
  CLI::App* die = AddAddressVerb(
      server, "die", "Stop a server: leaderships first, then it exits", w,
      chosen, [w](Context& c) { return ServerDie(c, w->address, w->flag); });
  die->add_flag("--now", w->flag, "exit at once, as in a crash");
  AddAddressVerb(server, "stop", "The same as die", w, chosen,
                 [w](Context& c) { return ServerDie(c, w->address, false); });
  AddAddressVerb(server, "kill", "The same as die --now", w, chosen,
                 [w](Context& c) { return ServerDie(c, w->address, true); });
  AddLeaveVerb(server, "leave", w, chosen);
}

void AddMemberVerbs(CLI::App* app, const std::shared_ptr<Words>& w,
                    Action* chosen) {
  CLI::App* member =
      app->add_subcommand("member", "Who is in the cluster and its groups");
  member->require_subcommand(1);
  AddVerb(member, "list", "The servers of the map and their groups", chosen,
          [](Context& c) { return MemberList(c); });
  AddAddressVerb(member, "add",
                 "Start a new server that joins: server start --new", w, chosen,
                 [w](Context& c) { return ServerStart(c, w->address, true); })
      ->footer(kStartHelp);
  AddLeaveVerb(member, "remove", w, chosen);
  CLI::App* set =
      AddVerb(member, "set", "Give a group these voters and no others", chosen,
              [w](Context& c) {
                return MemberSet(c, w->number, w->addresses, !w->flag);
              });
  set->add_option("GROUP", w->number, "the group")
      ->required()
      ->check(WholeNumber());
  set->add_option("SERVER", w->addresses, "host:port, at least three")
      ->required();
  set->add_flag("--no-wait", w->flag,
                "return when it is recorded, before it is done");
}

void AddClusterVerbs(CLI::App* app, const std::shared_ptr<Words>& w,
                     Action* chosen) {
  CLI::App* status =
      AddVerb(app, "status", "How the cluster is; 4 when degraded", chosen,
              [w](Context& c) { return Status(c, w->flag); });
  status->add_flag("--wait", w->flag,
                   "wait until every group has a leader (--timeout, 30 s)");

  CLI::App* ring =
      AddVerb(app, "ring", "Which group has a key, or how many slots each has",
              chosen, [w](Context& c) {
                return Ring(c, w->flag ? std::optional(w->key) : std::nullopt);
              });
  ring->add_option_function<std::string>(
      "KEY",
      [w](const std::string& key) {
        w->key = key;
        w->flag = true;
      },
      "the key");

  CLI::App* leader = app->add_subcommand("leader", "Move leaderships");
  leader->require_subcommand(1);
  CLI::App* move =
      AddVerb(leader, "move", "Hand the leadership of a group over", chosen,
              [w](Context& c) { return LeaderMove(c, w->number, w->address); });
  move->add_option("GROUP", w->number, "the group")
      ->required()
      ->check(WholeNumber());
  move->add_option("TARGET", w->address,
                   "host:port; without: who has caught up most");

  AddServerVerbs(app, w, chosen);
  AddMemberVerbs(app, w, chosen);

  CLI::App* check = AddVerb(
      app, "check", "Compare the replicas of the groups; 4 when one differs",
      chosen, [w](Context& c) {
        return Check(c, w->flag ? std::optional(w->number) : std::nullopt);
      });
  check
      ->add_option_function<uint64_t>(
          "GROUP",
          [w](const uint64_t& group) {
            w->number = group;
            w->flag = true;
          },
          "the group; without: all")
      ->check(WholeNumber());

  CLI::App* ping =
      AddVerb(app, "ping", "Time small requests; 1 when one gets no answer",
              chosen, [w](Context& c) {
                w->ping.continuous = w->output == "continuous";
                return Ping(c, w->ping);
              });
  ping->add_option("ADDRESS,--addr", w->ping.address,
                   "host:port; without: every server in turn");
  // `output` doubles as the mode: a run has one verb.
  ping->add_option("--mode", w->output, "single, or continuous until Ctrl-C")
      ->check(CLI::IsMember({"single", "continuous"}))
      ->default_str("single");
  ping->add_option("--requests", w->ping.requests,
                   "how many; 0: one to each server, or no end")
      ->check(CLI::NonNegativeNumber);
  ping->add_option("--delay", w->ping.delay, "between rounds, like 100ms")
      ->default_str("1s");

  bench::AddBenchOptions(
      AddVerb(app, "bench", "Load the cluster, or an etcd, and time it", chosen,
              [w](Context& c) { return Bench(c, w->bench); }),
      &w->bench);
}

std::vector<std::string> VerbsOf(const CLI::App& app) {
  std::vector<std::string> verbs;
  for (const CLI::App* verb : app.get_subcommands({})) {
    verbs.push_back(verb->get_name());
  }
  std::sort(verbs.begin(), verbs.end());
  return verbs;
}

std::unique_ptr<CLI::App> BuildParser(bool in_shell, Options* options,
                                      Action* chosen) {
  auto app = std::make_unique<CLI::App>(
      "kv739: read, write and look after a kv739 cluster", "kv739");
  const auto words = std::make_shared<Words>();
  // Subcommands take this over: `kv739 status --json` is `kv739 --json status`.
  app->fallthrough();
  AddDataVerbs(app.get(), words, chosen);
  AddClusterVerbs(app.get(), words, chosen);
  app->add_flag("--json", options->json, "results as one line of JSON each");
  app->add_option("--timeout", options->timeout_ms,
                  "milliseconds to wait for an answer (5000)")
      ->check(CLI::Range(1, kMaxTimeoutMs));
  if (!in_shell) {
    AddVerb(app.get(), "shell", "Read commands from the terminal or a file",
            chosen, [](Context& c) { return Shell(c); });
    app->add_option("-c,--config", options->config,
                    "cluster file; else $KV739_CONFIG, ./config,\n"
                    "~/.config/kv739/config, /etc/kv739/config");
    app->add_option("--color", options->color, "auto, always, never")
        ->check(CLI::IsMember({"auto", "always", "never"}));
    app->set_version_flag("--version", [] {
      return absl::StrCat("kv739 ", kVersion, " (", kGitRevision, ")");
    });
  }
  app->footer(absl::StrCat(
      kExitCodeHelp, "\nA key or value that begins with - goes after --."));
  app->require_subcommand(0, 1);
  // Last, so that verbs do not take it over: what nobody wants is looked at
  // in CheckRest, which can say what was meant.
  app->allow_extras();
  return app;
}

// What the parser had no use for; "" when nothing.
std::string CheckRest(const CLI::App& app) {
  const std::vector<std::string> rest = app.remaining();
  if (rest.empty()) return "";
  const std::string shown = Escape(rest.front());
  if (absl::StartsWith(shown, "-") && shown != "--") {
    return absl::StrCat("unknown option ", shown,
                        "; a value that begins with - goes after --");
  }
  // Verbs that could stand here: of the whole, or below `leader` or `server`.
  const CLI::App* at = &app;
  if (!app.get_subcommands().empty()) at = app.get_subcommands().front();
  const bool complete = at != &app && (at->get_subcommands({}).empty() ||
                                       !at->get_subcommands().empty());
  if (complete) return absl::StrCat("one argument too many: ", shown);
  const std::string near = Nearest(rest.front(), VerbsOf(*at));
  return absl::StrCat("no such verb: ", at == &app ? "" : at->get_name() + " ",
                      shown,
                      near.empty() ? "" : "; did you mean " + near + "?");
}

// For `leader` or `server` alone; "" otherwise.
std::string MissingVerb(const CLI::App& app) {
  for (const CLI::App* verb : app.get_subcommands()) {
    const std::vector<std::string> below = VerbsOf(*verb);
    if (!below.empty() && verb->get_subcommands().empty()) {
      return absl::StrCat(verb->get_name(),
                          " needs a verb: ", absl::StrJoin(below, ", "));
    }
  }
  return "";
}

}  // namespace

std::vector<std::string> Verbs(bool in_shell) {
  Options options;
  Action chosen;
  return VerbsOf(*BuildParser(in_shell, &options, &chosen));
}

bool Parse(std::vector<std::string> words, const Options& options,
           bool in_shell, const Io& io, Parsed* parsed, int* exit) {
  parsed->options = options;
  parsed->verb = nullptr;
  const std::unique_ptr<CLI::App> app =
      BuildParser(in_shell, &parsed->options, &parsed->verb);
  std::string wrong;
  try {
    std::reverse(words.begin(), words.end());  // as the parser wants them
    app->parse(std::move(words));
    wrong = CheckRest(*app);
  } catch (const CLI::Success& asked) {  // --help, --version
    app->exit(asked, io.out, io.err);
    *exit = kOk;
    return false;
  } catch (const CLI::ParseError& error) {
    // A word that nobody takes explains the error better than its effect.
    wrong = CheckRest(*app);
    if (wrong.empty()) wrong = MissingVerb(*app);
    if (wrong.empty()) wrong = error.what();
  }
  if (wrong.empty()) return true;
  io.err << "kv739: " << wrong
         << (in_shell ? "\nTry: help\n" : "\nTry: kv739 --help\n")
         << std::flush;
  *exit = kUsage;
  return false;
}

int Run(std::vector<std::string> words, const Io& io) {
  if (!words.empty() && words.front() == "help") {
    words.erase(words.begin());
    words.push_back("--help");
  }
  Parsed parsed;
  int exit = kOk;
  if (!Parse(std::move(words), Options(), false, io, &parsed, &exit))
    return exit;
  Context context(parsed.options, io);
  if (parsed.verb) return parsed.verb(context);
  if (io.in_terminal) return Shell(context);
  io.err << "kv739: no verb\nTry: kv739 --help\n" << std::flush;
  return kUsage;
}

}  // namespace kv739::command
