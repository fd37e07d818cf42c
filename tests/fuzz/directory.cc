// Changes of the directory, some of them damaged on their way. Promises: each
// is refused or gives a map that makes sense, whose epoch says that it differs.
#include "kv/directory.h"

#include <algorithm>
#include <map>
#include <string>

#include "kv/cluster_map.h"
#include "tests/fuzz/fuzz.h"

namespace kv739::fuzz {
namespace {

// Made once: its ring is the larger part of a run's time.
const kv::ClusterMap& FirstMap(uint64_t servers) {
  static auto* maps = new std::map<uint64_t, kv::ClusterMap>;
  const auto found = maps->find(servers);
  if (found != maps->end()) return found->second;
  kv::ClusterFile file;
  for (uint64_t i = 0; i < servers; ++i) {
    kv::ServerLine line;
    line.address = {"localhost", static_cast<uint16_t>(50051 + i)};
    file.servers.push_back(line);
  }
  return maps->emplace(servers, kv::InitialClusterMap(file)).first->second;
}

void Change(Input* in) {
  kv::ClusterMap map = FirstMap(3 + in->Below(9));
  for (uint64_t steps = in->Below(6); steps > 0; --steps) {
    const auto node = [&] {
      return in->Below(8) == 0 ? raft::NodeId(in->Number())
                               : map.nodes[in->Below(map.nodes.size())].id;
    };
    const auto target = [&] {
      kv::GroupTarget result;
      result.group = raft::GroupId(in->Below(4));
      if (const kv::GroupInfo* group = map.FindGroup(result.group)) {
        result.expected = result.target = group->target;
      }
      for (uint64_t i = in->Below(3); i > 0; --i) {
        if (in->Bool()) {
          result.target.push_back(node());
        } else if (!result.target.empty()) {
          result.target.pop_back();
        }
      }
      if (in->Bool()) std::sort(result.target.begin(), result.target.end());
      return result;
    };
    kv::DirectoryChange change;
    switch (in->Below(5)) {
      case 0:
        change = kv::Bootstrap{map};
        break;
      case 1: {
        kv::NodeInfo info;
        info.id = node();
        info.address = {"localhost", static_cast<uint16_t>(in->Number())};
        info.metrics_port = static_cast<uint16_t>(in->Number());
        info.http_port = static_cast<uint16_t>(in->Number());
        change = kv::AddNode{info};
        break;
      }
      case 2: {
        kv::RemoveNode remove{node(), {}};
        for (uint64_t i = in->Below(3); i > 0; --i) {
          remove.targets.push_back(target());
        }
        change = remove;
        break;
      }
      case 3:
        change = kv::SetTarget{target(), in->Bool()};
        break;
      default: {
        const kv::GroupTarget settled = target();
        change = kv::GroupSettled{settled.group, raft::Index(in->Number()),
                                  settled.target};
      }
    }
    std::string bytes = kv::EncodeDirectoryChange(change);
    Damage(in, &bytes);
    const auto decoded = kv::DecodeDirectoryChange(bytes);
    if (!decoded.ok()) continue;
    const auto after = kv::ApplyDirectoryChange(&map, *decoded);
    if (!after.ok()) continue;
    const absl::Status status = kv::CheckClusterMap(*after);
    KV739_FUZZ_CHECK(status.ok(), status.ToString());
    KV739_FUZZ_CHECK(after->epoch == map.epoch ||
                         (after->epoch == map.epoch + 1 && !(*after == map)),
                     "an epoch that does not say what happened");
    const auto again = kv::DecodeClusterMap(kv::EncodeClusterMap(*after));
    KV739_FUZZ_CHECK(again.ok() && *again == *after, "a map is lost");
    map = *after;
  }
}

}  // namespace

KV739_FUZZ_TARGET(directory, 150) {
  Input in(bytes);
  Change(&in);
}

}  // namespace kv739::fuzz
