// A log as C2SP tlog-tiles files: what `souk ledger tiles build` and `export` write, and
// `import` and the audit read. Format: ledger/SPEC.md, "Tiles".
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "ledger/proof/tile_tree.h"

namespace souk::ledger {

// Writes one log into one directory. A file that is there already must be the same, byte
// for byte: kConflict otherwise, and nothing is overwritten.
class TilesBuilder {
 public:
  // Makes the directory. kConflict when something else has its name.
  static Result<TilesBuilder> open(std::string directory);

  // kMalformed when the leaf is longer than 65535 bytes.
  Status add(ByteView leaf);
  // Writes what is partial, and makes everything durable. No leaf may follow.
  Status finish();

  const TileTree& tree() const { return tree_; }
  uint64_t leaf_bytes() const { return leaf_bytes_; }
  // A further file of the log, whole or not at all: "checkpoint", "vkey". Replaces.
  Status put_text(const std::string& name, std::string_view text) const;

 private:
  explicit TilesBuilder(std::string directory) : directory_(std::move(directory)) {}
  Status put(const TilePath& path, ByteView bytes);

  std::string directory_;
  std::string made_;  // the folder last made below it
  TileTree tree_;
  Bytes bundle_;
  std::vector<FilledTile> filled_;
  uint64_t leaf_bytes_ = 0;
};

// The bytes at a path of a log, such as "checkpoint" or "tile/0/000": a directory or a
// server. kNotFound when there are none.
using FetchTileFile = std::function<Result<Bytes>(const std::string& path)>;
FetchTileFile files_of(std::string directory);

// The leaves of an entry bundle; kMalformed unless it is whole and has `width` of them.
Result<std::vector<Bytes>> parse_bundle(ByteView bytes, uint64_t width);

// The leaves of a log of `size` in order, by its bundles; stops at the first error, of the
// fetch, of a bundle, or of the visitor. A partial bundle that is gone is looked for in
// the full one.
Status each_leaf(const FetchTileFile& fetch, uint64_t size,
                 const std::function<Status(uint64_t seq, ByteView leaf)>& visit);

}  // namespace souk::ledger
