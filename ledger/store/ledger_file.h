// The rows of a ledger file as they are, for the auditor: nothing here is
// checked or believed. Opens the file for reading only.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ledger/base/bytes.h"

namespace souk::ledger {

class LedgerFile {
 public:
  struct Head {
    int64_t size = 0;
    Bytes root;
    Bytes last_leaf;
    int64_t time = 0;
    std::string checkpoint;
  };

  // kNotFound when there is no file, kBroken when it is not a ledger file.
  static Result<LedgerFile> open(const std::string& path);
  LedgerFile(LedgerFile&&) noexcept;
  LedgerFile& operator=(LedgerFile&&) noexcept;
  ~LedgerFile();

  // SQLite's own check of its pages and indices.
  Status integrity() const;
  Result<Head> head() const;
  Result<std::string> log_key() const;
  // kNotFound when there is no such row.
  Result<Bytes> entry(uint64_t seq) const;
  // In ascending order of the stored number; stops at the visitor's first error.
  Status each_entry(const std::function<Status(int64_t seq, ByteView leaf)>& visit) const;
  // Level and index are those of tlog-tiles.
  Status each_tile(
      const std::function<Status(uint64_t level, uint64_t index, ByteView hashes)>& visit) const;
  Status each_node(
      const std::function<Status(uint64_t level, uint64_t index, ByteView hash)>& visit) const;

 private:
  struct Impl;
  explicit LedgerFile(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace souk::ledger
