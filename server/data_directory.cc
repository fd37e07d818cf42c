#include "server/data_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "server/durable_file.h"
#include "server/identity_file.h"

namespace kv739::server {
namespace {

constexpr size_t kMaxIdentityBytes = 4096;
// Peers that are remembered; a cluster is far smaller.
constexpr size_t kMaxPeers = 65'536;
constexpr size_t kMaxPeersBytes = kMaxPeers * 64;

constexpr char kLock[] = "LOCK";
constexpr char kIdentity[] = "identity";
constexpr char kInitialized[] = "initialized";
constexpr char kPeers[] = "peers";
constexpr char kInUse[] = "IN_USE";  // in wal/; its own names are others

// The LOCK file, locked. flock() ends with the process however that ends, so
// nothing has to be cleaned up after a crash; the number in the file is for
// people only.
class DirectoryLock {
 public:
  DirectoryLock() = default;
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;
  ~DirectoryLock() {
    if (fd_ >= 0) ::close(fd_);
  }

  absl::Status Take(const std::string& dir) {
    const std::string path = absl::StrCat(dir, "/", kLock);
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd_ < 0) return FileError("cannot open", path, errno);
    int rc = 0;
    do {
      rc = ::flock(fd_, LOCK_EX | LOCK_NB);
    } while (rc != 0 && errno == EINTR);
    if (rc != 0) {
      if (errno != EWOULDBLOCK) return FileError("cannot lock", path, errno);
      return absl::FailedPreconditionError(
          absl::StrCat("the data directory ", dir, " is in use by ", Holder()));
    }
    const std::string pid = absl::StrCat(::getpid(), "\n");
    if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, pid.data(), pid.size(), 0) !=
                                        static_cast<ssize_t>(pid.size())) {
      return FileError("cannot write", path, errno);
    }
    return absl::OkStatus();
  }

 private:
  std::string Holder() const {
    char text[32];
    const ssize_t n = ::pread(fd_, text, sizeof(text), 0);
    int64_t pid = 0;
    if (n <= 0 || !absl::SimpleAtoi(absl::string_view(text, n), &pid)) {
      return "another process";
    }
    return absl::StrCat("process ", pid,
                        pid == ::getpid() ? " (this one)" : "");
  }

  int fd_ = -1;
};

uint64_t DrawIncarnation() {
  uint64_t drawn = 0;
  while (drawn == 0) {  // 0 means "none"
    if (::getrandom(&drawn, sizeof(drawn), 0) != sizeof(drawn)) drawn = 0;
  }
  return drawn;
}

absl::StatusOr<bool> Exists(const std::string& path) {
  struct stat info;
  if (::lstat(path.c_str(), &info) == 0) return true;
  if (errno == ENOENT) return false;
  return FileError("cannot look at", path, errno);
}

// The first name in `dir`, by the alphabet, that `ignored` does not hold;
// empty when there is none.
absl::StatusOr<std::string> FirstName(const std::string& dir,
                                      const std::vector<std::string>& ignored) {
  std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(dir.c_str()),
                                              ::closedir);
  if (entries == nullptr) return FileError("cannot list", dir, errno);
  std::string first;
  while (const dirent* entry = ::readdir(entries.get())) {
    const std::string name = entry->d_name;
    if (name == "." || name == ".." || name == "lost+found" ||
        std::find(ignored.begin(), ignored.end(), name) != ignored.end()) {
      continue;
    }
    if (first.empty() || name < first) first = name;
  }
  return first;
}

// Refuses a directory that has no identity and yet holds something: another
// program's, or ours with the identity gone. Nothing is touched.
absl::Status CheckNew(const std::string& dir) {
  const auto exists = Exists(absl::StrCat(dir, "/", kIdentity));
  if (!exists.ok() || *exists) return exists.status();
  // What a first start that was cut off leaves behind is no hindrance.
  const auto foreign =
      FirstName(dir, {kLock, absl::StrCat(kIdentity, kUnfinishedSuffix)});
  if (!foreign.ok()) return foreign.status();
  if (!foreign->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the data directory ", dir, " is not empty (it holds '", *foreign,
        "') and has no file 'identity': it is not a data directory of kv739d, "
        "or it has been damaged; nothing was changed"));
  }
  return absl::OkStatus();
}

absl::Status CheckSame(const std::string& dir, const Identity& found,
                       const Identity& wanted) {
  if (found.cluster_id != wanted.cluster_id) {
    return absl::InvalidArgumentError(
        absl::StrCat("the data directory ", dir, " belongs to server ",
                     found.address, " of cluster ", FormatId(found.cluster_id),
                     ", not to cluster ", FormatId(wanted.cluster_id)));
  }
  if (found.node != wanted.node) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the data directory ", dir, " belongs to server ", found.address,
        " (node ", FormatId(found.node.value()), "), not to ", wanted.address,
        " (node ", FormatId(wanted.node.value()), ")"));
  }
  return absl::OkStatus();
}

class PosixDataDirectory : public DataDirectory {
 public:
  explicit PosixDataDirectory(std::string path) : path_(std::move(path)) {}

  absl::Status Open(const Identity& wanted) {
    if (absl::Status s = MakeDirectories(path_); !s.ok()) return s;
    // Once before anything is created, and again when nobody else can.
    if (absl::Status s = CheckNew(path_); !s.ok()) return s;
    if (absl::Status s = lock_.Take(path_); !s.ok()) return s;
    if (absl::Status s = CheckNew(path_); !s.ok()) return s;
    if (absl::Status s = OpenIdentity(wanted); !s.ok()) return s;
    const auto initialized = Exists(File(kInitialized));
    if (!initialized.ok()) return initialized.status();
    initialized_ = *initialized;
    for (const std::string& dir : {wal_path(), db_path()}) {
      absl::Status s = initialized_ ? CheckFilled(dir) : MakeDirectories(dir);
      if (!s.ok()) return s;
    }
    return OpenPeers();
  }

  const Identity& identity() const override { return identity_; }

  bool initialized() const override { return initialized_; }

  absl::Status MarkInitialized() override {
    if (initialized_) return absl::OkStatus();
    // The log makes its first file with its first write; until then this one
    // tells it from a log that is gone, see CheckFilled().
    absl::Status s = WriteFileDurably(absl::StrCat(wal_path(), "/", kInUse),
                                      "The log of this server is here.\n");
    if (!s.ok()) return s;
    s = WriteFileDurably(File(kInitialized),
                         "The replicas of this server have been made.\n");
    if (s.ok()) initialized_ = true;
    return s;
  }

  std::string wal_path() const override { return File("wal"); }
  std::string db_path() const override { return File("db"); }
  std::string install_path() const override { return File("install"); }

  absl::Status CheckPeer(raft::NodeId peer, uint64_t incarnation) override;

 private:
  std::string File(absl::string_view name) const {
    return absl::StrCat(path_, "/", name);
  }

  // A server that was made and finds its log or its data gone (a disk that is
  // not mounted) must not start from nothing under its old name: it would
  // vote again on what it has forgotten.
  absl::Status CheckFilled(const std::string& dir) const {
    const auto name = FirstName(dir, {});
    if (name.ok() && !name->empty()) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat(
        dir, name.ok() ? " is empty" : " cannot be read",
        " although this server has been in use (",
        name.ok() ? "is its disk mounted?" : name.status().message(),
        "). Put it back, or remove this server from its groups and add it "
        "again with an empty data directory"));
  }

  absl::Status OpenIdentity(const Identity& wanted) {
    const std::string path = File(kIdentity);
    const auto exists = Exists(path);
    if (!exists.ok()) return exists.status();
    const auto text = ReadWholeFile(path, kMaxIdentityBytes);
    if (!*exists) {
      identity_ = wanted;
      identity_.incarnation = DrawIncarnation();
      return WriteFileDurably(path, FormatIdentity(identity_));
    }
    if (!text.ok()) {
      return absl::DataLossError(text.status().message());
    }
    const auto found = ParseIdentity(*text, path);
    if (!found.ok()) return found.status();
    identity_ = *found;
    return CheckSame(path_, identity_, wanted);
  }

  absl::Status OpenPeers() {
    const auto text = ReadWholeFile(File(kPeers), kMaxPeersBytes);
    if (absl::IsNotFound(text.status())) return absl::OkStatus();
    if (!text.ok()) return absl::DataLossError(text.status().message());
    auto peers = ParsePeers(*text, File(kPeers));
    if (!peers.ok()) return peers.status();
    absl::MutexLock lock(&mutex_);
    peers_ = *std::move(peers);
    return absl::OkStatus();
  }

  absl::Status CheckKnown(raft::NodeId peer, uint64_t known,
                          uint64_t incarnation) const {
    if (known == incarnation) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        "node ", FormatId(peer.value()), " is known here as incarnation ",
        FormatId(known), " and says that it is ", FormatId(incarnation),
        ": it has lost its data directory and may have forgotten what it "
        "promised; remove it from its groups and add it as a new server"));
  }

  const std::string path_;
  DirectoryLock lock_;
  Identity identity_;
  bool initialized_ = false;

  absl::Mutex mutex_;
  PeerIncarnations peers_ ABSL_GUARDED_BY(mutex_);  // durable ones only
  // One thread writes the file, without the mutex; those that bring another
  // new peer wait for it, those whose peer is known do not.
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
};

absl::Status PosixDataDirectory::CheckPeer(raft::NodeId peer,
                                           uint64_t incarnation) {
  if (!peer || incarnation == 0) {
    return absl::InvalidArgumentError("a peer without node id or incarnation");
  }
  if (peer == identity_.node) {
    return CheckKnown(peer, identity_.incarnation, incarnation);
  }
  PeerIncarnations wanted;
  {
    absl::MutexLock lock(&mutex_);
    for (;;) {
      const auto known = peers_.find(peer);
      if (known != peers_.end()) {
        return CheckKnown(peer, known->second, incarnation);
      }
      if (!writing_) break;
      mutex_.Await(absl::Condition(
          +[](bool* writing) { return !*writing; }, &writing_));
    }
    if (peers_.size() >= kMaxPeers) {
      return absl::ResourceExhaustedError(
          absl::StrCat("more than ", kMaxPeers, " peers"));
    }
    writing_ = true;
    wanted = peers_;
  }
  wanted.emplace(peer, incarnation);
  const absl::Status written =
      WriteFileDurably(File(kPeers), FormatPeers(wanted));
  absl::MutexLock lock(&mutex_);
  writing_ = false;
  if (written.ok()) peers_ = std::move(wanted);
  return written;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DataDirectory>> DataDirectory::Open(
    const std::string& path, uint64_t cluster_id, raft::NodeId node,
    const std::string& address) {
  if (path.empty() || !node || address.empty() ||
      address.find_first_of(" \n") != std::string::npos) {
    return absl::InvalidArgumentError(
        "a data directory needs a path, a node id and an address");
  }
  auto directory = std::make_unique<PosixDataDirectory>(path);
  Identity wanted;
  wanted.cluster_id = cluster_id;
  wanted.node = node;
  wanted.address = address;
  if (absl::Status s = directory->Open(wanted); !s.ok()) return s;
  return directory;
}

}  // namespace kv739::server
