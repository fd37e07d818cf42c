#include "server/peer_connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/message_codec.h"

namespace kv739::server {

namespace wire = ::raft::v1;

namespace {

// Of one connection, before the others' turn.
constexpr size_t kReadsPerTurn = 16;
constexpr int kFramesPerWrite = 64;
// What a thread keeps for the next batch.
constexpr size_t kMaxKeptBytes = 1 << 20;
// Of a frame in the queue, besides its bytes.
constexpr uint64_t kQueueOverhead = 64;

uint64_t Nanos(absl::Duration duration) {
  return static_cast<uint64_t>(absl::ToInt64Nanoseconds(duration));
}

bool IsNodeMessageKind(uint32_t kind) {
  return kind >= static_cast<uint32_t>(NodeMessage::Kind::kMap) &&
         kind <= static_cast<uint32_t>(NodeMessage::Kind::kPulse);
}

std::string ErrorText(int error) { return std::strerror(error); }

}  // namespace

PeerConnection::PeerConnection(Owner* owner, Socket socket,
                               raft::NodeId expected)
    : owner_(owner),
      map_epoch_(owner->map_epoch()),
      expected_(expected),
      own_(owner->OwnIdentity()),
      max_queue_bytes_(owner->max_queue_bytes()),
      parser_(kMaxFirstPayload),
      heard_at_(Poller::NowNanos()),
      socket_(std::move(socket)) {}

PeerConnection::~PeerConnection() = default;

// ---- the beginning and the end ----

void PeerConnection::Watch() {
  watch_ = owner_->poller()->Watch(socket_.fd(), EPOLLIN, shared_from_this());
}

void PeerConnection::Open() {
  Watch();
  PeerIdentity identity = own_;
  identity.to = expected_;
  const std::string payload = EncodeHelloPayload(identity);
  const std::string opening = absl::StrCat(
      kPeerMagic,
      EncodeFrame({FrameType::kHello, map_epoch_->load(), payload}));
  const std::lock_guard lock(mutex_);
  Queue({opening}, 0);
  Flush();
}

void PeerConnection::Accept(const PeerIdentity& identity) {
  Watch();
  const absl::Status status = Greet(identity);
  if (!status.ok()) {
    {
      const std::lock_guard lock(mutex_);
      const std::string why(status.message().substr(0, kMaxFirstPayload));
      Put(FrameType::kRefusal, why, HashPayload(why), 0, false);
    }
    End(status);
  }
}

absl::Status PeerConnection::Greet(const PeerIdentity& identity) {
  absl::StatusOr<std::shared_ptr<PeerLink>> link =
      owner_->Admit(identity, expected_);
  if (!link.ok()) return link.status();
  theirs_ = identity;
  {
    const std::lock_guard lock(mutex_);
    link_ = *std::move(link);
    link_->queue_bytes += queue_bytes_;
  }
  parser_.set_max_payload(kMaxFramePayload);
  if (!expected_) {
    PeerIdentity own = own_;
    own.to = identity.from;
    const std::string payload = EncodeHelloPayload(own);
    const std::lock_guard lock(mutex_);
    Put(FrameType::kHello, payload, HashPayload(payload), 0, false);
  } else {
    confirmed_.store(true);
    ++link_->connects;
  }
  const std::shared_ptr<PeerConnection> old = link_->Attach(shared_from_this());
  if (old != nullptr) {
    old->End(absl::AbortedError("a newer connection has taken its place"));
  }
  // Also what has changed since the hello, when nobody knew the connection.
  Announce(/*anyway=*/static_cast<bool>(expected_));
  return absl::OkStatus();
}

void PeerConnection::End(const absl::Status& status) {
  if (ended_) return;
  ended_ = true;
  const std::shared_ptr<PeerConnection> self = shared_from_this();
  if (link_ != nullptr && link_->Detach(this)) owner_->OnGone(theirs_.from);
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    owner_->poller()->Unwatch(watch_, socket_.fd());
    socket_.Close();
    DropQueue();
  }
  owner_->OnEnded(this, status);
}

void PeerConnection::CheckTime(uint64_t now_nanos) {
  const bool greeted = link_ != nullptr && (confirmed_.load() || expected_);
  const absl::Duration patience = greeted ? kMaxSilence : kMaxGreeting;
  if (now_nanos - std::min(now_nanos, heard_at_) > Nanos(patience)) {
    End(absl::DeadlineExceededError(greeted ? "nothing heard for too long"
                                            : "no hello"));
    return;
  }
  const uint64_t said_at = said_at_.load();
  if (link_ != nullptr &&
      now_nanos - std::min(now_nanos, said_at) > Nanos(kSayWithin)) {
    Announce(/*anyway=*/true);
  }
}

// ---- receiving ----

void PeerConnection::OnReady(uint32_t events) {
  if ((events & EPOLLOUT) != 0) {
    const std::lock_guard lock(mutex_);
    if (!closed_) Flush();
  }
  if ((events & ~static_cast<uint32_t>(EPOLLOUT)) != 0) Read();
}

void PeerConnection::Read() {
  absl::Status status;
  // Only this thread closes the socket.
  for (size_t i = 0; i < kReadsPerTurn && status.ok() && !ended_; ++i) {
    const absl::Span<char> room = parser_.Room();
    const ssize_t n =
        recv(socket_.fd(), room.data(), room.size(), MSG_DONTWAIT);
    if (n == 0) {
      status = absl::UnavailableError("closed by the other side");
    } else if (n < 0) {
      if (errno == EAGAIN) return;
      if (errno != EINTR) status = absl::UnavailableError(ErrorText(errno));
    } else {
      heard_at_ = Poller::NowNanos();
      parser_.Filled(static_cast<size_t>(n));
      status = TakeFrames();
      // Most likely there is no more; epoll says so if there is.
      if (status.ok() && static_cast<size_t>(n) < room.size()) return;
    }
  }
  if (!status.ok()) End(status);
}

absl::Status PeerConnection::TakeFrames() {
  while (!ended_) {
    absl::StatusOr<std::optional<Frame>> frame = parser_.Next();
    if (!frame.ok()) {
      if (link_ != nullptr) ++link_->malformed_messages;
      return frame.status();
    }
    if (!frame->has_value()) break;
    const absl::Status status = OnFrame(**frame);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status PeerConnection::OnFrame(const Frame& frame) {
  switch (frame.type) {
    case FrameType::kHello: {
      if (link_ != nullptr) {
        ++link_->malformed_messages;
        return absl::InvalidArgumentError("a second hello");
      }
      const auto identity = DecodeHelloPayload(frame.payload);
      if (!identity.ok()) return identity.status();
      const absl::Status status = Greet(*identity);
      if (!status.ok()) return status;
      HearEpoch(frame.map_epoch);
      return absl::OkStatus();
    }
    case FrameType::kRefusal:
      return absl::FailedPreconditionError(frame.payload);
    case FrameType::kBatch:
      break;
  }
  if (link_ == nullptr) {
    return absl::InvalidArgumentError("messages before the hello");
  }
  if (!confirmed_.load()) {
    confirmed_.store(true);
    ++link_->connects;
    their_epoch_ = ~frame.map_epoch;  // differs: is told of now
  }
  link_->received_bytes += kFrameHeaderBytes + frame.payload.size();
  HearEpoch(frame.map_epoch);
  return Receive(frame.payload);
}

void PeerConnection::HearEpoch(uint64_t map_epoch) {
  if (map_epoch == their_epoch_) return;
  their_epoch_ = map_epoch;
  owner_->OnEpoch(theirs_.from, map_epoch);
}

absl::Status PeerConnection::Receive(absl::string_view payload) {
  if (payload.empty()) return absl::OkStatus();
  if (!read_batch_.ParseFromArray(payload.data(),
                                  static_cast<int>(payload.size()))) {
    ++link_->malformed_messages;
    return absl::InvalidArgumentError("a batch that is none");
  }
  // First: a map may explain the messages of groups.
  absl::Status status = ReceiveNodeMessages();
  if (status.ok()) ReceiveMessages();
  return status;
}

absl::Status PeerConnection::ReceiveNodeMessages() {
  for (wire::NodeMessage& in : *read_batch_.mutable_node_messages()) {
    if (in.payload().size() > kMaxNodeMessageBytes) {
      ++link_->malformed_messages;
      return absl::InvalidArgumentError(
          absl::StrCat("node ", theirs_.from.value(), " sends ",
                       in.payload().size(), " bytes in one message"));
    }
    if (!IsNodeMessageKind(in.kind())) {
      ++link_->malformed_messages;  // of a newer peer
      continue;
    }
    ++link_->received_messages;
    owner_->OnNodeMessage(theirs_.from,
                          {static_cast<NodeMessage::Kind>(in.kind()),
                           std::move(*in.mutable_payload())});
  }
  return absl::OkStatus();
}

void PeerConnection::ReceiveMessages() {
  if (read_batch_.messages().empty()) return;
  std::vector<GroupMessage> messages;
  messages.reserve(static_cast<size_t>(read_batch_.messages_size()));
  for (wire::GroupMessage& in : *read_batch_.mutable_messages()) {
    absl::StatusOr<GroupMessage> message = DecodeMessage(&in);
    if (message.ok()) {
      messages.push_back(*std::move(message));
    } else {
      // Of a newer peer, or nonsense: the others may still be of use.
      ++link_->malformed_messages;
    }
  }
  link_->received_messages += messages.size();
  if (messages.empty()) return;
  owner_->AddMessages(theirs_.from, std::move(messages));
}

// ---- sending ----

void PeerConnection::Send(std::vector<GroupMessage> messages) {
  for (const GroupMessage& message : messages) {
    // It would break the connection each time it is sent again.
    if (ApproximateBytes(message) > kMaxMessageBytes) {
      link_->dropped_messages += messages.size();
      return;
    }
  }
  // Encoded without the lock; freed with the thread.
  static thread_local wire::PeerBatch batch;
  size_t next = 0;
  while (next < messages.size()) {
    uint64_t taken = 0;
    const size_t first = next;
    batch.Clear();
    for (; next < messages.size() && taken < kMaxBatchBytes; ++next) {
      taken += ApproximateBytes(messages[next]);
      EncodeMessage(messages[next], batch.add_messages());
    }
    SendBatch(batch, next - first, /*is_map=*/false);
    if (taken > kMaxKeptBytes) wire::PeerBatch().Swap(&batch);
  }
}

void PeerConnection::SendToNode(NodeMessage message) {
  if (message.payload.size() > kMaxNodeMessageBytes) {
    ++link_->dropped_messages;
    return;
  }
  wire::PeerBatch batch;
  wire::NodeMessage* out = batch.add_node_messages();
  out->set_kind(static_cast<uint32_t>(message.kind));
  out->set_payload(std::move(message.payload));
  SendBatch(batch, 1, message.kind == NodeMessage::Kind::kMap);
}

void PeerConnection::SendBatch(const wire::PeerBatch& batch, uint64_t messages,
                               bool is_map) {
  static thread_local std::string payload;
  batch.SerializeToString(&payload);
  const uint64_t hash = HashPayload(payload);
  {
    const std::lock_guard lock(mutex_);
    if (is_map) DropWaitingMap();
    if (HasRoom(kFrameHeaderBytes + payload.size())) {
      Put(FrameType::kBatch, payload, hash, messages, is_map);
    } else {
      link_->dropped_messages += messages;
    }
  }
  if (payload.capacity() > kMaxKeptBytes) std::string().swap(payload);
}

void PeerConnection::Announce(bool anyway) {
  const std::lock_guard lock(mutex_);
  if (closed_ || !HasRoom(kFrameHeaderBytes)) return;
  if (!anyway && said_epoch_ == map_epoch_->load()) return;
  Put(FrameType::kBatch, {}, HashPayload({}), 0, false);
}

bool PeerConnection::HasRoom(uint64_t bytes) const {
  return !closed_ && queue_bytes_ + kQueueOverhead + bytes <= max_queue_bytes_;
}

void PeerConnection::Put(FrameType type, absl::string_view payload,
                         uint64_t payload_hash, uint64_t messages,
                         bool is_map) {
  char header[kFrameHeaderBytes];
  said_epoch_ = map_epoch_->load();
  EncodeFrameHeader(type, said_epoch_, static_cast<uint32_t>(payload.size()),
                    payload_hash, header);
  const size_t size = sizeof header + payload.size();
  size_t sent = 0;
  if (queue_.empty() && !broken_) {
    std::array<iovec, 2> parts = {
        iovec{header, sizeof header},
        iovec{const_cast<char*>(payload.data()), payload.size()}};
    msghdr message = {};
    message.msg_iov = parts.data();
    message.msg_iovlen = payload.empty() ? 1 : 2;
    const ssize_t n =
        sendmsg(socket_.fd(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
      sent = static_cast<size_t>(n);
    } else if (errno != EAGAIN && errno != EINTR) {
      Break();
    }
  }
  said_at_.store(Poller::NowNanos());
  const bool counts = type == FrameType::kBatch;
  if (sent == size) {
    if (counts) CountSent(messages, size);
  } else if (!broken_) {
    Queue({absl::StrCat(absl::string_view(header, sizeof header), payload),
           messages, counts, is_map},
          sent);
    WantWrites(true);
  } else if (counts) {
    link_->dropped_messages += messages;
  }
}

void PeerConnection::Queue(Waiting waiting, size_t sent) {
  if (queue_.empty()) front_sent_ = sent;
  SetQueueBytes(queue_bytes_ + kQueueOverhead + waiting.bytes.size());
  queue_.push_back(std::move(waiting));
}

void PeerConnection::Flush() {
  while (!queue_.empty() && !broken_) {
    std::array<iovec, kFramesPerWrite> parts;
    int count = 0;
    size_t skip = front_sent_;
    for (Waiting& waiting : queue_) {
      if (count == kFramesPerWrite) break;
      parts[static_cast<size_t>(count++)] = {waiting.bytes.data() + skip,
                                             waiting.bytes.size() - skip};
      skip = 0;
    }
    msghdr message = {};
    message.msg_iov = parts.data();
    message.msg_iovlen = static_cast<size_t>(count);
    const ssize_t n =
        sendmsg(socket_.fd(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) break;
      Break();
      return;
    }
    front_sent_ += static_cast<size_t>(n);
    while (!queue_.empty() && front_sent_ >= queue_.front().bytes.size()) {
      const Waiting& front = queue_.front();
      front_sent_ -= front.bytes.size();
      if (front.counts) CountSent(front.messages, front.bytes.size());
      SetQueueBytes(queue_bytes_ - kQueueOverhead - front.bytes.size());
      queue_.pop_front();
    }
  }
  WantWrites(!queue_.empty());
}

void PeerConnection::WantWrites(bool want) {
  if (want == want_writes_) return;
  want_writes_ = want;
  owner_->poller()->Change(
      watch_, socket_.fd(),
      want ? uint32_t{EPOLLIN} | uint32_t{EPOLLOUT} : uint32_t{EPOLLIN});
}

void PeerConnection::Break() {
  broken_ = true;
  shutdown(socket_.fd(), SHUT_RDWR);
}

void PeerConnection::DropWaitingMap() {
  for (size_t i = front_sent_ > 0 ? 1 : 0; i < queue_.size(); ++i) {
    if (!queue_[i].is_map) continue;
    SetQueueBytes(queue_bytes_ - kQueueOverhead - queue_[i].bytes.size());
    queue_.erase(queue_.begin() + static_cast<ptrdiff_t>(i));
    return;
  }
}

void PeerConnection::DropQueue() {
  for (const Waiting& waiting : queue_) {
    if (link_ != nullptr) link_->dropped_messages += waiting.messages;
  }
  queue_.clear();
  SetQueueBytes(0);
}

void PeerConnection::SetQueueBytes(uint64_t bytes) {
  // May wrap, and back.
  if (link_ != nullptr) link_->queue_bytes += bytes - queue_bytes_;
  queue_bytes_ = bytes;
}

void PeerConnection::CountSent(uint64_t messages, uint64_t bytes) {
  link_->sent_messages += messages;
  link_->sent_bytes += bytes;
  ++link_->sent_batches;
}

}  // namespace kv739::server
