// What the tests of engines and state machines share.
#ifndef KV739_TESTS_UNIT_KV_STATE_SUPPORT_H_
#define KV739_TESTS_UNIT_KV_STATE_SUPPORT_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>
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

// An engine of either kind that can be crashed: what was not flushed is gone.
class TestEngine {
 public:
  enum class Kind { kMemory, kRocks };

  explicit TestEngine(Kind kind) : kind_(kind) { Reopen(); }

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
    auto copy = std::make_unique<TempDir>();
    std::filesystem::copy(dir_->path(), copy->path(),
                          std::filesystem::copy_options::recursive);
    engine_.reset();
    dir_ = std::move(copy);
    Reopen();
  }

 private:
  void Reopen() {
    if (kind_ == Kind::kMemory) {
      engine_ = NewMemoryEngine();
      return;
    }
    if (dir_ == nullptr) dir_ = std::make_unique<TempDir>();
    auto engine = OpenRocksEngine(dir_->path(), SmallEngine());
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }

  const Kind kind_;
  std::unique_ptr<TempDir> dir_;
  std::unique_ptr<Engine> engine_;
};

inline std::string KindName(
    const testing::TestParamInfo<TestEngine::Kind>& info) {
  return info.param == TestEngine::Kind::kMemory ? "Memory" : "Rocks";
}

// Passes everything on, except that writes fail while `write_error` says so.
class FailingEngine : public Engine {
 public:
  explicit FailingEngine(Engine* engine) : engine_(engine) {}

  absl::Status write_error;
  absl::Status read_error;

  std::unique_ptr<Batch> NewBatch() override { return engine_->NewBatch(); }
  absl::Status Apply(Batch* batch) override {
    return write_error.ok() ? engine_->Apply(batch) : write_error;
  }
  absl::StatusOr<bool> Get(absl::string_view key,
                           std::string* value) const override {
    if (!read_error.ok()) return read_error;
    return engine_->Get(key, value);
  }
  std::unique_ptr<View> NewView() const override { return engine_->NewView(); }
  absl::Status Flush() override { return engine_->Flush(); }
  absl::StatusOr<bool> GetDurable(absl::string_view key,
                                  std::string* value) const override {
    return engine_->GetDurable(key, value);
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

// The log of a group; entries are numbered as they come.
class TestLog {
 public:
  const std::vector<raft::Entry>& entries() const { return entries_; }
  raft::Entry& Add(raft::EntryKind kind, std::string bytes) {
    raft::Entry entry;
    entry.term = raft::Term(1 + entries_.size() / 100);
    entry.index = raft::Index(entries_.size() + 1);
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

}  // namespace kv739::kv

#endif  // KV739_TESTS_UNIT_KV_STATE_SUPPORT_H_
