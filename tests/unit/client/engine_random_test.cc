// The engine against one group of five on virtual time, with messages that
// are lost, late or repeated, streams that break, leaders that change and
// sessions that are forgotten, all from a seed. What callers are told is
// compared with what the group did, to the very end: also after everything
// that was late has arrived.
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "client/engine.h"
#include "kv/cluster_file.h"

namespace kv739::client {
namespace {

constexpr Instant kSecond = 1000 * kMillisecond;

kv::ClusterMap FiveServers() {
  std::string text;
  for (int i = 0; i < 5; ++i) {
    text += "10.0.0.1:" + std::to_string(5000 + i) + "\n";
  }
  return kv::InitialClusterMap(*kv::ParseClusterFile(text, "test"));
}

// The replicated state: how often each write was done.
class Group {
 public:
  Answer Do(const Outgoing& out) {
    Answer answer;
    answer.tag = out.tag;
    const Request& request = out.operation->request;
    if (request.kind == OpKind::kOpenSession) {
      answer.session = next_session_++;
      sessions_[answer.session];
      return answer;
    }
    if (request.kind == OpKind::kGet) return answer;
    auto it = sessions_.find(out.identity.session);
    if (it == sessions_.end())
      return Refused(answer, AnswerCode::kSessionUnknown);
    Session& session = it->second;
    session.floor = std::max(session.floor, out.floor);
    if (out.identity.sequence < session.floor ||
        out.identity.sequence > session.floor + 8192) {
      return Refused(answer, AnswerCode::kSequenceRefused);
    }
    // A repeated write must be the same write.
    const auto [first, fresh] =
        session.done.emplace(out.identity.sequence, request.key);
    EXPECT_EQ(first->second, request.key);
    if (fresh) ++done_[request.key];
    return answer;
  }

  void ForgetSessions() { sessions_.clear(); }
  int done(const std::string& key) const {
    auto it = done_.find(key);
    return it == done_.end() ? 0 : it->second;
  }

 private:
  struct Session {
    kv::Sequence floor = 1;
    std::map<kv::Sequence, std::string> done;
  };

  static Answer Refused(Answer answer, AnswerCode code) {
    answer.code = code;
    return answer;
  }

  kv::SessionId next_session_ = 1;
  std::map<kv::SessionId, Session> sessions_;
  std::map<std::string, int> done_;
};

class Told : public Operation {
 public:
  using Operation::Operation;
  void Finished() override { ++times; }
  int times = 0;
};

class World {
 public:
  explicit World(uint64_t seed)
      : random_(seed), engine_(FiveServers(), {.seed = seed}) {}

  void Run(int writes) {
    for (int i = 0; i < writes || engine_.pending() > 0; ++i) {
      if (i < writes) Submit(i);
      Faults();
      Step();
    }
    // Whatever is still on its way arrives now, to nobody's harm.
    for (int i = 0; i < 20'000; ++i) Step();
  }

  void Check(int* unknown, int* failed) const {
    for (const auto& op : operations_) {
      ASSERT_EQ(op->times, 1) << op->request.key;
      const int done = group_.done(op->request.key);
      const int code = op->outcome.code;
      if (code >= 0) {
        EXPECT_EQ(done, 1) << op->request.key;
      } else if (code == KV739_E_UNKNOWN) {
        EXPECT_LE(done, 1) << op->request.key;
        ++*unknown;
      } else {
        EXPECT_EQ(done, 0) << op->request.key << ": told " << code << " "
                           << op->outcome.message;
        ++*failed;
      }
    }
  }

 private:
  struct Message {
    Instant at;
    NodeIndex node;
    uint64_t stream;  // of which an answer goes back
    Outgoing out;
  };
  struct Reply {
    Instant at;
    NodeIndex node;
    uint64_t stream;
    Answer answer;
  };

  bool Chance(int percent) {
    return static_cast<int>(random_() % 100) < percent;
  }

  void Submit(int i) {
    Request request;
    request.kind = OpKind::kPut;
    request.key = "write" + std::to_string(i);
    auto op = std::make_shared<Told>(std::move(request));
    op->deadline =
        now_ + (1 + static_cast<Instant>(random_() % 4000)) * kMillisecond;
    ASSERT_EQ(engine_.Submit(op, now_), KV739_OK);
    operations_.push_back(std::move(op));
  }

  void Faults() {
    if (random_() % 200 == 0) leader_ = static_cast<NodeIndex>(random_() % 6);
    if (random_() % 1000 == 0) group_.ForgetSessions();
    if (random_() % 50 == 0) Break(static_cast<NodeIndex>(random_() % 5));
  }

  void Break(NodeIndex node) {
    ++streams_[node];
    engine_.OnBroken(node, "broken", now_);
  }

  void Step() {
    now_ += kMillisecond;
    engine_.Tick(now_);
    Effects effects = engine_.TakeEffects();
    for (const auto& done : effects.done) done->Finished();
    if (effects.fetch_map) engine_.OnMap(nullptr, now_);
    for (NodeIndex node : effects.send) Collect(node);
    for (size_t i = 0; i < messages_.size();) {
      if (messages_[i].at > now_) {
        ++i;
        continue;
      }
      const Message message = std::move(messages_[i]);
      messages_.erase(messages_.begin() + static_cast<ptrdiff_t>(i));
      Arrive(message);
    }
    for (size_t i = 0; i < replies_.size();) {
      if (replies_[i].at > now_) {
        ++i;
        continue;
      }
      const Reply reply = std::move(replies_[i]);
      replies_.erase(replies_.begin() + static_cast<ptrdiff_t>(i));
      // An answer on a stream that has broken goes nowhere.
      if (reply.stream != streams_[reply.node]) continue;
      engine_.OnAnswers(reply.node, {reply.answer}, 1, now_);
    }
  }

  void Collect(NodeIndex node) {
    if (Chance(5)) {
      Break(node);  // the connection could not be made
      return;
    }
    while (true) {
      std::vector<Outgoing> batch = engine_.TakeBatch(node);
      if (batch.empty()) return;
      for (Outgoing& out : batch) {
        if (Chance(3)) continue;  // lost: the server hangs
        messages_.push_back({now_ + Delay(), node, streams_[node], out});
      }
    }
  }

  Instant Delay() {
    return (Chance(3) ? static_cast<Instant>(random_() % 6000)
                      : static_cast<Instant>(random_() % 5)) *
           kMillisecond;
  }

  void Arrive(const Message& message) {
    Answer answer;
    answer.tag = message.out.tag;
    if (random_() % 300 == 0) {
      // Has other limits than the rest; the next one may do the same write.
      answer.code = AnswerCode::kInvalidArgument;
    } else if (message.node == leader_) {
      answer = group_.Do(message.out);
      if (Chance(2)) answer.code = AnswerCode::kUnknown;
    } else {
      answer.code =
          Chance(90) ? AnswerCode::kNotLeader : AnswerCode::kUnavailable;
      if (leader_ < 5 && Chance(80)) {
        answer.leader = engine_.router().AddressOf(leader_);
      }
    }
    if (Chance(3)) return;  // the answer is lost
    replies_.push_back({now_ + Delay(), message.node, message.stream, answer});
    // Some say it twice.
    if (Chance(2)) replies_.push_back(replies_.back());
  }

  std::mt19937_64 random_;
  Instant now_ = 100 * kSecond;
  Engine engine_;
  Group group_;
  NodeIndex leader_ = 2;  // 5: nobody
  uint64_t streams_[5] = {};
  std::deque<Message> messages_;
  std::deque<Reply> replies_;
  std::vector<std::shared_ptr<Told>> operations_;
};

TEST(EngineRandomTest, CallersAreToldTheTruth) {
  int unknown = 0;
  int failed = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);
    World world(seed);
    world.Run(3000);
    world.Check(&unknown, &failed);
    if (HasFailure()) return;
  }
  // The faults were hard enough to make both.
  EXPECT_GT(unknown, 100);
  EXPECT_GT(failed, 100);
}

}  // namespace
}  // namespace kv739::client
