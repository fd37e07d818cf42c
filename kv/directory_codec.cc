// The forms of the directory's changes and of the cluster map.
#include <xxhash.h>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "kv/coding.h"
#include "kv/directory.h"
#include "kv/records.h"

namespace kv739::kv {
namespace {

// 1 has no number of groups per five, which is 1; 2 has it. 3 has it as well,
// and of every group the nodes that were withdrawn. A map is of the first of
// them that can say all of it, so that older servers read what they can.
constexpr uint8_t kMapFormat = 1;
constexpr uint8_t kSiblingsMapFormat = 2;
constexpr uint8_t kWithdrawnMapFormat = 3;
constexpr uint8_t kChangeFormat = 1;
constexpr size_t kChecksumBytes = 8;
constexpr uint64_t kMaxPort = std::numeric_limits<uint16_t>::max();

// The numbers are on disk and on the wire.
enum class ChangeKind : uint8_t {
  kBootstrap = 1,
  kAddNode = 2,
  kRemoveNode = 3,
  kSetTarget = 4,
  kGroupSettled = 5,
  kGroupReleased = 6,  // also GroupSettled: one that releases
};

absl::Status Malformed(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("malformed ", what));
}

void AppendNodeIds(std::string* out, const std::vector<raft::NodeId>& ids) {
  AppendVarint(out, ids.size());
  for (raft::NodeId id : ids) AppendFixed64(out, id.value());
}

bool ReadNodeIds(Reader* in, std::vector<raft::NodeId>* out) {
  uint64_t count = 0;
  if (!in->Varint(&count) || count > in->rest().size() / 8) return false;
  out->clear();
  out->reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t id = 0;
    if (!in->Fixed64(&id)) return false;
    out->emplace_back(id);
  }
  return true;
}

void AppendNode(std::string* out, const NodeInfo& node) {
  AppendFixed64(out, node.id.value());
  AppendBytes(out, node.address.host);
  AppendVarint(out, node.address.port);
  AppendVarint(out, node.metrics_port);
  AppendVarint(out, node.http_port);
  out->push_back(static_cast<char>(node.state));
}

bool ReadPort(Reader* in, uint16_t* out) {
  uint64_t port = 0;
  if (!in->Varint(&port) || port > kMaxPort) return false;
  *out = static_cast<uint16_t>(port);
  return true;
}

bool ReadNode(Reader* in, NodeInfo* out) {
  uint64_t id = 0;
  absl::string_view host;
  uint8_t state = 0;
  if (!in->Fixed64(&id) || !in->Bytes(&host) ||
      !ReadPort(in, &out->address.port) || !ReadPort(in, &out->metrics_port) ||
      !ReadPort(in, &out->http_port) || !in->Byte(&state) ||
      state > static_cast<uint8_t>(NodeState::kLeft)) {
    return false;
  }
  out->id = raft::NodeId(id);
  out->address.host = std::string(host);
  out->state = static_cast<NodeState>(state);
  return true;
}

void AppendGroup(std::string* out, uint8_t format, const GroupInfo& group) {
  AppendVarint(out, group.id.value());
  AppendNodeIds(out, group.members);
  AppendNodeIds(out, group.target);
  AppendVarint(out, group.settled.value());
  out->push_back(group.automatic ? 1 : 0);
  if (format != kWithdrawnMapFormat) return;
  AppendNodeIds(out, group.withdrawn);
  AppendVarint(out, group.withdrawn_at);
}

bool ReadBool(Reader* in, bool* out) {
  uint8_t byte = 0;
  if (!in->Byte(&byte) || byte > 1) return false;
  *out = byte == 1;
  return true;
}

bool ReadGroup(Reader* in, uint8_t format, GroupInfo* out) {
  uint64_t id = 0;
  uint64_t settled = 0;
  if (!in->Varint(&id) || !ReadNodeIds(in, &out->members) ||
      !ReadNodeIds(in, &out->target) || !in->Varint(&settled) ||
      !ReadBool(in, &out->automatic)) {
    return false;
  }
  if (format == kWithdrawnMapFormat &&
      (!ReadNodeIds(in, &out->withdrawn) || !in->Varint(&out->withdrawn_at))) {
    return false;
  }
  out->id = raft::GroupId(id);
  out->settled = raft::Index(settled);
  return true;
}

// As runs of slots with one owner.
void AppendSlots(std::string* out, const std::vector<raft::GroupId>& slots) {
  std::string runs;
  uint64_t count = 0;
  for (size_t first = 0; first < slots.size();) {
    size_t end = first + 1;
    while (end < slots.size() && slots[end] == slots[first]) ++end;
    AppendVarint(&runs, end - first);
    AppendVarint(&runs, slots[first].value());
    first = end;
    ++count;
  }
  AppendVarint(out, count);
  *out += runs;
}

bool ReadSlots(Reader* in, std::vector<raft::GroupId>* out) {
  uint64_t count = 0;
  if (!in->Varint(&count) || count > kSlotCount) return false;
  out->clear();
  out->reserve(kSlotCount);
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t length = 0;
    uint64_t owner = 0;
    if (!in->Varint(&length) || length == 0 ||
        length > kSlotCount - out->size() || !in->Varint(&owner) ||
        (!out->empty() && out->back() == raft::GroupId(owner))) {
      return false;
    }
    out->insert(out->end(), length, raft::GroupId(owner));
  }
  return true;
}

bool AnyWithdrawn(const ClusterMap& map) {
  return std::any_of(map.groups.begin(), map.groups.end(),
                     [](const GroupInfo& g) { return !g.withdrawn.empty(); });
}

uint8_t FormatOf(const ClusterMap& map) {
  if (AnyWithdrawn(map)) return kWithdrawnMapFormat;
  return map.groups_per_five == 1 ? kMapFormat : kSiblingsMapFormat;
}

bool ReadMap(Reader* in, uint8_t format, ClusterMap* out) {
  uint64_t nodes = 0;
  uint64_t groups = 0;
  if (format != kMapFormat) {
    uint64_t per_five = 0;
    if (!in->Varint(&per_five) || per_five > kMaxGroupsPerFive) return false;
    out->groups_per_five = static_cast<uint32_t>(per_five);
  }
  if (!in->Fixed64(&out->cluster_id) || !in->Varint(&out->epoch) ||
      !in->Varint(&nodes) || nodes > kMaxNodes) {
    return false;
  }
  out->nodes.resize(nodes);
  for (NodeInfo& node : out->nodes) {
    if (!ReadNode(in, &node)) return false;
  }
  if (!in->Varint(&groups) || groups > kSlotCount) return false;
  for (uint64_t i = 0; i < groups; ++i) {
    if (!ReadGroup(in, format, &out->groups.emplace_back())) return false;
  }
  return ReadSlots(in, &out->slots) && in->done() && FormatOf(*out) == format;
}

void AppendTarget(std::string* out, const GroupTarget& target) {
  AppendVarint(out, target.group.value());
  AppendNodeIds(out, target.expected);
  AppendNodeIds(out, target.target);
}

bool ReadTarget(Reader* in, GroupTarget* out) {
  uint64_t group = 0;
  if (!in->Varint(&group) || !ReadNodeIds(in, &out->expected) ||
      !ReadNodeIds(in, &out->target)) {
    return false;
  }
  out->group = raft::GroupId(group);
  return true;
}

struct ChangeEncoder {
  std::string* out;

  void Kind(ChangeKind kind) const { out->push_back(static_cast<char>(kind)); }
  void operator()(const Bootstrap& change) const {
    Kind(ChangeKind::kBootstrap);
    *out += EncodeClusterMap(change.map);
  }
  void operator()(const AddNode& change) const {
    Kind(ChangeKind::kAddNode);
    AppendNode(out, change.node);
  }
  void operator()(const RemoveNode& change) const {
    Kind(ChangeKind::kRemoveNode);
    AppendFixed64(out, change.node.value());
    AppendVarint(out, change.targets.size());
    for (const GroupTarget& target : change.targets) AppendTarget(out, target);
  }
  void operator()(const SetTarget& change) const {
    Kind(ChangeKind::kSetTarget);
    AppendTarget(out, change.group);
    out->push_back(change.automatic ? 1 : 0);
  }
  void operator()(const GroupSettled& change) const {
    Kind(change.released == 0 ? ChangeKind::kGroupSettled
                              : ChangeKind::kGroupReleased);
    AppendVarint(out, change.group.value());
    AppendVarint(out, change.index.value());
    AppendNodeIds(out, change.members);
    if (change.released != 0) AppendVarint(out, change.released);
  }
};

bool ReadRemoveNode(Reader* in, RemoveNode* out) {
  uint64_t node = 0;
  uint64_t targets = 0;
  if (!in->Fixed64(&node) || !in->Varint(&targets) || targets > kSlotCount) {
    return false;
  }
  out->node = raft::NodeId(node);
  for (uint64_t i = 0; i < targets; ++i) {
    if (!ReadTarget(in, &out->targets.emplace_back())) return false;
  }
  return true;
}

bool ReadGroupSettled(Reader* in, GroupSettled* out) {
  uint64_t group = 0;
  uint64_t index = 0;
  if (!in->Varint(&group) || !in->Varint(&index) ||
      !ReadNodeIds(in, &out->members)) {
    return false;
  }
  out->group = raft::GroupId(group);
  out->index = raft::Index(index);
  return true;
}

bool ReadChange(Reader* in, DirectoryChange* out) {
  uint8_t kind = 0;
  if (!in->Byte(&kind)) return false;
  switch (static_cast<ChangeKind>(kind)) {
    case ChangeKind::kBootstrap: {
      absl::StatusOr<ClusterMap> map = DecodeClusterMap(in->rest());
      if (!map.ok()) return false;
      *out = Bootstrap{*std::move(map)};
      *in = Reader("");
      return true;
    }
    case ChangeKind::kAddNode:
      return ReadNode(in, &out->emplace<AddNode>().node);
    case ChangeKind::kRemoveNode:
      return ReadRemoveNode(in, &out->emplace<RemoveNode>());
    case ChangeKind::kSetTarget: {
      SetTarget& change = out->emplace<SetTarget>();
      return ReadTarget(in, &change.group) && ReadBool(in, &change.automatic);
    }
    case ChangeKind::kGroupSettled:
      return ReadGroupSettled(in, &out->emplace<GroupSettled>());
    case ChangeKind::kGroupReleased: {
      GroupSettled& change = out->emplace<GroupSettled>();
      return ReadGroupSettled(in, &change) && in->Varint(&change.released) &&
             change.released != 0;
    }
  }
  return false;
}

bool StrictlyRising(const std::vector<raft::NodeId>& ids) {
  return std::adjacent_find(ids.begin(), ids.end(), std::greater_equal<>()) ==
         ids.end();
}

absl::Status CheckNodes(const ClusterMap& map,
                        absl::flat_hash_set<raft::NodeId>* known) {
  absl::flat_hash_set<std::string> addresses;
  for (const NodeInfo& node : map.nodes) {
    const absl::Status status = CheckNode(node);
    if (!status.ok()) return status;
    if (!known->insert(node.id).second) return Malformed("map: an id twice");
    if (node.state != NodeState::kLeft &&
        !addresses.insert(node.address.ToString()).second) {
      return Malformed("map: an address twice");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckGroup(const GroupInfo& group,
                        const absl::flat_hash_set<raft::NodeId>& known) {
  for (const auto* list : {&group.members, &group.target, &group.withdrawn}) {
    if ((list->empty() && list != &group.withdrawn) || !StrictlyRising(*list)) {
      return Malformed("map: an empty or unsorted list");
    }
    for (raft::NodeId node : *list) {
      if (!known.contains(node)) return Malformed("map: an unknown node");
    }
  }
  if (group.automatic && group.members == group.target) {
    return Malformed("map: an automatic change to the same");
  }
  const auto in = [](const std::vector<raft::NodeId>& list, raft::NodeId id) {
    return std::binary_search(list.begin(), list.end(), id);
  };
  if (group.withdrawn.empty() != (group.withdrawn_at == 0) ||
      std::any_of(group.withdrawn.begin(), group.withdrawn.end(),
                  [&](raft::NodeId id) {
                    return in(group.members, id) || in(group.target, id);
                  })) {
    return Malformed("map: withdrawn nodes");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckNode(const NodeInfo& node) {
  if (!node.id) return absl::InvalidArgumentError("a node with the id 0");
  const absl::StatusOr<Address> address =
      Address::Parse(node.address.ToString());
  if (!address.ok()) return address.status();
  if (!(*address == node.address)) {
    return absl::InvalidArgumentError("an address in another spelling");
  }
  return absl::OkStatus();
}

absl::Status CheckClusterMap(const ClusterMap& map) {
  if (map.cluster_id == 0 || map.epoch == 0) {
    return Malformed("map: no cluster or no epoch");
  }
  if (map.nodes.size() > kMaxNodes) return Malformed("map: too many nodes");
  if (map.groups_per_five < 1 || map.groups_per_five > kMaxGroupsPerFive) {
    return Malformed("map: groups per five");
  }
  absl::flat_hash_set<raft::NodeId> known;
  absl::Status status = CheckNodes(map, &known);
  if (!status.ok()) return status;
  absl::flat_hash_set<raft::GroupId> groups;
  const GroupInfo* before = nullptr;
  for (const GroupInfo& group : map.groups) {
    if (group.id.value() > kMaxGroupId ||
        (before != nullptr && before->id >= group.id)) {
      return Malformed("map: ids of groups");
    }
    before = &group;
    groups.insert(group.id);
    status = CheckGroup(group, known);
    if (!status.ok()) return status;
  }
  if (map.slots.size() != kSlotCount) return Malformed("map: slots missing");
  for (raft::GroupId owner : map.slots) {
    if (!groups.contains(owner)) return Malformed("map: a slot of no group");
  }
  return absl::OkStatus();
}

std::string EncodeClusterMap(const ClusterMap& map) {
  std::string out;
  const uint8_t format = FormatOf(map);
  out.push_back(static_cast<char>(format));
  if (format != kMapFormat) AppendVarint(&out, map.groups_per_five);
  AppendFixed64(&out, map.cluster_id);
  AppendVarint(&out, map.epoch);
  AppendVarint(&out, map.nodes.size());
  for (const NodeInfo& node : map.nodes) AppendNode(&out, node);
  AppendVarint(&out, map.groups.size());
  for (const GroupInfo& group : map.groups) AppendGroup(&out, format, group);
  AppendSlots(&out, map.slots);
  AppendFixed64(&out, XXH3_64bits(out.data(), out.size()));
  return out;
}

absl::StatusOr<ClusterMap> DecodeClusterMap(absl::string_view bytes) {
  if (bytes.size() < kChecksumBytes) return Malformed("map: cut short");
  const absl::string_view body = bytes.substr(0, bytes.size() - kChecksumBytes);
  uint64_t checksum = 0;
  if (!Reader(bytes.substr(body.size())).Fixed64(&checksum) ||
      checksum != XXH3_64bits(body.data(), body.size())) {
    return Malformed("map: wrong checksum");
  }
  Reader in(body);
  uint8_t format = 0;
  if (!in.Byte(&format) || format < kMapFormat ||
      format > kWithdrawnMapFormat) {
    return absl::InvalidArgumentError("map of an unknown format");
  }
  ClusterMap map;
  if (!ReadMap(&in, format, &map)) return Malformed("map");
  absl::Status status = CheckClusterMap(map);
  if (!status.ok()) return status;
  return map;
}

std::string EncodeDirectoryChange(const DirectoryChange& change) {
  std::string out;
  out.push_back(static_cast<char>(kChangeFormat));
  std::visit(ChangeEncoder{&out}, change);
  return out;
}

absl::StatusOr<DirectoryChange> DecodeDirectoryChange(absl::string_view bytes) {
  Reader in(bytes);
  uint8_t format = 0;
  if (!in.Byte(&format) || format != kChangeFormat) {
    return absl::InvalidArgumentError(
        "change of the directory of an unknown format");
  }
  DirectoryChange change;
  if (!ReadChange(&in, &change) || !in.done()) {
    return Malformed("change of the directory");
  }
  return change;
}

}  // namespace kv739::kv
