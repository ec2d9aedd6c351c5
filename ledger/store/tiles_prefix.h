// Whether a directory of tlog-tiles files holds an earlier state of a log, or something else: asked
// before anything is written there.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>

#include "ledger/proof/tile_path.h"
#include "ledger/proof/tile_tree.h"

namespace souk::ledger {

// Give it the log's leaves; nothing is written. Whatever lies below tile/ must be a file of the
// tree of the first leaves, for some number of them that there is; so must `checkpoint`, if it is
// there. Older partial tiles beside the full ones may stay: tlog-tiles allows them as long as the
// log lives.
class TilesPrefix {
 public:
  // kMalformed when something below tile/ has no path of a tile, or is no file.
  static Result<TilesPrefix> of(std::string directory);

  // Nothing to compare with.
  bool empty() const { return there_.empty() && !signed_; }
  // kMalformed when a file there is not this log's, and names it.
  Status add(ByteView leaf);
  // After the last leaf: kMalformed when there is more than these leaves make.
  Status finish() const;

 private:
  explicit TilesPrefix(std::string directory) : directory_(std::move(directory)) {}
  using Place = std::pair<std::optional<uint8_t>, uint64_t>;  // level, index
  struct Signed {
    uint64_t size = 0;
    Digest root{};
  };
  Error other(const std::string& file) const;
  Status read_checkpoint();
  Status compare(const Place& place, uint16_t width, ByteView bytes);

  std::string directory_;
  std::map<Place, std::set<uint16_t>> there_;  // widths not yet compared
  std::optional<Signed> signed_;               // by the checkpoint, until the tree is as large
  TileTree tree_;
  Bytes bundle_;
};

}  // namespace souk::ledger
