// A keeper on every node of a group whose nodes die and return, whose leaders
// change and forget, whose maps are old and whose changes come late, twice or
// not at all; with the directory as it is.
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kv/directory.h"
#include "server/group_keeper.h"
#include "tests/support/sanitizer.h"

namespace kv739::server {
namespace {

using raft::Configuration;
using raft::Index;
using raft::NodeId;
using raft::Term;
using NodeIds = std::vector<NodeId>;

// In one thread, where the thread sanitizer has nothing to find.
constexpr uint64_t kSeeds = ::kv739::testing::kThreadSanitizer ? 200 : 2000;
constexpr size_t kMostNodes = 24;

class Model {
 public:
  explicit Model(uint64_t seed) : random_(seed) {
    const uint64_t voters = Chance(2) ? 3 : 5;
    map_.cluster_id = 1;
    map_.epoch = 1;
    kv::GroupInfo group;
    group.id = raft::GroupId(seed % 5);
    for (uint64_t id = 1; id <= voters + 3; ++id) {
      map_.nodes.push_back(Info(id));
      nodes_[NodeId(id)];
      if (id <= voters) group.members.push_back(NodeId(id));
    }
    group.target = committed_.voters = config_.voters = group.members;
    for (NodeId id : config_.voters) nodes_[id].match = last_;
    for (auto& [id, node] : nodes_) node.seen = group;
    map_.groups.push_back(group);
    Elect();
  }

  void RunWithFaults(int steps) {
    lossy_ = true;
    for (int i = 0; i < steps && failure_.empty(); ++i) {
      Fault();
      Step();
    }
  }
  // Everybody whose process may still run lives again; true when the group
  // gets there.
  bool Settles() {
    for (auto& [id, node] : nodes_) node.alive = !Left(id);
    lossy_ = false;
    for (int i = 0; i < 4000 && failure_.empty(); ++i) {
      Step();
      if (!group().changing() && config_.voters == group().target &&
          config_.learners.empty() && !changing()) {
        ++settled_;
        if (settled_ > 300) return true;  // and it stays
      } else {
        settled_ = 0;
      }
    }
    return false;
  }

  const std::string& failure() const { return failure_; }
  std::string Describe() const {
    const auto join = [](const NodeIds& ids) {
      return absl::StrJoin(ids, " ", [](std::string* out, NodeId id) {
        absl::StrAppend(out, id.value());
      });
    };
    return absl::StrCat(
        "voters ", join(config_.voters), " outgoing ", join(config_.outgoing),
        " learners ", join(config_.learners), " members ",
        join(group().members), " target ", join(group().target), " withdrawn ",
        join(group().withdrawn), " leader ", leader_.value(), " ",
        leader_ ? nodes_.at(leader_).keeper.status().Describe() : "");
  }

  int changes = 0;   // of voters
  int replaced = 0;  // automatically
  int taken_back = 0;
  int given_up = 0;
  int withdrawn = 0;  // times that somebody was
  int lost = 0;       // changes, with the leader that proposed them

 private:
  struct Node {
    bool alive = true;
    Index match;
    uint64_t heard = 0;     // by the leader, or when that began
    bool heard_of = false;  // by this leader
    Index log_begin;        // when the process began
    Index compacted;
    kv::GroupInfo seen;  // in the newest map that it has
    GroupKeeper keeper{Options()};
  };
  struct Mail {
    uint64_t at;
    kv::DirectoryChange change;
  };
  static KeeperOptions Options() {
    KeeperOptions options;
    options.replace_after_ticks = 60;
    options.candidate_timeout_ticks = 30;
    options.repeat_ticks = 5;
    options.caught_up_entries = 10;
    options.round_ticks = 5;
    return options;
  }
  static kv::NodeInfo Info(uint64_t id) {
    kv::NodeInfo info;
    info.id = NodeId(id);
    info.address = {absl::StrCat("h", id), 5000};
    return info;
  }

  uint64_t Below(uint64_t n) { return random_() % n; }
  bool Chance(uint64_t n) { return Below(n) == 0; }
  bool changing() const { return config_.joint() || uncommitted_; }
  const kv::GroupInfo& group() const { return map_.groups[0]; }
  bool Left(NodeId id) const {
    const kv::NodeInfo* node = map_.FindNode(id);
    return node == nullptr || node->state == kv::NodeState::kLeft;
  }
  void Fail(const std::string& what) {
    if (failure_.empty()) failure_ = absl::StrCat(what, ": ", Describe());
  }

  bool MajorityLives(const NodeIds& nodes) const {
    size_t alive = 0;
    for (NodeId id : nodes) alive += nodes_.at(id).alive ? 1 : 0;
    return alive * 2 > nodes.size();
  }
  bool CanCommit(const Configuration& config) const {
    return MajorityLives(config.voters) &&
           (!config.joint() || MajorityLives(config.outgoing));
  }

  // What the last leader had proposed may be gone with it.
  void LoseProposal() {
    if (!uncommitted_ || Chance(2) || !CanCommit(committed_)) return;
    ++lost;
    config_ = committed_;
    config_at_ = committed_at_;
    uncommitted_ = false;
  }

  void Elect() {
    leader_ = NodeId();
    LoseProposal();
    if (!CanCommit(config_)) return;
    NodeIds fit;
    for (NodeId id : config_.voters) {
      if (nodes_[id].alive && nodes_[id].match + 20 >= last_) fit.push_back(id);
    }
    if (fit.empty()) return;
    leader_ = fit[Below(fit.size())];
    ++term_;
    for (auto& [id, node] : nodes_) {
      node.heard = now_;
      node.heard_of = false;
    }
    Node& leader = nodes_[leader_];
    leader.match = last_;
    if (Chance(2)) {  // restarted
      leader.keeper = GroupKeeper(Options());
      leader.log_begin = leader.compacted;
    }
  }

  void Fault() {
    if (Chance(60)) {
      auto it = std::next(nodes_.begin(),
                          static_cast<ptrdiff_t>(Below(nodes_.size())));
      it->second.alive = !it->second.alive && !Left(it->first);
    }
    if (Chance(60)) Elect();
    if (Chance(200) && nodes_.size() < kMostNodes) {
      Apply(kv::AddNode{Info(nodes_.size() + 1)});
    }
    if (Chance(100)) OperatorAsks();
    if (Chance(100)) OperatorRemoves();
    if (Chance(5)) nodes_[AnyNode()].compacted = commit_;
  }
  NodeId AnyNode() { return map_.nodes[Below(map_.nodes.size())].id; }

  void OperatorAsks() {
    NodeIds target;
    for (const auto& [id, node] : nodes_) {
      if (Chance(2) && target.size() < 5) target.push_back(id);
    }
    Apply(kv::SetTarget{{group().id, group().target, target}, false});
  }
  void OperatorRemoves() {
    kv::RemoveNode change{AnyNode(), {}};
    // Mostly somebody who is just coming.
    for (NodeId id : group().target) {
      const NodeIds& members = group().members;
      if (!std::binary_search(members.begin(), members.end(), id) && Chance(2))
        change.node = id;
    }
    if (group().Concerns(change.node)) {
      NodeIds target = group().target;
      std::erase(target, change.node);
      for (NodeId spare : map_.Spares()) {
        if (target.size() < group().target.size() && Chance(2)) {
          target.push_back(spare);
        }
      }
      std::sort(target.begin(), target.end());
      change.targets.push_back({group().id, group().target, target});
    }
    Apply(change);
  }

  void Apply(const kv::DirectoryChange& change) {
    absl::StatusOr<kv::ClusterMap> after =
        kv::ApplyDirectoryChange(&map_, change);
    if (!after.ok()) return;
    if (after->groups[0].withdrawn_at == after->epoch) ++withdrawn;
    map_ = *std::move(after);
    for (const kv::NodeInfo& info : map_.nodes) nodes_[info.id];
    // They stop as soon as they read it.
    for (auto& [id, node] : nodes_) {
      if (Left(id)) node.alive = false;
    }
  }

  void Step() {
    ++now_;
    if (!leader_ || !nodes_[leader_].alive || !CanCommit(config_)) Elect();
    Deliver();
    // In the order of the map: a node that joins has all of it.
    for (auto& [id, node] : nodes_) {
      if (!lossy_ || node.seen.target.empty() || Chance(id == leader_ ? 4 : 40))
        node.seen = group();
    }
    if (!leader_) return;
    for (NodeId id : config_.Members()) {
      Node& node = nodes_[id];
      if (!node.alive) continue;
      node.heard = now_;
      if (id == leader_ || Chance(3)) {
        const uint64_t lacks = last_ - node.match;
        node.match = node.match + std::min<uint64_t>(lacks, 1 + Below(200));
        node.heard_of = true;
      }
    }
    last_ = last_ + Below(3);
    nodes_[leader_].match = last_;
    Commit();
    Ask();
    CheckNobodyWasLetGo();
  }

  void Deliver() {
    std::vector<kv::DirectoryChange> due;
    std::erase_if(mail_, [&](const Mail& mail) {
      if (mail.at > now_) return false;
      due.push_back(mail.change);
      return true;
    });
    for (const kv::DirectoryChange& change : due) Apply(change);
  }
  void Send(const kv::DirectoryChange& change) {
    if (!lossy_) return mail_.push_back({now_ + 1, change});
    while (!Chance(2))
      mail_.push_back({now_ + Below(Chance(5) ? 200 : 5), change});
  }

  void SetConfiguration(const Configuration& config) {
    last_ = last_ + 1;
    config_ = config;
    config_at_ = last_;
    uncommitted_ = true;
  }

  void Commit() {
    if (!changing() || !CanCommit(config_) || Chance(2)) return;
    commit_ = last_;
    committed_ = config_;
    committed_at_ = config_at_;
    uncommitted_ = false;
    if (config_.joint()) {
      Configuration final = config_;
      final.outgoing.clear();
      SetConfiguration(final);
      return;
    }
    if (!config_.IsVoter(leader_)) Elect();
  }

  raft::CoreStatus Status() {
    const Node& leader = nodes_[leader_];
    raft::CoreStatus core;
    core.soft = {raft::Role::kLeader, Term(term_), leader_};
    core.first_index = std::max(leader.compacted, leader.log_begin) + 1;
    core.last_index = last_;
    core.commit = core.applied = changing() ? commit_ : last_;
    commit_ = core.commit;
    core.configuration = config_;
    core.configuration_index = std::max(config_at_, leader.log_begin);
    core.changing = changing();
    for (NodeId id : config_.Members()) {
      if (id == leader_) continue;
      const Node& node = nodes_[id];
      raft::PeerProgress peer;
      peer.id = id;
      peer.match = node.heard_of ? node.match : Index();
      peer.silent_ticks = now_ - node.heard;
      peer.recently_active = peer.silent_ticks < 5;
      core.peers.push_back(peer);
    }
    return core;
  }

  void Ask() {
    if (!leader_) return;
    const raft::CoreStatus core = Status();
    std::vector<SpareNode> spares;
    for (const kv::Candidate& spare : map_.Candidates()) {
      // The stream may be up where the replica does not answer, for a while.
      spares.push_back({spare.id, nodes_[spare.id].alive || Chance(9)});
    }
    Node& leader = nodes_[leader_];
    const KeeperAction action =
        leader.keeper.Decide({leader_, core, leader.seen, spares, now_});
    if (const auto* target = std::get_if<Configuration>(&action)) {
      Propose(*target, leader.seen);
    } else if (const auto* change = std::get_if<kv::DirectoryChange>(&action)) {
      if (const auto* set = std::get_if<kv::SetTarget>(change)) {
        CheckWish(*set, leader.seen);
      }
      Send(*change);
    }
  }

  void Propose(const Configuration& target, const kv::GroupInfo& seen) {
    if (!target.Validate().ok() || target.joint()) return Fail("not valid");
    if (changing()) return Fail("a change during another");
    for (NodeId id : target.learners) {
      if (config_.IsVoter(id)) return Fail("a voter becomes a learner");
    }
    if (target == config_ && seen.withdrawn.empty()) {
      return Fail("a change to the same");
    }
    if (target.voters != config_.voters) {
      ++changes;
      if (target.voters != seen.target) return Fail("not what is wanted");
      if (!target.learners.empty()) return Fail("with learners");
      for (NodeId id : target.voters) {
        if (!config_.Contains(id)) return Fail("a voter from nowhere");
        if (config_.IsLearner(id) && nodes_[id].match + 200 < last_) {
          return Fail("a voter that has not caught up");
        }
      }
    }
    for (NodeId id : target.learners) {
      if (!config_.Contains(id)) {
        nodes_[id].match = Index();
        nodes_[id].heard = now_;
        nodes_[id].heard_of = false;
      }
    }
    Configuration next = target;
    if (target.voters != config_.voters) next.outgoing = config_.voters;
    SetConfiguration(next);
  }

  // What a leader asks the directory for, by the map that it has.
  void CheckWish(const kv::SetTarget& set, const kv::GroupInfo& seen) {
    if (set.group.target.size() != set.group.expected.size()) {
      return Fail("another size");
    }
    if (set.group.expected != seen.target) return Fail("not of its map");
    if (!set.automatic) {
      if (!seen.automatic) return Fail("an operator's wish is taken back");
      ++taken_back;
      return;
    }
    NodeIds gone;
    std::set_difference(seen.members.begin(), seen.members.end(),
                        set.group.target.begin(), set.group.target.end(),
                        std::back_inserter(gone));
    if (gone.size() != 1) return Fail("more than one at a time");
    ++(seen.automatic ? given_up : replaced);
  }

  // Whoever is in a configuration that the log has, or may have again, is
  // needed; the directory must not have let it go.
  void CheckNobodyWasLetGo() {
    for (const Configuration* config : {&config_, &committed_}) {
      for (NodeId id : config->Members()) {
        if (!group().Concerns(id)) {
          return Fail(absl::StrCat(id.value(), " was let go"));
        }
      }
    }
  }

  std::mt19937_64 random_;
  std::map<NodeId, Node> nodes_;
  Configuration config_;     // the newest in the leader's log
  Configuration committed_;  // the newest that is
  Index config_at_;
  Index committed_at_;
  bool uncommitted_ = false;
  Index last_{1000};
  Index commit_{1000};
  NodeId leader_;
  uint64_t term_ = 0;
  uint64_t now_ = 0;
  kv::ClusterMap map_;      // the directory's
  std::vector<Mail> mail_;  // on its way there
  bool lossy_ = false;
  int settled_ = 0;
  std::string failure_;
};

TEST(KeeperModel, TheGroupAlwaysGetsToItsTarget) {
  int changes = 0, replaced = 0, taken_back = 0, given_up = 0;
  int withdrawn = 0, lost = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    Model model(seed);
    model.RunWithFaults(2000);
    ASSERT_EQ(model.failure(), "") << "seed " << seed;
    ASSERT_TRUE(model.Settles())
        << "seed " << seed << " " << model.Describe() << " " << model.failure();
    changes += model.changes;
    replaced += model.replaced;
    taken_back += model.taken_back;
    given_up += model.given_up;
    withdrawn += model.withdrawn;
    lost += model.lost;
  }
  // The runs did what they are for.
  const int n = static_cast<int>(kSeeds);
  EXPECT_GT(changes, n);
  EXPECT_GT(replaced, n / 2);
  EXPECT_GT(taken_back, n / 10);
  EXPECT_GT(given_up, n / 10);
  EXPECT_GT(withdrawn, n / 2);
  EXPECT_GT(lost, n / 4);
}

}  // namespace
}  // namespace kv739::server
