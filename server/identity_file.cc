#include "server/identity_file.h"

#include <xxhash.h>

#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace kv739::server {
namespace {

constexpr absl::string_view kIdentityTitle = "kv739 data directory, format ";
constexpr absl::string_view kPeersTitle = "kv739 peers, format ";
constexpr absl::string_view kFormat = "1";

std::string WithChecksum(std::string text) {
  const uint64_t sum = XXH3_64bits(text.data(), text.size());
  absl::StrAppend(&text, "checksum ", FormatId(sum), "\n");
  return text;
}

absl::Status Damaged(absl::string_view path, absl::string_view what) {
  return absl::DataLossError(absl::StrCat(
      path, " is damaged (", what,
      "). Put it back from a copy, or remove this server from its groups and "
      "add it again with an empty data directory"));
}

// False for anything but 16 hexadecimal digits.
bool ParseId(absl::string_view text, uint64_t* id) {
  if (text.size() != 16) return false;
  *id = 0;
  for (const char c : text) {
    if (!absl::ascii_isxdigit(c) || absl::ascii_isupper(c)) return false;
    *id = *id << 4 | static_cast<uint64_t>(
                         absl::ascii_isdigit(c) ? c - '0' : c - 'a' + 10);
  }
  return true;
}

// The lines between the title and the checksum, once both have been checked.
absl::StatusOr<std::vector<absl::string_view>> CheckedLines(
    absl::string_view text, absl::string_view title, absl::string_view path) {
  if (text.empty()) return Damaged(path, "it is empty");
  // "checksum ", 16 digits, newline.
  constexpr size_t kChecksumLine = 9 + 16 + 1;
  const size_t body =
      text.size() < kChecksumLine ? 0 : text.size() - kChecksumLine;
  if (WithChecksum(std::string(text.substr(0, body))) != text) {
    return Damaged(path, "its checksum does not match");
  }
  std::vector<absl::string_view> lines =
      absl::StrSplit(text.substr(0, body), '\n');
  absl::string_view first = lines.front();
  if (!absl::ConsumePrefix(&first, title)) {
    return Damaged(path, "it is another kind of file");
  }
  if (first != kFormat) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " has format ", first,
                     "; this version of kv739d reads format ", kFormat));
  }
  if (lines.size() < 2 || !lines.back().empty()) {
    return Damaged(path, "a line is cut off");
  }
  lines.pop_back();
  lines.erase(lines.begin());
  return lines;
}

}  // namespace

std::string FormatId(uint64_t id) {
  return absl::StrCat(absl::Hex(id, absl::kZeroPad16));
}

std::string FormatIdentity(const Identity& identity) {
  return WithChecksum(absl::StrCat(
      kIdentityTitle, kFormat, "\ncluster ", FormatId(identity.cluster_id),
      "\nnode ", FormatId(identity.node.value()), "\naddress ",
      identity.address, "\nincarnation ", FormatId(identity.incarnation),
      "\n"));
}

std::string FormatPeers(const PeerIncarnations& peers) {
  std::string text = absl::StrCat(kPeersTitle, kFormat, "\n");
  for (const auto& [node, incarnation] : peers) {
    absl::StrAppend(&text, "peer ", FormatId(node.value()), " incarnation ",
                    FormatId(incarnation), "\n");
  }
  return WithChecksum(std::move(text));
}

absl::StatusOr<Identity> ParseIdentity(absl::string_view text,
                                       absl::string_view path) {
  const auto lines = CheckedLines(text, kIdentityTitle, path);
  if (!lines.ok()) return lines.status();
  Identity identity;
  uint64_t node = 0;
  absl::string_view cluster_text, node_text, address, incarnation_text;
  const auto take = [&](size_t line, absl::string_view name,
                        absl::string_view* value) {
    if (line >= lines->size()) return false;
    *value = (*lines)[line];
    return absl::ConsumePrefix(value, name);
  };
  if (!take(0, "cluster ", &cluster_text) || !take(1, "node ", &node_text) ||
      !take(2, "address ", &address) ||
      !take(3, "incarnation ", &incarnation_text) || lines->size() != 4 ||
      !ParseId(cluster_text, &identity.cluster_id) ||
      !ParseId(node_text, &node) ||
      !ParseId(incarnation_text, &identity.incarnation) ||
      identity.incarnation == 0) {
    return Damaged(path, "a line makes no sense");
  }
  identity.node = raft::NodeId(node);
  identity.address = std::string(address);
  return identity;
}

absl::StatusOr<PeerIncarnations> ParsePeers(absl::string_view text,
                                            absl::string_view path) {
  const auto lines = CheckedLines(text, kPeersTitle, path);
  if (!lines.ok()) return lines.status();
  PeerIncarnations peers;
  for (const absl::string_view line : *lines) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
    uint64_t node = 0;
    uint64_t incarnation = 0;
    if (words.size() != 4 || words[0] != "peer" || !ParseId(words[1], &node) ||
        words[2] != "incarnation" || !ParseId(words[3], &incarnation) ||
        !peers.emplace(raft::NodeId(node), incarnation).second) {
      return Damaged(path, "a line makes no sense");
    }
  }
  return peers;
}

}  // namespace kv739::server
