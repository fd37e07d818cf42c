#include "tests/support/storage_steps.h"

#include "absl/strings/str_cat.h"

namespace kv739::testing {
namespace {

const char* Name(wal::DiskOp op) {
  switch (op) {
    case wal::DiskOp::kWrite:
      return "write";
    case wal::DiskOp::kSync:
      return "sync";
    case wal::DiskOp::kCreate:
      return "create";
    case wal::DiskOp::kRename:
      return "rename";
    case wal::DiskOp::kRemove:
      return "remove";
    case wal::DiskOp::kSyncDir:
      return "sync of the directory";
    case wal::DiskOp::kRead:
      return "read";
  }
  return "?";
}

absl::Status Down() { return absl::AbortedError("the machine is down"); }

class SteppingIngestion : public kv::Ingestion {
 public:
  SteppingIngestion(StorageSteps* steps, std::unique_ptr<kv::Ingestion> inner)
      : steps_(steps), inner_(std::move(inner)) {}
  absl::Status Put(absl::string_view key, absl::string_view value) override {
    if (steps_->down()) return Down();
    return inner_->Put(key, value);
  }
  absl::Status Commit() override {
    if (steps_->down()) return Down();
    if (steps_->Next("commit of an ingestion")) {
      if (steps_->Done()) inner_->Commit().IgnoreError();
      return Down();
    }
    return inner_->Commit();
  }

 private:
  StorageSteps* const steps_;
  const std::unique_ptr<kv::Ingestion> inner_;
};

class SteppingEngine : public kv::MemoryEngine {
 public:
  explicit SteppingEngine(StorageSteps* steps) : steps_(steps) {}

  std::unique_ptr<kv::Batch> NewBatch() override { return inner_->NewBatch(); }
  absl::Status Apply(kv::Batch* batch) override {
    if (steps_->full()) return absl::ResourceExhaustedError("full");
    if (steps_->Next("apply")) return Down();
    return inner_->Apply(batch);
  }
  absl::StatusOr<bool> Get(absl::string_view key,
                           std::string* value) const override {
    return inner_->Get(key, value);
  }
  std::unique_ptr<kv::View> NewView() const override {
    return inner_->NewView();
  }
  absl::Status Flush() override {
    if (steps_->down()) return Down();
    if (steps_->Next("flush")) {
      if (steps_->Done()) inner_->Flush().IgnoreError();
      return Down();
    }
    return inner_->Flush();
  }
  absl::StatusOr<bool> GetDurable(absl::string_view key,
                                  std::string* value) const override {
    return inner_->GetDurable(key, value);
  }
  absl::StatusOr<std::unique_ptr<kv::Ingestion>> NewIngestion(
      absl::string_view begin, absl::string_view end,
      const std::string& dir) override {
    if (steps_->Next("begin of an ingestion")) return Down();
    auto inner = inner_->NewIngestion(begin, end, dir);
    if (!inner.ok()) return inner.status();
    return std::make_unique<SteppingIngestion>(steps_, *std::move(inner));
  }
  absl::Status background_error() const override {
    return steps_->down() ? Down() : inner_->background_error();
  }
  void Crash() override { inner_->Crash(); }

 private:
  StorageSteps* const steps_;
  const std::unique_ptr<kv::MemoryEngine> inner_ = kv::NewMemoryEngine();
};

}  // namespace

bool StorageSteps::Next(absl::string_view what) {
  if (down_) return true;
  if (++count_ != crash_at_) return false;
  down_ = true;
  crashed_in_ = std::string(what);
  return true;
}

void StorageSteps::Watch(wal::FakeFileSystem* disk) {
  disk->SetFaults([this](const wal::DiskCall& call) {
    wal::DiskFault fault;
    if (call.op == wal::DiskOp::kRead) return fault;
    if (Next(absl::StrCat(Name(call.op), " ", call.path))) {
      fault.kind = wal::DiskFault::kCrash;
    }
    return fault;
  });
}

std::unique_ptr<kv::MemoryEngine> NewSteppingEngine(StorageSteps* steps) {
  return std::make_unique<SteppingEngine>(steps);
}

}  // namespace kv739::testing
