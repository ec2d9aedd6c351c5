#include "ledger/proof/tile_path.h"

#include <gtest/gtest.h>

namespace souk::ledger {
namespace {

TEST(TilePath, IsSpeltAsTlogTilesSays) {
  EXPECT_EQ((TilePath{.level = 0, .index = 1234067}).text(), "tile/0/x001/x234/067");
  EXPECT_EQ((TilePath{.level = 63, .index = 0, .width = 1}).text(), "tile/63/000.p/1");
  EXPECT_EQ((TilePath{.level = {}, .index = 999, .width = 255}).text(), "tile/entries/999.p/255");
  EXPECT_EQ((TilePath{.level = 2, .index = 1000}).text(), "tile/2/x001/000");
}

TEST(TilePath, ReadsBackWhatItWrites) {
  for (uint64_t index : {uint64_t{0}, uint64_t{7}, uint64_t{999}, uint64_t{1000}, uint64_t{999999},
                         uint64_t{1000000}, uint64_t{1234067}, (uint64_t{1} << 56) - 1}) {
    for (std::optional<uint8_t> level : {std::optional<uint8_t>(), std::optional<uint8_t>(0),
                                         std::optional<uint8_t>(7), std::optional<uint8_t>(63)}) {
      for (uint16_t width :
           {uint16_t{1}, uint16_t{9}, uint16_t{10}, uint16_t{255}, uint16_t{256}}) {
        TilePath path{.level = level, .index = index, .width = width};
        auto read = parse_tile_path(path.text());
        ASSERT_TRUE(read) << path.text();
        EXPECT_EQ(*read, path);
      }
    }
  }
}

TEST(TilePath, RefusesEveryOtherSpelling) {
  for (const char* text : {"",
                           "tile",
                           "tile/",
                           "tile/0",
                           "tile/0/",
                           "/tile/0/000",
                           "tile/0/000/",
                           "tile//000",
                           "tile/00/000",
                           "tile/+1/000",
                           "tile/-1/000",
                           "tile/64/000",
                           "tile/256/000",
                           "tile/0/0",
                           "tile/0/00",
                           "tile/0/0000",
                           "tile/0/x000",
                           "tile/0/x000/000",
                           "tile/0/x000/001",
                           "tile/0/001/000",
                           "tile/0/x001/x000",
                           "tile/0/x001",
                           "tile/0/X001/000",
                           "tile/0/abc",
                           "tile/0/000.p",
                           "tile/0/000.p/",
                           "tile/0/000.p/0",
                           "tile/0/000.p/256",
                           "tile/0/000.p/01",
                           "tile/0/000.p/1/2",
                           "tile/0/000.p/x",
                           "tile/0/000.p/-1",
                           "tile/0/.p/1",
                           "tile/0/000p/1",
                           "tile/0/x001.p/000",
                           "tile/0/x001/000.p/1/",
                           "tile/Entries/000",
                           "tile/entries",
                           "tile/entries/000.p/0",
                           "tile/entries/000.p/256",
                           "tiles/0/000",
                           "tile/0/ 00",
                           "tile/0/0%30",
                           "tile/0/x001/x000/x000/x000/x000/x000/000",
                           "tile/0/x072/x057/x594/x037/x927/936"}) {
    EXPECT_FALSE(parse_tile_path(text)) << text;
  }
}

TEST(TilePath, HasTheWidthThatTheTreeGivesIt) {
  auto width = [](int level, uint64_t index, uint64_t size) {
    return tile_width({.level = static_cast<uint8_t>(level), .index = index}, size);
  };
  // The examples of tlog-tiles.
  EXPECT_EQ(width(0, 272, 70000), 256u);
  EXPECT_EQ(width(0, 273, 70000), 112u);
  EXPECT_EQ(width(0, 274, 70000), 0u);
  EXPECT_EQ(width(1, 0, 70000), 256u);
  EXPECT_EQ(width(1, 1, 70000), 17u);
  EXPECT_EQ(width(2, 0, 70000), 1u);
  EXPECT_EQ(width(3, 0, 70000), 0u);
  EXPECT_EQ(width(0, 0, 256), 256u);
  EXPECT_EQ(width(0, 1, 256), 0u);
  EXPECT_EQ(width(1, 0, 256), 1u);
  EXPECT_EQ(width(0, 0, 0), 0u);
  EXPECT_EQ(width(7, 0, UINT64_MAX), 255u);
  EXPECT_EQ(width(8, 0, UINT64_MAX), 0u);
  EXPECT_EQ(width(63, 0, UINT64_MAX), 0u);
  EXPECT_EQ(tile_width({.level = {}, .index = 273}, 70000), 112u);
}

}  // namespace
}  // namespace souk::ledger
