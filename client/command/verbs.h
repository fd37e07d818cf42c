// The verbs. Each runs to its end and returns an exit code; arguments are
// already checked for form.
#ifndef KV739_CLIENT_COMMAND_VERBS_H_
#define KV739_CLIENT_COMMAND_VERBS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client/command/bench_options.h"
#include "client/command/context.h"

namespace kv739::command {

// ---- data_verbs.cc ----

struct GetArguments {
  std::string key;
  bool raw = false;      // no newline behind the value
  bool verbose = false;  // the version on err
};
int Get(Context& context, const GetArguments& arguments);
int Put(Context& context, const std::string& key, const std::string& value);
int Delete(Context& context, const std::string& key);
int Append(Context& context, const std::string& key, const std::string& value);
int CompareAndSwap(Context& context, const std::string& key, uint64_t expected,
                   const std::string& value);
struct ScanArguments {
  std::string prefix;
  bool keys_only = false;
  uint64_t limit = 0;  // 0: all
  bool nul = false;    // bytes as they are, each followed by NUL
};
// Page by page, in the store's order; none is no failure.
int Scan(Context& context, const ScanArguments& arguments);
// Of a lib739kv error code.
ExitCode ExitOf(int code);

// ---- cluster_verbs.cc ----

int Status(Context& context, bool wait);
int ServerList(Context& context);
int ServerDie(Context& context, const std::string& address, bool now);
int LeaderMove(Context& context, uint64_t group, const std::string& target);
// Without a key: slots by group.
int Ring(Context& context, const std::optional<std::string>& key);

// ---- member_verbs.cc ----

int MemberList(Context& context);
// Takes the voters of a group to `servers`, and waits for it or not.
int MemberSet(Context& context, uint64_t group,
              const std::vector<std::string>& servers, bool wait);
int ServerStart(Context& context, const std::string& address, bool is_new);
// `wait`: until its process has ended, not only until it is out.
int ServerLeave(Context& context, const std::string& address, bool wait);

// ---- check.cc ----

// Of all groups, or of one. kDegraded when a replica differs.
int Check(Context& context, std::optional<uint64_t> group);

// ---- ping.cc ----

struct PingArguments {
  std::string address;  // empty: every server of the cluster file in turn
  bool continuous = false;
  int64_t requests = 0;  // 0: one round when single, no end when continuous
  std::string delay = "1s";
};
int Ping(Context& context, const PingArguments& arguments);

// ---- bench.cc ----

// kNo when a bound of the target file is not met, kUnreachable when nothing
// succeeded for long.
int Bench(Context& context, const bench::BenchArguments& arguments);

// ---- shell.cc ----

int Shell(Context& context);

}  // namespace kv739::command

#endif  // KV739_CLIENT_COMMAND_VERBS_H_
