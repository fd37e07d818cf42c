#include "server/scan_queue.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kv739::server {
namespace {

constexpr char kStopping[] = "the server is stopping";

Reply ServeOne(const kv::StateMachine& machine, const kv::View& view,
               const Operation& scan) {
  Reply reply;
  auto page = std::make_shared<kv::ScanPage>();
  const absl::Status status = machine.Scan(view, *scan.scan, page.get());
  if (status.ok()) {
    reply.page = std::move(page);
  } else {
    // The group has left this server since the read was confirmed.
    reply.code = absl::IsNotFound(status) ? ReplyCode::kUnavailable
                                          : ReplyCode::kInternal;
    reply.message = std::string(status.message());
  }
  reply.group = scan.group;
  return reply;
}

}  // namespace

void ScanQueue::Refuse(Operation& scan, ReplyCode code, std::string why,
                       Turn& turn) {
  Reply reply;
  reply.code = code;
  reply.message = std::move(why);
  reply.group = scan.group;
  turn.Answer(scan, std::move(reply));
}

void ScanQueue::Add(std::shared_ptr<const kv::StateMachine> machine,
                    Operation scan, Turn& turn) {
  const std::lock_guard lock(mutex_);
  if (closed_) {
    Refuse(scan, ReplyCode::kUnavailable, kStopping, turn);
  } else if (waiting_.size() >= kMaxWaiting) {
    Refuse(scan, ReplyCode::kOverloaded,
           absl::StrCat("more than ", kMaxWaiting, " scans wait"), turn);
  } else {
    waiting_.push_back({std::move(machine), std::move(scan)});
  }
}

bool ScanQueue::waiting() const {
  const std::lock_guard lock(mutex_);
  return !waiting_.empty();
}

bool ScanQueue::Serve(Turn& turn) {
  std::deque<Waiting> taken;
  {
    const std::lock_guard lock(mutex_);
    taken.swap(waiting_);
  }
  if (taken.empty()) return false;
  // Later than all of them came.
  const std::unique_ptr<kv::View> view = engine_->NewView();
  for (uint64_t work = 0; !taken.empty() && work < kTurnWork;) {
    Waiting& next = taken.front();
    Reply reply = ServeOne(*next.machine, *view, next.scan);
    work += reply.page != nullptr ? reply.page->work() : 1;
    turn.Answer(next.scan, std::move(reply));
    taken.pop_front();
  }
  const std::lock_guard lock(mutex_);
  if (closed_) {
    for (Waiting& left : taken) {
      Refuse(left.scan, ReplyCode::kUnavailable, kStopping, turn);
    }
    return false;
  }
  // What came meanwhile is behind them.
  waiting_.insert(waiting_.begin(), std::make_move_iterator(taken.begin()),
                  std::make_move_iterator(taken.end()));
  return !waiting_.empty();
}

void ScanQueue::Close(Turn& turn) {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  for (Waiting& left : waiting_) {
    Refuse(left.scan, ReplyCode::kUnavailable, kStopping, turn);
  }
  waiting_.clear();
}

}  // namespace kv739::server
