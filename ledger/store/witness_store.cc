#include "ledger/store/witness_store.h"

#include <filesystem>

#include "ledger/crypto/hash.h"
#include "ledger/store/rows.h"
#include "ledger/store/sqlite.h"

namespace souk::ledger {
namespace {

constexpr int64_t kWitnessApplicationId = 0x534f5557;  // "SOUW"

constexpr char kCreateSchema[] = R"sql(
PRAGMA application_id = 1397708119;
PRAGMA user_version = 1;
CREATE TABLE witness(
  id INTEGER PRIMARY KEY CHECK(id = 1),
  vkey TEXT NOT NULL,
  cosignatures INTEGER NOT NULL) STRICT;
CREATE TABLE log(
  origin TEXT NOT NULL,
  vkey TEXT NOT NULL,
  PRIMARY KEY(origin, vkey)) STRICT, WITHOUT ROWID;
CREATE TABLE latest(
  origin_hash TEXT PRIMARY KEY,
  origin TEXT NOT NULL,
  size BLOB NOT NULL CHECK(length(size) = 8),
  root BLOB NOT NULL CHECK(length(root) = 32),
  time INTEGER NOT NULL,
  note TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE evidence(
  id INTEGER PRIMARY KEY,
  origin TEXT NOT NULL,
  time INTEGER NOT NULL,
  request TEXT NOT NULL) STRICT;
CREATE TRIGGER latest_grows BEFORE UPDATE ON latest WHEN NEW.size < OLD.size
  BEGIN SELECT RAISE(ABORT, 'a witness never goes back'); END;
CREATE TRIGGER latest_no_delete BEFORE DELETE ON latest
  BEGIN SELECT RAISE(ABORT, 'a witness never forgets'); END;
)sql";

Error broken(const std::string& expected) {
  return Error(Code::kBroken, "witness file: expected " + expected);
}

Error doubtful() {
  return broken("to know whether the last write happened; start the witness again");
}

// Big endian, so that blobs compare as the numbers do.
Bytes size_bytes(uint64_t size) {
  Bytes out;
  for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<uint8_t>(size >> shift));
  return out;
}

std::string origin_hash(const std::string& origin) {
  return to_hex(ByteView(sha256(as_bytes(origin))));
}

Status make_new(const std::string& path, const std::string& witness_vkey) {
  auto connection = TRY(Connection::open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE));
  TRY(connection.execute("PRAGMA journal_mode = WAL"));
  TRY(connection.execute("PRAGMA synchronous = FULL"));
  TRY(connection.execute("BEGIN EXCLUSIVE"));
  TRY(connection.execute(kCreateSchema));
  auto row = TRY(connection.prepare("INSERT INTO witness VALUES(1, ?1, 0)"));
  row.bind(1, witness_vkey);
  TRY(row.step());
  row.restart();
  TRY(connection.execute("COMMIT"));
  return connection.execute("PRAGMA wal_checkpoint(TRUNCATE)");
}

Result<WitnessStore::Latest> read_latest(Statement& row) {
  WitnessStore::Latest out;
  for (uint8_t byte : row.blob(0)) out.size = out.size << 8 | byte;
  out.root = TRY(fixed<32>(row.blob(1)));
  out.time = static_cast<uint64_t>(row.integer(2));
  out.note = row.text(3);
  return out;
}

}  // namespace

struct WitnessStore::Impl {
  mutable Connection connection;
  std::string vkey;
  bool in_doubt = false;

  Impl(Connection c, std::string v) : connection(std::move(c)), vkey(std::move(v)) {}

  Result<std::optional<Latest>> one(const char* sql, const std::string& name) const {
    auto row = TRY(connection.prepare(sql));
    row.bind(1, name);
    auto step = TRY(row.step());
    if (step == Statement::Step::kDone) return std::optional<Latest>();
    auto latest = TRY(read_latest(row));
    return std::optional<Latest>(std::move(latest));
  }

  // Ends a transaction that is not to be; nothing was written unless that fails too.
  Error undo(Error reason) {
    if (!connection.in_transaction() || connection.run("ROLLBACK") == SQLITE_OK) return reason;
    in_doubt = true;
    return doubtful();
  }
};

WitnessStore::WitnessStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
WitnessStore::WitnessStore(WitnessStore&&) noexcept = default;
WitnessStore& WitnessStore::operator=(WitnessStore&&) noexcept = default;
WitnessStore::~WitnessStore() = default;

Result<WitnessStore> WitnessStore::create(const std::string& path,
                                          const std::string& witness_vkey) {
  std::error_code failure;
  if (std::filesystem::exists(path, failure) || failure) {
    return Error(Code::kConflict, "witness file: expected none at this path");
  }
  // Under another name until it is whole: a crash leaves nothing at `path`.
  std::string unfinished = unfinished_name(path);
  auto made = make_new(unfinished, witness_vkey);
  if (made) made = publish_file(unfinished, path);
  if (!made) {
    unfinished_name(path);  // and what was made so far is gone
    return std::move(made).take_error();
  }
  return open(path);
}

Result<WitnessStore> WitnessStore::open(const std::string& path) {
  std::error_code failure;
  if (!std::filesystem::exists(path, failure)) {
    return Error(Code::kNotFound,
                 "witness file: expected one at this path; `souk-witness init` makes it");
  }
  TRY(check_length(path));
  SideFiles beside(path);
  {  // for reading only: what is no witness's file stays as it was
    auto connection = TRY(Connection::open(path, SQLITE_OPEN_READONLY));
    auto number = TRY(connection.prepare("PRAGMA application_id"));
    TRY(number.step());
    if (number.integer(0) != kWitnessApplicationId) {
      return broken("the application number of a witness");
    }
    auto row = TRY(connection.prepare("PRAGMA integrity_check(1)"));
    TRY(row.step());
    if (row.text(0) != "ok") return broken("sound database pages");
  }
  auto connection = TRY(Connection::open(path, SQLITE_OPEN_READWRITE));
  TRY(connection.execute("PRAGMA journal_mode = WAL"));
  TRY(connection.execute("PRAGMA synchronous = FULL"));
  TRY(connection.execute("PRAGMA trusted_schema = OFF"));
  TRY(connection.execute("PRAGMA cell_size_check = ON"));
  std::string vkey;
  {
    auto row = TRY(connection.prepare("SELECT vkey FROM witness WHERE id = 1"));
    auto step = TRY(row.step());
    if (step == Statement::Step::kDone) return broken("the witness's key");
    vkey = row.text(0);
  }
  beside.keep();
  return WitnessStore(std::make_unique<Impl>(std::move(connection), std::move(vkey)));
}

const std::string& WitnessStore::witness_vkey() const {
  return impl_->vkey;
}

Status WitnessStore::add_log(const std::string& origin, const std::string& vkey) {
  auto row = TRY(impl_->connection.prepare("INSERT OR IGNORE INTO log VALUES(?1, ?2)"));
  row.bind(1, origin).bind(2, vkey);
  TRY(row.step());
  return Done{};
}

Result<std::vector<WitnessStore::Log>> WitnessStore::logs() const {
  std::vector<Log> out;
  auto rows = TRY(impl_->connection.prepare("SELECT origin, vkey FROM log ORDER BY origin, vkey"));
  while (true) {
    auto step = TRY(rows.step());
    if (step == Statement::Step::kDone) return out;
    out.push_back({rows.text(0), rows.text(1)});
  }
}

Result<std::vector<std::string>> WitnessStore::keys_of(const std::string& origin) const {
  std::vector<std::string> out;
  auto rows = TRY(impl_->connection.prepare("SELECT vkey FROM log WHERE origin = ?1"));
  rows.bind(1, origin);
  while (true) {
    auto step = TRY(rows.step());
    if (step == Statement::Step::kDone) return out;
    out.push_back(rows.text(0));
  }
}

Result<std::optional<WitnessStore::Latest>> WitnessStore::latest(const std::string& origin) const {
  return impl_->one("SELECT size, root, time, note FROM latest WHERE origin_hash = ?1",
                    origin_hash(origin));
}

Result<std::optional<WitnessStore::Latest>> WitnessStore::latest_by_hash(
    const std::string& origin_hash) const {
  return impl_->one("SELECT size, root, time, note FROM latest WHERE origin_hash = ?1",
                    origin_hash);
}

Result<uint64_t> WitnessStore::cosignatures() const {
  auto row = TRY(impl_->connection.prepare("SELECT cosignatures FROM witness WHERE id = 1"));
  TRY(row.step());
  return static_cast<uint64_t>(row.integer(0));
}

// One transaction, one fsync. A crash before COMMIT returns leaves the old row or the new
// one, and nobody has been told of the new.
Result<uint64_t> WitnessStore::record(const std::string& origin, uint64_t old_size,
                                      const Digest& old_root, const Latest& newest) {
  if (impl_->in_doubt) return doubtful();
  auto& connection = impl_->connection;
  auto hash = origin_hash(origin);
  auto from = size_bytes(old_size);
  auto to = size_bytes(newest.size);
  auto insert = TRY(connection.prepare("INSERT INTO latest VALUES(?1, ?2, ?3, ?4, ?5, ?6)"));
  auto update =
      TRY(connection.prepare("UPDATE latest SET size = ?1, root = ?2, time = ?3, note = ?4 "
                             "WHERE origin_hash = ?5 AND size = ?6 AND root = ?7"));
  auto count = TRY(connection.prepare("UPDATE witness SET cosignatures = cosignatures + 1"));
  insert.bind(1, hash).bind(2, origin).bind(3, ByteView(to)).bind(4, ByteView(newest.root));
  insert.bind(5, static_cast<int64_t>(newest.time)).bind(6, newest.note);
  update.bind(1, ByteView(to)).bind(2, ByteView(newest.root));
  update.bind(3, static_cast<int64_t>(newest.time)).bind(4, newest.note).bind(5, hash);
  update.bind(6, ByteView(from)).bind(7, ByteView(old_root));

  auto failed = [](int code) {
    return Error(Code::kTryAgain,
                 std::string("witness file: expected to write: ") + sqlite3_errstr(code));
  };
  int code = connection.run("BEGIN IMMEDIATE");
  if (code != SQLITE_OK) return impl_->undo(failed(code));
  auto before = latest(origin);
  if (!before) return impl_->undo(std::move(before).take_error());
  auto& write = *before ? update : insert;
  bool expected =
      *before ? (*before)->size == old_size && (*before)->root == old_root : old_size == 0;
  code = expected ? write.run() : SQLITE_DONE;
  write.restart();
  if (code != SQLITE_DONE) return impl_->undo(failed(code));
  if (!expected || connection.changes() != 1) {
    return impl_->undo(Error(Code::kConflict, "expected nobody else to have cosigned meanwhile"));
  }
  code = count.run();
  count.restart();
  if (code != SQLITE_DONE) return impl_->undo(failed(code));
  auto total = cosignatures();
  if (!total) return impl_->undo(std::move(total).take_error());
  code = connection.run("COMMIT");
  if (code != SQLITE_OK) {
    impl_->in_doubt = true;  // whether it is on disk is unknown: stop, never guess
    return doubtful();
  }
  return *total;
}

Status WitnessStore::keep_evidence(const std::string& origin, uint64_t time,
                                   const std::string& request) {
  auto row = TRY(
      impl_->connection.prepare("INSERT INTO evidence(origin, time, request) SELECT ?1, ?2, ?3 "
                                "WHERE (SELECT count(*) FROM evidence WHERE origin = ?1) < 100"));
  row.bind(1, origin).bind(2, static_cast<int64_t>(time)).bind(3, request);
  TRY(row.step());
  return Done{};
}

Result<std::vector<std::string>> WitnessStore::evidence(const std::string& origin) const {
  std::vector<std::string> out;
  auto rows =
      TRY(impl_->connection.prepare("SELECT request FROM evidence WHERE origin = ?1 ORDER BY id"));
  rows.bind(1, origin);
  while (true) {
    auto step = TRY(rows.step());
    if (step == Statement::Step::kDone) return out;
    out.push_back(rows.text(0));
  }
}

}  // namespace souk::ledger
