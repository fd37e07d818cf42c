#include "raft/configuration.h"

#include <algorithm>
#include <functional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace kv739::raft {
namespace {

// version | 3 x (count: u32 | ids: u64 each), little endian.
constexpr char kVersion = 1;

bool Has(const std::vector<NodeId>& sorted, NodeId node) {
  return std::binary_search(sorted.begin(), sorted.end(), node);
}

absl::Status CheckList(const std::vector<NodeId>& list,
                       absl::string_view name) {
  if (!list.empty() && !list.front()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": node 0"));
  }
  // Strictly rising: no two neighbours in other order or equal.
  if (std::adjacent_find(list.begin(), list.end(), std::greater_equal<>()) !=
      list.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": not sorted or with repetition"));
  }
  return absl::OkStatus();
}

void PutNumber(uint64_t value, int bytes, std::string* out) {
  for (int i = 0; i < bytes; ++i) {
    out->push_back(static_cast<char>(value >> (8 * i)));
  }
}

void PutList(const std::vector<NodeId>& list, std::string* out) {
  PutNumber(list.size(), 4, out);
  for (NodeId node : list) PutNumber(node.value(), 8, out);
}

bool GetNumber(absl::string_view* in, int bytes, uint64_t* value) {
  if (in->size() < static_cast<size_t>(bytes)) return false;
  *value = 0;
  for (int i = 0; i < bytes; ++i) {
    *value |= uint64_t{static_cast<uint8_t>((*in)[i])} << (8 * i);
  }
  in->remove_prefix(bytes);
  return true;
}

bool GetList(absl::string_view* in, std::vector<NodeId>* list) {
  uint64_t count = 0;
  if (!GetNumber(in, 4, &count) || count > in->size() / 8) return false;
  list->reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t id = 0;
    if (!GetNumber(in, 8, &id)) return false;
    list->push_back(NodeId(id));
  }
  return true;
}

}  // namespace

bool Configuration::IsVoter(NodeId node) const {
  return Has(voters, node) || Has(outgoing, node);
}

bool Configuration::IsLearner(NodeId node) const { return Has(learners, node); }

std::vector<NodeId> Configuration::Members() const {
  std::vector<NodeId> all = voters;
  all.insert(all.end(), outgoing.begin(), outgoing.end());
  all.insert(all.end(), learners.begin(), learners.end());
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

absl::Status Configuration::Validate() const {
  if (voters.empty()) return absl::InvalidArgumentError("no voter");
  if (absl::Status s = CheckList(voters, "voters"); !s.ok()) return s;
  if (absl::Status s = CheckList(outgoing, "outgoing"); !s.ok()) return s;
  if (absl::Status s = CheckList(learners, "learners"); !s.ok()) return s;
  for (NodeId node : learners) {
    if (IsVoter(node)) {
      return absl::InvalidArgumentError(
          absl::StrCat("learner ", node.value(), " is a voter too"));
    }
  }
  return absl::OkStatus();
}

std::string EncodeConfiguration(const Configuration& configuration) {
  std::string out(1, kVersion);
  PutList(configuration.voters, &out);
  PutList(configuration.outgoing, &out);
  PutList(configuration.learners, &out);
  return out;
}

absl::StatusOr<Configuration> DecodeConfiguration(absl::string_view bytes) {
  if (bytes.empty()) return absl::InvalidArgumentError("configuration: empty");
  if (bytes[0] != kVersion) {
    return absl::InvalidArgumentError(
        absl::StrCat("configuration: unknown version ", int{bytes[0]}));
  }
  bytes.remove_prefix(1);
  Configuration configuration;
  if (!GetList(&bytes, &configuration.voters) ||
      !GetList(&bytes, &configuration.outgoing) ||
      !GetList(&bytes, &configuration.learners)) {
    return absl::InvalidArgumentError("configuration: cut short");
  }
  if (!bytes.empty()) {
    return absl::InvalidArgumentError("configuration: trailing bytes");
  }
  if (absl::Status s = configuration.Validate(); !s.ok()) return s;
  return configuration;
}

}  // namespace kv739::raft
