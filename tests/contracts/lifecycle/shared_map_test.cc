// SharedMap beside std::map: the same contents in the same order after random changes of copies of
// copies.
#include "contracts/lifecycle/shared_map.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace souk::contracts {
namespace {

using Map = SharedMap<DatasetId, std::string>;
using Plain = std::map<DatasetId, std::string>;

// Few first bytes, so that parts have several names.
DatasetId name_of(unsigned number) {
  Digest bytes{};
  bytes[0] = static_cast<uint8_t>(number % 5 * 63);
  bytes[1] = static_cast<uint8_t>(number);
  return DatasetId(bytes);
}

Plain contents(const Map& map) {
  Plain out;
  const DatasetId* before = nullptr;
  for (const auto& [name, value] : map) {
    EXPECT_TRUE(!before || *before < name) << "out of order";
    before = &name;
    out.emplace(name, value);
  }
  return out;
}

void expect_same(const Map& map, const Plain& plain) {
  EXPECT_EQ(contents(map), plain);
  EXPECT_EQ(map.size(), plain.size());
  EXPECT_EQ(map.empty(), plain.empty());
}

TEST(SharedMap, IsEmptyBeforeItsFirstName) {
  Map map;
  expect_same(map, {});
  EXPECT_EQ(map.get(name_of(1)), nullptr);
  EXPECT_EQ(map.change(name_of(1)), nullptr);
  EXPECT_FALSE(map.erase(name_of(1)));
  EXPECT_TRUE(map.find(name_of(1)) == map.end());
  EXPECT_EQ(map, Map(map));
}

TEST(SharedMap, KeepsTheFirstValueOfAName) {
  Map map;
  EXPECT_TRUE(map.emplace(name_of(1), "first"));
  EXPECT_FALSE(map.emplace(name_of(1), "second"));
  EXPECT_EQ(*map.get(name_of(1)), "first");
  EXPECT_EQ(map.find(name_of(1))->second, "first");
}

TEST(SharedMap, WhatChangesInACopyChangesThereAlone) {
  Map map;
  map.emplace(name_of(1), "one");
  map.emplace(name_of(6), "six");  // of the same part
  Map copy = map;
  *copy.change(name_of(1)) = "uno";
  copy.erase(name_of(6));
  EXPECT_EQ(*map.get(name_of(1)), "one");
  EXPECT_EQ(map.count(name_of(6)), 1u);
  *map.change(name_of(1)) = "eins";
  EXPECT_EQ(*copy.get(name_of(1)), "uno");
  EXPECT_FALSE(map == copy);
}

TEST(SharedMap, WhatIsToBeChangedStaysWhereItIsWhileOthersChange) {
  Map map;
  map.emplace(name_of(1), "one");
  Map copy = map;
  std::string* one = map.change(name_of(1));
  for (unsigned i = 2; i < 200; ++i) map.emplace(name_of(i), "other");
  map.erase(name_of(6));
  *one = "still there";
  EXPECT_EQ(*map.get(name_of(1)), "still there");
}

TEST(SharedMap, DoesAsStdMapThroughRandomChangesOfCopies) {
  std::mt19937 random(20261121);
  std::vector<std::pair<Map, Plain>> all(1);
  for (int step = 0; step < 20'000; ++step) {
    auto& [map, plain] = all[random() % all.size()];
    const DatasetId name = name_of(static_cast<unsigned>(random() % 60));
    const std::string value = std::to_string(step);
    switch (random() % 6) {
      case 0:
        EXPECT_EQ(map.emplace(name, value), plain.emplace(name, value).second);
        break;
      case 1:
        EXPECT_EQ(map.erase(name), plain.erase(name) == 1);
        break;
      case 2:
        map[name] += value;
        plain[name] += value;
        break;
      case 3:
        if (auto* found = map.change(name)) *found = plain.at(name) = value;
        break;
      case 4: {
        std::pair<Map, Plain> copy = {map, plain};
        if (all.size() < 8) {
          all.push_back(std::move(copy));
        } else {
          all[random() % all.size()] = std::move(copy);
        }
        break;
      }
      default: {
        auto found = plain.find(name);
        const auto* value_there = map.get(name);
        ASSERT_EQ(value_there != nullptr, found != plain.end());
        if (value_there) {
          EXPECT_EQ(*value_there, found->second);
        }
      }
    }
  }
  for (const auto& [map, plain] : all) {
    expect_same(map, plain);
    for (const auto& [other, other_plain] : all) EXPECT_EQ(map == other, plain == other_plain);
  }
}

TEST(SharedMap, CopiesLiveInThreadsOfTheirOwn) {
  Map map;
  for (unsigned i = 0; i < 60; ++i) map.emplace(name_of(i), "start");
  std::vector<std::thread> threads;
  for (int number = 0; number < 4; ++number) {
    threads.emplace_back([copy = map, number]() mutable {
      for (unsigned i = 0; i < 2'000; ++i) {
        *copy.change(name_of(i % 60)) = std::to_string(number);
        if (i % 100 == 0) copy = Map(copy);
      }
      for (const auto& [name, value] : copy) EXPECT_EQ(value, std::to_string(number));
    });
  }
  for (unsigned i = 0; i < 2'000; ++i) *map.change(name_of(i % 60)) = "here";
  for (auto& thread : threads) thread.join();
  for (const auto& [name, value] : map) EXPECT_EQ(value, "here");
}

}  // namespace
}  // namespace souk::contracts
