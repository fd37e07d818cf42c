#include "tests/fault/world.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace kv739::test {
namespace {

// Room for the log, the store and their files in the making, and no more.
constexpr uint64_t kDiskBytes = 192 << 20;

// Small files and snapshots, so that all of it happens in a short run.
constexpr char kSettings[] = R"(storage:
  wal_segment_bytes: 4MiB
  write_buffer_bytes: 4MiB
  block_cache_bytes: 16MiB
  disk_reserve_bytes: 16MiB
snapshot:
  entries: 2000
  trailing_entries: 500
server:
  allow_remote_admin: true
)";

}  // namespace

const std::vector<std::string> kFaultKinds = {
    "kill-leader", "kill-random", "kill-all",   "pause",       "partition",
    "one-way",     "slow",        "disk-full",  "fsync-error", "fsync-stall",
    "flip",        "cut",         "membership", "mix"};

Shim::Shim(const std::string& path) : path_(path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  void* at = MAP_FAILED;
  if (fd >= 0 && ftruncate(fd, sizeof(ShimControl)) == 0) {
    at = mmap(nullptr, sizeof(ShimControl), PROT_READ | PROT_WRITE, MAP_SHARED,
              fd, 0);
  }
  if (at == MAP_FAILED) {
    std::perror(path.c_str());
    std::abort();
  }
  close(fd);
  control_ = static_cast<ShimControl*>(at);
}

Shim::~Shim() { munmap(control_, sizeof(ShimControl)); }

std::vector<std::string> Shim::Environment() const {
  return {absl::StrCat("LD_PRELOAD=", DISK_SHIM_PATH),
          absl::StrCat(kShimVariable, "=", path_)};
}

void Shim::Set(ShimMode mode) {
  control_->hits = 0;
  control_->mode = static_cast<uint32_t>(mode);
}

Needs NeedsOf(const std::set<std::string>& kinds) {
  const auto any = [&](std::initializer_list<const char*> names) {
    for (const char* name : names) {
      if (kinds.count(name) > 0) return true;
    }
    return false;
  };
  Needs needs;
  needs.network = any({"partition", "one-way", "slow", "mix"});
  needs.disks = any({"disk-full", "mix"});
  needs.shims = any({"fsync-error", "fsync-stall", "mix"});
  needs.spares = any({"membership", "mix"});
  return needs;
}

absl::Status MakeWorld(const Needs& needs, World* world,
                       ClusterOptions* options) {
  options->settings = kSettings;
  if (needs.spares) options->extra = 2;
  const int total = options->servers + options->extra;
  if (needs.network) {
    auto network = Network::Create(total);
    if (!network.ok()) return network.status();
    world->network = *std::move(network);
  }
  for (int i = 0; i < total; ++i) {
    Place& place = options->places[i];
    if (needs.network) {
      place.host = Network::Host(i);
      place.network = world->network->Namespace(i);
    }
    if (needs.disks) {
      auto disk = SmallDisk::Mount(kDiskBytes);
      if (!disk.ok()) return disk.status();
      place.data_dir = (*disk)->path() + "/data";
      world->disks.push_back(*std::move(disk));
    }
    if (needs.shims) {
      world->shims.push_back(
          std::make_unique<Shim>(absl::StrCat(world->dir.path(), "/shim", i)));
      place.environment = world->shims.back()->Environment();
    }
  }
  return absl::OkStatus();
}

}  // namespace kv739::test
