// One byte of one file of a ledger changed at a time: the audit notices and says what is
// wrong, or nothing that the ledger says has changed; and no proof ever verifies for
// anything but the true entry.
//   faults_bit_flip_test [--every N]   default: every 211th byte; N = 1 is every byte
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "ledger/audit/audit.h"
#include "ledger/proof/recorded.h"
#include "ledger/sequencer/sequencer.h"
#include "tests/ledger/ledger_fixture.h"

namespace souk::faults {
namespace {

namespace fs = std::filesystem;
using namespace ledger;  // NOLINT: the whole room is under test
using ledger::test::entry;
using ledger::test::FixedClock;
using ledger::test::Folder;
using ledger::test::key_of;
using ledger::test::kOrigin;
using ledger::test::log_note_key;

constexpr uint64_t kEntries = 30;
size_t every = 211;

Bytes read_whole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class BitFlip : public ::testing::Test {
 protected:
  void SetUp() override {
    FixedClock clock(1'000'000);
    {
      auto log = Sequencer::start(LedgerStore::create(path()).take(), key_of(9), kOrigin, clock);
      for (uint64_t number = 0; number < kEntries; ++number) {
        ASSERT_TRUE((*log)->append(entry(number)));
      }
      leaves_ = (*log)->leaves(0, kEntries).take();
    }
    report_ = audit_file(path(), log_note_key());
    ASSERT_TRUE(report_.ok) << report_.reason;
    for (const auto& file : fs::directory_iterator(folder_.file(""))) {
      files_[file.path().string()] = read_whole(file.path().string());
    }
    ASSERT_GE(files_.size(), 1u);
  }
  std::string path() const { return folder_.file("ledger.db"); }

  void restore() {
    for (const auto& file : fs::directory_iterator(folder_.file(""))) {
      if (files_.count(file.path().string()) == 0) fs::remove(file.path());
    }
    for (const auto& [name, bytes] : files_) write(name, bytes);
  }
  static void write(const std::string& name, const Bytes& bytes) {
    std::ofstream file(name, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }

  // What a server on this file would prove to a client: the true entries or nothing.
  void expect_no_false_proof() {
    FixedClock clock(2'000'000);
    auto store = LedgerStore::open(path());
    if (!store) return;
    auto log = Sequencer::start(std::move(*store), key_of(9), kOrigin, clock);
    if (!log) return;
    for (uint64_t seq = 0; seq < (*log)->size(); ++seq) {
      auto leaf = (*log)->leaf(seq);
      auto receipt = (*log)->prove(seq);
      if (!leaf || !receipt) continue;
      if (!confirm_one(*leaf, receipt->tlog_proof, log_note_key(), kOrigin)) continue;
      EXPECT_TRUE(seq < kEntries && *leaf == leaves_[seq]) << "a proof for an altered entry";
    }
  }

  Folder folder_;
  std::vector<Bytes> leaves_;
  AuditReport report_;
  std::map<std::string, Bytes> files_;
};

TEST_F(BitFlip, OfAnyByteIsNoticedOrChangesNothingThatTheLedgerSays) {
  size_t flipped = 0;
  size_t noticed = 0;
  for (const auto& [name, bytes] : files_) {
    for (size_t at = 0; at < bytes.size(); at += every) {
      SCOPED_TRACE(fs::path(name).filename().string() + " byte " + std::to_string(at));
      Bytes changed = bytes;
      changed[at] ^= static_cast<uint8_t>(1u << (at % 8));
      write(name, changed);
      ++flipped;
      auto report = audit_file(path(), log_note_key());
      if (!report.ok) {
        ++noticed;
        EXPECT_FALSE(report.reason.empty());
        expect_no_false_proof();
      } else {
        EXPECT_EQ(report.entries, kEntries);
        EXPECT_EQ(report.root, report_.root);
        EXPECT_EQ(report.checkpoint, report_.checkpoint);
      }
      restore();
      if (HasFailure()) return;
    }
  }
  EXPECT_GT(noticed, 0u);
  std::printf(
      "%zu bytes of %zu files flipped, one at a time: %zu noticed, %zu without any effect\n",
      flipped, files_.size(), noticed, flipped - noticed);
}

}  // namespace
}  // namespace souk::faults

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc == 3 && std::string(argv[1]) == "--every") {
    souk::faults::every = std::strtoul(argv[2], nullptr, 10);
  }
  if (souk::faults::every == 0) return 2;
  return RUN_ALL_TESTS();
}
