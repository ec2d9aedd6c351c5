#include "tests/faults/faulty_disk.h"

#include <sqlite3.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <random>
#include <vector>

#include "ledger/base/result.h"

namespace souk::faults {
namespace {

namespace fs = std::filesystem;
using Content = std::vector<char>;

struct Change {
  bool truncation = false;
  size_t at = 0;  // offset, or the new length
  Content bytes = {};
};

// What we know of one file.
struct Image {
  Content durable;
  std::vector<Change> unsynced;
  bool deleted = false;
};

struct Disk {
  std::mutex mutex;
  std::map<std::string, Image> images;
  Fault fault = Fault::kNone;
  uint64_t at = 0;
  uint64_t operations = 0;
  bool struck = false;
  bool dark = false;  // the power is gone
  bool lies = false;
  std::mt19937_64 random;
};

Disk& disk() {
  static Disk one;
  return one;
}

void apply(Content& content, const Change& change) {
  if (change.truncation) {
    content.resize(std::min(content.size(), change.at));
    return;
  }
  if (content.size() < change.at + change.bytes.size()) {
    content.resize(change.at + change.bytes.size());
  }
  std::copy(change.bytes.begin(), change.bytes.end(),
            content.begin() + static_cast<ptrdiff_t>(change.at));
}

Content read_whole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Verdict {
  bool happens = true;
  bool succeeds = true;
  bool no_room = false;
};

// Guarded by the disk's mutex.
Verdict next_operation() {
  Disk& d = disk();
  if (d.dark) return {false, false};
  ++d.operations;
  if (d.fault == Fault::kNone || d.operations != d.at) return {};
  d.struck = true;
  switch (d.fault) {
    case Fault::kFails:
      return {false, false};
    case Fault::kFull:
      return {false, false, true};
    case Fault::kFailsPersisted:
      return {true, false};
    default:
      d.dark = true;
      return {false, false};
  }
}

struct File {
  sqlite3_file base;
  std::string* path;  // null: not watched
  sqlite3_file* real() { return reinterpret_cast<sqlite3_file*>(this + 1); }
};

File* of(sqlite3_file* file) {
  return reinterpret_cast<File*>(file);
}
sqlite3_vfs* real_vfs(sqlite3_vfs* vfs) {
  return static_cast<sqlite3_vfs*>(vfs->pAppData);
}

int close_file(sqlite3_file* file) {
  int code = of(file)->real()->pMethods->xClose(of(file)->real());
  delete of(file)->path;
  return code;
}
int read_file(sqlite3_file* file, void* to, int amount, sqlite3_int64 offset) {
  return of(file)->real()->pMethods->xRead(of(file)->real(), to, amount, offset);
}
int write_file(sqlite3_file* file, const void* from, int amount, sqlite3_int64 offset) {
  auto* real = of(file)->real();
  if (!of(file)->path) return real->pMethods->xWrite(real, from, amount, offset);
  std::lock_guard lock(disk().mutex);
  auto verdict = next_operation();
  int code = SQLITE_OK;
  if (verdict.no_room) {
    amount /= 2;
    code = SQLITE_FULL;
  }
  if (verdict.happens || verdict.no_room) {
    auto* bytes = static_cast<const char*>(from);
    disk().images[*of(file)->path].unsynced.push_back({.truncation = false,
                                                       .at = static_cast<size_t>(offset),
                                                       .bytes = Content(bytes, bytes + amount)});
    int written = real->pMethods->xWrite(real, from, amount, offset);
    if (!verdict.no_room) code = written;
  }
  return verdict.succeeds || verdict.no_room ? code : SQLITE_IOERR_WRITE;
}
int truncate_file(sqlite3_file* file, sqlite3_int64 size) {
  auto* real = of(file)->real();
  if (!of(file)->path) return real->pMethods->xTruncate(real, size);
  std::lock_guard lock(disk().mutex);
  auto verdict = next_operation();
  int code = SQLITE_OK;
  if (verdict.happens) {
    disk().images[*of(file)->path].unsynced.push_back(
        {.truncation = true, .at = static_cast<size_t>(size)});
    code = real->pMethods->xTruncate(real, size);
  }
  return verdict.succeeds ? code : SQLITE_IOERR_TRUNCATE;
}
int sync_file(sqlite3_file* file, int) {
  if (!of(file)->path) return SQLITE_OK;
  std::lock_guard lock(disk().mutex);
  auto verdict = next_operation();
  if (verdict.happens && !disk().lies) {
    auto& image = disk().images[*of(file)->path];
    for (const auto& change : image.unsynced) apply(image.durable, change);
    image.unsynced.clear();
  }
  return verdict.succeeds ? SQLITE_OK : SQLITE_IOERR_FSYNC;
}
int size_of_file(sqlite3_file* file, sqlite3_int64* size) {
  return of(file)->real()->pMethods->xFileSize(of(file)->real(), size);
}
int lock_file(sqlite3_file* file, int level) {
  return of(file)->real()->pMethods->xLock(of(file)->real(), level);
}
int unlock_file(sqlite3_file* file, int level) {
  return of(file)->real()->pMethods->xUnlock(of(file)->real(), level);
}
int check_reserved(sqlite3_file* file, int* out) {
  return of(file)->real()->pMethods->xCheckReservedLock(of(file)->real(), out);
}
int control(sqlite3_file* file, int op, void* argument) {
  return of(file)->real()->pMethods->xFileControl(of(file)->real(), op, argument);
}
int sector_size(sqlite3_file*) {
  return 4096;
}
int characteristics(sqlite3_file*) {
  return 0;
}  // nothing is promised
int shm_map(sqlite3_file* file, int page, int size, int extend, void volatile** out) {
  return of(file)->real()->pMethods->xShmMap(of(file)->real(), page, size, extend, out);
}
int shm_lock(sqlite3_file* file, int offset, int n, int flags) {
  return of(file)->real()->pMethods->xShmLock(of(file)->real(), offset, n, flags);
}
void shm_barrier(sqlite3_file* file) {
  of(file)->real()->pMethods->xShmBarrier(of(file)->real());
}
int shm_unmap(sqlite3_file* file, int remove) {
  return of(file)->real()->pMethods->xShmUnmap(of(file)->real(), remove);
}

const sqlite3_io_methods kMethods = {
    2,           close_file,   read_file,       write_file,  truncate_file,
    sync_file,   size_of_file, lock_file,       unlock_file, check_reserved,
    control,     sector_size,  characteristics, shm_map,     shm_lock,
    shm_barrier, shm_unmap,    nullptr,         nullptr};

int open_file(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags, int* out_flags) {
  of(file)->path = nullptr;
  of(file)->base.pMethods = nullptr;
  constexpr int kWatched = SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL;
  bool watched = name != nullptr && (flags & kWatched) != 0;
  std::lock_guard lock(disk().mutex);
  if (watched && disk().images.count(name) == 0) disk().images[name].durable = read_whole(name);
  int code = real_vfs(vfs)->xOpen(real_vfs(vfs), name, of(file)->real(), flags, out_flags);
  if (code != SQLITE_OK) return code;
  of(file)->base.pMethods = &kMethods;
  if (watched) {
    of(file)->path = new std::string(name);
    disk().images[name].deleted = false;
  }
  return SQLITE_OK;
}

// A deletion is durable at once: the kinder half of the truth, since SQLite deletes a log
// only after all of it is in the file.
int delete_file(sqlite3_vfs* vfs, const char* name, int sync) {
  std::lock_guard lock(disk().mutex);
  if (disk().images.count(name) == 0) return real_vfs(vfs)->xDelete(real_vfs(vfs), name, sync);
  auto verdict = next_operation();
  int code = SQLITE_OK;
  if (verdict.happens) {
    disk().images[name] = Image{.durable = {}, .unsynced = {}, .deleted = true};
    code = real_vfs(vfs)->xDelete(real_vfs(vfs), name, 0);
  }
  return verdict.succeeds ? code : SQLITE_IOERR_DELETE;
}

}  // namespace

void install() {
  static bool done = [] {
    static sqlite3_vfs shim = *sqlite3_vfs_find(nullptr);
    shim.pAppData = sqlite3_vfs_find(nullptr);
    shim.zName = "souk-faults";
    shim.szOsFile += static_cast<int>(sizeof(File));
    shim.xOpen = open_file;
    shim.xDelete = delete_file;
    return sqlite3_vfs_register(&shim, 1) == SQLITE_OK;
  }();
  CHECK(done);
}

void begin() {
  std::lock_guard lock(disk().mutex);
  disk().images.clear();
  disk().fault = Fault::kNone;
  disk().dark = disk().struck = disk().lies = false;
  disk().operations = 0;
}

void arm(Fault fault, uint64_t at, uint64_t seed) {
  std::lock_guard lock(disk().mutex);
  disk().fault = fault;
  disk().at = at;
  disk().operations = 0;
  disk().struck = false;
  disk().random.seed(seed);
}

void lie() {
  std::lock_guard lock(disk().mutex);
  disk().lies = true;
}

bool struck() {
  std::lock_guard lock(disk().mutex);
  return disk().struck;
}

void repair() {
  std::lock_guard lock(disk().mutex);
  Disk& d = disk();
  for (auto& [path, image] : d.images) {
    if (!d.dark) break;
    Content left = image.durable;
    for (const auto& change : image.unsynced) {
      if (d.fault == Fault::kPowerLossTorn && d.random() % 2 == 0) apply(left, change);
    }
    fs::remove(path + "-shm");  // memory
    if (image.deleted) {
      fs::remove(path);
      continue;
    }
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file.write(left.data(), static_cast<std::streamsize>(left.size()));
  }
  d.images.clear();
  d.fault = Fault::kNone;
  d.dark = false;
}

}  // namespace souk::faults
