#include "client/timer_wheel.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace kv739::client {
namespace {

struct Item {
  int id = 0;
  TimerWheel<Item>::Hook hook;
};

constexpr Instant kTick = TimerWheel<Item>::kTick;

std::shared_ptr<Item> Make(int id) {
  auto item = std::make_shared<Item>();
  item->id = id;
  return item;
}

TEST(TimerWheelTest, FiresAtItsTimeAndOnce) {
  TimerWheel<Item> wheel(&Item::hook);
  wheel.Advance(1'000'000);
  wheel.Arm(Make(1), 1'010'000);
  EXPECT_TRUE(wheel.Advance(1'009'000).empty());
  EXPECT_EQ(wheel.Advance(1'010'000).size(), 1u);
  EXPECT_TRUE(wheel.empty());
  EXPECT_TRUE(wheel.Advance(2'000'000).empty());
}

TEST(TimerWheelTest, ATimeInThePastFiresAtTheNextTick) {
  TimerWheel<Item> wheel(&Item::hook);
  wheel.Advance(1'000'000);
  wheel.Arm(Make(1), 5);
  EXPECT_EQ(wheel.Advance(1'000'000 + kTick).size(), 1u);
}

TEST(TimerWheelTest, ArmedAgainItForgetsTheOldTime) {
  TimerWheel<Item> wheel(&Item::hook);
  const auto item = Make(1);
  wheel.Arm(item, 10'000);
  wheel.Arm(item, 50'000);
  EXPECT_TRUE(wheel.Advance(20'000).empty());
  EXPECT_EQ(wheel.Advance(50'000).size(), 1u);
  wheel.Arm(item, 60'000);
  wheel.Arm(item, kNever);
  EXPECT_TRUE(wheel.empty());
}

TEST(TimerWheelTest, AgreesWithASortedMap) {
  std::mt19937_64 random(7);
  TimerWheel<Item> wheel(&Item::hook);
  std::map<int, std::pair<Instant, std::shared_ptr<Item>>> armed;
  Instant now = 0;
  for (int step = 0; step < 20'000; ++step) {
    const int id = static_cast<int>(random() % 200);
    const auto item = armed.count(id) ? armed[id].second : Make(id);
    if (random() % 4 == 0) {
      wheel.Disarm(item.get());
      armed.erase(id);
    } else {
      // Some beyond one turn of the wheel.
      const Instant when = now + static_cast<Instant>(random() % 30'000'000);
      wheel.Arm(item, when);
      armed[id] = {when, item};
    }
    now +=
        static_cast<Instant>(random() % (step % 100 == 0 ? 20'000'000 : 999));
    for (const auto& due : wheel.Advance(now)) {
      auto it = armed.find(due->id);
      ASSERT_NE(it, armed.end());
      ASSERT_LE(it->second.first, now);
      armed.erase(it);
    }
    for (const auto& [key, entry] : armed) {
      ASSERT_GT(entry.first, now - kTick) << "item " << key << " is late";
    }
    ASSERT_EQ(wheel.empty(), armed.empty());
  }
  EXPECT_EQ(wheel.TakeAll().size(), armed.size());
}

}  // namespace
}  // namespace kv739::client
