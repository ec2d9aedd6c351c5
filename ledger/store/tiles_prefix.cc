#include "ledger/store/tiles_prefix.h"

#include <filesystem>

#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/proof/note.h"
#include "ledger/store/tiles_dir.h"

namespace souk::ledger {

namespace fs = std::filesystem;

Error TilesPrefix::other(const std::string& file) const {
  return Error(Code::kMalformed, directory_ + "/" + file +
                                     ": expected an empty directory, or one that holds the first "
                                     "leaves of this tree; nothing was written");
}

Result<TilesPrefix> TilesPrefix::of(std::string directory) {
  TilesPrefix out(std::move(directory));
  std::error_code failure;
  fs::path top = out.directory_;
  if (fs::exists(fs::symlink_status(top / "tile", failure))) {
    fs::recursive_directory_iterator item(top / "tile", failure), end;
    if (failure) return out.other("tile");
    for (; item != end; item.increment(failure)) {
      std::string name = item->path().lexically_relative(top).string();
      if (item->is_directory(failure)) continue;
      auto path = parse_tile_path(name);
      if (!path || !item->is_regular_file(failure)) return out.other(name);
      out.there_[{path->level, path->index}].insert(path->width);
    }
    if (failure) return out.other("tile");
  }
  TRY(out.read_checkpoint());
  return out;
}

Status TilesPrefix::read_checkpoint() {
  std::error_code failure;
  if (!fs::exists(directory_ + "/checkpoint", failure)) return Done{};
  auto bytes = TRY(files_of(directory_)("checkpoint"));
  auto note = parse_note(as_text(bytes));
  auto checkpoint = note ? parse_checkpoint(note->text) : Result<Checkpoint>(note.error());
  if (!checkpoint) return other("checkpoint");
  if (checkpoint->size > 0) signed_ = Signed{checkpoint->size, checkpoint->root};
  return Done{};
}

// The file there, if it has not been compared yet.
Status TilesPrefix::compare(const Place& place, uint16_t width, ByteView bytes) {
  auto found = there_.find(place);
  if (found == there_.end() || found->second.erase(width) == 0) return Done{};
  if (found->second.empty()) there_.erase(found);
  auto name = TilePath{.level = place.first, .index = place.second, .width = width}.text();
  auto stored = TRY(files_of(directory_)(name));
  if (!std::equal(stored.begin(), stored.end(), bytes.begin(), bytes.end())) return other(name);
  return Done{};
}

Status TilesPrefix::add(ByteView leaf) {
  if (there_.empty() && !signed_) return Done{};  // whatever follows is new
  uint64_t index = tree_.size() / kTileWidth;
  bundle_.push_back(static_cast<uint8_t>(leaf.size() >> 8));
  bundle_.push_back(static_cast<uint8_t>(leaf.size()));
  append(bundle_, leaf);
  std::vector<FilledTile> filled;
  tree_.append(leaf_hash(leaf), filled);
  auto width = static_cast<uint16_t>(tree_.size() - index * kTileWidth);
  TRY(compare({std::nullopt, index}, width, bundle_));
  if (width == kTileWidth) bundle_.clear();
  for (const auto& one : filled)
    TRY(compare({one.level, one.index}, static_cast<uint16_t>(kTileWidth), one.tile->bytes()));
  // What has grown: the lowest level that did not fill.
  auto level = static_cast<uint8_t>(filled.size());
  Place grown{level, tree_.size() >> (kTileHeight * level) >> kTileHeight};
  const Tile* edge = tree_.edge(level);
  if (edge && edge->width() > 0 && there_.count(grown) != 0)
    TRY(compare(grown, static_cast<uint16_t>(edge->width()), edge->bytes()));
  if (signed_ && signed_->size == tree_.size()) {
    if (signed_->root != tree_.root()) return other("checkpoint");
    signed_.reset();
  }
  return Done{};
}

Status TilesPrefix::finish() const {
  if (!there_.empty()) {
    const auto& [place, widths] = *there_.begin();
    return other(
        TilePath{.level = place.first, .index = place.second, .width = *widths.begin()}.text());
  }
  if (signed_) return other("checkpoint");
  return Done{};
}

}  // namespace souk::ledger
