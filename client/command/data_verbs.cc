// get, put, del, append, cas, scan: through lib739kv, which finds the leader
// and makes a repeated write happen once.
#include <algorithm>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/command/text.h"
#include "client/command/value_json.h"
#include "client/command/verbs.h"

namespace kv739::command {
namespace {

using Json = nlohmann::ordered_json;

struct FreeResult {
  void operator()(kv739_result* result) const { kv739_result_free(result); }
};

// How an operation ended: `code` as lib739kv returned it.
struct Outcome {
  int code = 0;
  std::unique_ptr<kv739_result, FreeResult> result;

  bool failed() const { return code < 0; }
  bool found() const { return kv739_result_found(result.get()) != 0; }
  std::string version() const {
    return absl::StrCat(kv739_result_version(result.get()));
  }
  absl::string_view value() const {
    size_t length = 0;
    const char* bytes = kv739_result_value(result.get(), &length);
    return absl::string_view(bytes, length);
  }
};

// Runs `call(client, timeout in ms, result)`. An outcome that failed has been
// reported, and `exit` is set.
template <typename Call>
Outcome Run(Context& context, int* exit, Call call) {
  Outcome outcome;
  absl::StatusOr<kv739_client*> client = context.Data();
  if (!client.ok()) {
    outcome.code = KV739_E_CONFIG;
    *exit = context.Fail(kUsage, std::string(client.status().message()));
    return outcome;
  }
  kv739_result* result = nullptr;
  outcome.code = call(*client, context.options.timeout_ms, &result);
  outcome.result.reset(result);
  if (outcome.failed()) {
    std::string what = kv739_last_error();
    if (what.empty()) what = kv739_strerror(outcome.code);
    *exit = context.Fail(ExitOf(outcome.code), what);
  }
  return outcome;
}

// The value argument: "-" is standard input, to its end.
absl::StatusOr<std::string> ReadValue(const Context& context,
                                      const std::string& argument) {
  if (argument != "-" || context.in_shell) return argument;
  // One byte over the limit is enough to be refused for its size.
  std::string value(KV739_MAX_VALUE + 1, '\0');
  context.io.in.read(value.data(), static_cast<std::streamsize>(value.size()));
  if (context.io.in.bad()) return absl::DataLossError("cannot read the input");
  value.resize(context.io.in.gcount());
  return value;
}

// put, append and del: what was there before.
int ReportWrite(const Context& context, const std::string& key,
                const Outcome& outcome, const char* done) {
  const bool existed = outcome.found();
  if (context.options.json) {
    Json json = {{"key", ValueJson(key)}, {"existed", existed}};
    if (existed) json["old_value"] = ValueJson(outcome.value());
    json["version"] = outcome.version();
    context.Print(json);
    return kOk;
  }
  context.io.err << done << ", version " << outcome.version();
  if (existed) {
    context.io.err << ", old value of "
                   << Count(outcome.value().size(), "byte");
    constexpr size_t kShown = 60;
    const absl::string_view old = outcome.value();
    // Cutting in the middle of a character shows its bytes escaped.
    context.io.err << ": " << Escape(old.substr(0, kShown))
                   << (old.size() > kShown ? "..." : "");
  } else {
    context.io.err << ", there was no value";
  }
  context.io.err << std::endl;
  return kOk;
}

// What "kv739 scan" prints of one page.
void PrintPage(const Context& context, const ScanArguments& arguments,
               const kv739_scan_result* page) {
  const size_t count = kv739_scan_result_count(page);
  for (size_t n = 0; n < count; ++n) {
    size_t length = 0;
    const char* bytes = kv739_scan_result_key(page, n, &length);
    const absl::string_view key(bytes, length);
    bytes = kv739_scan_result_value(page, n, &length);
    const absl::string_view value(bytes, length);
    if (context.options.json) {
      Json json = {{"key", ValueJson(key)}};
      if (!arguments.keys_only) json["value"] = ValueJson(value);
      json["version"] = absl::StrCat(kv739_scan_result_version(page, n));
      context.Print(json);
    } else if (arguments.nul) {
      context.io.out << key << '\0';
      if (!arguments.keys_only) context.io.out << value << '\0';
    } else {
      context.io.out << Escape(key);
      if (!arguments.keys_only) context.io.out << '\t' << Escape(value);
      context.io.out << '\n';
    }
  }
  context.io.out.flush();
}

}  // namespace

ExitCode ExitOf(int code) {
  if (kv739_maybe_applied(code) != 0) return kUnknown;
  switch (code) {
    case KV739_E_INVALID:
    case KV739_E_CONFIG:
      return kUsage;
    case KV739_E_DENIED:
    case KV739_E_REFUSED:
      return kNo;
    default:
      return kUnreachable;
  }
}

int Get(Context& context, const GetArguments& arguments) {
  int exit = kOk;
  const std::string& key = arguments.key;
  const Outcome outcome =
      Run(context, &exit, [&](auto* client, int ms, auto* r) {
        return kv739_client_get(client, key.data(), key.size(), ms, r);
      });
  if (outcome.failed()) return exit;
  const bool found = outcome.code == 0;
  if (context.options.json) {
    Json json = {{"key", ValueJson(key)}, {"found", found}};
    if (found) {
      json["value"] = ValueJson(outcome.value());
      json["version"] = outcome.version();
    }
    context.Print(json);
    return found ? kOk : kNo;
  }
  if (!found) return context.Fail(kNo, "no such key: " + Escape(key));
  context.io.out << outcome.value();
  if (!arguments.raw) context.io.out << '\n';
  context.io.out.flush();
  if (arguments.verbose) {
    context.io.err << "version " << outcome.version() << std::endl;
  }
  return kOk;
}

int Put(Context& context, const std::string& key, const std::string& value) {
  const absl::StatusOr<std::string> bytes = ReadValue(context, value);
  if (!bytes.ok()) {
    return context.Fail(kUsage, std::string(bytes.status().message()));
  }
  int exit = kOk;
  const Outcome outcome =
      Run(context, &exit, [&](auto* client, int ms, auto* r) {
        return kv739_client_put(client, key.data(), key.size(), bytes->data(),
                                bytes->size(), ms, r);
      });
  return outcome.failed() ? exit : ReportWrite(context, key, outcome, "stored");
}

int Append(Context& context, const std::string& key, const std::string& value) {
  const absl::StatusOr<std::string> bytes = ReadValue(context, value);
  if (!bytes.ok()) {
    return context.Fail(kUsage, std::string(bytes.status().message()));
  }
  int exit = kOk;
  const Outcome outcome =
      Run(context, &exit, [&](auto* client, int ms, auto* r) {
        return kv739_client_append(client, key.data(), key.size(),
                                   bytes->data(), bytes->size(), ms, r);
      });
  return outcome.failed() ? exit
                          : ReportWrite(context, key, outcome, "appended");
}

int Delete(Context& context, const std::string& key) {
  int exit = kOk;
  const Outcome outcome =
      Run(context, &exit, [&](auto* client, int ms, auto* r) {
        return kv739_client_delete(client, key.data(), key.size(), ms, r);
      });
  if (outcome.failed()) return exit;
  if (outcome.code == 1) {
    if (context.options.json) {
      context.Print({{"key", ValueJson(key)}, {"existed", false}});
      return kNo;
    }
    return context.Fail(kNo, "no such key: " + Escape(key));
  }
  return ReportWrite(context, key, outcome, "deleted");
}

int CompareAndSwap(Context& context, const std::string& key, uint64_t expected,
                   const std::string& value) {
  const absl::StatusOr<std::string> bytes = ReadValue(context, value);
  if (!bytes.ok()) {
    return context.Fail(kUsage, std::string(bytes.status().message()));
  }
  int exit = kOk;
  const Outcome outcome =
      Run(context, &exit, [&](auto* client, int ms, auto* r) {
        return kv739_client_cas(client, key.data(), key.size(), expected,
                                bytes->data(), bytes->size(), ms, r);
      });
  if (outcome.failed()) return exit;
  const bool swapped = outcome.code == 0;
  if (context.options.json) {
    Json json = {{"key", ValueJson(key)}, {"swapped", swapped}};
    if (outcome.found()) json["old_value"] = ValueJson(outcome.value());
    json["version"] = outcome.version();
    context.Print(json);
    return swapped ? kOk : kNo;
  }
  if (swapped) return ReportWrite(context, key, outcome, "stored");
  if (!outcome.found()) {
    return context.Fail(kNo, "not stored: no such key: " + Escape(key));
  }
  return context.Fail(
      kNo, absl::StrCat("not stored: the version is ", outcome.version()));
}

int Scan(Context& context, const ScanArguments& arguments) {
  absl::StatusOr<kv739_client*> client = context.Data();
  if (!client.ok()) {
    return context.Fail(kUsage, std::string(client.status().message()));
  }
  const std::string& prefix = arguments.prefix;
  const int flags = arguments.keys_only ? KV739_SCAN_KEYS_ONLY : 0;
  uint64_t left = arguments.limit;
  kv739_scan_cursor cursor = {};
  bool more = true;
  while (more && context.io.out.good()) {
    kv739_scan_result* page = nullptr;
    const int code =
        kv739_client_scan(*client, prefix.data(), prefix.size(), left, flags,
                          &cursor, context.options.timeout_ms, &page);
    if (code != KV739_OK) {
      return context.Fail(ExitOf(code), kv739_last_error());
    }
    PrintPage(context, arguments, page);
    const uint64_t count = kv739_scan_result_count(page);
    more = kv739_scan_result_more(page) != 0;
    kv739_scan_result_free(page);
    if (arguments.limit > 0) {
      left -= std::min(left, count);
      more = more && left > 0;
    }
  }
  return kOk;
}

}  // namespace kv739::command
