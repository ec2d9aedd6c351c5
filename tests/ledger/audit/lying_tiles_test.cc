// A server of tiles that lies about one file, or about all of them: the client that reads it
// believes nothing but the log that was signed.
#include <gtest/gtest.h>

#include "ledger/audit/tiles_audit.h"
#include "ledger/store/store.h"
#include "tests/ledger/ledger_fixture.h"

namespace souk::ledger {
namespace {

using test::chain;
using test::Folder;
using test::key_of;
using test::kOrigin;
using test::log_note_key;

constexpr uint64_t kSize = 600;  // two full tiles and a partial one on level 0, one on level 1

std::string note_over(std::span<const Bytes> leaves) {
  CompactTree tree;
  for (const auto& leaf : leaves) tree.append(leaf_hash(leaf));
  return sign_checkpoint({.origin = kOrigin, .size = leaves.size(), .root = tree.root()},
                         log_note_key(), key_of(9));
}

// An honest log's files.
void write_log(const std::string& directory, std::span<const Bytes> leaves) {
  auto builder = TilesBuilder::open(directory).take();
  for (const auto& leaf : leaves) CHECK(builder.add(leaf));
  CHECK(builder.finish());
  CHECK(builder.put_text("checkpoint", note_over(leaves)));
}

class LyingTiles : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    leaves = new std::vector<Bytes>(chain(kSize));
    folder = new Folder();
    write_log(folder->file("log"), *leaves);
  }
  static void TearDownTestSuite() {
    delete leaves;
    delete folder;
  }

  using Lie = std::function<Result<Bytes>(const std::string& path, Result<Bytes> truth)>;
  static TilesAudit audit(const Lie& lie) {
    auto honest = files_of(folder->file("log"));
    FetchTileFile fetch = [&](const std::string& path) { return lie(path, honest(path)); };
    return audit_tiles(fetch,
                       [](std::string_view note) { return check_under_key(note, log_note_key()); });
  }
  // One file is another than it is.
  static TilesAudit with(const std::string& name, const std::function<void(Bytes&)>& change) {
    return audit([&](const std::string& path, Result<Bytes> truth) {
      if (path == name && truth) change(*truth);
      return truth;
    });
  }
  static void expect_caught(const TilesAudit& audit, const std::string& file) {
    EXPECT_FALSE(audit.report.ok);
    EXPECT_EQ(audit.place.file, file) << audit.report.reason;
    EXPECT_FALSE(audit.report.reason.empty());
  }
  static Bytes file(const std::string& path) { return files_of(folder->file("log"))(path).take(); }

  static std::vector<Bytes>* leaves;
  static Folder* folder;
};
std::vector<Bytes>* LyingTiles::leaves = nullptr;
Folder* LyingTiles::folder = nullptr;

const char* const kFiles[] = {"checkpoint",       "tile/0/000",           "tile/0/001",
                              "tile/0/002.p/88",  "tile/1/000.p/2",       "tile/entries/000",
                              "tile/entries/001", "tile/entries/002.p/88"};

TEST_F(LyingTiles, TheTruthIsBelieved) {
  auto told = audit([](const std::string&, Result<Bytes> truth) { return truth; });
  EXPECT_TRUE(told.report.ok) << told.report.reason;
  EXPECT_EQ(told.report.entries, kSize);
  EXPECT_EQ(told.report.signatures, kSize);
}

TEST_F(LyingTiles, EveryFileTruncatedIsRefusedAndNamed) {
  for (const char* name : kFiles) {
    SCOPED_TRACE(name);
    size_t size = file(name).size();
    for (size_t keep : {size_t{0}, size_t{1}, size / 2, size - 32, size - 1}) {
      expect_caught(with(name, [&](Bytes& bytes) { bytes.resize(keep); }), name);
    }
  }
}

TEST_F(LyingTiles, EveryFileTooLongIsRefusedAndNamed) {
  for (const char* name : kFiles) {
    SCOPED_TRACE(name);
    for (size_t more : {1u, 32u, 8192u, 1u << 20}) {
      expect_caught(with(name, [&](Bytes& bytes) { bytes.resize(bytes.size() + more, 'x'); }),
                    name);
    }
  }
}

TEST_F(LyingTiles, EveryFileWithheldIsRefusedAndNamed) {
  for (const char* name : kFiles) {
    SCOPED_TRACE(name);
    auto gone = audit([&](const std::string& path, Result<Bytes> truth) -> Result<Bytes> {
      // A partial one might be had from the full one, which there is none of.
      if (path == name) return Error(Code::kNotFound, "expected 200 from the server, not 404");
      return truth;
    });
    expect_caught(gone, name);
  }
}

TEST_F(LyingTiles, EveryTileSubstitutedByAnotherIsRefused) {
  for (const char* name : kFiles) {
    for (const char* other : kFiles) {
      if (std::string(name) == other) continue;
      SCOPED_TRACE(std::string(other) + " in the place of " + name);
      auto bytes = file(other);
      auto told = with(name, [&](Bytes& served) { served = bytes; });
      EXPECT_FALSE(told.report.ok);
      EXPECT_EQ(told.place.file, name) << told.report.reason;
    }
  }
}

TEST_F(LyingTiles, APartialTileOfAnotherWidthIsRefused) {
  auto full = file("tile/0/000");
  expect_caught(with("tile/0/002.p/88", [&](Bytes& served) { served = full; }), "tile/0/002.p/88");
  expect_caught(with("tile/0/002.p/88", [](Bytes& served) { served.resize(87 * 32); }),
                "tile/0/002.p/88");
  expect_caught(with("tile/entries/002.p/88",
                     [&](Bytes& served) {
                       auto all = parse_bundle(served, 88).take();
                       served.resize(served.size() - 2 - all.back().size());
                     }),
                "tile/entries/002.p/88");
}

TEST_F(LyingTiles, AForkUnderTheSameOriginNeedsTheLogsOwnSignature) {
  // Another history of the same length, whole and consistent, signed by somebody else.
  auto other = chain(kSize);
  auto last = decode_leaf(other.back()).take();
  last.time += 1;
  other.back() = encode_leaf(last);
  Folder forked;
  write_log(forked.file("log"), other);
  auto fork = files_of(forked.file("log"));
  auto forged = audit([&](const std::string& path, Result<Bytes> truth) -> Result<Bytes> {
    return path == "checkpoint" ? std::move(truth) : fork(path);
  });
  EXPECT_FALSE(forged.report.ok);  // the fork's tiles under the log's checkpoint
  auto half = audit([&](const std::string& path, Result<Bytes> truth) -> Result<Bytes> {
    return path == "checkpoint" ? fork(path) : std::move(truth);
  });
  EXPECT_FALSE(half.report.ok);  // and the other way round
  auto impostor_key = NoteKey::of(kOrigin, key_of(8).public_key()).take();
  auto note = to_text(fork("checkpoint").take());
  auto text = note.substr(0, note.find("\n\n") + 1);
  auto parsed = parse_checkpoint(text).take();
  auto impostor = to_bytes(sign_checkpoint(parsed, impostor_key, key_of(8)));
  auto signed_by_another = audit([&](const std::string& path, Result<Bytes>) -> Result<Bytes> {
    return path == "checkpoint" ? impostor : fork(path);
  });
  expect_caught(signed_by_another, "checkpoint");
}

TEST_F(LyingTiles, AStaleCheckpointProvesItsOwnSizeAndNoMore) {
  // What the log signed at 300 is true for ever; it says nothing about what came later, and a
  // client that has seen 600 knows it for a rollback (market_view_test, audit --seen).
  auto stale = to_bytes(note_over(std::span(*leaves).first(300)));
  auto told = audit([&](const std::string& path, Result<Bytes> truth) -> Result<Bytes> {
    if (path == "checkpoint") return stale;
    if (path == "tile/1/000.p/1") {
      auto wider = file("tile/1/000.p/2");
      wider.resize(32);
      return wider;
    }
    return truth;  // partial tiles of 300 are had from the full ones
  });
  EXPECT_TRUE(told.report.ok) << told.report.reason;
  EXPECT_EQ(told.report.entries, 300u);
  EXPECT_EQ(told.report.checkpoint, to_text(stale));
}

TEST_F(LyingTiles, ACheckpointOfMoreThanIsServedIsRefused) {
  auto longer = chain(kSize + 1);
  auto ahead = to_bytes(note_over(longer));
  auto told = audit([&](const std::string& path, Result<Bytes> truth) -> Result<Bytes> {
    return path == "checkpoint" ? Result<Bytes>(ahead) : std::move(truth);
  });
  EXPECT_FALSE(told.report.ok);
}

TEST_F(LyingTiles, NothingOfALieIsImported) {
  Folder into;
  for (const char* name : {"tile/entries/000", "tile/entries/001", "tile/entries/002.p/88"}) {
    for (int what = 0; what < 3; ++what) {
      SCOPED_TRACE(name);
      auto honest = files_of(folder->file("log"));
      FetchTileFile fetch = [&](const std::string& path) {
        auto bytes = honest(path);
        if (path != name || !bytes) return bytes;
        if (what == 0) bytes->pop_back();
        if (what == 1) bytes->push_back(0);
        if (what == 2) (*bytes)[bytes->size() / 2] ^= 1;
        return bytes;
      };
      auto note = to_text(file("checkpoint"));
      EXPECT_FALSE(LedgerStore::restore(
          into.file("ledger.db"), log_note_key(), note,
          [&](const LedgerStore::VisitLeaf& visit) { return each_leaf(fetch, kSize, visit); }));
      EXPECT_FALSE(std::filesystem::exists(into.file("ledger.db")));
    }
  }
}

}  // namespace
}  // namespace souk::ledger
