// Data directories that an earlier version wrote, kept in tests/fixtures: they
// open, and everything is there. And one that a later version wrote is refused
// as it is.
//
//   KV739_WRITE_FIXTURE=<n>  makes tests/fixtures/format_<n> anew, with a log
//   of
//                            format <n>, and checks that.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <xxhash.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "kv/cluster_map.h"
#include "kv/command.h"
#include "kv/engine.h"
#include "kv/state_machine.h"
#include "server/data_directory.h"
#include "server/host.h"
#include "server/map_file.h"
#include "server/replica_store.h"
#include "server/wal/segment.h"
#include "server/wal/wal.h"
#include "tests/unit/server/outer_temp_dir.h"

namespace kv739::server {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr uint64_t kCluster = 739;
constexpr uint64_t kSegmentBytes = 16 << 10;
constexpr uint64_t kPeerIncarnation = 77;
constexpr raft::Term kTerm(3);

std::string FixturePath(uint32_t format) {
  return absl::StrCat(KV739_FIXTURES, "/format_", format);
}

kv::ClusterMap FirstMap() {
  kv::ClusterFile file;
  for (uint16_t i = 0; i < 3; ++i) {
    kv::ServerLine line;
    line.address = {"10.0.0.1", static_cast<uint16_t>(5000 + i)};
    line.metrics_port = static_cast<uint16_t>(9090 + i);
    line.http_port = static_cast<uint16_t>(8080 + i);
    file.servers.push_back(line);
  }
  return kv::InitialClusterMap(file);
}
// Of the values below.
raft::GroupId GroupOf(const kv::ClusterMap& map) {
  return map.groups.back().id;
}

// What a server has on its disk, opened as server/node.cc does it.
struct Disk {
  std::unique_ptr<DataDirectory> directory;
  std::unique_ptr<kv::Engine> engine;

  std::unique_ptr<wal::Wal> wal;

  absl::Status Open(const std::string& path, uint32_t format) {
    const kv::ClusterMap map = FirstMap();
    auto opened = DataDirectory::Open(path, kCluster, map.nodes[0].id,
                                      map.nodes[0].address.ToString());
    if (!opened.ok()) return opened.status();
    directory = *std::move(opened);
    wal::WalOptions options;
    options.segment_bytes = kSegmentBytes;
    options.spare_segments = 0;
    options.direct = false;
    options.format_version = format;
    auto log = wal::Wal::Open(wal::FileSystem::Posix(), directory->wal_path(),
                              options);
    if (!log.ok()) return log.status();
    wal = *std::move(log);
    auto store = kv::OpenRocksEngine(directory->db_path(), {});
    if (!store.ok()) return store.status();
    engine = *std::move(store);
    return absl::OkStatus();
  }
};

raft::Entry EntryOf(uint64_t index, const kv::Command& command) {
  return {kTerm, raft::Index(index), raft::EntryKind::kCommand,
          raft::MakePayload(kv::EncodeCommand(command))};
}
kv::Command Write(kv::Op op, uint64_t stamp, kv::SessionId session,
                  kv::Sequence sequence, absl::string_view key,
                  absl::string_view value) {
  kv::Command command;
  command.op = op;
  command.stamp = stamp;
  command.session = session;
  command.sequence = sequence;
  command.key = key;
  command.value = value;
  return command;
}

// The first session that a group opens.
kv::SessionId SessionOf(raft::GroupId group) { return group.value() << 40 | 1; }
const std::string& Long() {
  static const std::string& text = *new std::string(3000, 'l');
  return text;
}

// The entries of the group, from index 2 on.
std::vector<raft::Entry> Entries(raft::GroupId group) {
  const kv::SessionId session = SessionOf(group);
  kv::Command open;
  open.op = kv::Op::kOpenSession;
  open.stamp = 1000;
  kv::Command swap =
      Write(kv::Op::kCompareAndSwap, 1050, session, 5, "b", "swapped");
  swap.expected = 1030;
  return {
      EntryOf(2, open),
      EntryOf(3, Write(kv::Op::kPut, 1010, session, 1, "a", "first")),
      EntryOf(4, Write(kv::Op::kPut, 1020, session, 2, "long", Long())),
      EntryOf(5, Write(kv::Op::kPut, 1030, session, 3, "b", "second")),
      EntryOf(6, Write(kv::Op::kDelete, 1040, session, 4, "a", "")),
      // From here on in the log alone.
      EntryOf(7, swap),
      EntryOf(8, Write(kv::Op::kAppend, 1060, session, 6, "b", "+")),
      EntryOf(9, Write(kv::Op::kPut, 1070, 0, 0, "c", "third")),
  };
}
constexpr size_t kInStore = 5;  // of them

void WriteFixture(const std::string& path, uint32_t format) {
  fs::remove_all(path);
  const kv::ClusterMap map = FirstMap();
  const raft::GroupId group = GroupOf(map);
  {
    Disk disk;
    absl::Status status = disk.Open(path, format);
    ASSERT_TRUE(status.ok()) << status;
    status =
        CreateReplicas(disk.engine.get(), disk.wal.get(), map, map.nodes[0].id);
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_TRUE(disk.directory->MarkInitialized().ok());
    ASSERT_TRUE(
        disk.directory->CheckPeer(map.nodes[1].id, kPeerIncarnation).ok());
    ASSERT_TRUE(WriteMapFile(disk.directory->map_path(), map).ok());
    const std::vector<raft::Entry> entries = Entries(group);
    for (size_t i = 0; i < entries.size(); i += 2) {
      wal::GroupWrite write;
      write.group = group;
      write.hard_state =
          raft::HardState{kTerm, map.nodes[1].id, entries[i].index};
      write.entries.assign(entries.begin() + static_cast<ptrdiff_t>(i),
                           entries.begin() + static_cast<ptrdiff_t>(i + 2));
      ASSERT_TRUE(disk.wal->Append({write}).ok());
    }
    auto machine = kv::StateMachine::Open(disk.engine.get(), group);
    ASSERT_TRUE(machine.ok());
    std::vector<kv::ApplyResult> results;
    status = (*machine)->Apply(absl::MakeConstSpan(entries).first(kInStore),
                               &results);
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_EQ(results[0].session, SessionOf(group));
    ASSERT_TRUE(disk.engine->Flush().ok());
  }
  // Of no use to who opens it.
  for (const auto& file : fs::recursive_directory_iterator(path)) {
    const std::string name = file.path().filename();
    if (name.starts_with("LOG")) fs::remove(file.path());
  }
}

std::map<std::string, std::string> FilesOf(const std::string& path) {
  std::map<std::string, std::string> files;
  for (const auto& file : fs::recursive_directory_iterator(path)) {
    // Who tries to open it holds that for a moment.
    if (!file.is_regular_file() || file.path().filename() == "LOCK") continue;
    files[file.path()] = ReadText(file.path());
  }
  return files;
}

class FormatTest : public ::testing::TestWithParam<uint32_t> {
 protected:
  static void SetUpTestSuite() {
    const char* const wanted = std::getenv("KV739_WRITE_FIXTURE");
    uint32_t format = 0;
    if (wanted == nullptr || !absl::SimpleAtoi(wanted, &format)) return;
    WriteFixture(FixturePath(format), format);
  }
  void SetUp() override {
    path_ = temp_.Sub("data");
    fs::copy(FixturePath(GetParam()), path_, fs::copy_options::recursive);
  }

  OuterTempDir temp_;
  std::string path_;
};

TEST_P(FormatTest, OpensWithEverythingInIt) {
  const kv::ClusterMap map = FirstMap();
  const raft::GroupId group = GroupOf(map);
  Disk disk;
  absl::Status status = disk.Open(path_, wal::kFormatVersion);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(disk.directory->identity().cluster_id, kCluster);
  EXPECT_EQ(disk.directory->identity().node, map.nodes[0].id);
  EXPECT_EQ(disk.directory->identity().address, "10.0.0.1:5000");
  EXPECT_NE(disk.directory->identity().incarnation, 0u);
  EXPECT_TRUE(disk.directory->initialized());
  EXPECT_TRUE(disk.directory->HasMet(map.nodes[1].id));
  EXPECT_FALSE(disk.directory->HasMet(map.nodes[2].id));
  EXPECT_TRUE(
      disk.directory->CheckPeer(map.nodes[1].id, kPeerIncarnation).ok());
  EXPECT_FALSE(
      disk.directory->CheckPeer(map.nodes[1].id, kPeerIncarnation + 1).ok());
  const auto saved = ReadMapFile(disk.directory->map_path());
  ASSERT_TRUE(saved.ok()) << saved.status();
  ASSERT_NE(*saved, nullptr);
  EXPECT_EQ(kv::EncodeClusterMap(**saved), kv::EncodeClusterMap(map));

  auto replicas = LoadReplicas(disk.engine.get(), disk.wal.get(),
                               disk.directory->install_path());
  ASSERT_TRUE(replicas.ok()) << replicas.status();
  EXPECT_EQ(replicas->size(), map.groups.size());
  bool seen = false;
  for (HostedReplica& replica : *replicas) {
    if (replica.group != group) {
      EXPECT_EQ(replica.state.last_index, raft::Index(1));
      continue;
    }
    seen = true;
    const raft::InitialState& state = replica.state;
    EXPECT_EQ(state.hard_state.term, kTerm);
    EXPECT_EQ(state.hard_state.vote, map.nodes[1].id);
    EXPECT_EQ(state.hard_state.commit, raft::Index(8));
    EXPECT_EQ(state.last_index, raft::Index(9));
    EXPECT_EQ(state.applied, raft::Index(6));
    EXPECT_EQ(state.applied_configuration.voters.size(), 3u);
    auto& machine = *replica.machine;
    EXPECT_FALSE(machine.Get("a")->found);
    EXPECT_EQ(machine.Get("b")->value, "second");
    EXPECT_EQ(machine.Get("b")->version, 1030u);
    EXPECT_EQ(machine.Get("long")->value, Long());
    EXPECT_EQ(machine.session_count(), 1u);

    // The rest is in the log.
    auto rest = disk.wal->Read(group, raft::Index(7), raft::Index(9), 1 << 20);
    ASSERT_TRUE(rest.ok()) << rest.status();
    const std::vector<raft::Entry> entries = Entries(group);
    ASSERT_EQ(rest->size(), 3u);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(*(*rest)[i].data, *entries[kInStore + i].data);
      EXPECT_EQ((*rest)[i].term, kTerm);
    }
    std::vector<kv::ApplyResult> results;
    ASSERT_TRUE(machine.Apply(*rest, &results).ok());
    EXPECT_EQ(results[0].old_value, "second");
    EXPECT_EQ(machine.Get("b")->value, "swapped+");
    EXPECT_EQ(machine.Get("c")->value, "third");
    // A repetition gets the first answer.
    const raft::Entry again =
        EntryOf(10, Write(kv::Op::kDelete, 2000, SessionOf(group), 4, "a", ""));
    ASSERT_TRUE(machine.Apply({again}, &results).ok());
    EXPECT_TRUE(results.back().duplicate);
    EXPECT_EQ(results.back().version, 1040u);
    EXPECT_EQ(results.back().old_value, "first");
  }
  EXPECT_TRUE(seen);

  // And goes on, in the newest format.
  wal::GroupWrite write;
  write.group = group;
  write.entries = {EntryOf(10, Write(kv::Op::kPut, 2000, 0, 0, "d", "new"))};
  ASSERT_TRUE(disk.wal->Append({write}).ok());
  replicas->clear();
  disk = Disk();
  status = disk.Open(path_, wal::kFormatVersion);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(disk.wal->recovered().at(group).last_index, raft::Index(10));
}

TEST_P(FormatTest, ANewerLogIsRefusedAndLeftAlone) {
  const std::string segment = path_ + "/wal/" + wal::SegmentName(1);
  std::string bytes = ReadText(segment);
  bytes[8] = wal::kFormatVersion + 1;
  const uint64_t checksum = XXH3_64bits(bytes.data(), 40);
  std::memcpy(bytes.data() + 40, &checksum, sizeof(checksum));
  WriteText(segment, bytes);
  const auto before = FilesOf(path_);
  {
    Disk disk;
    const absl::Status status = disk.Open(path_, wal::kFormatVersion);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr(absl::StrCat("version ", wal::kFormatVersion + 1)));
    EXPECT_THAT(std::string(status.message()), HasSubstr("000000000001.wal"));
  }
  EXPECT_EQ(FilesOf(path_), before);
}

TEST_P(FormatTest, ANewerIdentityIsRefusedAndLeftAlone) {
  const std::string identity = path_ + "/identity";
  std::string text = ReadText(identity);
  const size_t title = text.find("format 1");
  ASSERT_NE(title, std::string::npos) << text;
  text.replace(title, 8, "format 2");
  text.resize(text.find("checksum"));
  absl::StrAppend(&text, "checksum ",
                  absl::StrCat(absl::Hex(XXH3_64bits(text.data(), text.size()),
                                         absl::kZeroPad16)),
                  "\n");
  WriteText(identity, text);
  const auto before = FilesOf(path_);
  {
    Disk disk;
    const absl::Status status = disk.Open(path_, wal::kFormatVersion);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("format 2"));
  }
  EXPECT_EQ(FilesOf(path_), before);
}

INSTANTIATE_TEST_SUITE_P(Formats, FormatTest,
                         ::testing::Range(wal::kOldestFormat,
                                          wal::kFormatVersion + 1));

}  // namespace
}  // namespace kv739::server
