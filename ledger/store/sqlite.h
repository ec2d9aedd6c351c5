// A thin, exception-free hold on SQLite: one connection, its statements. Private
// to this room, which is the only door to <sqlite3.h>.
#pragma once

#include <sqlite3.h>

#include <memory>
#include <string>

#include "ledger/base/bytes.h"

namespace souk::ledger {

class Statement {
 public:
  enum class Step { kRow, kDone };

  // Forgets the last run and its bindings.
  Statement& restart() {
    sqlite3_reset(statement_.get());
    sqlite3_clear_bindings(statement_.get());
    return *this;
  }
  // Bound bytes and texts must stay until the next restart().
  Statement& bind(int at, int64_t value) {
    CHECK(sqlite3_bind_int64(statement_.get(), at, value) == SQLITE_OK);
    return *this;
  }
  Statement& bind(int at, ByteView bytes) {
    // A null pointer would bind NULL instead of an empty blob.
    const void* data = bytes.empty() ? static_cast<const void*>("") : bytes.data();
    CHECK(sqlite3_bind_blob64(statement_.get(), at, data, bytes.size(), SQLITE_STATIC) ==
          SQLITE_OK);
    return *this;
  }
  Statement& bind(int at, const std::string& text) {
    CHECK(sqlite3_bind_text64(statement_.get(), at, text.c_str(), text.size(), SQLITE_STATIC,
                              SQLITE_UTF8) == SQLITE_OK);
    return *this;
  }

  // SQLite's extended result code.
  int run() { return sqlite3_step(statement_.get()); }
  Result<Step> step() {
    int code = run();
    if (code == SQLITE_ROW) return Step::kRow;
    if (code == SQLITE_DONE) return Step::kDone;
    return Error(Code::kBroken,
                 std::string("ledger file: expected to read it: ") + sqlite3_errstr(code));
  }

  int64_t integer(int column) { return sqlite3_column_int64(statement_.get(), column); }
  Bytes blob(int column) {
    auto* data = static_cast<const uint8_t*>(sqlite3_column_blob(statement_.get(), column));
    auto length = static_cast<size_t>(sqlite3_column_bytes(statement_.get(), column));
    return data ? Bytes(data, data + length) : Bytes();
  }
  std::string text(int column) { return souk::to_text(blob(column)); }

 private:
  friend class Connection;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

// For one thread at a time.
class Connection {
 public:
  static Result<Connection> open(const std::string& path, int flags) {
    sqlite3* raw = nullptr;
    int code = sqlite3_open_v2(path.c_str(), &raw,
                               flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, nullptr);
    Connection connection;
    connection.db_.reset(raw);
    if (code != SQLITE_OK) {
      return Error(Code::kBroken,
                   std::string("ledger file: expected to open it: ") + sqlite3_errstr(code));
    }
    sqlite3_extended_result_codes(raw, 1);
    sqlite3_busy_timeout(raw, 5000);
    return connection;
  }

  // SQLite's extended result code.
  int run(const char* sql) { return sqlite3_exec(db_.get(), sql, nullptr, nullptr, nullptr); }
  Status execute(const char* sql) {
    int code = run(sql);
    if (code == SQLITE_OK) return Done{};
    return Error(Code::kBroken,
                 std::string("ledger file: expected a working database: ") + sqlite3_errstr(code));
  }
  Result<Statement> prepare(const char* sql) {
    sqlite3_stmt* raw = nullptr;
    int code = sqlite3_prepare_v3(db_.get(), sql, -1, SQLITE_PREPARE_PERSISTENT, &raw, nullptr);
    Statement statement;
    statement.statement_.reset(raw);
    if (code != SQLITE_OK) {
      return Error(Code::kBroken,
                   std::string("ledger file: expected its tables: ") + sqlite3_errstr(code));
    }
    return statement;
  }
  int changes() { return sqlite3_changes(db_.get()); }
  bool in_transaction() { return sqlite3_get_autocommit(db_.get()) == 0; }

 private:
  struct Close {
    void operator()(sqlite3* db) const { sqlite3_close_v2(db); }
  };
  std::unique_ptr<sqlite3, Close> db_;
};

}  // namespace souk::ledger
