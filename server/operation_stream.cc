#include "server/operation_stream.h"

#include <string>
#include <utility>
#include <vector>

#include "server/operation_codec.h"

namespace kv739::server {
namespace {

// A result without its value.
constexpr uint64_t kResultOverhead = 64;
// A read is easily done again, a write is not: its old value may wait in so
// many times the room.
constexpr uint64_t kWriteRoom = 4;
// Messages that held more are not kept for reuse.
constexpr int kMaxKeptResults = 1024;
constexpr int kMaxKeptOperations = 1024;

}  // namespace

OperationStream::OperationStream(RpcLoop* loop, const StreamLimits& limits,
                                 Hooks hooks)
    : loop_(loop),
      shared_(loop->shared()),
      limits_(limits),
      hooks_(std::move(hooks)),
      accepted_tag_(this, &OperationStream::OnAccepted),
      read_tag_(this, &OperationStream::OnRead),
      written_tag_(this, &OperationStream::OnWritten),
      finished_tag_(this, &OperationStream::OnFinished) {}

void OperationStream::Arm(v1::KeyValue::AsyncService* service) {
  OpPass pass(&shared_->gate);
  if (!pass) return;
  context_.emplace();
  call_.emplace(&*context_);
  service->RequestStream(&*context_, &*call_, loop_->queue(), loop_->queue(),
                         &accepted_tag_);
}

void OperationStream::OnAccepted(bool ok) {
  if (!ok) {
    const std::shared_ptr<OperationStream> self = shared_from_this();
    hooks_.ended();
    return;
  }
  open_ = true;
  shared_->CallBegins();
  hooks_.accepted();
  if (shared_->stopping.load()) {
    stopping_ = true;
    FinishIfDone();
    return;
  }
  Read();
}

void OperationStream::Read() {
  OpPass pass(&shared_->gate);
  if (!pass) return;
  reading_ = true;
  call_->Read(&request_, &read_tag_);
}

void OperationStream::OnRead(bool ok) {
  reading_ = false;
  if (finishing_ || !ok) {
    input_over_ = true;
    FinishIfDone();
    EndIfOver();
    return;
  }
  if (static_cast<uint32_t>(request_.operations_size()) >
      limits_.max_message_operations) {
    refusal_ = "a message holds more than " +
               std::to_string(limits_.max_message_operations) + " operations";
    input_over_ = true;
  } else {
    TakeOperations();
  }
  if (request_.operations_size() > kMaxKeptOperations) {
    v1::OperationBatch().Swap(&request_);
  }
  Flush();
  if (input_over_) {
    FinishIfDone();
    return;
  }
  bool pause;
  {
    const std::lock_guard lock(mutex_);
    pause = waiting_bytes_ > limits_.pause_bytes;
  }
  // OnWritten() reads on; results wait, so a write is under way.
  read_paused_ = pause;
  if (!pause) Read();
}

void OperationStream::TakeOperations() {
  const uint32_t count = static_cast<uint32_t>(request_.operations_size());
  uint32_t room;
  {
    const std::lock_guard lock(mutex_);
    const uint32_t held = unanswered_ + waiting_results_;
    room = held < limits_.max_operations ? limits_.max_operations - held : 0;
    if (room > count) room = count;
    unanswered_ += room;
  }
  const uint64_t now = loop_->now_nanos();
  std::shared_ptr<ReplySink> self = shared_from_this();
  std::vector<Reply> refused;
  for (uint32_t i = 0; i < count; ++i) {
    Operation operation;
    const bool valid = DecodeOperation(
        request_.mutable_operations(static_cast<int>(i)), &operation);
    if (i >= room) {
      refused.push_back(
          RefusedReply(operation, ReplyCode::kOverloaded,
                       "more than " + std::to_string(limits_.max_operations) +
                           " operations in flight on one stream"));
    } else if (!valid) {
      refused.push_back(RefusedReply(operation, ReplyCode::kInvalidArgument,
                                     "the operation says not what to do"));
    } else {
      operation.sink = self;
      operation.start_nanos = now;
      loop_->AddOperation(std::move(operation));
      continue;
    }
  }
  if (refused.empty()) return;
  const std::lock_guard lock(mutex_);
  for (Reply& reply : refused) {
    if (reply.code == ReplyCode::kInvalidArgument) --unanswered_;
    AddResult(&reply);
  }
}

void OperationStream::AddResult(Reply* reply) {
  if (broken_) return;
  const uint64_t room =
      limits_.max_waiting_bytes * (IsRead(reply->kind) ? 1 : kWriteRoom);
  const uint64_t data = reply->data_bytes();
  if (reply->code == ReplyCode::kOk && data > 0 &&
      waiting_bytes_ + data > room) {
    reply->code =
        IsRead(reply->kind) ? ReplyCode::kOverloaded : ReplyCode::kUnknown;
    reply->message = "the client does not take its results";
    reply->value.clear();
    reply->page = nullptr;
  }
  const uint64_t bytes =
      kResultOverhead + reply->data_bytes() + reply->message.size();
  if (waiting_.empty() ||
      waiting_.back()->bytes + bytes > limits_.max_message_bytes) {
    waiting_.push_back(spare_ != nullptr ? std::move(spare_)
                                         : std::make_unique<Batch>());
  }
  Batch* batch = waiting_.back().get();
  EncodeResult(reply, batch->message.add_results());
  batch->bytes += bytes;
  waiting_bytes_ += bytes;
  ++waiting_results_;
}

void OperationStream::Deliver(Reply reply) {
  const std::lock_guard lock(mutex_);
  --unanswered_;
  AddResult(&reply);
}

void OperationStream::Flush() {
  OpPass pass(&shared_->gate);
  if (!pass) return;
  Batch* batch;
  {
    const std::lock_guard lock(mutex_);
    if (broken_ || writing_ != nullptr || waiting_.empty()) return;
    writing_ = std::move(waiting_.front());
    waiting_.pop_front();
    batch = writing_.get();
    batch->message.set_map_epoch(shared_->map_epoch.load());
    waiting_bytes_ -= batch->bytes;
    waiting_results_ -= static_cast<uint32_t>(batch->message.results_size());
  }
  call_->Write(batch->message, &written_tag_);
}

void OperationStream::OnWritten(bool ok) {
  bool resume;
  {
    const std::lock_guard lock(mutex_);
    RecycleWritten();
    if (!ok) {
      broken_ = true;
      DropResults();
    }
    resume = read_paused_ && waiting_bytes_ <= limits_.pause_bytes;
  }
  Flush();
  if (resume && !input_over_ && !finishing_) {
    read_paused_ = false;
    Read();
  }
  FinishIfDone();
}

void OperationStream::RecycleWritten() {
  std::unique_ptr<Batch> batch = std::move(writing_);
  if (spare_ != nullptr || batch->message.results_size() > kMaxKeptResults) {
    return;
  }
  batch->message.Clear();
  batch->bytes = 0;
  spare_ = std::move(batch);
}

void OperationStream::DropResults() {
  waiting_.clear();
  waiting_bytes_ = 0;
  waiting_results_ = 0;
}

void OperationStream::BeginStop() {
  stopping_ = true;
  if (open_) FinishIfDone();
}

void OperationStream::FinishIfDone() {
  if (!open_ || finishing_) return;
  grpc::Status status;
  {
    const std::lock_guard lock(mutex_);
    if (writing_ != nullptr) return;
    const bool answered = unanswered_ == 0 && waiting_.empty();
    if (!broken_ && !((input_over_ || stopping_) && answered)) return;
    broken_ = true;
    DropResults();
  }
  if (!refusal_.empty()) {
    status = grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, refusal_);
  } else if (stopping_ && !input_over_) {
    status = grpc::Status(grpc::StatusCode::UNAVAILABLE, "server is stopping");
  }
  OpPass pass(&shared_->gate);
  if (!pass) return;
  finishing_ = true;
  call_->Finish(status, &finished_tag_);
}

void OperationStream::OnFinished(bool) {
  finished_ = true;
  EndIfOver();
}

void OperationStream::EndIfOver() {
  if (!finished_ || reading_) return;
  const std::shared_ptr<OperationStream> self = shared_from_this();
  open_ = false;
  Release();
  shared_->CallEnds();
  hooks_.ended();
}

void OperationStream::Release() {
  call_.reset();
  context_.reset();
}

}  // namespace kv739::server
