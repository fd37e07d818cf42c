// Results held against the bounds of a target file.
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/command/bench_report.h"
#include "client/command/table.h"
#include "client/command/text.h"

namespace kv739::bench {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kOfLatency[] = {"ops",     "ops_per_second", "min_ms",
                                      "mean_ms", "p50_ms",         "p90_ms",
                                      "p99_ms",  "p999_ms",        "max_ms"};
constexpr const char* kOfRun[] = {"errors", "unknown", "not_found", "late",
                                  "dropped"};

bool IsKnown(absl::string_view name) {
  for (const char* known : kOfRun) {
    if (name == known) return true;
  }
  for (const char* known : kOfLatency) {
    if (name == known) return true;
    for (const char* kind : kKindNames) {
      if (name == absl::StrCat(kind, ".", known)) return true;
    }
  }
  return false;
}

absl::Status ReadLimit(const std::string& name, const Json& bound,
                       const char* which, std::optional<double>* limit) {
  const auto found = bound.find(which);
  if (found == bound.end()) return absl::OkStatus();
  if (!found->is_number()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": ", which, " is no number"));
  }
  *limit = found->get<double>();
  return absl::OkStatus();
}

absl::StatusOr<Bound> ParseBound(const std::string& name, const Json& json) {
  Bound bound;
  bound.name = name;
  if (!IsKnown(name)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "nothing is measured that is called ", command::Escape(name),
        "; the names are in kv739 bench --help"));
  }
  if (!json.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, R"( needs {"min": NUMBER}, {"max": NUMBER} or both)"));
  }
  for (const auto& [key, value] : json.items()) {
    if (key != "min" && key != "max") {
      return absl::InvalidArgumentError(absl::StrCat(
          name, " has ", command::Escape(key), "; there are min and max"));
    }
  }
  absl::Status status = ReadLimit(name, json, "min", &bound.min);
  if (status.ok()) status = ReadLimit(name, json, "max", &bound.max);
  if (!status.ok()) return status;
  if (!bound.min.has_value() && !bound.max.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " has neither min nor max"));
  }
  return bound;
}

// From the report's JSON, so that both mean the same. NaN: not there.
double ValueOf(const std::string& name, const Json& json) {
  const size_t dot = name.find('.');
  const Json* at = &json;
  std::string field = name;
  if (dot != std::string::npos) {
    const auto kind = json["operations"].find(name.substr(0, dot));
    if (kind == json["operations"].end()) return std::nan("");
    at = &*kind;
    field = name.substr(dot + 1);
  }
  const bool needs_some =
      absl::string_view(field).find("_ms") != absl::string_view::npos;
  if (needs_some && (*at)["ops"] == 0) return std::nan("");
  return (*at)[field].get<double>();
}

}  // namespace

absl::StatusOr<std::vector<Bound>> ParseBounds(absl::string_view text) {
  const Json json = Json::parse(text.begin(), text.end(), nullptr,
                                /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return absl::InvalidArgumentError(
        R"(it is no JSON object like {"p99_ms": {"max": 5}})");
  }
  std::vector<Bound> bounds;
  for (const auto& [name, value] : json.items()) {
    absl::StatusOr<Bound> bound = ParseBound(name, value);
    if (!bound.ok()) return bound.status();
    bounds.push_back(*std::move(bound));
  }
  if (bounds.empty()) return absl::InvalidArgumentError("it has no bound");
  return bounds;
}

std::vector<Judged> Judge(const std::vector<Bound>& bounds,
                          const Report& report) {
  const Json json = ToJson(report);
  std::vector<Judged> verdict;
  for (const Bound& bound : bounds) {
    Judged judged{bound, ValueOf(bound.name, json), false, true};
    if (std::isnan(judged.value)) {
      judged.value = 0;
      judged.measured = false;
    } else {
      judged.met = (!bound.min.has_value() || judged.value >= *bound.min) &&
                   (!bound.max.has_value() || judged.value <= *bound.max);
    }
    verdict.push_back(std::move(judged));
  }
  return verdict;
}

std::string FormatVerdict(const std::vector<Judged>& verdict, bool use_color) {
  using command::Color;
  std::string text;
  for (const Judged& judged : verdict) {
    std::string line = judged.bound.name;
    if (judged.bound.min.has_value()) {
      line = absl::StrFormat("%.6g <= %s", *judged.bound.min, line);
    }
    if (judged.bound.max.has_value()) {
      absl::StrAppendFormat(&line, " <= %.6g", *judged.bound.max);
    }
    if (judged.measured) {
      absl::StrAppendFormat(&line, ": %s, it is %.6g",
                            judged.met ? "met" : "NOT MET", judged.value);
    } else {
      absl::StrAppend(&line, ": NOT MET, nothing was measured");
    }
    absl::StrAppend(
        &text,
        command::Paint(line, judged.met ? Color::kGreen : Color::kRed,
                       use_color),
        "\n");
  }
  return text;
}

nlohmann::ordered_json ToJson(const std::vector<Judged>& verdict) {
  Json json = Json::array();
  for (const Judged& judged : verdict) {
    Json one = {{"name", judged.bound.name}, {"met", judged.met}};
    if (judged.measured) one["value"] = judged.value;
    if (judged.bound.min.has_value()) one["min"] = *judged.bound.min;
    if (judged.bound.max.has_value()) one["max"] = *judged.bound.max;
    json.push_back(std::move(one));
  }
  return json;
}

}  // namespace kv739::bench
