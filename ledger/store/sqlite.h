// A thin, exception-free hold on SQLite: one connection, its statements. Private
// to this room, which is the only door to <sqlite3.h>.
#pragma once

#include <sqlite3.h>

#include <cerrno>
#include <memory>
#include <string>

#include "ledger/base/bytes.h"

namespace souk::ledger {

inline bool is_full(int code) {
  return (code & 0xff) == SQLITE_FULL;
}

// A full disk is for the operator to mend and for the caller to wait out; all else is ours.
inline Error disk_full() {
  return Error(Code::kTryAgain,
               "disk full: expected room for the ledger; nothing was recorded, send it again when "
               "there is");
}
inline Error sqlite_error(int code, const std::string& expected) {
  if (is_full(code)) return disk_full();
  return Error(Code::kBroken, "ledger file: expected " + expected + ": " + sqlite3_errstr(code));
}

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
    return sqlite_error(code, "to read it");
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
      return sqlite_error(connection.without_room(code), "to open it");
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
    return sqlite_error(without_room(code), "a working database");
  }
  Result<Statement> prepare(const char* sql) {
    sqlite3_stmt* raw = nullptr;
    int code = sqlite3_prepare_v3(db_.get(), sql, -1, SQLITE_PREPARE_PERSISTENT, &raw, nullptr);
    Statement statement;
    statement.statement_.reset(raw);
    if (code != SQLITE_OK) {
      return sqlite_error(without_room(code), "its tables");
    }
    return statement;
  }
  // Whether the file system writes a sector whole or not at all, so that SQLite puts nothing
  // behind the frame that commits: a write that had no room then left no commit.
  bool commits_with_its_last_write() {
    sqlite3_file* file = nullptr;
    int code = sqlite3_file_control(db_.get(), "main", SQLITE_FCNTL_FILE_POINTER, &file);
    return code == SQLITE_OK && file && file->pMethods &&
           (file->pMethods->xDeviceCharacteristics(file) & SQLITE_IOCAP_POWERSAFE_OVERWRITE) != 0;
  }
  int changes() { return sqlite3_changes(db_.get()); }
  bool in_transaction() { return sqlite3_get_autocommit(db_.get()) == 0; }

  // The code of a failure outside a commit: SQLite calls some failures for want of room
  // failures of another kind (its shared memory is a file too).
  int without_room(int code) const {
    bool io = (code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CANTOPEN;
    int number = db_ ? sqlite3_system_errno(db_.get()) : 0;
    return io && (number == ENOSPC || number == EDQUOT) ? SQLITE_FULL : code;
  }

 private:
  struct Close {
    void operator()(sqlite3* db) const { sqlite3_close_v2(db); }
  };
  std::unique_ptr<sqlite3, Close> db_;
};

}  // namespace souk::ledger
