#include "ledger/store/wal_check.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <utility>

#include "ledger/base/bytes.h"

namespace souk::ledger {
namespace {

constexpr uint64_t kHeaderBytes = 32;
constexpr uint64_t kFrameHeaderBytes = 24;
constexpr uint32_t kMagic = 0x377f0682;  // and 1: the checksum's words are big endian
constexpr uint32_t kVersion = 3007000;

uint32_t number_at(ByteView bytes, size_t at) {
  return uint32_t{bytes[at]} << 24 | uint32_t{bytes[at + 1]} << 16 | uint32_t{bytes[at + 2]} << 8 |
         bytes[at + 3];
}

struct Checksum {
  uint32_t first = 0, second = 0;
  friend bool operator==(const Checksum&, const Checksum&) = default;

  static Checksum at(ByteView bytes, size_t at) {
    return {number_at(bytes, at), number_at(bytes, at + 4)};
  }
  Checksum minus(const Checksum& other) const {
    return {first - other.first, second - other.second};
  }
  Checksum over(ByteView bytes, bool big_endian) const {
    Checksum out = *this;
    auto word = [&](size_t at) {
      return big_endian ? number_at(bytes, at)
                        : uint32_t{bytes[at + 3]} << 24 | uint32_t{bytes[at + 2]} << 16 |
                              uint32_t{bytes[at + 1]} << 8 | bytes[at];
    };
    for (size_t at = 0; at + 8 <= bytes.size(); at += 8) {
      out.first += word(at) + out.second;
      out.second += word(at + 4) + out.first;
    }
    return out;
  }
};

class WalReader {
 public:
  explicit WalReader(const std::string& path) : in_(path, std::ios::binary) {}

  bool opened() const { return in_.is_open(); }

  // Whether the header says how to read the rest.
  bool header() {
    Bytes bytes(kHeaderBytes);
    if (!read(bytes)) return false;
    uint32_t magic = number_at(bytes, 0);
    big_endian_ = (magic & 1) != 0;
    page_ = number_at(bytes, 8);
    salts_ = Checksum::at(bytes, 16);
    stored_ = Checksum().over(ByteView(bytes).first(24), big_endian_);
    bool page_is_one = page_ >= 512 && page_ <= 65536 && (page_ & (page_ - 1)) == 0;
    return (magic & ~uint32_t{1}) == kMagic && number_at(bytes, 4) == kVersion && page_is_one &&
           stored_ == Checksum::at(bytes, 24);
  }

  uint64_t frame_bytes() const { return kFrameHeaderBytes + page_; }

  struct Frame {
    bool salted = false;    // of this generation of the log
    bool verifies = false;  // after the frame before it
    bool commits = false;   // the last of its transaction
    bool repeats = false;   // the same again: SQLite fills a disk's block so, and syncs amid it
    bool good() const { return salted && verifies; }
  };
  // nullopt at the end, also in the middle of a frame.
  std::optional<Frame> next() {
    frame_.resize(frame_bytes());
    if (!read(frame_)) return std::nullopt;
    before_ = stored_;
    stored_ = Checksum::at(frame_, 16);
    computed_ = checksum();
    auto previous = std::exchange(mark_, Checksum::at(frame_, 0));
    return Frame{.salted = Checksum::at(frame_, 8) == salts_,
                 .verifies = computed_ == stored_,
                 .commits = number_at(frame_, 4) != 0,
                 .repeats = mark_.second != 0 && mark_ == previous};
  }
  // The last frame's successor follows what that frame should have been.
  void follow_computed() { stored_ = computed_; }
  void follow_stored() { stored_ = Checksum::at(frame_, 16); }

  // Whether the last frame would verify as the end of a transaction if one byte of its
  // commit mark were another.
  bool was_a_commit() const {
    // The page takes the checksum of the head, its start, through a linear map.
    ByteView page = ByteView(frame_).subspan(kFrameHeaderBytes);
    auto nothing = Checksum().over(page, big_endian_);
    auto first = Checksum{1, 0}.over(page, big_endian_).minus(nothing);
    auto second = Checksum{0, 1}.over(page, big_endian_).minus(nothing);
    std::array<uint8_t, 8> head{};
    std::copy_n(frame_.begin(), head.size(), head.begin());
    for (size_t at = 4; at < 8; ++at) {
      uint8_t found = head[at];
      for (unsigned value = 0; value < 256; ++value) {
        head[at] = static_cast<uint8_t>(value);
        auto start = before_.over(head, big_endian_);
        Checksum end{start.first * first.first + start.second * second.first + nothing.first,
                     start.first * first.second + start.second * second.second + nothing.second};
        if (number_at(head, 4) != 0 && end == stored_) return true;
      }
      head[at] = found;
    }
    return false;
  }

 private:
  bool read(Bytes& bytes) {
    in_.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return in_.gcount() == static_cast<std::streamsize>(bytes.size());
  }
  Checksum checksum() const {
    ByteView frame(frame_);
    return before_.over(frame.first(8), big_endian_)
        .over(frame.subspan(kFrameHeaderBytes), big_endian_);
  }

  std::ifstream in_;
  Bytes frame_;
  bool big_endian_ = false;
  uint64_t page_ = 0;
  Checksum salts_, before_, stored_, computed_;
  Checksum mark_;  // page and commit mark of the last frame
};

// Commits that follow the frame just read, if its successor follows `chosen`.
uint64_t commits_after(WalReader reader, bool computed) {
  if (computed) {
    reader.follow_computed();
  } else {
    reader.follow_stored();
  }
  uint64_t commits = 0;
  while (auto frame = reader.next()) {
    if (!frame->good()) break;
    commits += frame->commits && !frame->repeats ? 1 : 0;
  }
  return commits;
}

}  // namespace

Result<std::optional<WalDamage>> find_wal_damage(const std::string& path) {
  std::error_code none;
  uint64_t size = std::filesystem::file_size(path, none);
  if (none || size == 0) return std::optional<WalDamage>();
  WalReader reader(path);
  if (!reader.opened()) return Error(Code::kBroken, "ledger file: expected to read " + path);
  if (!reader.header()) {
    return std::optional(WalDamage{.from = 0, .to = std::min(size, kHeaderBytes)});
  }
  uint64_t at = kHeaderBytes;
  while (auto frame = reader.next()) {
    if (frame->good()) {
      at += reader.frame_bytes();
      continue;
    }
    // Frames of an earlier generation, or of a transaction that was never ended, are what
    // lies behind the end of every log.
    if (!frame->salted && !frame->verifies) return std::optional<WalDamage>();
    uint64_t from = at;
    auto again = [&] {
      WalReader copy(path);
      copy.header();
      for (uint64_t skipped = kHeaderBytes; skipped <= from; skipped += copy.frame_bytes()) {
        copy.next();
      }
      return copy;
    };
    uint64_t later = std::max(commits_after(again(), false), commits_after(again(), true));
    // A filling frame may be torn long after the commit it repeats.
    bool commit = !frame->repeats && (frame->commits || reader.was_a_commit());
    if (!commit && later == 0) return std::optional<WalDamage>();
    return std::optional(WalDamage{.from = from,
                                   .to = from + reader.frame_bytes(),
                                   .was_durable = later >= (commit ? 1u : 2u)});
  }
  return std::optional<WalDamage>();
}

}  // namespace souk::ledger
