#include "ledger/store/ledger_file.h"

#include <filesystem>
#include <mutex>

#include "ledger/store/schema.h"
#include "ledger/store/sqlite.h"

namespace souk::ledger {

struct LedgerFile::Impl {
  mutable Connection connection;

  // Calls `row` for each row of the query.
  Status each(const char* sql, const std::function<Status(Statement&)>& row) const {
    auto rows = TRY(connection.prepare(sql));
    while (true) {
      auto step = TRY(rows.step());
      if (step == Statement::Step::kDone) return Done{};
      TRY(row(rows));
    }
  }
};

LedgerFile::LedgerFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LedgerFile::LedgerFile(LedgerFile&&) noexcept = default;
LedgerFile& LedgerFile::operator=(LedgerFile&&) noexcept = default;
LedgerFile::~LedgerFile() = default;

Result<LedgerFile> LedgerFile::open(const std::string& path) {
  std::error_code failure;
  if (!std::filesystem::exists(path, failure)) {
    return Error(Code::kNotFound, "ledger file: expected one at this path");
  }
  auto connection = TRY(Connection::open(path, SQLITE_OPEN_READONLY));
  TRY(connection.execute("PRAGMA trusted_schema = OFF"));
  TRY(connection.execute("PRAGMA cell_size_check = ON"));
  {
    auto number = TRY(connection.prepare("PRAGMA application_id"));
    TRY(number.step());
    if (number.integer(0) != kApplicationId) {
      return Error(Code::kBroken, "ledger file: expected the application number of a ledger");
    }
  }
  {
    auto version = TRY(connection.prepare("PRAGMA user_version"));
    TRY(version.step());
    if (version.integer(0) != kSchemaVersion) {
      return Error(Code::kBroken, "ledger file: expected schema version " +
                                      std::to_string(kSchemaVersion) +
                                      "; the market's own start brings an older one to it");
    }
  }
  // One snapshot for the whole reading, whoever appends meanwhile.
  TRY(connection.execute("BEGIN"));
  return LedgerFile(std::make_unique<Impl>(Impl{std::move(connection)}));
}

Status LedgerFile::integrity() const {
  return impl_->each("PRAGMA integrity_check(1)", [](Statement& row) -> Status {
    if (row.text(0) == "ok") return Done{};
    return Error(Code::kBroken, "ledger file: expected sound database pages");
  });
}

Result<LedgerFile::Head> LedgerFile::head() const {
  auto row = TRY(impl_->connection.prepare(
      "SELECT size, root, last_leaf, time, checkpoint FROM head WHERE id = 1"));
  auto step = TRY(row.step());
  if (step == Statement::Step::kDone) return Error(Code::kBroken, "ledger file: expected a head");
  return Head{.size = row.integer(0),
              .root = row.blob(1),
              .last_leaf = row.blob(2),
              .time = row.integer(3),
              .checkpoint = row.text(4)};
}

Result<std::string> LedgerFile::log_key() const {
  auto row = TRY(impl_->connection.prepare("SELECT vkey FROM log WHERE id = 1"));
  auto step = TRY(row.step());
  if (step == Statement::Step::kDone)
    return Error(Code::kNotFound, "ledger file: expected the log's key");
  return row.text(0);
}

Status LedgerFile::each_entry(const std::function<Status(int64_t, ByteView)>& visit) const {
  return impl_->each("SELECT seq, leaf FROM entry ORDER BY seq",
                     [&](Statement& row) { return visit(row.integer(0), row.blob(1)); });
}

Result<Bytes> LedgerFile::entry(uint64_t seq) const {
  auto row = TRY(impl_->connection.prepare("SELECT leaf FROM entry WHERE seq = ?1"));
  auto step = TRY(row.bind(1, static_cast<int64_t>(seq)).step());
  if (step == Statement::Step::kDone) {
    return Error(Code::kNotFound, "ledger file: expected a row of this entry");
  }
  return row.blob(0);
}

namespace {

constexpr uint64_t kIndexBits = 48;

uint64_t level_of(int64_t id) {
  return static_cast<uint64_t>(id) >> kIndexBits;
}
uint64_t index_of(int64_t id) {
  return static_cast<uint64_t>(id) & ((uint64_t{1} << kIndexBits) - 1);
}

}  // namespace

Status LedgerFile::each_tile(
    const std::function<Status(uint64_t, uint64_t, ByteView)>& visit) const {
  constexpr char kTiles[] =
      "SELECT tile.id, tile.hashes, node.last FROM tile LEFT JOIN node USING(id) ORDER BY tile.id";
  return impl_->each(kTiles, [&](Statement& row) {
    auto hashes = row.blob(1);
    append(hashes, row.blob(2));
    return visit(level_of(row.integer(0)), index_of(row.integer(0)), hashes);
  });
}

Status LedgerFile::each_node(
    const std::function<Status(uint64_t, uint64_t, ByteView)>& visit) const {
  return impl_->each("SELECT id, hash FROM node ORDER BY id", [&](Statement& row) {
    return visit(level_of(row.integer(0)), index_of(row.integer(0)), row.blob(1));
  });
}

}  // namespace souk::ledger
