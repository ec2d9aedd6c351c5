#include "tests/ledger/raw_file.h"

#include <sqlite3.h>

namespace souk::ledger::test {
namespace {
sqlite3* open_file(const std::string& path) {
  sqlite3* db = nullptr;
  CHECK(sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE, nullptr) == SQLITE_OK);
  return db;
}
}  // namespace

bool raw_sql(const std::string& path, const std::string& sql) {
  sqlite3* db = open_file(path);
  bool done = sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK;
  sqlite3_close(db);
  return done;
}

RawLeaves::RawLeaves(const std::string& path) : db_(open_file(path)) {
  CHECK(sqlite3_exec(static_cast<sqlite3*>(db_), "PRAGMA synchronous = OFF", nullptr, nullptr,
                     nullptr) == SQLITE_OK);
}
RawLeaves::~RawLeaves() {
  sqlite3_close(static_cast<sqlite3*>(db_));
}

Bytes RawLeaves::read(uint64_t seq) {
  sqlite3_stmt* row = nullptr;
  CHECK(sqlite3_prepare_v2(static_cast<sqlite3*>(db_), "SELECT leaf FROM entry WHERE seq = ?1", -1,
                           &row, nullptr) == SQLITE_OK);
  sqlite3_bind_int64(row, 1, static_cast<sqlite3_int64>(seq));
  CHECK(sqlite3_step(row) == SQLITE_ROW);
  auto* data = static_cast<const uint8_t*>(sqlite3_column_blob(row, 0));
  Bytes out(data, data + sqlite3_column_bytes(row, 0));
  sqlite3_finalize(row);
  return out;
}

void RawLeaves::write(uint64_t seq, ByteView leaf) {
  sqlite3_stmt* row = nullptr;
  CHECK(sqlite3_prepare_v2(static_cast<sqlite3*>(db_), "UPDATE entry SET leaf = ?2 WHERE seq = ?1",
                           -1, &row, nullptr) == SQLITE_OK);
  sqlite3_bind_int64(row, 1, static_cast<sqlite3_int64>(seq));
  sqlite3_bind_blob64(row, 2, leaf.data(), leaf.size(), SQLITE_STATIC);
  CHECK(sqlite3_step(row) == SQLITE_DONE);
  sqlite3_finalize(row);
}

}  // namespace souk::ledger::test
