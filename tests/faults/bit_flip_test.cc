// One byte of one file of a ledger changed at a time: the audit notices and says what is
// wrong, or nothing that the ledger says has changed; and no proof ever verifies for
// anything but the true entry.
//   faults_bit_flip_test [--every N [--offset M]]   bytes M, M + N, M + 2N, … of every file
// Default: every 997th. N = 1 is every byte; N processes with an offset each share that.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "ledger/audit/audit.h"
#include "ledger/audit/tiles_audit.h"
#include "ledger/proof/recorded.h"
#include "ledger/sequencer/sequencer.h"
#include "ledger/store/tiles_dir.h"
#include "tests/ledger/ledger_fixture.h"

// libsodium's, which the whole room calls: a sweep asks for the same few verifications again
// and again, and the answer to one is a function of its bytes. Each is made once.
extern "C" int crypto_sign_verify_detached(const unsigned char* signature,
                                           const unsigned char* message, unsigned long long length,
                                           const unsigned char* key) {
  using Verify =
      int (*)(const unsigned char*, const unsigned char*, unsigned long long, const unsigned char*);
  static const auto verify = reinterpret_cast<Verify>(dlsym(RTLD_NEXT, __func__));
  static std::mutex mutex;
  static std::unordered_map<std::string, int> made;
  std::string question(reinterpret_cast<const char*>(signature), 64);
  question.append(reinterpret_cast<const char*>(key), 32);
  question.append(reinterpret_cast<const char*>(message), length);
  {
    std::lock_guard lock(mutex);
    auto it = made.find(question);
    if (it != made.end()) return it->second;
  }
  int answer = verify(signature, message, length, key);
  std::lock_guard lock(mutex);
  if (made.size() < 100'000) made.emplace(std::move(question), answer);
  return answer;
}

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
size_t every = 997;
std::optional<size_t> offset;  // the first byte; else the middle of the first step

Bytes read_whole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

using Files = std::map<std::string, Bytes>;  // by path below the folder

// A folder whose files are written again and again, each time with one byte altered.
class BitFlip : public ::testing::Test {
 protected:
  // A ledger of `count` entries; its files as they lie while it is still open, or closed.
  void make_ledger(uint64_t count, bool in_use) {
    count_ = count;
    leaves_ = ledger::test::chain(count);
    {
      auto store = LedgerStore::create(path()).take();
      ASSERT_TRUE(store.bind_log_key(log_note_key().vkey()));
      for (uint64_t to = 0; to < count;) {
        to = to == 0 ? 1 : std::min(count, to + (count + 2) / 3);
        ASSERT_TRUE(store.append_batch(batch_to(store, to)));
      }
      if (in_use) files_ = read_folder();
    }
    if (!in_use) files_ = read_folder();
    restore();
    truth_ = audit_file(path(), log_note_key());
    ASSERT_TRUE(truth_.ok) << truth_.reason;
    ASSERT_EQ(truth_.entries, count);
  }

  Batch batch_to(const LedgerStore& store, uint64_t to) const {
    Batch batch{
        .old_size = store.size(), .old_root = store.root(), .entries = {}, .checkpoint = {}};
    auto tree = store.tree();
    for (uint64_t seq = batch.old_size; seq < to; ++seq) {
      batch.entries.push_back({leaves_[seq], entry(seq).author(), entry(seq).nonce()});
      tree.append(leaf_hash(leaves_[seq]));
      batch.time = static_cast<TimeMs>(1000 + seq);
    }
    batch.new_size = to;
    batch.new_root = tree.root();
    batch.checkpoint = sign_checkpoint({.origin = kOrigin, .size = to, .root = batch.new_root},
                                       log_note_key(), key_of(9));
    return batch;
  }

  std::string path() const { return folder_.file("ledger.db"); }

  Files read_folder() const {
    Files files;
    for (const auto& file : fs::recursive_directory_iterator(folder_.file(""))) {
      if (!file.is_regular_file()) continue;
      auto name = fs::relative(file.path(), folder_.file("")).string();
      files[name] = read_whole(file.path().string());
    }
    return files;
  }
  void restore() {
    for (const auto& file : fs::directory_iterator(folder_.file(""))) {
      if (file.is_regular_file() && files_.count(file.path().filename().string()) == 0) {
        fs::remove(file.path());
      }
    }
    for (const auto& [name, bytes] : files_) write(name, bytes);
  }
  void write(const std::string& name, const Bytes& bytes) const {
    std::ofstream file(folder_.file(name), std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    file.close();
    long_ago(name);
  }
  // One byte alone, where the rest of the file is as it was.
  void write_byte(const std::string& name, size_t at, uint8_t byte) const {
    std::fstream file(folder_.file(name), std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(at));
    file.put(static_cast<char>(byte));
    file.close();
    ASSERT_TRUE(file) << name;
    long_ago(name);
  }
  // Nobody appends: what a file says now it says for good.
  void long_ago(const std::string& name) const {
    auto past = fs::file_time_type::clock::now() - std::chrono::hours(1);
    fs::last_write_time(folder_.file(name), past);
  }

  // Alters each `step`-th byte of each file and asks whether it was noticed.
  void sweep(size_t step, const std::function<bool(const std::string& name, size_t at)>& noticed) {
    size_t flipped = 0;
    size_t seen = 0;
    for (const auto& [name, bytes] : files_) {
      for (size_t at = offset ? *offset % step : step / 2; at < bytes.size(); at += step) {
        SCOPED_TRACE(name + " byte " + std::to_string(at));
        write_byte(name, at, static_cast<uint8_t>(bytes[at] ^ (1u << (at % 8))));
        ++flipped;
        if (flipped % 20'000 == 0) {
          std::printf("%s byte %zu of %zu\n", name.c_str(), at, bytes.size());
          std::fflush(stdout);
        }
        bool told = noticed(name, at);
        seen += told ? 1 : 0;
        // An audit writes nothing but SQLite's shared memory; a server that starts may.
        if (told) {
          restore();
        } else {
          write_byte(name, at, bytes[at]);
          for (const auto& [other, whole] : files_) {
            if (other.ends_with("-shm")) write(other, whole);
          }
        }
        if (HasFailure()) return;
      }
    }
    for (const auto& [name, bytes] : files_) {
      EXPECT_EQ(read_whole(folder_.file(name)), bytes) << name << " was not put back";
    }
    EXPECT_GT(seen, 0u);
    std::printf("%zu bytes of %zu files altered, one at a time: %zu noticed, %zu without effect\n",
                flipped, files_.size(), seen, flipped - seen);
  }

  // The entry whose leaf this byte of the main file is in.
  std::optional<uint64_t> entry_at(size_t at) const {
    auto text = as_text(files_.at("ledger.db"));
    for (uint64_t seq = 0; seq < leaves_.size(); ++seq) {
      size_t found = text.find(as_text(leaves_[seq]));
      if (found != std::string::npos && found <= at && at < found + leaves_[seq].size()) return seq;
    }
    return std::nullopt;
  }

  bool ledger_notices(const std::string& name, size_t at) {
    auto report = audit_file(path(), log_note_key());
    if (report.ok) {
      EXPECT_EQ(report.entries, count_);
      EXPECT_EQ(report.root, truth_.root);
      EXPECT_EQ(report.checkpoint, truth_.checkpoint);
      return false;
    }
    EXPECT_FALSE(report.reason.empty());
    auto place = place_of(path(), report);
    EXPECT_LT(place.from, place.to) << report.reason;
    EXPECT_EQ(place.file.rfind(path(), 0), 0u) << place.file;
    auto entry = files_.count("ledger.db-wal") == 0 ? entry_at(at) : std::nullopt;
    if (name == "ledger.db" && entry) {
      EXPECT_EQ(report.first_bad, entry) << report.reason;
      EXPECT_LE(place.from, at);
      EXPECT_GT(place.to, at);
    }
    if (name == "ledger.db-wal" && report.place) {
      EXPECT_LE(place.from, at);
      EXPECT_GT(place.to, at);
    }
    expect_no_false_proof();
    return true;
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
      if (leaf && seq < count_ && *leaf == leaves_[seq]) continue;
      auto receipt = (*log)->prove(seq);
      if (!leaf || !receipt) continue;
      if (!confirm_one(*leaf, receipt->tlog_proof, log_note_key(), kOrigin)) continue;
      ADD_FAILURE() << "a proof for an altered entry, number " << seq;
    }
  }

  Folder folder_;
  uint64_t count_ = 0;
  std::vector<Bytes> leaves_;
  AuditReport truth_;
  Files files_;
};

TEST_F(BitFlip, OfALedgerAtRestIsNoticedOrChangesNothingThatItSays) {
  make_ledger(kEntries, false);
  sweep(every, [&](const auto& name, size_t at) { return ledger_notices(name, at); });
}

TEST_F(BitFlip, OfALedgerInUseWithItsWriteAheadLogIsNoticedOrChangesNothingThatItSays) {
  make_ledger(kEntries, true);
  ASSERT_EQ(files_.count("ledger.db-wal"), 1u);
  sweep(every, [&](const auto& name, size_t at) { return ledger_notices(name, at); });
}

// Full tiles and their nodes are in the file from 256 entries on.
TEST_F(BitFlip, OfALedgerWithFullTilesIsNoticedOrChangesNothingThatItSays) {
  make_ledger(300, false);
  sweep(every * 16 + 1, [&](const auto& name, size_t at) { return ledger_notices(name, at); });
}

TEST_F(BitFlip, OfAnExportIsNoticedAndPlacedAndNeverImported) {
  make_ledger(kEntries, false);
  fs::remove_all(folder_.file(""));
  {
    auto builder = TilesBuilder::open(folder_.file("")).take();
    for (const auto& leaf : leaves_) ASSERT_TRUE(builder.add(leaf));
    ASSERT_TRUE(builder.finish());
    ASSERT_TRUE(builder.put_text("vkey", log_note_key().vkey() + "\n"));
    ASSERT_TRUE(builder.put_text("checkpoint", truth_.checkpoint));
  }
  files_ = read_folder();
  ASSERT_EQ(files_.size(), 4u);  // checkpoint, vkey, one tile, one bundle
  auto fetch = files_of(folder_.file(""));
  auto judge = [](std::string_view note) { return check_under_key(note, log_note_key()); };
  Folder elsewhere;
  sweep(std::max<size_t>(1, every / 16), [&](const std::string& name, size_t at) {
    auto audit = audit_tiles(fetch, judge);
    if (name == "vkey") {
      EXPECT_TRUE(audit.report.ok);
      auto text = read_whole(folder_.file(name));
      auto key = NoteKey::parse(as_text(ByteView(text).first(text.size() - 1)));
      EXPECT_TRUE(!key || text.back() != '\n' || !open_checkpoint(truth_.checkpoint, *key));
      return false;
    }
    EXPECT_FALSE(audit.report.ok);
    EXPECT_EQ(audit.place.file, name) << audit.report.reason;
    EXPECT_LE(audit.place.from, at);
    EXPECT_GT(audit.place.to, at);
    auto note = read_whole(folder_.file("checkpoint"));
    auto restored = LedgerStore::restore(
        elsewhere.file("ledger.db"), log_note_key(), to_text(note),
        [&](const LedgerStore::VisitLeaf& visit) { return each_leaf(fetch, kEntries, visit); });
    if (name == "checkpoint" || name.find("entries") != std::string::npos) {
      EXPECT_FALSE(restored);
    }
    fs::remove(elsewhere.file("ledger.db"));  // an import does not read the tiles of hashes
    return true;
  });
}

}  // namespace
}  // namespace souk::faults

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::string(argv[i]) == "--every")
      souk::faults::every = std::strtoul(argv[i + 1], nullptr, 10);
    if (std::string(argv[i]) == "--offset")
      souk::faults::offset = std::strtoul(argv[i + 1], nullptr, 10);
  }
  if (souk::faults::every == 0) return 2;
  return RUN_ALL_TESTS();
}
