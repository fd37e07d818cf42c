#include "kv/state_machine.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kv/coding.h"
#include "kv/directory.h"
#include "kv/invariant.h"
#include "kv/pending_writes.h"
#include "kv/records.h"
#include "kv/session_table.h"
#include "raft/planted.h"

namespace kv739::kv {
namespace {

using raft::GroupId;
using raft::LogPosition;

// Stamps above it (the year 6429) count as it, so that no stamp, however
// wrong, leaves no room for the versions that follow.
constexpr Version kMaxStamp = Version{1} << 63;

// Entries that are decoded, and whose keys are looked for, before the first of
// them is applied: their cache misses then overlap.
constexpr size_t kChunk = 32;
// Fewer are applied sooner than prefetched.
constexpr size_t kMinPrefetched = 4;
// Of a payload; the processor itself goes on behind it.
constexpr size_t kPrefetchedPayloadBytes = 512;
constexpr size_t kCacheLine = 64;

constexpr SessionLimits kLimits{kMaxSessions, kMaxSessionBytes,
                                kMaxBytesOfSession, kSessionWindow};
// Or the last write of a session might evict the session itself.
static_assert(kMaxBytesOfSession + kMaxValueBytes + kAnswerCost <
              kMaxSessionBytes);

absl::Status Damaged(GroupId group, absl::string_view what) {
  return absl::DataLossError(
      absl::StrCat("group ", group.value(), ": damaged or malformed ", what));
}

absl::StatusOr<Meta> ReadMeta(GroupId group, absl::StatusOr<bool> found,
                              absl::string_view record) {
  if (!found.ok()) return found.status();
  if (!*found) {
    return absl::NotFoundError(
        absl::StrCat("group ", group.value(), " is not in this store"));
  }
  Meta meta;
  if (!DecodeMeta(record, &meta)) return Damaged(group, "meta record");
  return meta;
}

// Everything of the group as it stands in the engine, which is the same bytes
// on all replicas; the group's number, the same in every key, is left out.
class ViewHash : public StateMachine::HashJob {
 public:
  ViewHash(GroupId group, std::unique_ptr<View> view)
      : group_(group), view_(std::move(view)) {}

  absl::StatusOr<StateMachine::StateHash> Run() override;

 private:
  const GroupId group_;
  const std::unique_ptr<View> view_;
};

absl::StatusOr<StateMachine::StateHash> ViewHash::Run() {
  std::string record;
  absl::StatusOr<bool> found = view_->Get(MetaKey(group_), &record);
  absl::StatusOr<Meta> meta = ReadMeta(group_, found, record);
  if (!meta.ok()) return meta.status();

  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(
      XXH3_createState(), XXH3_freeState);
  KV739_KV_CHECK(state != nullptr, "out of memory");
  XXH3_64bits_reset(state.get());
  StateMachine::StateHash result;
  result.index = meta->applied.index;
  const std::string prefix = GroupBegin(group_);
  std::string sizes;
  absl::Status status =
      view_->Scan(prefix, GroupBegin(group_ + 1),
                  [&](absl::string_view key, absl::string_view value) {
                    key.remove_prefix(prefix.size());
                    sizes.clear();
                    AppendFixed64(&sizes, key.size());
                    AppendFixed64(&sizes, value.size());
                    XXH3_64bits_update(state.get(), sizes.data(), sizes.size());
                    XXH3_64bits_update(state.get(), key.data(), key.size());
                    XXH3_64bits_update(state.get(), value.data(), value.size());
                    if (key[0] == static_cast<char>(Space::kData))
                      ++result.keys;
                    return true;
                  });
  if (!status.ok()) return status;
  result.hash = XXH3_64bits_digest(state.get());
  return result;
}

class StateMachineImpl : public StateMachine {
 public:
  StateMachineImpl(Engine* engine, GroupId group)
      : engine_(engine),
        group_(group),
        meta_key_(MetaKey(group)),
        batch_(engine->NewBatch()),
        pending_(group),
        sessions_(std::make_unique<SessionTable>(group, kLimits)) {}

  absl::Status Reload() override {
    const std::unique_ptr<View> view = engine_->NewView();
    std::string record;
    absl::StatusOr<bool> found = view->Get(meta_key_, &record);
    absl::StatusOr<Meta> meta = ReadMeta(group_, found, record);
    if (!meta.ok()) return meta.status();
    found = view->Get(ConfigurationKey(group_), &record);
    if (!found.ok()) return found.status();
    if (!*found) return Damaged(group_, "configuration: none");
    absl::StatusOr<raft::Configuration> configuration =
        raft::DecodeConfiguration(record);
    if (!configuration.ok()) return Damaged(group_, "configuration");
    auto sessions = std::make_unique<SessionTable>(group_, kLimits);
    absl::Status status;
    if (!KV739_PLANTED(K2_sessions_forgotten_at_restart)) {
      status = sessions->Restore(*view, meta->sessions_opened);
    }
    if (!status.ok()) return status;
    absl::StatusOr<std::shared_ptr<const ClusterMap>> directory =
        ReadDirectory(*view);
    if (!directory.ok()) return directory.status();
    meta_ = *meta;
    if (KV739_PLANTED(C3_version_not_restored)) meta_.last_version = 0;
    configuration_ = *std::move(configuration);
    sessions_ = std::move(sessions);
    directory_ = *std::move(directory);
    return absl::OkStatus();
  }

  absl::Status Apply(absl::Span<const raft::Entry> entries,
                     std::vector<ApplyResult>* results) override {
    if (entries.empty()) return absl::OkStatus();
    const size_t results_before = results != nullptr ? results->size() : 0;
    const Meta meta_before = meta_;
    sessions_->Begin();
    absl::Status status = ApplyAll(entries, results);
    if (status.ok()) {
      sessions_->Commit();
      if (new_configuration_)
        configuration_ = std::move(changed_configuration_);
      if (changed_directory_ != nullptr) directory_ = changed_directory_;
    } else {
      sessions_->Rollback();
      meta_ = meta_before;
      if (results != nullptr) results->resize(results_before);
    }
    new_configuration_ = false;
    changed_directory_ = nullptr;
    pending_.Clear();
    batch_->Clear();
    return status;
  }

  absl::StatusOr<Value> Get(absl::string_view key) const override {
    std::string data_key;
    SetDataKey(group_, key, &data_key);
    Value value;
    absl::string_view bytes;
    absl::StatusOr<bool> found = engine_->Get(data_key, &value.value);
    if (!found.ok()) return found.status();
    if (!*found) return Value();
    if (!DecodeValueRecord(data_key, value.value, &value.version, &bytes)) {
      return Damaged(group_, "value");
    }
    value.found = true;
    value.value.erase(0, kValueHeaderBytes);
    return value;
  }

  absl::Status Scan(const View& view, const ScanRequest& request,
                    ScanPage* page) const override {
    return ScanGroup(view, group_, request, page);
  }

  LogPosition applied() const override { return meta_.applied; }
  const raft::Configuration& configuration() const override {
    return configuration_;
  }
  Version last_version() const override { return meta_.last_version; }
  uint64_t session_count() const override { return sessions_->size(); }

  std::shared_ptr<const ClusterMap> directory() const override {
    return directory_;
  }

  absl::StatusOr<LogPosition> durable() const override {
    std::string record;
    absl::StatusOr<bool> found = engine_->GetDurable(meta_key_, &record);
    absl::StatusOr<Meta> meta = ReadMeta(group_, found, record);
    if (!meta.ok()) return meta.status();
    return meta->applied;
  }

  absl::StatusOr<StateHash> Hash() const override { return BeginHash()->Run(); }
  std::unique_ptr<HashJob> BeginHash() const override {
    return std::make_unique<ViewHash>(group_, engine_->NewView());
  }

 private:
  absl::Status ApplyAll(absl::Span<const raft::Entry> entries,
                        std::vector<ApplyResult>* results) {
    pending_.Expect(entries.size());
    wants_old_values_ = results != nullptr;
    for (; !entries.empty();
         entries.remove_prefix(std::min(entries.size(), kChunk))) {
      absl::Status status = ApplyChunk(entries.subspan(0, kChunk), results);
      if (!status.ok()) return status;
    }
    pending_.WriteTo(batch_.get());
    if (!KV739_PLANTED(K2_sessions_not_stored)) {
      sessions_->WriteTo(batch_.get());
    }
    meta_.sessions_opened = sessions_->opened();
    if (KV739_PLANTED(C2_applied_index_first)) {
      const std::unique_ptr<Batch> first = engine_->NewBatch();
      first->Put(meta_key_, EncodeMeta(meta_));
      absl::Status status = engine_->Apply(first.get());
      if (!status.ok()) return status;
    }
    batch_->Put(meta_key_, EncodeMeta(meta_));
    if (changed_directory_ != nullptr) {
      batch_->Put(DirectoryKey(group_), EncodeClusterMap(*changed_directory_));
    }
    return engine_->Apply(batch_.get());
  }

  // An entry that is ready to be applied.
  struct Decoded {
    Command command;                      // of a kCommand
    PendingWrites::Item* item = nullptr;  // of the key that it writes
  };

  absl::Status ApplyChunk(absl::Span<const raft::Entry> entries,
                          std::vector<ApplyResult>* results) {
    std::array<Decoded, kChunk> decoded;
    DecodeChunk(entries, absl::MakeSpan(decoded));
    ApplyResult unwanted;
    for (size_t n = 0; n < entries.size(); ++n) {
      const raft::Entry& entry = entries[n];
      KV739_KV_CHECK(entry.index == meta_.applied.index + 1,
                     "an entry does not follow the applied one");
      if (results == nullptr) unwanted = ApplyResult();
      absl::Status status =
          ApplyEntry(entry, decoded[n],
                     results != nullptr ? &results->emplace_back() : &unwanted);
      if (!status.ok()) return status;
      meta_.applied = {entry.term, entry.index};
    }
    return absl::OkStatus();
  }

  void DecodeChunk(absl::Span<const raft::Entry> entries,
                   absl::Span<Decoded> decoded) {
    const bool prefetch = entries.size() >= kMinPrefetched;
    for (const raft::Entry& entry : entries) {
      KV739_KV_CHECK(entry.data != nullptr, "an entry without data");
      if (!prefetch) continue;
      const size_t bytes =
          std::min(entry.data->size(), kPrefetchedPayloadBytes);
      for (size_t at = 0; at < bytes; at += kCacheLine) {
        __builtin_prefetch(entry.data->data() + at);
      }
    }
    for (size_t n = 0; n < entries.size(); ++n) {
      if (entries[n].kind != raft::EntryKind::kCommand) continue;
      absl::StatusOr<Command> command = DecodeCommand(*entries[n].data);
      KV739_KV_CHECK(command.ok(), "a command does not decode");
      decoded[n].command = *command;
      if (!IsWrite(command->op)) continue;
      decoded[n].item = pending_.Name(command->key);
      if (AsksForOldValue(*command)) decoded[n].item->Want();
    }
    if (prefetch) pending_.ReadTogether(*engine_);
  }

  // What a put or a delete replaces changes nothing of what it leaves:
  // followers need not look, unless the answer is kept for a session.
  bool AsksForOldValue(const Command& command) const {
    return wants_old_values_ || command.session != 0 ||
           (command.op != Op::kPut && command.op != Op::kDelete);
  }

  absl::Status ApplyEntry(const raft::Entry& entry, const Decoded& decoded,
                          ApplyResult* result) {
    switch (entry.kind) {
      case raft::EntryKind::kNoop:
        return absl::OkStatus();
      case raft::EntryKind::kConfiguration: {
        auto configuration = raft::DecodeConfiguration(*entry.data);
        KV739_KV_CHECK(configuration.ok(), "a configuration does not decode");
        changed_configuration_ = *std::move(configuration);
        new_configuration_ = true;
        batch_->Put(ConfigurationKey(group_), *entry.data);
        return absl::OkStatus();
      }
      case raft::EntryKind::kCommand:
        return ApplyCommand(decoded.command, decoded.item, entry.index, result);
    }
    KV739_KV_CHECK(false, "an entry of an unknown kind");
    return absl::OkStatus();
  }

  absl::Status ApplyCommand(const Command& command, PendingWrites::Item* item,
                            raft::Index index, ApplyResult* result) {
    if (command.op == Op::kOpenSession) {
      result->session = sessions_->Open(index);
      return absl::OkStatus();
    }
    if (command.op == Op::kCloseSession) {
      if (!sessions_->Close(command.session)) {
        result->code = ApplyCode::kSessionUnknown;
      }
      return absl::OkStatus();
    }
    if (command.op == Op::kAudit) return absl::OkStatus();
    if (command.op == Op::kDirectory) {
      ChangeDirectory(command.value, result);
      return absl::OkStatus();
    }
    if (command.session == 0) return Execute(command, item, result);

    const SessionTable::Admission admission = sessions_->Admit(command, index);
    if (admission.duplicate != nullptr &&
        !KV739_PLANTED(K1_repetition_done_again)) {
      return Repeat(command, *admission.duplicate, result);
    }
    result->code = admission.code;
    if (admission.code != ApplyCode::kOk) return absl::OkStatus();
    absl::Status status = Execute(command, item, result);
    if (!status.ok()) return status;
    Answer answer;
    answer.sequence = command.sequence;
    answer.code = result->code;
    answer.existed = result->existed;
    answer.version = result->version;
    answer.old_size = static_cast<uint32_t>(result->old_value.size());
    if (wants_old_values_) {
      answer.old_value = result->old_value;
    } else {
      answer.old_value = std::move(result->old_value);
    }
    sessions_->Remember(std::move(answer));
    return absl::OkStatus();
  }

  absl::StatusOr<std::shared_ptr<const ClusterMap>> ReadDirectory(
      const View& view) const {
    if (group_ != kDirectoryGroup) return nullptr;
    std::string record;
    absl::StatusOr<bool> found = view.Get(DirectoryKey(group_), &record);
    if (!found.ok()) return found.status();
    if (!*found) return nullptr;
    absl::StatusOr<ClusterMap> map = DecodeClusterMap(record);
    if (!map.ok()) return Damaged(group_, "cluster map");
    return std::make_shared<const ClusterMap>(*std::move(map));
  }

  void ChangeDirectory(absl::string_view bytes, ApplyResult* result) {
    const ClusterMap* before = changed_directory_ != nullptr
                                   ? changed_directory_.get()
                                   : directory_.get();
    absl::StatusOr<ClusterMap> after = ChangedDirectory(before, bytes);
    if (!after.ok()) {
      result->code = ApplyCode::kRefused;
      result->version = static_cast<Version>(after.status().code());
      result->old_value = std::string(after.status().message());
      return;
    }
    result->version = after->epoch;
    if (before != nullptr && after->epoch == before->epoch) return;
    changed_directory_ = std::make_shared<const ClusterMap>(*std::move(after));
  }

  absl::StatusOr<ClusterMap> ChangedDirectory(const ClusterMap* before,
                                              absl::string_view bytes) const {
    if (group_ != kDirectoryGroup) {
      return absl::InvalidArgumentError(absl::StrCat(
          "group ", group_.value(), " does not carry the directory"));
    }
    absl::StatusOr<DirectoryChange> change = DecodeDirectoryChange(bytes);
    if (!change.ok()) return change.status();
    return ApplyDirectoryChange(before, *change);
  }

  absl::Status Repeat(const Command& command, const Answer& answer,
                      ApplyResult* result) {
    result->code = answer.code;
    result->existed = answer.existed;
    result->duplicate = true;
    result->version = answer.version;
    result->old_value = answer.old_value;
    // A large one of an earlier batch.
    if (!answer.large() || !answer.old_value.empty()) return absl::OkStatus();
    const std::string key =
        OldValueKey(group_, command.session, command.sequence);
    std::string record;
    absl::StatusOr<bool> found = engine_->Get(key, &record);
    if (!found.ok()) return found.status();
    Version version = 0;
    absl::string_view value;
    if (!*found || !DecodeValueRecord(key, record, &version, &value) ||
        version != answer.version || value.size() != answer.old_size) {
      return Damaged(group_, "old value of a session");
    }
    result->old_value = std::string(value);
    return absl::OkStatus();
  }

  // The write itself.
  absl::Status Execute(const Command& command, PendingWrites::Item* key_item,
                       ApplyResult* result) {
    if (AsksForOldValue(command)) {
      absl::Status status = pending_.Read(*engine_, key_item);
      if (!status.ok()) return status;
    }
    PendingWrites::Item& item = *key_item;
    result->existed = item.found();
    if (command.op == Op::kCompareAndSwap &&
        item.version() != command.expected &&
        !(KV739_PLANTED(C6_stale_compare) &&
          item.version() > command.expected)) {
      result->code = ApplyCode::kCompareFailed;
      result->version = item.version();
      result->old_value = std::string(item.value());
      return absl::OkStatus();
    }
    const uint64_t appended_to =
        command.op == Op::kAppend ? item.value().size() : 0;
    if (command.value.size() + appended_to > kMaxValueBytes) {
      result->code = ApplyCode::kValueTooLarge;
      return absl::OkStatus();
    }
    if (wants_old_values_ || command.session != 0) {
      result->old_value = std::string(item.value());
    }
    result->version = meta_.last_version =
        std::max(std::min(command.stamp, kMaxStamp), meta_.last_version + 1);
    if (command.op == Op::kDelete) {
      if (!KV739_PLANTED(C7_delete_not_done)) item.Remove();
    } else if (command.op == Op::kAppend) {
      item.SetOwned(result->version, absl::StrCat(item.value(), command.value));
    } else {
      item.Set(result->version, command.value);
    }
    return absl::OkStatus();
  }

  Engine* const engine_;
  const GroupId group_;
  const std::string meta_key_;
  Meta meta_;
  raft::Configuration configuration_;
  std::shared_ptr<const ClusterMap> directory_;

  // The batch under way; empty between calls of Apply, kept for its memory.
  const std::unique_ptr<Batch> batch_;
  PendingWrites pending_;
  std::unique_ptr<SessionTable> sessions_;  // never null
  raft::Configuration changed_configuration_;
  bool new_configuration_ = false;
  std::shared_ptr<const ClusterMap> changed_directory_;
  bool wants_old_values_ = true;  // somebody asks for results
};

}  // namespace

absl::Status StateMachine::Create(Engine* engine, GroupId group,
                                  const raft::Configuration& configuration) {
  if (group.value() > kMaxGroupId) {
    return absl::InvalidArgumentError(absl::StrCat(
        "group ", group.value(), " is above the limit of ", kMaxGroupId));
  }
  absl::Status status = configuration.Validate();
  if (!status.ok()) return status;
  std::string record;
  absl::StatusOr<bool> found = engine->Get(MetaKey(group), &record);
  if (!found.ok()) return found.status();
  if (*found) {
    return absl::AlreadyExistsError(
        absl::StrCat("group ", group.value(), " is in this store already"));
  }
  const std::unique_ptr<Batch> batch = engine->NewBatch();
  Meta meta;
  meta.applied = kFirstPosition;
  batch->Put(MetaKey(group), EncodeMeta(meta));
  batch->Put(ConfigurationKey(group), raft::EncodeConfiguration(configuration));
  return engine->Apply(batch.get());
}

absl::StatusOr<std::vector<GroupId>> StateMachine::List(const Engine& engine) {
  const std::unique_ptr<View> view = engine.NewView();
  const std::string end = GroupBegin(raft::kNoGroup);
  std::vector<GroupId> groups;
  // Looks at one key of each group.
  for (GroupId next(0); next.value() <= kMaxGroupId;) {
    std::string first;
    absl::Status status = view->Scan(
        GroupBegin(next), end, [&](absl::string_view key, absl::string_view) {
          first = std::string(key);
          return false;
        });
    if (!status.ok()) return status;
    if (first.empty()) break;
    GroupId group;
    // The first key of a whole group is its meta record.
    if (!ParseGroup(first, &group) || first != MetaKey(group)) {
      return absl::DataLossError("a key that belongs to no group");
    }
    groups.push_back(group);
    next = group + 1;
  }
  return groups;
}

absl::StatusOr<std::unique_ptr<StateMachine>> StateMachine::Open(
    Engine* engine, GroupId group) {
  auto machine = std::make_unique<StateMachineImpl>(engine, group);
  absl::Status status = machine->Reload();
  if (!status.ok()) return status;
  return machine;
}

absl::Status StateMachine::Remove(Engine* engine, GroupId group,
                                  const std::string& dir) {
  auto nothing =
      engine->NewIngestion(GroupBegin(group), GroupBegin(group + 1), dir);
  if (!nothing.ok()) return nothing.status();
  return (*nothing)->Commit();
}

std::unique_ptr<StateMachine> StateMachine::Vacant(Engine* engine,
                                                   GroupId group) {
  return std::make_unique<StateMachineImpl>(engine, group);
}

}  // namespace kv739::kv
