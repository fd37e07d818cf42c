// Files of one server that change while it is stopped: bits that flip, files
// that are cut. It must refuse to start, or be repaired by the others; never
// serve what is wrong. In half of the rounds the leader is killed too, so that
// the damaged one may be asked for its vote.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/fault/fault.h"

namespace kv739::test {
namespace {

namespace fs = std::filesystem;

constexpr int kExitFailure = 1;
constexpr int kExitDirectory = 3;
constexpr int kTries = 64;
// An audit waits a minute for the report of a replica that is gone.
constexpr absl::Duration kRepair = absl::Minutes(4);

// Logs for people, and locks.
bool Matters(const fs::path& path) {
  const std::string name = path.filename();
  return name != "LOCK" && !absl::StartsWith(name, "LOG") &&
         !absl::StartsWith(name, "spare-") &&
         !absl::StartsWith(name, "filling-");
}

class Damage : public Nemesis {
 public:
  Damage(bool cut, Target target) : cut_(cut), target_(target) {}

  absl::StatusOr<Begun> Begin() override {
    const std::vector<int> members = target_.Members();
    if (members.size() < 5) return absl::UnavailableError("no leader");
    victim_ = members[target_.Draw(static_cast<int>(members.size()))];
    killed_ = -1;
    Cluster& cluster = target_.cluster;
    cluster.KillHard(victim_);
    auto what = Change();
    if (!what.ok()) return what.status();
    absl::Status started = cluster.Restart(victim_);
    if (!started.ok()) return started;
    Begun begun{.what = *what};
    if (target_.Coin()) {
      killed_ = members[0] == victim_ ? members[1] : members[0];
      cluster.KillHard(killed_);
    }
    return begun;
  }

  absl::Status End() override {
    Cluster& cluster = target_.cluster;
    if (killed_ >= 0) {
      absl::Status started = cluster.Restart(killed_);
      if (!started.ok()) return started;
    }
    // Until all five are the same; whoever finds that its files are no good
    // ends, and is given new ones.
    absl::Status last;
    const bool healed = Eventually(
        [&] {
          if (!cluster.running(victim_)) {
            last = GiveNewDirectory();
            return !last.ok();
          }
          const std::vector<int> members = target_.Members();
          last = absl::UnavailableError("the server is not back");
          if (members.size() < 5 || std::find(members.begin(), members.end(),
                                              victim_) == members.end()) {
            return false;
          }
          last = cluster.WaitForEqualHashes(target_.group(), absl::Seconds(2));
          return last.ok() && cluster.running(victim_);
        },
        kRepair);
    if (!healed || !last.ok()) {
      return absl::InternalError(absl::StrCat("server ", victim_, " after ",
                                              file_, ": ", last.message(), "\n",
                                              cluster.LogTails()));
    }
    ++(refused_ ? refusals_ : repairs_);
    return absl::OkStatus();
  }
  std::string Summary() const override {
    return absl::StrCat("the server refused its files ", refusals_,
                        " times (and was given an empty directory), and went "
                        "on with them or was repaired ",
                        repairs_, " times");
  }

 private:
  absl::Status GiveNewDirectory() {
    const int code = target_.cluster.WaitExit(victim_).value_or(-1000);
    if (code != kExitDirectory && code != kExitFailure) {
      return absl::InternalError(absl::StrCat("it ended with ", code));
    }
    refused_ = true;
    fs::remove_all(target_.cluster.data_dir(victim_));
    // One that the cluster file does not name has to say that it joins.
    return victim_ < target_.cluster.size() ? target_.cluster.Restart(victim_)
                                            : target_.cluster.StartNew(victim_);
  }

  // Changes one file; says of what sort it is.
  absl::StatusOr<std::string> Change() {
    std::map<std::string, std::vector<fs::path>> sorts;
    const fs::path dir = target_.cluster.data_dir(victim_);
    for (const auto& entry : fs::recursive_directory_iterator(dir)) {
      if (!entry.is_regular_file() || !Matters(entry.path()) ||
          entry.file_size() == 0) {
        continue;
      }
      const std::string parent = entry.path().parent_path().filename();
      std::string sort = parent == "wal" ? "the log" : "small files";
      if (parent == "db") {
        sort = entry.path().extension() == ".sst" ? "the store's tables"
                                                  : "the store's other files";
      }
      sorts[sort].push_back(entry.path());
    }
    if (sorts.empty()) return absl::InternalError("no files");
    auto sort = sorts.begin();
    std::advance(sort, target_.Draw(static_cast<int>(sorts.size())));
    const fs::path file =
        sort->second[target_.Draw(static_cast<int>(sort->second.size()))];
    file_ = file;
    refused_ = false;
    const bool done = cut_ ? Cut(file) : Flip(file);
    if (!done)
      return absl::InternalError(absl::StrCat("cannot change ", file_));
    return sort->first;
  }
  bool Cut(const fs::path& file) {
    std::error_code error;
    const auto size = static_cast<int>(fs::file_size(file, error));
    const int left = target_.Draw(4) == 0 ? 0 : target_.Draw(size);
    absl::StrAppend(&file_, " cut from ", size, " to ", left);
    fs::resize_file(file, left, error);
    return !error;
  }
  // One to eight bits, one behind the other; where there is something, which in
  // a log is not everywhere.
  bool Flip(const fs::path& file) {
    const int fd = open(file.c_str(), O_RDWR | O_CLOEXEC);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0) return false;
    off_t at = 0;
    char byte = 0;
    for (int i = 0; i < kTries && byte == 0; ++i) {
      at = target_.Draw(static_cast<int>(info.st_size));
      if (pread(fd, &byte, 1, at) != 1) break;
    }
    const int mask = 1 + target_.Draw(255);
    byte = static_cast<char>(byte ^ mask);
    const bool good = pwrite(fd, &byte, 1, at) == 1 && fsync(fd) == 0;
    close(fd);
    absl::StrAppend(&file_, " byte ", at, " xor ", mask);
    return good;
  }

  const bool cut_;
  Target target_;
  int victim_ = 0;
  int killed_ = -1;
  std::string file_;  // and what was done to it
  bool refused_ = false;
  int refusals_ = 0;
  int repairs_ = 0;
};

}  // namespace

std::unique_ptr<Nemesis> MakeDamage(bool cut, Target target) {
  return std::make_unique<Damage>(cut, target);
}

}  // namespace kv739::test
