#include "kv/cluster_file.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kv/types.h"

namespace kv739::kv {
namespace {

constexpr uint16_t kFirstMetricsPort = 9090;
constexpr uint16_t kFirstHttpPort = 8080;
constexpr size_t kMaxHostBytes = 253;  // RFC 1035, without the last dot
constexpr size_t kMaxLabelBytes = 63;
constexpr size_t kMaxShownBytes = 64;  // of bad input, in an error

std::string Quote(absl::string_view text) {
  const bool cut = text.size() > kMaxShownBytes;
  return absl::StrCat("\"", absl::CHexEscape(text.substr(0, kMaxShownBytes)),
                      cut ? "...\"" : "\"");
}

absl::Status Bad(absl::string_view what) {
  return absl::InvalidArgumentError(what);
}

absl::StatusOr<uint16_t> ParsePort(absl::string_view text) {
  uint32_t port = 0;
  const bool digits =
      !text.empty() && text.size() <= 5 &&
      std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
  if (!digits || !absl::SimpleAtoi(text, &port) || port < 1 || port > 65535) {
    return Bad(absl::StrCat("port ", Quote(text), " is not in 1..65535"));
  }
  return static_cast<uint16_t>(port);
}

// The shortest spelling, so that one address has one name; a zone
// ("fe80::1%eth0") stays as it is.
absl::StatusOr<std::string> ParseIpv6(absl::string_view text) {
  const size_t percent = text.find('%');
  const std::string number(text.substr(0, percent));
  const absl::string_view zone =
      percent == absl::string_view::npos ? "" : text.substr(percent);
  const bool zone_ok =
      zone.empty() ||
      (zone.size() > 1 && zone.size() <= 16 &&
       std::all_of(zone.begin() + 1, zone.end(), [](unsigned char c) {
         return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
       }));
  in6_addr bits;
  char canonical[INET6_ADDRSTRLEN];
  if (!zone_ok || number.find('\0') != std::string::npos ||
      inet_pton(AF_INET6, number.c_str(), &bits) != 1 ||
      inet_ntop(AF_INET6, &bits, canonical, sizeof canonical) == nullptr) {
    return Bad(absl::StrCat("host ", Quote(text), " is not an IPv6 address"));
  }
  return absl::StrCat(canonical, zone);
}

// Lower case, because names of hosts do not differ by case.
absl::StatusOr<std::string> ParseHost(absl::string_view text) {
  const std::string host = absl::AsciiStrToLower(text);
  if (host.empty()) return Bad("host is missing");
  if (host.size() > kMaxHostBytes) {
    return Bad(absl::StrCat("host of ", host.size(), " bytes; the limit is ",
                            kMaxHostBytes));
  }
  bool numeric = true;
  for (absl::string_view label : absl::StrSplit(host, '.')) {
    const bool characters =
        std::all_of(label.begin(), label.end(), [](unsigned char c) {
          return absl::ascii_isalnum(c) || c == '-' || c == '_';
        });
    if (label.empty() || label.size() > kMaxLabelBytes || !characters ||
        label.front() == '-' || label.back() == '-') {
      return Bad(absl::StrCat("host ", Quote(text),
                              " is not a host name or an IPv4 address"));
    }
    numeric =
        numeric && std::all_of(label.begin(), label.end(), absl::ascii_isdigit);
  }
  in_addr bits;
  if (numeric && inet_pton(AF_INET, host.c_str(), &bits) != 1) {
    return Bad(absl::StrCat("host ", Quote(text), " is not an IPv4 address"));
  }
  return host;
}

size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

constexpr absl::string_view kGroupsPerFive = "groups_per_five";
constexpr absl::string_view kAttributes[] = {"http", "metrics"};

absl::string_view NearestAttribute(absl::string_view key) {
  return *std::min_element(std::begin(kAttributes), std::end(kAttributes),
                           [key](absl::string_view a, absl::string_view b) {
                             return EditDistance(key, a) < EditDistance(key, b);
                           });
}

// One pass over the text; line and column are those of the word at hand.
class Parser {
 public:
  explicit Parser(absl::string_view name) : name_(name) {}

  absl::StatusOr<ClusterFile> Parse(absl::string_view text) {
    if (text.size() > kMaxClusterFileBytes) {
      return Bad(absl::StrCat(name_, ": file of ", text.size(),
                              " bytes; the limit is ", kMaxClusterFileBytes));
    }
    absl::ConsumePrefix(&text, "\xef\xbb\xbf");  // byte order mark
    for (absl::string_view line : absl::StrSplit(text, '\n')) {
      ++line_;
      absl::Status status = ParseLine(line);
      if (!status.ok()) return status;
    }
    if (file_.servers.size() < kMinClusterServers) {
      column_ = 1;
      return Error(absl::StrCat(file_.servers.size(), " servers; at least ",
                                kMinClusterServers, " are needed"));
    }
    absl::Status status = GivePorts();
    if (status.ok()) status = CheckGroups();
    if (!status.ok()) return status;
    return std::move(file_);
  }

 private:
  struct Use {
    int line;
    std::string what;
  };

  absl::Status ErrorAt(int line, size_t column, absl::string_view what) const {
    return Bad(absl::StrCat(name_, ":", line, ":", column, ": ", what));
  }
  absl::Status Error(absl::string_view what) const {
    return ErrorAt(line_, column_, what);
  }

  absl::Status ParseLine(absl::string_view line) {
    if (line.size() > kMaxClusterFileLineBytes) {
      column_ = kMaxClusterFileLineBytes + 1;
      return Error(absl::StrCat("line of ", line.size(),
                                " bytes; the limit is ",
                                kMaxClusterFileLineBytes));
    }
    bool first = true;
    for (size_t at = 0; at < line.size();) {
      if (absl::ascii_isspace(line[at])) {
        ++at;
        continue;
      }
      if (line[at] == '#') break;
      size_t end = at;
      while (end < line.size() && !absl::ascii_isspace(line[end])) ++end;
      column_ = at + 1;
      const absl::string_view word = line.substr(at, end - at);
      absl::Status status = ParseWord(word, first);
      if (!status.ok()) return status;
      first = false;
      at = end;
    }
    return absl::OkStatus();
  }

  absl::Status ParseWord(absl::string_view word, bool first) {
    if (first) {
      const size_t at = word.find_first_of("=:");
      of_cluster_ = at != absl::string_view::npos && word[at] == '=';
      return of_cluster_ ? ParseSetting(word) : ParseServer(word);
    }
    if (!of_cluster_) return ParseAttribute(word);
    return Error(absl::StrCat(kGroupsPerFive,
                              " needs a line of its own, found ", Quote(word)));
  }

  // What holds for the whole cluster.
  absl::Status ParseSetting(absl::string_view word) {
    const size_t equals = word.find('=');
    const absl::string_view key = word.substr(0, equals);
    if (key != kGroupsPerFive) {
      return Error(absl::StrCat("expected host:port or ", kGroupsPerFive,
                                "=N, found ", Quote(word)));
    }
    if (groups_line_ != 0) {
      return Error(
          absl::StrCat(kGroupsPerFive, " twice, first in line ", groups_line_));
    }
    groups_line_ = line_;
    column_ += equals + 1;
    groups_column_ = column_;
    const absl::string_view text = word.substr(equals + 1);
    uint32_t count = 0;
    const bool digits =
        !text.empty() && text.size() <= 4 &&
        std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
    if (!digits || !absl::SimpleAtoi(text, &count) || count < 1 ||
        count > kMaxGroupsPerFive) {
      return Error(absl::StrCat(kGroupsPerFive, " ", Quote(text),
                                " is not in 1..", kMaxGroupsPerFive));
    }
    file_.groups_per_five = count;
    return absl::OkStatus();
  }

  // A group without a slot would never hold anything.
  absl::Status CheckGroups() const {
    const size_t fives = std::max<size_t>(1, file_.servers.size() / kFive);
    const size_t groups = fives * file_.groups_per_five;
    if (file_.groups_per_five == 1 || groups <= kSlotCount) {
      return absl::OkStatus();
    }
    return ErrorAt(
        groups_line_, groups_column_,
        absl::StrCat(file_.servers.size(), " servers with ", kGroupsPerFive,
                     "=", file_.groups_per_five, " make ", groups,
                     " groups; the limit is ", kSlotCount));
  }

  absl::Status ParseServer(absl::string_view word) {
    absl::StatusOr<Address> address = Address::Parse(word);
    if (!address.ok()) return Error(address.status().message());
    const std::string name = address->ToString();
    const auto [it, fresh] = lines_.emplace(name, line_);
    if (!fresh) {
      return Error(absl::StrCat("duplicate address ", name, ", first in line ",
                                it->second));
    }
    ServerLine server;
    server.address = *std::move(address);
    server.line = line_;
    file_.servers.push_back(std::move(server));
    columns_.emplace_back();
    columns_.back().server = column_;
    return absl::OkStatus();
  }

  absl::Status ParseAttribute(absl::string_view word) {
    const size_t equals = word.find('=');
    if (equals == absl::string_view::npos) {
      return Error(absl::StrCat("expected key=value, found ", Quote(word)));
    }
    const absl::string_view key = word.substr(0, equals);
    const bool metrics = key == "metrics";
    if (!metrics && key != "http") {
      return Error(absl::StrCat("unknown attribute ", Quote(key),
                                "; did you mean \"", NearestAttribute(key),
                                "\"?"));
    }
    ServerLine& server = file_.servers.back();
    uint16_t& port = metrics ? server.metrics_port : server.http_port;
    if (port != 0) return Error(absl::StrCat("attribute \"", key, "\" twice"));
    const size_t start = column_;
    column_ += equals + 1;
    absl::StatusOr<uint16_t> value = ParsePort(word.substr(equals + 1));
    if (!value.ok()) return Error(value.status().message());
    port = *value;
    (metrics ? columns_.back().metrics : columns_.back().http) = start;
    return absl::OkStatus();
  }

  // Ports that are not given follow from the position alone, so that a reader
  // of the file can tell them; one that is taken is an error and is not
  // silently moved.
  absl::Status GivePorts() {
    absl::flat_hash_map<std::string, uint32_t> position;
    std::map<std::pair<std::string, uint32_t>, Use> used;
    for (const ServerLine& server : file_.servers) {
      used[{server.address.host, server.address.port}] = {server.line,
                                                          "the server"};
    }
    for (size_t i = 0; i < file_.servers.size(); ++i) {
      ServerLine& server = file_.servers[i];
      const Columns& columns = columns_[i];
      const uint32_t k = position[server.address.host]++;
      absl::Status status =
          GivePort(server, "metrics", kFirstMetricsPort + k, columns.metrics,
                   columns.server, &server.metrics_port, &used);
      if (!status.ok()) return status;
      status = GivePort(server, "http", kFirstHttpPort + k, columns.http,
                        columns.server, &server.http_port, &used);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status GivePort(const ServerLine& server, absl::string_view what,
                        uint32_t standard, size_t column, size_t server_column,
                        uint16_t* port,
                        std::map<std::pair<std::string, uint32_t>, Use>* used) {
    const bool given = *port != 0;
    const uint32_t wanted = given ? *port : standard;
    const auto [it, fresh] =
        used->emplace(std::pair(server.address.host, wanted),
                      Use{server.line, std::string(what)});
    if (!fresh) {
      return ErrorAt(
          server.line, given ? column : server_column,
          absl::StrCat(given ? "" : "default ", what, " port ", wanted, " of ",
                       server.address.host, " is that of ", it->second.what,
                       " in line ", it->second.line,
                       given ? "" : absl::StrCat("; give ", what, "=PORT")));
    }
    // Not over 65535: the ports of a host would have clashed before.
    *port = static_cast<uint16_t>(wanted);
    return absl::OkStatus();
  }

  struct Columns {
    size_t server = 1;
    size_t metrics = 1;
    size_t http = 1;
  };

  const absl::string_view name_;
  int line_ = 0;
  size_t column_ = 1;
  bool of_cluster_ = false;  // the line at hand is no server's
  int groups_line_ = 0;      // of groups_per_five; 0: none
  size_t groups_column_ = 1;
  ClusterFile file_;
  std::vector<Columns> columns_;  // of file_.servers
  absl::flat_hash_map<std::string, int> lines_;
};

}  // namespace

std::string Address::ToString() const {
  return host.find(':') == std::string::npos
             ? absl::StrCat(host, ":", port)
             : absl::StrCat("[", host, "]:", port);
}

absl::StatusOr<Address> Address::Parse(absl::string_view text) {
  const size_t colon = text.rfind(':');
  const bool bracket = absl::StartsWith(text, "[");
  const size_t closing = text.find(']');
  if (colon == absl::string_view::npos ||
      (bracket && (closing == absl::string_view::npos || colon < closing))) {
    return Bad(absl::StrCat("expected host:port, found ", Quote(text)));
  }
  absl::string_view host = text.substr(0, colon);
  if (bracket && closing + 1 != colon) {
    return Bad(absl::StrCat("expected [host]:port, found ", Quote(text)));
  }
  if (!bracket && host.find(':') != absl::string_view::npos) {
    return Bad(
        absl::StrCat("an IPv6 address needs brackets, found ", Quote(text)));
  }
  absl::StatusOr<std::string> name =
      bracket ? ParseIpv6(host.substr(1, host.size() - 2)) : ParseHost(host);
  if (!name.ok()) return name.status();
  absl::StatusOr<uint16_t> port = ParsePort(text.substr(colon + 1));
  if (!port.ok()) return port.status();
  return Address{*std::move(name), *port};
}

absl::StatusOr<ClusterFile> ParseClusterFile(absl::string_view text,
                                             absl::string_view name) {
  return Parser(name).Parse(text);
}

absl::StatusOr<ClusterFile> ReadClusterFile(const std::string& path) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  std::string text;
  if (in) {
    // One byte past the bound is enough for the parser to refuse it.
    text.resize(kMaxClusterFileBytes + 1);
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(in.gcount()));
  }
  if (!in.is_open() || in.bad()) {
    return absl::NotFoundError(absl::StrCat(
        path, ": ", errno != 0 ? std::strerror(errno) : "cannot be read"));
  }
  return ParseClusterFile(text, path);
}

}  // namespace kv739::kv
