#include "ledger/store/tiles_dir.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "ledger/entry/leaf.h"

namespace souk::ledger {
namespace {

constexpr size_t kMaxLeaf = 65535;
// 256 leaves of the largest size with their lengths.
constexpr uint64_t kMaxFile = kTileWidth * (kMaxLeaf + 2);

// Of a write that failed just now.
Error unwritten(const std::string& expected, int cause = errno) {
  bool full = cause == ENOSPC || cause == EDQUOT;
  return Error(full ? Code::kTryAgain : Code::kBroken,
               (full ? "disk full: expected " : "tiles: expected ") + expected);
}

// A file descriptor and its end.
class File {
 public:
  File(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  bool is_open() const { return fd_ >= 0; }
  int number() const { return fd_; }
  bool write(ByteView bytes) {
    while (!bytes.empty()) {
      ssize_t done = ::write(fd_, bytes.data(), bytes.size());
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) return false;
      bytes = bytes.subspan(static_cast<size_t>(done));
    }
    return true;
  }

 private:
  int fd_;
};

Result<Bytes> read_whole(const std::string& path) {
  std::error_code failure;
  auto size = std::filesystem::file_size(path, failure);
  if (failure) return Error(Code::kNotFound, "tiles: expected the file " + path);
  if (size > kMaxFile) return Error(Code::kMalformed, "tiles: expected a smaller file " + path);
  std::ifstream in(path, std::ios::binary);
  Bytes out(size);
  in.read(reinterpret_cast<char*>(out.data()), static_cast<std::streamsize>(size));
  if (!in || static_cast<uint64_t>(in.gcount()) != size) {
    return Error(Code::kBroken, "tiles: expected to read " + path);
  }
  return out;
}

}  // namespace

Result<TilesBuilder> TilesBuilder::open(std::string directory) {
  std::error_code failure;
  std::filesystem::create_directories(directory, failure);
  if (failure == std::errc::no_space_on_device)
    return unwritten("to make " + directory, failure.value());
  if (failure || !std::filesystem::is_directory(directory, failure)) {
    return Error(Code::kMalformed, directory + ": expected a directory that can be made");
  }
  return TilesBuilder(std::move(directory));
}

Status TilesBuilder::put(const TilePath& path, ByteView bytes) {
  std::string file = directory_ + "/" + path.text();
  std::string folder = file.substr(0, file.rfind('/'));
  std::error_code failure;
  if (folder != made_) {
    std::filesystem::create_directories(folder, failure);
    if (failure) return unwritten("to make " + folder, failure.value());
    made_ = folder;
  }
  {
    File out(file, O_WRONLY | O_CREAT | O_EXCL);
    if (out.is_open()) {
      if (out.write(bytes)) return Done{};
      Error failed = unwritten("to write " + file);
      ::unlink(file.c_str());  // a part of a tile is none
      return failed;
    }
    if (errno != EEXIST) return unwritten("to make " + file);
  }
  auto there = TRY(read_whole(file));
  if (std::equal(there.begin(), there.end(), bytes.begin(), bytes.end())) return Done{};
  return Error(Code::kConflict, "tiles: expected no other content in " + file);
}

Status TilesBuilder::put_text(const std::string& name, std::string_view text) const {
  std::string file = directory_ + "/" + name;
  {
    File out(file + ".new", O_WRONLY | O_CREAT | O_TRUNC);
    if (!out.is_open() || !out.write(as_bytes(text)) || ::fsync(out.number()) != 0) {
      Error failed = unwritten("to write " + file);
      ::unlink((file + ".new").c_str());
      return failed;
    }
  }
  std::error_code failure;
  std::filesystem::rename(file + ".new", file, failure);
  if (failure) return unwritten("to write " + file, failure.value());
  return Done{};
}

Status TilesBuilder::add(ByteView leaf) {
  if (leaf.size() > kMaxLeaf) {
    return Error(Code::kMalformed,
                 "leaf " + std::to_string(tree_.size()) + ": expected at most 65535 bytes");
  }
  bundle_.push_back(static_cast<uint8_t>(leaf.size() >> 8));
  bundle_.push_back(static_cast<uint8_t>(leaf.size()));
  append(bundle_, leaf);
  leaf_bytes_ += leaf.size();
  tree_.append(leaf_hash(leaf), filled_);
  if (filled_.empty()) return Done{};
  TRY(put({.level = {}, .index = filled_.front().index}, bundle_));
  bundle_.clear();
  for (const auto& one : filled_)
    TRY(put({.level = one.level, .index = one.index}, one.tile->bytes()));
  filled_.clear();
  return Done{};
}

Status TilesBuilder::finish() {
  auto width_at = [&](uint8_t level) {
    return static_cast<uint16_t>(tree_.edge(level) ? tree_.edge(level)->width() : 0);
  };
  if (!bundle_.empty()) {
    TRY(put({.level = {}, .index = tree_.size() / kTileWidth, .width = width_at(0)}, bundle_));
    bundle_.clear();
  }
  for (uint8_t level = 0; tree_.size() >> (kTileHeight * level) > 0; ++level) {
    if (width_at(level) == 0) continue;
    TilePath path{.level = level,
                  .index = tree_.size() >> (kTileHeight * level) >> kTileHeight,
                  .width = width_at(level)};
    TRY(put(path, tree_.edge(level)->bytes()));
  }
  File folder(directory_, O_RDONLY | O_DIRECTORY);
  if (!folder.is_open() || ::syncfs(folder.number()) != 0)
    return unwritten("to sync " + directory_);
  return Done{};
}

FetchTileFile files_of(std::string directory) {
  return [directory = std::move(directory)](const std::string& path) {
    return read_whole(directory + "/" + path);
  };
}

Result<std::vector<Bytes>> parse_bundle(ByteView bytes, uint64_t width) {
  std::vector<Bytes> leaves;
  while (!bytes.empty()) {
    if (bytes.size() < 2) return Error(Code::kMalformed, "bundle: expected the length of an entry");
    size_t length = size_t{bytes[0]} << 8 | bytes[1];
    if (bytes.size() - 2 < length || leaves.size() == width) {
      return Error(Code::kMalformed, "bundle: expected whole entries and no more than its width");
    }
    auto leaf = bytes.subspan(2, length);
    leaves.emplace_back(leaf.begin(), leaf.end());
    bytes = bytes.subspan(2 + length);
  }
  if (leaves.size() != width) {
    return Error(Code::kMalformed, "bundle: expected as many entries as its width");
  }
  return leaves;
}

Status each_leaf(const FetchTileFile& fetch, uint64_t size,
                 const std::function<Status(uint64_t, ByteView)>& visit) {
  for (uint64_t index = 0; index * kTileWidth < size; ++index) {
    TilePath path{.level = {}, .index = index};
    path.width = static_cast<uint16_t>(tile_width(path, size));
    auto bytes = fetch(path.text());
    uint64_t width = path.width;
    if (!bytes && bytes.error().code() == Code::kNotFound && width < kTileWidth) {
      auto full = fetch((TilePath{.level = {}, .index = index}).text());
      if (full) {
        bytes = std::move(full);
        width = kTileWidth;
      }
    }
    if (!bytes) {
      Error failed = std::move(bytes).take_error();
      bool named = failed.expected().find(path.text()) != std::string::npos;
      return named ? failed : std::move(failed).within(path.text());
    }
    auto leaves = parse_bundle(*bytes, width);
    if (!leaves) return std::move(leaves).take_error().within(path.text());
    for (uint64_t i = 0; i < path.width; ++i) TRY(visit(index * kTileWidth + i, (*leaves)[i]));
  }
  return Done{};
}

}  // namespace souk::ledger
