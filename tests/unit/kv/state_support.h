// What the tests of engines and state machines share.
#ifndef KV739_TESTS_UNIT_KV_STATE_SUPPORT_H_
#define KV739_TESTS_UNIT_KV_STATE_SUPPORT_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "kv/engine.h"
#include "kv/state_machine.h"

namespace kv739::kv {

// A directory of its own, gone with it.
class TempDir {
 public:
  TempDir() {
    std::string name = testing::TempDir() + "kv739_XXXXXX";
    path_ = mkdtemp(name.data());
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline EngineOptions SmallEngine() {
  EngineOptions options;
  options.write_buffer_bytes = 4 << 20;
  options.block_cache_bytes = 8 << 20;
  return options;
}

// So small that every test writes out and evicts; it does not refuse.
inline BufferOptions SmallBuffer() {
  BufferOptions options;
  options.write_out_bytes = 64 << 10;
  options.cache_bytes = 16 << 10;
  return options;
}

// An engine of any kind that can be crashed: what was not flushed is gone.
class TestEngine {
 public:
  // kDirect: buffered, and all is written out by ApplySorted(), so that it may
  // be durable before a Flush().
  enum class Kind { kMemory, kRocks, kBuffered, kDirect };

  explicit TestEngine(Kind kind) : kind_(kind) { Reopen(); }

  Kind kind() const { return kind_; }
  Engine* get() { return engine_.get(); }
  Engine* operator->() { return engine_.get(); }

  // Closes in order and opens again.
  void Restart() {
    if (kind_ == Kind::kMemory) {
      EXPECT_TRUE(engine_->Flush().ok());
      return;
    }
    engine_.reset();
    Reopen();
  }

  // As if the process had died: goes on from a copy of the files as they are.
  void Crash() {
    if (kind_ == Kind::kMemory) {
      static_cast<MemoryEngine*>(engine_.get())->Crash();
      return;
    }
    std::unique_ptr<TempDir> copy;
    do {
      copy = std::make_unique<TempDir>();
    } while (!CopyAsOfOneMoment(dir_->path(), copy->path()));
    engine_.reset();
    dir_ = std::move(copy);
    Reopen();
  }

 private:
  static std::set<std::string> Names(const std::string& directory) {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
      names.insert(entry.path().filename());
    }
    return names;
  }
  // False when files came or went meanwhile: RocksDB's background threads go
  // on while we copy, and a crash happens at one moment.
  static bool CopyAsOfOneMoment(const std::string& from,
                                const std::string& to) {
    const std::set<std::string> before = Names(from);
    std::error_code error;
    std::filesystem::copy(from, to, std::filesystem::copy_options::recursive,
                          error);
    return !error && Names(from) == before;
  }

  void Reopen() {
    if (kind_ == Kind::kMemory) {
      engine_ = NewMemoryEngine();
      return;
    }
    if (dir_ == nullptr) dir_ = std::make_unique<TempDir>();
    auto engine = OpenRocksEngine(dir_->path(), SmallEngine());
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
    if (kind_ == Kind::kRocks) return;
    BufferOptions buffer = SmallBuffer();
    if (kind_ == Kind::kDirect) buffer.direct_bytes = 0;
    engine_ = NewBufferedEngine(std::move(engine_), buffer);
  }

  const Kind kind_;
  std::unique_ptr<TempDir> dir_;
  std::unique_ptr<Engine> engine_;
};

inline std::string KindName(
    const testing::TestParamInfo<TestEngine::Kind>& info) {
  switch (info.param) {
    case TestEngine::Kind::kMemory:
      return "Memory";
    case TestEngine::Kind::kRocks:
      return "Rocks";
    case TestEngine::Kind::kBuffered:
      return "Buffered";
    case TestEngine::Kind::kDirect:
      return "Direct";
  }
  return "?";
}

// Passes everything on, except that writes fail while `write_error` says so.
class FailingEngine : public Engine {
 public:
  explicit FailingEngine(Engine* engine) : engine_(engine) {}

  absl::Status write_error;
  absl::Status read_error;
  // After each batch that was applied: what a crash could leave from then on.
  std::function<void()> after_apply;

  std::unique_ptr<Batch> NewBatch() override { return engine_->NewBatch(); }
  absl::Status Apply(Batch* batch) override {
    if (!write_error.ok()) return write_error;
    absl::Status status = engine_->Apply(batch);
    if (status.ok() && after_apply) after_apply();
    return status;
  }
  absl::StatusOr<bool> Get(absl::string_view key,
                           std::string* value) const override {
    if (!read_error.ok()) return read_error;
    return engine_->Get(key, value);
  }
  absl::StatusOr<bool> Read(const HashedKey& key,
                            LentValue* value) const override {
    if (!read_error.ok()) return read_error;
    return engine_->Read(key, value);
  }
  void ReadTogether(absl::Span<KeyRead> reads) const override {
    if (read_error.ok()) engine_->ReadTogether(reads);
  }
  std::unique_ptr<View> NewView() const override { return engine_->NewView(); }
  absl::Status Flush() override { return engine_->Flush(); }
  absl::StatusOr<bool> GetDurable(absl::string_view key,
                                  std::string* value) const override {
    return engine_->GetDurable(key, value);
  }
  absl::StatusOr<std::unique_ptr<Ingestion>> NewIngestion(
      absl::string_view begin, absl::string_view end,
      const std::string& dir) override {
    return engine_->NewIngestion(begin, end, dir);
  }
  absl::Status background_error() const override {
    return engine_->background_error();
  }

 private:
  Engine* const engine_;
};

inline raft::Configuration ThreeVoters() {
  raft::Configuration configuration;
  configuration.voters = {raft::NodeId(1), raft::NodeId(2), raft::NodeId(3)};
  return configuration;
}

// The log of a group; entries are numbered as they come, from the one that a
// new group does not have yet.
class TestLog {
 public:
  // How many of them were applied.
  static uint64_t Applied(const StateMachine& machine) {
    return machine.applied().index - kFirstPosition.index;
  }
  const std::vector<raft::Entry>& entries() const { return entries_; }
  raft::Entry& Add(raft::EntryKind kind, std::string bytes) {
    raft::Entry entry;
    entry.term = raft::Term(1 + entries_.size() / 100);
    entry.index = kFirstPosition.index + entries_.size() + 1;
    entry.kind = kind;
    entry.data = raft::MakePayload(std::move(bytes));
    entries_.push_back(std::move(entry));
    return entries_.back();
  }
  raft::Entry& Add(const Command& command) {
    return Add(raft::EntryKind::kCommand, EncodeCommand(command));
  }

 private:
  std::vector<raft::Entry> entries_;
};

// One group on one engine, and its log. Every command is applied at once.
class TestGroup {
 public:
  explicit TestGroup(TestEngine::Kind kind,
                     raft::GroupId group = raft::GroupId(7))
      : group_(group), engine_(kind) {
    EXPECT_TRUE(
        StateMachine::Create(engine_.get(), group_, ThreeVoters()).ok());
    EXPECT_TRUE(engine_->Flush().ok());
    Open();
  }

  StateMachine& machine() { return *machine_; }
  Engine& engine() { return *engine_.get(); }
  FailingEngine& failing() { return *failing_; }
  TestLog& log() { return log_; }

  ApplyResult Do(const Command& command) {
    log_.Add(command);
    return ApplyRest().back();
  }
  ApplyResult Do(Op op, absl::string_view key, absl::string_view value = "",
                 SessionId session = 0, Sequence sequence = 0,
                 Sequence floor = 0) {
    Command command;
    command.op = op;
    command.key = key;
    command.value = value;
    command.session = session;
    command.sequence = sequence;
    command.floor = floor;
    return Do(command);
  }
  SessionId OpenSession() {
    const SessionId id = Do(Op::kOpenSession, "").session;
    EXPECT_NE(id, 0u);
    return id;
  }

  // Everything in the log that is not applied, in one batch; waits for the
  // disk when the engine wants that.
  std::vector<ApplyResult> ApplyRest() {
    std::vector<ApplyResult> results;
    absl::Status status;
    do {
      status = machine_->Apply(absl::MakeConstSpan(log_.entries())
                                   .subspan(TestLog::Applied(*machine_)),
                               &results);
    } while (absl::IsResourceExhausted(status) && engine_->Flush().ok());
    EXPECT_TRUE(status.ok()) << status;
    return results;
  }

  std::string Get(absl::string_view key) {
    const absl::StatusOr<Value> value = machine_->Get(key);
    EXPECT_TRUE(value.ok()) << value.status();
    return value.ok() && value->found ? value->value : "(none)";
  }

  uint64_t Hash() {
    const auto hash = machine_->Hash();
    EXPECT_TRUE(hash.ok()) << hash.status();
    EXPECT_EQ(hash->index, machine_->applied().index);
    return hash->hash;
  }

  void Restart() {
    machine_.reset();
    engine_.Restart();
    Open();
  }
  // Loses what was not flushed.
  void Crash() {
    const absl::StatusOr<raft::LogPosition> durable = machine_->durable();
    ASSERT_TRUE(durable.ok()) << durable.status();
    machine_.reset();
    engine_.Crash();
    Open();
    // Its thread may have written out more since durable() was asked.
    if (engine_.kind() == TestEngine::Kind::kDirect) {
      EXPECT_GE(machine_->applied().index, durable->index);
    } else {
      EXPECT_EQ(machine_->applied(), *durable);
    }
  }
  void CrashAndReplay() {
    Crash();
    ApplyRest();
  }

 private:
  void Open() {
    failing_.emplace(engine_.get());
    auto machine = StateMachine::Open(&*failing_, group_);
    ASSERT_TRUE(machine.ok()) << machine.status();
    machine_ = *std::move(machine);
  }

  const raft::GroupId group_;
  TestEngine engine_;
  std::optional<FailingEngine> failing_;
  std::unique_ptr<StateMachine> machine_;
  TestLog log_;
};

inline void ExpectSame(const ApplyResult& a, const ApplyResult& b) {
  EXPECT_EQ(a.code, b.code);
  EXPECT_EQ(a.existed, b.existed);
  EXPECT_EQ(a.duplicate, b.duplicate);
  EXPECT_EQ(a.version, b.version);
  EXPECT_EQ(a.session, b.session);
  EXPECT_EQ(a.old_value, b.old_value);
}

}  // namespace kv739::kv

#endif  // KV739_TESTS_UNIT_KV_STATE_SUPPORT_H_
