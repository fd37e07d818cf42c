#include "tests/simulation/sim_store.h"

namespace kv739::world {

class SimStore::SimIngestion : public kv::Ingestion {
 public:
  SimIngestion(SimStore* store, std::unique_ptr<kv::Ingestion> ingestion)
      : store_(store), ingestion_(std::move(ingestion)) {}

  absl::Status Put(absl::string_view key, absl::string_view value) override {
    return ingestion_->Put(key, value);
  }
  absl::Status Commit() override {
    return store_->Step([this] { return ingestion_->Commit(); });
  }

 private:
  SimStore* const store_;
  const std::unique_ptr<kv::Ingestion> ingestion_;
};

absl::StatusOr<std::unique_ptr<kv::Ingestion>> SimStore::NewIngestion(
    absl::string_view begin, absl::string_view end, const std::string& dir) {
  auto ingestion = engine_->NewIngestion(begin, end, dir);
  if (!ingestion.ok()) return ingestion.status();
  return std::make_unique<SimIngestion>(this, *std::move(ingestion));
}

}  // namespace kv739::world
