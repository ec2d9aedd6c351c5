#include "market_api/blobs/blobs.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "ledger/crypto/hash.h"
#include "market_api/blobs/disk.h"

namespace souk::market {
namespace {

constexpr uint64_t kMaxBlob = uint64_t{1} << 50;
constexpr uint64_t kMostReserve = uint64_t{256} << 20;

std::string hex_of(const Digest& digest) {
  return to_hex(ByteView(digest));
}

// An upload's name, in its parts.
struct UploadName {
  Digest digest;
  std::string hex;
  uint64_t size;
};

UploadId upload_id(const std::string& hex, uint64_t size) {
  return hex + "." + std::to_string(size);
}

// As upload_id() writes it, and nothing else.
std::optional<UploadName> parse_upload_id(const std::string& name) {
  if (name.size() < 66 || name[64] != '.') return std::nullopt;
  auto hex = name.substr(0, 64);
  auto bytes = from_hex(hex);
  if (!bytes) return std::nullopt;
  auto digest = fixed<sizeof(Digest)>(*bytes);
  if (!digest) return std::nullopt;
  uint64_t size = 0;
  const char* end = name.data() + name.size();
  auto [stop, failure] = std::from_chars(name.data() + 65, end, size);
  if (failure != std::errc() || stop != end || std::to_string(size) != name.substr(65)) {
    return std::nullopt;
  }
  return UploadName{*digest, hex, size};
}

}  // namespace

bool is_upload_id(const std::string& text) {
  return parse_upload_id(text).has_value();
}

struct BlobStore::Impl {
  using Steady = std::chrono::steady_clock;
  // One upload under way. Its bytes are in the file; this is who may touch it.
  struct Upload {
    explicit Upload(uint64_t announced, uint64_t here = 0, std::chrono::seconds since = {})
        : size(announced), held(here), moved(Steady::now() - since) {}
    // How much sooner than others it makes way: seconds without a new byte, for each MiB begun.
    double idleness(Steady::time_point now) const {
      std::chrono::duration<double> idle = now - moved.load();
      return idle.count() / (1.0 + static_cast<double>(held) / (1 << 20));
    }
    const uint64_t size;
    std::atomic<uint64_t> held;             // bytes here
    std::atomic<Steady::time_point> moved;  // when the last of them came
    std::mutex mutex;
    bool ended = false;  // Guarded by mutex: committed or abandoned by another thread.
  };
  using Held = std::shared_ptr<Upload>;

  std::string blob_path(const std::string& hex) const { return directory + "/blob/" + hex; }
  std::string partial_path(const UploadId& upload) const {
    return directory + "/partial/" + upload;
  }
  // The size of the blob that `name` would become, if it is here.
  std::optional<uint64_t> complete(const UploadName& name) const {
    auto size = disk::file_size(blob_path(name.hex));
    return size && *size == name.size ? size : std::nullopt;
  }

  Held find(const UploadId& upload) {
    std::lock_guard lock(mutex);
    auto found = uploads.find(upload);
    return found == uploads.end() ? nullptr : found->second;
  }
  // How many bytes this writer lacks for `bytes` more, beside its share of the reserve, what is
  // held and what is being written. Guarded by mutex.
  uint64_t lacks(Writer writer, uint64_t bytes) const {
    uint64_t keeps = writer == Writer::kUpload  ? reserve
                     : writer == Writer::kEntry ? reserve / 2
                                                : reserve / 4;
    uint64_t taken = keeps + held_bytes + (writer == Writer::kUpload ? in_flight : 0);
    uint64_t free = disk::space(directory).free;
    if (taken <= free && bytes <= free - taken) return 0;
    return taken > ~uint64_t{0} - bytes ? ~uint64_t{0} : taken + bytes - free;
  }
  bool has_room(Writer writer, uint64_t bytes) const { return lacks(writer, bytes) == 0; }
  static Error no_room(const char* what) {
    return Error(Code::kTryAgain, std::string("disk full: expected room for ") + what +
                                      " beside what the market keeps for its ledger and for models "
                                      "under way; nothing was recorded, send it again when there "
                                      "is");
  }
  using Place = std::map<UploadId, Held>::iterator;
  // All under way, the first to make way first. Guarded by mutex.
  std::vector<Place> most_idle_first() {
    auto now = Steady::now();
    std::vector<std::pair<double, Place>> order;
    for (auto it = uploads.begin(); it != uploads.end(); ++it)
      order.emplace_back(it->second->idleness(now), it);
    std::stable_sort(order.begin(), order.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    std::vector<Place> out;
    for (const auto& [idleness, place] : order) out.push_back(place);
    return out;
  }
  // One upload fewer; false where somebody writes to each of them now. Guarded by mutex.
  bool make_place() {
    auto order = most_idle_first();
    return std::any_of(order.begin(), order.end(), [&](Place place) { return drop(place); });
  }
  // Room for `bytes`, if need be of uploads that have been idle for long; they stay where even all
  // of them would not do. Guarded by mutex.
  bool make_room(Writer writer, uint64_t bytes, const UploadId& not_this = "") {
    uint64_t missing = lacks(writer, bytes);
    if (missing == 0) return true;
    auto now = Steady::now();
    uint64_t reclaimable = 0;
    auto order = most_idle_first();
    std::erase_if(order, [&](Place place) {
      const Upload& upload = *place->second;
      return place->first == not_this || upload.held == 0 ||
             now - upload.moved.load() < limits.idle;
    });
    for (Place place : order) reclaimable += place->second->held;
    if (reclaimable < missing) return false;
    for (Place place : order) {
      if (drop(place) && has_room(writer, bytes)) return true;
    }
    return false;
  }
  // False where somebody writes to it now. Guarded by mutex.
  bool drop(Place upload) {
    std::unique_lock busy(upload->second->mutex, std::try_to_lock);
    if (!busy || ::unlink(partial_path(upload->first).c_str()) != 0) return false;
    upload->second->ended = true;
    busy.unlock();
    uploads.erase(upload);
    return true;
  }

  void forget(const UploadId& upload, Upload& held) {
    held.ended = true;
    std::lock_guard lock(mutex);
    uploads.erase(upload);
  }

  // What an earlier process left: partial uploads go on, everything else is rubbish.
  Status recover() {
    std::string partial = directory + "/partial";
    DIR* listing = ::opendir(partial.c_str());
    if (listing == nullptr) return disk::error("list partial uploads");
    std::vector<std::string> rubbish;
    while (auto* item = ::readdir(listing)) {
      std::string name = item->d_name;
      if (name == "." || name == "..") continue;
      auto parsed = parse_upload_id(name);
      auto length = disk::file_size(partial + "/" + name);
      bool good = parsed && length && *length <= parsed->size &&
                  !disk::file_size(blob_path(parsed->hex));  // else: nobody will finish it
      if (good) {
        auto idle = disk::untouched(partial + "/" + name).value_or(std::chrono::seconds(0));
        uploads.emplace(name, std::make_shared<Upload>(parsed->size, *length, idle));
      } else {
        rubbish.push_back(partial + "/" + name);
      }
    }
    ::closedir(listing);
    for (const auto& path : rubbish) ::unlink(path.c_str());
    return Done{};
  }

  // `file` is complete and has the bytes of `hex`. A crash before the rename leaves the
  // partial upload; between rename and sync either; after it the blob.
  Status publish(const disk::Fd& file, const std::string& from, const std::string& hex) {
    if (::fsync(file.get()) != 0) {
      // The kernel may have dropped the pages: a second fsync would lie. Start again.
      ::unlink(from.c_str());
      return Error(Code::kBroken, "expected the disk to keep the bytes; begin the upload again");
    }
    if (::rename(from.c_str(), blob_path(hex).c_str()) != 0) return disk::error("name the blob");
    TRY(disk::sync_directory(directory + "/blob"));
    return disk::sync_directory(directory + "/partial");
  }

  // Set once in open().
  std::string directory;
  disk::Fd lock_file;
  BlobLimits limits;
  uint64_t reserve = 0;

  std::mutex mutex;
  std::map<UploadId, Held> uploads;  // Guarded by mutex.
  uint64_t puts = 0;                 // Guarded by mutex.
  uint64_t held_bytes = 0;           // Guarded by mutex. Of all Holds.
  uint64_t in_flight = 0;            // Guarded by mutex. Bytes of pieces being written.
};

BlobStore::BlobStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BlobStore::~BlobStore() = default;
BlobStore::BlobStore(BlobStore&&) noexcept = default;
BlobStore& BlobStore::operator=(BlobStore&&) noexcept = default;

Result<BlobStore> BlobStore::open(const std::string& directory, const BlobLimits& limits) {
  auto impl = std::make_unique<Impl>();
  impl->directory = directory;
  impl->limits = limits;
  TRY(disk::make_directory(directory));
  TRY(disk::make_directory(directory + "/blob"));
  TRY(disk::make_directory(directory + "/partial"));
  TRY(disk::sync_directory(directory));
  impl->lock_file = disk::open_file(directory + "/lock", O_RDWR | O_CREAT);
  if (!impl->lock_file) return disk::error("make the lock file");
  if (::flock(impl->lock_file.get(), LOCK_EX | LOCK_NB) != 0) {
    return Error(Code::kConflict, "expected no other process to have this blob store open");
  }
  TRY(impl->recover());
  impl->reserve = limits.reserve.value_or(std::min(disk::space(directory).size / 4, kMostReserve));
  return BlobStore(std::move(impl));
}

Result<UploadId> BlobStore::begin(const Digest& expected, uint64_t size) {
  auto hex = hex_of(expected);
  auto upload = upload_id(hex, size);
  if (size > kMaxBlob) return Error(Code::kRefused, "expected a blob of at most 2^50 bytes");
  std::lock_guard lock(impl_->mutex);
  if (auto present = disk::file_size(impl_->blob_path(hex))) {
    if (*present != size) {
      return Error(Code::kConflict, "expected the size the blob with this digest has");
    }
    ::utimensat(AT_FDCWD, impl_->blob_path(hex).c_str(), nullptr, 0);  // it is wanted again
    return upload;
  }
  if (impl_->uploads.count(upload) != 0) return upload;
  if (!impl_->make_room(Writer::kUpload, size)) return Impl::no_room("the upload");
  while (impl_->uploads.size() >= impl_->limits.max_partial) {
    if (!impl_->make_place()) {
      return Error(Code::kTryAgain, "expected fewer uploads under way; begin when one has ended");
    }
  }
  auto file = disk::open_file(impl_->partial_path(upload), O_WRONLY | O_CREAT | O_EXCL);
  if (!file) return disk::error("begin an upload");
  impl_->uploads.emplace(upload, std::make_shared<Impl::Upload>(size));
  return upload;
}

Result<uint64_t> BlobStore::write(const UploadId& upload, uint64_t offset, ByteView bytes) {
  auto held = impl_->find(upload);
  if (!held) return this->offset(upload);  // complete already, or never begun
  std::lock_guard lock(held->mutex);
  if (held->ended) return this->offset(upload);
  auto path = impl_->partial_path(upload);
  auto file = disk::open_file(path, O_RDWR);
  auto present = disk::file_size(path);
  if (!file || !present) return disk::error("open the upload");
  if (offset > held->size || bytes.size() > held->size - offset) {
    return Error(Code::kRefused, "expected no more bytes than announced");
  }
  if (offset > *present) {
    return Error(Code::kConflict, "expected offset " + std::to_string(*present));
  }
  auto again =
      bytes.first(static_cast<size_t>(std::min<uint64_t>(bytes.size(), *present - offset)));
  if (!TRY(disk::holds(file.get(), offset, again))) {
    return Error(Code::kConflict, "expected the same bytes as before at this offset");
  }
  auto fresh = bytes.subspan(again.size());
  {
    std::lock_guard all(impl_->mutex);
    if (!impl_->make_room(Writer::kUpload, fresh.size(), upload))
      return Impl::no_room("the upload");
    impl_->in_flight += fresh.size();
  }
  auto written = disk::write_at(file.get(), offset + again.size(), fresh);
  {
    std::lock_guard all(impl_->mutex);
    impl_->in_flight -= fresh.size();
  }
  held->held = disk::file_size(path).value_or(*present);
  TRY(std::move(written));
  if (!fresh.empty()) held->moved = Impl::Steady::now();
  return *present + fresh.size();
}

Result<uint64_t> BlobStore::offset(const UploadId& upload) const {
  auto not_found = [] { return Error(Code::kNotFound, "expected an upload that has begun"); };
  if (auto held = impl_->find(upload)) {
    if (auto present = disk::file_size(impl_->partial_path(upload))) return *present;
  }
  auto name = parse_upload_id(upload);
  if (!name) return not_found();
  if (auto complete = impl_->complete(*name)) return *complete;
  return not_found();
}

Result<Digest> BlobStore::commit(const UploadId& upload) {
  auto not_found = [] { return Error(Code::kNotFound, "expected an upload that has begun"); };
  auto name = parse_upload_id(upload);
  if (!name) return not_found();
  auto complete = [&]() -> Result<Digest> {
    if (!impl_->complete(*name)) return not_found();
    return name->digest;
  };
  auto held = impl_->find(upload);
  if (!held) return complete();
  std::lock_guard lock(held->mutex);
  if (held->ended) return complete();

  auto path = impl_->partial_path(upload);
  auto file = disk::open_file(path, O_RDWR);
  auto present = disk::file_size(path);
  if (!file || !present) return disk::error("open the upload");
  if (*present < held->size) {
    return Error(Code::kConflict, "expected " + std::to_string(held->size - *present) +
                                      " more bytes from offset " + std::to_string(*present));
  }
  auto digest = TRY(disk::hash_file(file.get(), held->size));
  if (digest != name->digest) {
    ::unlink(path.c_str());
    impl_->forget(upload, *held);
    return Error(Code::kUnauthentic, "expected bytes with the announced SHA-256");
  }
  auto published = impl_->publish(file, path, name->hex);
  if (!published && disk::file_size(path))
    return std::move(published).take_error();  // may try again
  impl_->forget(upload, *held);
  if (!published) return std::move(published).take_error();
  return digest;
}

Status BlobStore::abandon(const UploadId& upload) {
  auto held = impl_->find(upload);
  if (!held) return Done{};
  std::lock_guard lock(held->mutex);
  if (held->ended) return Done{};
  if (::unlink(impl_->partial_path(upload).c_str()) != 0 && errno != ENOENT) {
    return disk::error("remove the upload");
  }
  impl_->forget(upload, *held);
  return Done{};
}

bool BlobStore::has(const Digest& digest) const {
  return disk::file_size(impl_->blob_path(hex_of(digest))).has_value();
}

Result<uint64_t> BlobStore::size(const Digest& digest) const {
  auto size = disk::file_size(impl_->blob_path(hex_of(digest)));
  if (!size) return Error(Code::kNotFound, "expected a blob this store holds");
  return *size;
}

Result<std::string> BlobStore::path(const Digest& digest) const {
  TRY(size(digest));
  return impl_->blob_path(hex_of(digest));
}

Result<Bytes> BlobStore::read(const Digest& digest, uint64_t offset, uint64_t length) const {
  auto file = disk::open_file(impl_->blob_path(hex_of(digest)), O_RDONLY);
  if (!file) return Error(Code::kNotFound, "expected a blob this store holds");
  auto held = TRY(size(digest));
  if (offset > held || length > held - offset) {
    return Error(Code::kRefused, "expected a range within the blob");
  }
  Bytes bytes(static_cast<size_t>(length));
  TRY(disk::read_at(file.get(), offset, bytes));
  return bytes;
}

Result<Digest> BlobStore::put(ByteView bytes) {
  auto digest = ledger::sha256(bytes);
  if (touch(digest)) return digest;
  std::string path;
  {
    std::lock_guard lock(impl_->mutex);
    path = impl_->directory + "/partial/put-" + std::to_string(impl_->puts++);
  }
  auto file = disk::open_file(path, O_WRONLY | O_CREAT | O_TRUNC);
  if (!file) return disk::error("take a blob");
  auto written = disk::write_at(file.get(), 0, bytes);
  auto published = written ? impl_->publish(file, path, hex_of(digest)) : std::move(written);
  if (!published) {
    ::unlink(path.c_str());
    return std::move(published).take_error();
  }
  return digest;
}

Status BlobStore::erase(const Digest& digest) {
  if (::unlink(impl_->blob_path(hex_of(digest)).c_str()) != 0) {
    if (errno == ENOENT) return Done{};
    return disk::error("remove a blob");
  }
  return disk::sync_directory(impl_->directory + "/blob");
}

Status BlobStore::room(Writer writer, uint64_t bytes) const {
  std::lock_guard lock(impl_->mutex);
  if (impl_->has_room(writer, bytes)) return Done{};
  return Impl::no_room(writer == Writer::kEntry   ? "the entry"
                       : writer == Writer::kModel ? "the model"
                                                  : "the upload");
}

Result<BlobStore::Hold> BlobStore::hold(uint64_t bytes) {
  std::lock_guard lock(impl_->mutex);
  if (!impl_->make_room(Writer::kModel, bytes)) return Impl::no_room("the model");
  impl_->held_bytes += bytes;
  return Hold(*this, bytes);
}

BlobStore::Hold::Hold(Hold&& other) noexcept
    : store_(std::exchange(other.store_, nullptr)), bytes_(other.bytes_) {}
BlobStore::Hold::~Hold() {
  if (!store_) return;
  std::lock_guard lock(store_->impl_->mutex);
  store_->impl_->held_bytes -= bytes_;
}

Status BlobStore::touch(const Digest& digest) {
  std::lock_guard lock(impl_->mutex);  // no sweep() between
  if (::utimensat(AT_FDCWD, impl_->blob_path(hex_of(digest)).c_str(), nullptr, 0) == 0)
    return Done{};
  if (errno == ENOENT) return Error(Code::kNotFound, "expected a blob this store holds");
  return disk::error("name a blob");
}

void BlobStore::sweep(const std::set<Digest>& named) {
  std::lock_guard lock(impl_->mutex);
  auto old = [&](const std::string& path) {
    auto age = disk::untouched(path);
    return age && *age >= impl_->limits.expires;
  };
  for (auto it = impl_->uploads.begin(); it != impl_->uploads.end();) {
    auto here = it++;
    if (old(impl_->partial_path(here->first))) impl_->drop(here);
  }
  DIR* listing = ::opendir((impl_->directory + "/blob").c_str());
  if (listing == nullptr) return;  // the next one finds them
  std::vector<std::string> unnamed;
  while (auto* item = ::readdir(listing)) {
    auto bytes = from_hex(item->d_name);
    auto digest = bytes ? fixed<sizeof(Digest)>(*bytes) : Result<Digest>(bytes.error());
    if (digest && named.count(*digest) == 0 && old(impl_->blob_path(item->d_name)))
      unnamed.push_back(impl_->blob_path(item->d_name));
  }
  ::closedir(listing);
  for (const auto& path : unnamed) ::unlink(path.c_str());
}

}  // namespace souk::market
