#include "client/wire.h"

#include <algorithm>
#include <string>
#include <utility>

namespace kv739::client {
namespace {

void FillId(const Outgoing& out, v1::WriteId* id) {
  id->set_session(out.identity.session);
  id->set_sequence(out.identity.sequence);
  id->set_floor(out.floor);
}

void FillOperation(const Outgoing& out, v1::Operation* message) {
  const Request& request = out.operation->request;
  message->set_tag(out.tag);
  switch (request.kind) {
    case OpKind::kGet:
      message->mutable_get()->set_key(request.key);
      return;
    case OpKind::kPut: {
      v1::PutRequest* put = message->mutable_put();
      put->set_key(request.key);
      put->set_value(request.value);
      FillId(out, put->mutable_id());
      return;
    }
    case OpKind::kDelete: {
      v1::DeleteRequest* del = message->mutable_delete_();
      del->set_key(request.key);
      FillId(out, del->mutable_id());
      return;
    }
    case OpKind::kAppend: {
      v1::AppendRequest* append = message->mutable_append();
      append->set_key(request.key);
      append->set_value(request.value);
      FillId(out, append->mutable_id());
      return;
    }
    case OpKind::kCas: {
      v1::CompareAndSwapRequest* cas = message->mutable_compare_and_swap();
      cas->set_key(request.key);
      cas->set_value(request.value);
      cas->set_expected_version(request.expected);
      FillId(out, cas->mutable_id());
      return;
    }
    case OpKind::kScan: {
      v1::ScanRequest* scan = message->mutable_scan();
      scan->set_slot(request.scan->slot);
      scan->set_from(request.scan->from);
      scan->set_prefix(request.scan->prefix);
      scan->set_max_keys(request.scan->max_keys);
      scan->set_keys_only(request.scan->keys_only);
      return;
    }
    case OpKind::kOpenSession:
      message->mutable_open_session()->set_group(request.group.value());
      return;
  }
}

// A newer server may know codes that are unknown here: no promise then.
AnswerCode CodeOf(v1::ErrorCode code) {
  if (code < v1::INVALID_ARGUMENT || code > v1::NOT_FOUND) {
    return AnswerCode::kUnknown;
  }
  return static_cast<AnswerCode>(code);
}

// A newer server may know states that are unknown here: it has not left then.
kv::NodeState StateOf(v1::NodeState state) {
  switch (state) {
    case v1::LEAVING:
      return kv::NodeState::kLeaving;
    case v1::LEFT:
      return kv::NodeState::kLeft;
    default:
      return kv::NodeState::kActive;
  }
}

// nullptr when the next page would begin at no place that there is.
std::shared_ptr<ScanPage> TakePage(v1::ScanResponse* scan) {
  auto page = std::make_shared<ScanPage>();
  page->entries.reserve(scan->entries_size());
  for (v1::ScanResponse::Entry& entry : *scan->mutable_entries()) {
    page->entries.push_back({std::move(*entry.mutable_key()),
                             std::move(*entry.mutable_value()),
                             entry.version()});
  }
  page->more = scan->more();
  if (!page->more) return page;
  page->next_slot = scan->next_slot();
  page->next_from = std::move(*scan->mutable_next_from());
  if (page->next_slot >= kv::kSlotCount ||
      page->next_from.size() > KV739_MAX_KEY) {
    return nullptr;
  }
  return page;
}

void TakeError(v1::Error* error, Answer* answer) {
  answer->code = CodeOf(error->code());
  answer->message = std::move(*error->mutable_message());
  if (answer->message.empty()) {
    answer->message = "error " + std::to_string(error->code());
  }
  answer->leader = std::move(*error->mutable_leader());
  answer->map_epoch = error->map_epoch();
}

}  // namespace

void FillBatch(const std::vector<Outgoing>& batch,
               v1::OperationBatch* message) {
  message->Clear();
  for (const Outgoing& out : batch) {
    FillOperation(out, message->add_operations());
  }
}

std::vector<Answer> TakeAnswers(v1::ResultBatch* message) {
  std::vector<Answer> answers;
  answers.reserve(message->results_size());
  for (v1::OperationResult& result : *message->mutable_results()) {
    Answer& answer = answers.emplace_back();
    answer.tag = result.tag();
    if (result.has_error() && result.error().code() != v1::OK) {
      TakeError(result.mutable_error(), &answer);
      continue;
    }
    switch (result.kind_case()) {
      case v1::OperationResult::kGet: {
        v1::GetResponse* get = result.mutable_get();
        answer.found = get->found();
        answer.version = get->version();
        answer.value = std::move(*get->mutable_value());
        break;
      }
      case v1::OperationResult::kWrite: {
        v1::WriteResponse* write = result.mutable_write();
        answer.found = write->existed();
        answer.swapped = write->swapped();
        answer.version = write->version();
        answer.value = std::move(*write->mutable_old_value());
        break;
      }
      case v1::OperationResult::kOpenSession:
        answer.session = result.open_session().session();
        break;
      case v1::OperationResult::kScan:
        answer.page = TakePage(result.mutable_scan());
        break;
      case v1::OperationResult::KIND_NOT_SET:
        answer.code = AnswerCode::kUnknown;
        answer.message = "an answer without a result";
        break;
    }
  }
  return answers;
}

std::unique_ptr<kv::ClusterMap> ReadMap(const v1::GetMapResponse& message) {
  auto map = std::make_unique<kv::ClusterMap>();
  map->cluster_id = message.cluster_id();
  map->epoch = message.epoch();
  map->groups_per_five = std::max(1u, message.groups_per_five());
  for (const v1::Node& node : message.nodes()) {
    auto address = kv::Address::Parse(node.address());
    if (!address.ok()) return nullptr;
    kv::NodeInfo info;
    info.id = raft::NodeId(node.id());
    info.address = *std::move(address);
    info.metrics_port = static_cast<uint16_t>(node.metrics_port());
    info.http_port = static_cast<uint16_t>(node.http_port());
    info.state = StateOf(node.state());
    map->nodes.push_back(std::move(info));
  }
  for (const v1::Group& group : message.groups()) {
    kv::GroupInfo info;
    info.id = raft::GroupId(group.id());
    for (uint64_t member : group.members()) {
      info.members.push_back(raft::NodeId(member));
    }
    for (uint64_t member : group.target()) {
      info.target.push_back(raft::NodeId(member));
    }
    // Servers of before there were targets.
    if (info.target.empty()) info.target = info.members;
    for (uint64_t node : group.withdrawn()) {
      info.withdrawn.push_back(raft::NodeId(node));
    }
    std::sort(info.withdrawn.begin(), info.withdrawn.end());
    std::sort(info.members.begin(), info.members.end());
    std::sort(info.target.begin(), info.target.end());
    info.automatic = group.automatic();
    map->groups.push_back(std::move(info));
  }
  for (const v1::SlotRange& range : message.slots()) {
    if (range.first() != map->slots.size() || range.last() < range.first() ||
        range.last() >= kv::kSlotCount) {
      return nullptr;
    }
    map->slots.resize(range.last() + 1, raft::GroupId(range.group()));
  }
  if (map->slots.size() != kv::kSlotCount || map->nodes.empty()) {
    return nullptr;
  }
  return map;
}

}  // namespace kv739::client
