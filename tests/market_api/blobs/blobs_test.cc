#include "market_api/blobs/blobs.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <thread>
#include <vector>

#include "ledger/crypto/hash.h"

namespace souk::market {
namespace {

namespace fs = std::filesystem;

Bytes sample(size_t size) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>((i * 2654435761u) >> 13);
  return bytes;
}

class BlobsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/souk-blobs-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    open();
  }
  void TearDown() override {
    store_.reset();
    fs::remove_all(directory_);
  }
  void open() {
    store_.reset();
    auto store = BlobStore::open(directory_.string());
    ASSERT_TRUE(store) << store.error().expected();
    store_.emplace(std::move(store).take());
  }
  void open(const BlobLimits& limits) {
    store_.reset();
    auto store = BlobStore::open(directory_.string(), limits);
    ASSERT_TRUE(store) << store.error().expected();
    store_.emplace(std::move(store).take());
  }
  // As though nobody had touched it for so long.
  static void age(const fs::path& path, std::chrono::seconds by) {
    fs::last_write_time(path, fs::file_time_type::clock::now() - by);
  }
  // Runs `work` on a fresh store in a child that is killed right after it.
  void in_killed_process(const std::function<void(BlobStore&)>& work) {
    store_.reset();
    pid_t child = ::fork();
    if (child == 0) {
      auto store = BlobStore::open(directory_.string());
      if (store) work(*store);
      ::raise(SIGKILL);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    open();
  }
  fs::path blob(const Digest& digest) const {
    return directory_ / "blob" / to_hex(ByteView(digest));
  }
  fs::path partial(const Digest& digest, size_t size) const {
    return directory_ / "partial" / (to_hex(ByteView(digest)) + "." + std::to_string(size));
  }
  // The upload of bytes_, as its digest and size name it in any process.
  UploadId named() const { return to_hex(ByteView(digest_)) + "." + std::to_string(bytes_.size()); }
  void expect_whole(const Bytes& bytes) {
    auto digest = ledger::sha256(bytes);
    auto read = store_->read(digest, 0, bytes.size());
    ASSERT_TRUE(read) << read.error().expected();
    EXPECT_EQ(*read, bytes);
    EXPECT_TRUE(fs::is_empty(directory_ / "partial"));
  }

  fs::path directory_;
  std::optional<BlobStore> store_;
  const Bytes bytes_ = sample(3000000);
  const Digest digest_ = ledger::sha256(bytes_);
  ByteView all() const { return bytes_; }
};

TEST_F(BlobsTest, AnUploadInPiecesBecomesABlob) {
  auto upload = store_->begin(digest_, bytes_.size());
  ASSERT_TRUE(upload);
  EXPECT_FALSE(store_->has(digest_));
  for (size_t at = 0; at < bytes_.size(); at += 700001) {
    auto piece = all().subspan(at, std::min<size_t>(700001, bytes_.size() - at));
    auto offset = store_->write(*upload, at, piece);
    ASSERT_TRUE(offset) << offset.error().expected();
    EXPECT_EQ(*offset, at + piece.size());
    EXPECT_EQ(*store_->offset(*upload), *offset);
  }
  EXPECT_FALSE(store_->has(digest_));
  auto done = store_->commit(*upload);
  ASSERT_TRUE(done) << done.error().expected();
  EXPECT_EQ(*done, digest_);
  EXPECT_TRUE(store_->has(digest_));
  EXPECT_EQ(*store_->size(digest_), bytes_.size());
  EXPECT_EQ(*store_->path(digest_), blob(digest_).string());
  expect_whole(bytes_);
}

TEST_F(BlobsTest, TheEmptyBlobIsABlob) {
  Bytes nothing;
  auto upload = store_->begin(ledger::sha256(nothing), 0);
  ASSERT_TRUE(upload);
  ASSERT_TRUE(store_->commit(*upload));
  expect_whole(nothing);
}

TEST_F(BlobsTest, BeginTwiceIsTheSameUpload) {
  auto first = store_->begin(digest_, bytes_.size());
  ASSERT_TRUE(store_->write(*first, 0, all().first(10)));
  auto second = store_->begin(digest_, bytes_.size());
  ASSERT_TRUE(second);
  EXPECT_EQ(*first, *second);
  EXPECT_EQ(*store_->offset(*second), 10u);
  EXPECT_EQ(store_->begin(digest_, uint64_t{1} << 60).error().code(), Code::kRefused);
}

TEST_F(BlobsTest, WhoeverAnnouncesAnotherSizeForADigestHoldsUpNobody) {
  auto squatter = store_->begin(digest_, bytes_.size() + 1);
  ASSERT_TRUE(squatter);
  ASSERT_TRUE(store_->write(*squatter, 0, as_bytes("nonsense")));
  auto upload = store_->begin(digest_, bytes_.size());
  ASSERT_TRUE(upload) << upload.error().expected();
  EXPECT_NE(*upload, *squatter);
  open();  // both go on in the next process
  EXPECT_EQ(*store_->offset(*squatter), 8u);
  EXPECT_EQ(*store_->offset(*upload), 0u);
  ASSERT_TRUE(store_->write(*upload, 0, bytes_));
  ASSERT_TRUE(store_->commit(*upload));
  // The other can never be finished, and the next start sweeps it away.
  EXPECT_EQ(store_->commit(*squatter).error().code(), Code::kConflict);
  open();
  EXPECT_EQ(store_->offset(*squatter).error().code(), Code::kNotFound);
  expect_whole(bytes_);
}

TEST_F(BlobsTest, WritingTheSameAgainChangesNothingAndOtherBytesAreAConflict) {
  auto upload = *store_->begin(digest_, bytes_.size());
  ASSERT_EQ(*store_->write(upload, 0, all().first(1000)), 1000u);
  EXPECT_EQ(*store_->write(upload, 0, all().first(1000)), 1000u);
  EXPECT_EQ(*store_->write(upload, 500, all().subspan(500, 100)), 1000u);
  EXPECT_EQ(*store_->write(upload, 1000, {}), 1000u);
  Bytes other(bytes_.begin(), bytes_.begin() + 1000);
  other[999] ^= 1;
  EXPECT_EQ(store_->write(upload, 0, other).error().code(), Code::kConflict);
  EXPECT_EQ(*store_->offset(upload), 1000u);
  // Half old, half new: a client that lost our answer in the middle.
  EXPECT_EQ(*store_->write(upload, 900, all().subspan(900, 200)), 1100u);
  ASSERT_TRUE(store_->write(upload, 1100, all().subspan(1100)));
  ASSERT_TRUE(store_->commit(upload));
  expect_whole(bytes_);
}

TEST_F(BlobsTest, AGapIsAConflictThatNamesTheOffsetAndPastTheEndIsRefused) {
  auto upload = *store_->begin(digest_, bytes_.size());
  ASSERT_TRUE(store_->write(upload, 0, all().first(10)));
  auto gap = store_->write(upload, 11, all().subspan(11, 5));
  ASSERT_FALSE(gap);
  EXPECT_EQ(gap.error().code(), Code::kConflict);
  EXPECT_NE(gap.error().expected().find("10"), std::string::npos);
  Bytes longer = bytes_;
  longer.push_back(0);
  EXPECT_EQ(store_->write(upload, 0, longer).error().code(), Code::kRefused);
  EXPECT_EQ(store_->write(upload, ~uint64_t{0}, all().first(2)).error().code(), Code::kRefused);
  EXPECT_EQ(*store_->offset(upload), 10u);
}

TEST_F(BlobsTest, CommitBeforeTheLastByteIsAConflictAndLosesNothing) {
  auto upload = *store_->begin(digest_, bytes_.size());
  ASSERT_TRUE(store_->write(upload, 0, all().first(bytes_.size() - 1)));
  EXPECT_EQ(store_->commit(upload).error().code(), Code::kConflict);
  EXPECT_FALSE(store_->has(digest_));
  ASSERT_TRUE(store_->write(upload, bytes_.size() - 1, all().last(1)));
  ASSERT_TRUE(store_->commit(upload));
  expect_whole(bytes_);
}

TEST_F(BlobsTest, AWrongDigestLeavesNeitherBlobNorUpload) {
  Bytes lie = bytes_;
  lie.back() ^= 1;
  auto upload = *store_->begin(digest_, lie.size());
  ASSERT_TRUE(store_->write(upload, 0, lie));
  EXPECT_EQ(store_->commit(upload).error().code(), Code::kUnauthentic);
  EXPECT_FALSE(store_->has(digest_));
  EXPECT_FALSE(store_->has(ledger::sha256(lie)));
  EXPECT_EQ(store_->offset(upload).error().code(), Code::kNotFound);
  EXPECT_EQ(store_->commit(upload).error().code(), Code::kNotFound);
  EXPECT_TRUE(fs::is_empty(directory_ / "partial"));
  EXPECT_TRUE(fs::is_empty(directory_ / "blob"));
  ASSERT_TRUE(store_->begin(digest_, bytes_.size()));
  EXPECT_EQ(*store_->offset(upload), 0u);
}

TEST_F(BlobsTest, ACompleteBlobIsNotUploadedAgain) {
  ASSERT_TRUE(store_->put(bytes_));
  auto upload = store_->begin(digest_, bytes_.size());
  ASSERT_TRUE(upload);
  EXPECT_EQ(*store_->offset(*upload), bytes_.size());
  EXPECT_EQ(*store_->write(*upload, 0, all().first(10)), bytes_.size());
  EXPECT_EQ(*store_->commit(*upload), digest_);
  EXPECT_EQ(store_->begin(digest_, 1).error().code(), Code::kConflict);
}

TEST_F(BlobsTest, UnknownUploadsAreNotFoundWhateverTheyAreCalled) {
  for (const auto& upload :
       {std::string(), std::string("../lock"), std::string(64, 'g'), std::string(64, '0'),
        std::string("00"), std::string(64, '0') + ".5", std::string(64, '0') + ".05",
        std::string(64, '0') + ".-5", std::string(64, 'A') + ".5"}) {
    EXPECT_EQ(store_->offset(upload).error().code(), Code::kNotFound);
    EXPECT_EQ(store_->write(upload, 0, all().first(1)).error().code(), Code::kNotFound);
    EXPECT_EQ(store_->commit(upload).error().code(), Code::kNotFound);
    EXPECT_TRUE(store_->abandon(upload));
  }
}

TEST_F(BlobsTest, AnAbandonedUploadIsGone) {
  auto upload = *store_->begin(digest_, bytes_.size());
  ASSERT_TRUE(store_->write(upload, 0, all().first(10)));
  ASSERT_TRUE(store_->abandon(upload));
  EXPECT_EQ(store_->offset(upload).error().code(), Code::kNotFound);
  EXPECT_TRUE(fs::is_empty(directory_ / "partial"));
}

TEST_F(BlobsTest, ReadsGiveExactlyTheRangeOrRefuse) {
  ASSERT_TRUE(store_->put(bytes_));
  auto middle = store_->read(digest_, 1234567, 89);
  ASSERT_TRUE(middle);
  EXPECT_TRUE(std::equal(middle->begin(), middle->end(), bytes_.begin() + 1234567));
  EXPECT_TRUE(store_->read(digest_, bytes_.size(), 0)->empty());
  EXPECT_EQ(store_->read(digest_, bytes_.size() - 1, 2).error().code(), Code::kRefused);
  EXPECT_EQ(store_->read(digest_, bytes_.size() + 1, 0).error().code(), Code::kRefused);
  EXPECT_EQ(store_->read(digest_, 1, ~uint64_t{0}).error().code(), Code::kRefused);
  EXPECT_EQ(store_->read(Digest{}, 0, 0).error().code(), Code::kNotFound);
  EXPECT_EQ(store_->size(Digest{}).error().code(), Code::kNotFound);
  EXPECT_EQ(store_->path(Digest{}).error().code(), Code::kNotFound);
}

TEST_F(BlobsTest, AnErasedBlobIsGoneAndMayComeBack) {
  ASSERT_TRUE(store_->put(bytes_));
  ASSERT_TRUE(store_->erase(digest_));
  EXPECT_FALSE(store_->has(digest_));
  EXPECT_TRUE(store_->erase(digest_));
  ASSERT_TRUE(store_->put(bytes_));
  expect_whole(bytes_);
}

constexpr uint64_t kMoreThanAnyDisk = uint64_t{1} << 60;

TEST_F(BlobsTest, UploadsLeaveTheReserveFreeAndTheMarketMayUseIt) {
  auto upload = *store_->begin(digest_, bytes_.size());
  open({.reserve = kMoreThanAnyDisk});
  auto other = store_->begin(ledger::sha256(sample(5)), 5);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code(), Code::kTryAgain);
  EXPECT_TRUE(other.error().expected().starts_with("disk full")) << other.error().expected();
  EXPECT_EQ(store_->write(upload, 0, bytes_).error().code(), Code::kTryAgain);
  EXPECT_EQ(*store_->offset(upload), 0U);
  EXPECT_EQ(store_->room(Writer::kUpload, 1).error().code(), Code::kTryAgain);
  ASSERT_TRUE(store_->put(sample(5)));
  open({.reserve = 0});
  ASSERT_TRUE(store_->write(upload, 0, bytes_));
  ASSERT_TRUE(store_->commit(upload));
  expect_whole(bytes_);
}

TEST_F(BlobsTest, WhatIsHeldForAModelIsTakenFromUploadsAndGivenBack) {
  open({.reserve = 0});
  EXPECT_EQ(store_->hold(kMoreThanAnyDisk).error().code(), Code::kTryAgain);
  uint64_t most = fs::space(directory_).available / 2;
  {
    auto held = store_->hold(most);
    ASSERT_TRUE(held) << held.error().expected();
    EXPECT_FALSE(store_->room(Writer::kUpload, most + (uint64_t{1} << 30)));
    EXPECT_FALSE(store_->hold(most + (uint64_t{1} << 30)));
    EXPECT_TRUE(store_->room(Writer::kUpload, 1));
  }
  EXPECT_TRUE(store_->room(Writer::kUpload, most));
}

TEST_F(BlobsTest, OnlySoManyUploadsAreUnderWayAndTheOneIdleTheLongestMakesWay) {
  open({.reserve = 0, .max_partial = 3});
  std::vector<UploadId> uploads;
  for (size_t size : {11U, 12U, 13U}) {
    auto bytes = sample(size);
    uploads.push_back(*store_->begin(ledger::sha256(bytes), size));
    ASSERT_TRUE(store_->write(uploads.back(), 0, ByteView(bytes).first(5)));
  }
  EXPECT_TRUE(store_->begin(ledger::sha256(sample(12)), 12)) << "one that goes on is no new one";
  EXPECT_EQ(*store_->offset(uploads[0]), 5U);
  age(directory_ / "partial" / uploads[1], std::chrono::seconds(20));
  open({.reserve = 0, .max_partial = 3});
  ASSERT_TRUE(store_->begin(digest_, bytes_.size()));
  EXPECT_EQ(*store_->offset(uploads[0]), 5U);
  EXPECT_EQ(store_->offset(uploads[1]).error().code(), Code::kNotFound);
  EXPECT_EQ(*store_->offset(uploads[2]), 5U);
}

TEST_F(BlobsTest, WhoHasSentMuchIsWaitedForLonger) {
  auto much = *store_->begin(digest_, bytes_.size());
  ASSERT_TRUE(store_->write(much, 0, all().first(2500000)));
  auto little = *store_->begin(ledger::sha256(sample(9)), 9);
  ASSERT_TRUE(store_->write(little, 0, ByteView(sample(9)).first(8)));
  age(directory_ / "partial" / much, std::chrono::seconds(60));
  age(directory_ / "partial" / little, std::chrono::seconds(30));
  open({.reserve = 0, .max_partial = 2});
  ASSERT_TRUE(store_->begin(ledger::sha256(sample(10)), 10));
  EXPECT_EQ(*store_->offset(much), 2500000U);
  EXPECT_EQ(store_->offset(little).error().code(), Code::kNotFound);
}

// Between any two calls of an honest uploader a stranger begins a hundred uploads and sends a byte
// to each, or one more to each of a hundred that he has.
TEST_F(BlobsTest, AnUploadIsFinishedWhileAStrangerKeepsAllPlacesTaken) {
  open({.reserve = 0, .max_partial = 256});
  uint32_t next = 0;
  std::vector<UploadId> his;
  auto stranger = [&](bool drips) {
    for (int i = 0; i < 100; ++i, ++next) {
      if (drips && his.size() >= 256) {
        const auto& upload = his[his.size() - 1 - next % 200];
        auto offset = store_->offset(upload);
        if (offset) (void)store_->write(upload, *offset, all().first(1));
        continue;
      }
      auto name = std::to_string(next);
      his.push_back(*store_->begin(ledger::sha256(as_bytes(name)), 1000));
      ASSERT_TRUE(store_->write(his.back(), 0, all().first(1)));
    }
  };
  for (int i = 0; i < 4; ++i) stranger(false);
  for (bool drips : {false, true}) {
    for (size_t size : {size_t{100}, bytes_.size()}) {
      auto bytes = ByteView(bytes_).last(size);
      auto digest = ledger::sha256(bytes);
      auto upload = store_->begin(digest, size);
      ASSERT_TRUE(upload) << upload.error().expected();
      for (size_t at = 0; at < size; at += 100000) {
        stranger(drips);
        auto piece = bytes.subspan(at, std::min<size_t>(100000, size - at));
        auto written = store_->write(*upload, at, piece);
        ASSERT_TRUE(written) << written.error().expected() << " at " << at;
      }
      stranger(drips);
      auto done = store_->commit(*upload);
      ASSERT_TRUE(done) << done.error().expected();
      EXPECT_TRUE(store_->has(digest));
      ASSERT_TRUE(store_->erase(digest));
    }
  }
  EXPECT_LE(std::distance(fs::directory_iterator(directory_ / "partial"), {}), 256);
}

// Or anybody would end them all by announcing more than the disk has.
TEST_F(BlobsTest, IdleUploadsStayWhereTheirRoomWouldNotDo) {
  auto idle = *store_->begin(digest_, bytes_.size());
  ASSERT_TRUE(store_->write(idle, 0, all().first(1000)));
  age(directory_ / "partial" / idle, std::chrono::seconds(700));
  open({.reserve = 0});
  EXPECT_EQ(store_->begin(ledger::sha256(sample(5)), uint64_t{1} << 50).error().code(),
            Code::kTryAgain);
  EXPECT_EQ(store_->hold(kMoreThanAnyDisk).error().code(), Code::kTryAgain);
  EXPECT_EQ(*store_->offset(idle), 1000U);
}

TEST_F(BlobsTest, WhatNobodyNamesIsRemovedWhenItIsOldAndNothingElseIs) {
  const std::chrono::hours day{25};
  auto named = *store_->put(sample(100)), unnamed = *store_->put(sample(101)),
       young = *store_->put(sample(102)), wanted = *store_->put(sample(103));
  auto old_upload = *store_->begin(digest_, bytes_.size());
  auto new_upload = *store_->begin(ledger::sha256(sample(9)), 9);
  for (const auto& digest : {named, unnamed, wanted}) age(blob(digest), day);
  age(directory_ / "partial" / old_upload, day);
  ASSERT_TRUE(store_->touch(wanted));
  store_->sweep({named});
  EXPECT_TRUE(store_->has(named));
  EXPECT_FALSE(store_->has(unnamed));
  EXPECT_TRUE(store_->has(young));
  EXPECT_TRUE(store_->has(wanted));
  EXPECT_EQ(store_->touch(unnamed).error().code(), Code::kNotFound);
  EXPECT_EQ(store_->offset(old_upload).error().code(), Code::kNotFound);
  EXPECT_EQ(*store_->offset(new_upload), 0U);
}

TEST_F(BlobsTest, OneProcessAtATime) {
  auto second = BlobStore::open(directory_.string());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), Code::kConflict);
}

TEST_F(BlobsTest, APartialUploadSurvivesAKilledProcess) {
  in_killed_process([&](BlobStore& store) {
    auto upload = store.begin(digest_, bytes_.size());
    if (upload) (void)store.write(*upload, 0, all().first(1000000));
  });
  auto upload = named();
  EXPECT_EQ(*store_->offset(upload), 1000000u);  // even without a new begin
  ASSERT_TRUE(store_->begin(digest_, bytes_.size()));
  ASSERT_TRUE(store_->write(upload, 1000000, all().subspan(1000000)));
  ASSERT_TRUE(store_->commit(upload));
  expect_whole(bytes_);
}

TEST_F(BlobsTest, AProcessKilledBeforeCommitCommitsLater) {
  in_killed_process([&](BlobStore& store) {
    auto upload = store.begin(digest_, bytes_.size());
    if (upload) (void)store.write(*upload, 0, bytes_);
  });
  EXPECT_FALSE(store_->has(digest_));
  ASSERT_TRUE(store_->commit(named()));
  expect_whole(bytes_);
}

TEST_F(BlobsTest, AProcessKilledAfterCommitHasTheBlob) {
  in_killed_process([&](BlobStore& store) {
    auto upload = store.begin(digest_, bytes_.size());
    if (upload && store.write(*upload, 0, bytes_)) (void)store.commit(*upload);
  });
  expect_whole(bytes_);
}

TEST_F(BlobsTest, APartialFileThatLostItsTailGoesOnFromThere) {
  auto upload = *store_->begin(digest_, bytes_.size());
  ASSERT_TRUE(store_->write(upload, 0, all().first(2000000)));
  store_.reset();
  fs::resize_file(partial(digest_, bytes_.size()), 1234);
  open();
  EXPECT_EQ(*store_->offset(upload), 1234u);
  ASSERT_TRUE(store_->write(upload, 0, bytes_));
  ASSERT_TRUE(store_->commit(upload));
  expect_whole(bytes_);
}

TEST_F(BlobsTest, APartialFileWhoseTailIsZerosAfterAPowerCutIsNotABlob) {
  auto upload = *store_->begin(digest_, bytes_.size());
  ASSERT_TRUE(store_->write(upload, 0, all().first(2000000)));
  store_.reset();
  fs::resize_file(partial(digest_, bytes_.size()), 1000);
  fs::resize_file(partial(digest_, bytes_.size()), 2000000);
  open();
  ASSERT_TRUE(store_->write(upload, 2000000, all().subspan(2000000)));
  EXPECT_EQ(store_->commit(upload).error().code(), Code::kUnauthentic);
  ASSERT_TRUE(store_->begin(digest_, bytes_.size()));
  ASSERT_TRUE(store_->write(upload, 0, bytes_));
  ASSERT_TRUE(store_->commit(upload));
  expect_whole(bytes_);
}

TEST_F(BlobsTest, RubbishOfAnEarlierProcessIsSweptAndUploadsAreNot) {
  auto upload = *store_->begin(digest_, bytes_.size());
  ASSERT_TRUE(store_->write(upload, 0, all().first(10)));
  store_.reset();
  std::ofstream(directory_ / "partial" / "put-0") << "half a put";
  std::ofstream(directory_ / "partial" / (std::string(64, '0') + ".2")) << "too long";
  std::ofstream(directory_ / "partial" / (std::string(64, '1') + ".02")) << "";
  open();
  EXPECT_EQ(*store_->offset(upload), 10u);
  auto left = std::distance(fs::directory_iterator(directory_ / "partial"), {});
  EXPECT_EQ(left, 1);
}

TEST_F(BlobsTest, AnUploadWhoseBlobArrivedOtherwiseIsFinished) {
  auto upload = *store_->begin(digest_, bytes_.size());
  ASSERT_TRUE(store_->write(upload, 0, all().first(10)));
  ASSERT_TRUE(store_->put(bytes_));
  open();
  EXPECT_EQ(*store_->offset(upload), bytes_.size());
  EXPECT_EQ(*store_->commit(upload), digest_);
  expect_whole(bytes_);
}

TEST_F(BlobsTest, ThreadsRacingOnOneUploadLeaveOneGoodBlob) {
  auto upload = *store_->begin(digest_, bytes_.size());
  std::atomic<int> committed{0};
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (size_t at = 0; at < bytes_.size(); at += 100000) {
        (void)store_->write(upload, at, all().subspan(at, 100000));
      }
      if (store_->commit(upload)) ++committed;
    });
  }
  threads.clear();
  EXPECT_EQ(committed, 4);
  expect_whole(bytes_);
}

}  // namespace
}  // namespace souk::market
