// Ciphertext by digest: DIR/blob/<hex>, written once and never changed. What is not yet
// complete is DIR/partial/<hex>.<announced size>; its length is the offset, so a restart loses
// nothing that reached the disk.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "ledger/base/bytes.h"
#include "ledger/base/named.h"
#include "ledger/base/result.h"

namespace souk::market {

// Names an upload: "<hex of the digest it must have>.<announced size>". The same two are the same
// upload; whoever announces another size for a digest has an upload of its own, and harms nobody.
using UploadId = std::string;
bool is_upload_id(const std::string& text);

// Anybody may upload: what that leaves to the market's own writing, and for how long what comes to
// nothing is kept.
struct BlobLimits {
  // Bytes of the disk that uploads leave free; none: a quarter of it, at most 256 MiB.
  std::optional<uint64_t> reserve = std::nullopt;
  size_t max_partial = 1024;                   // uploads under way at once
  std::chrono::seconds idle{600};              // untouched so long, one makes room on a full disk
  std::chrono::seconds expires{24 * 60 * 60};  // untouched so long, what no entry names is removed
};

// Who wants to write. Each may use up what the next ones still have: uploads leave the whole
// reserve, participants' entries half of it, models a quarter.
enum class Writer : uint8_t { kUpload, kEntry, kModel };

// Thread safe; one store per directory, held by a lock on DIR/lock.
class BlobStore {
 public:
  // Room of the disk that is kept for who has it; given back at the end of its life.
  class Hold {
   public:
    Hold(Hold&& other) noexcept;
    Hold& operator=(Hold&&) = delete;
    ~Hold();

   private:
    friend class BlobStore;
    Hold(BlobStore& store, uint64_t bytes) : store_(&store), bytes_(bytes) {}
    BlobStore* store_;
    uint64_t bytes_;
  };

  // Makes the directory if need be. kConflict if another process has it open, kMalformed if there
  // is something else of this name.
  static Result<BlobStore> open(const std::string& directory, const BlobLimits& limits = {});
  ~BlobStore();
  BlobStore(BlobStore&&) noexcept;
  BlobStore& operator=(BlobStore&&) noexcept;

  // Idempotent: an upload begun before, in this or an earlier process, goes on where it
  // was. If the blob is here already the upload is complete: its offset is `size`, writes and
  // commit() do nothing; kConflict if the blob has another size. kTryAgain where all of it would
  // not leave the reserve free. With `max_partial` under way it takes the place of the one that has
  // been idle the longest for each MiB begun that it holds: nobody keeps others out by beginning
  // uploads, and who has sent much is waited for longer.
  Result<UploadId> begin(const Digest& expected, uint64_t size);

  // Appends, and returns the new offset. Writing again what was written (offset and length within
  // the present offset, same bytes) changes nothing and returns the present offset; other bytes
  // there, or an offset past the present one, is kConflict; past the announced size is kRefused.
  // kTryAgain, with nothing written, where the reserve would not stay free, also after idle uploads
  // have made way.
  Result<uint64_t> write(const UploadId& upload, uint64_t offset, ByteView bytes);

  // Bytes held so far. kNotFound if never begun.
  Result<uint64_t> offset(const UploadId& upload) const;

  // All bytes here and SHA-256 as announced -> durable and visible under its digest. kConflict
  // while bytes are missing. kUnauthentic if the digest is another: nothing is kept and the upload
  // is gone.
  Result<Digest> commit(const UploadId& upload);

  // Forgets an upload and its bytes. Done also if there is none.
  Status abandon(const UploadId& upload);

  bool has(const Digest& digest) const;
  Result<uint64_t> size(const Digest& digest) const;
  Result<std::string> path(const Digest& digest) const;  // kNotFound if absent
  // Exactly `length` bytes from `offset`; kRefused past the end.
  Result<Bytes> read(const Digest& digest, uint64_t offset, uint64_t length) const;

  // Durable when it returns. Takes of the reserve.
  Result<Digest> put(ByteView bytes);
  // Done also if there is none. Durable when it returns.
  Status erase(const Digest& digest);

  // Whether the disk has room for `bytes` of this writer. kTryAgain: "disk full: ...".
  Status room(Writer writer, uint64_t bytes) const;
  // Keeps `bytes` from uploads and entries until the Hold ends. kTryAgain as room(kModel) says.
  Result<Hold> hold(uint64_t bytes);
  // A blob that is about to be named: the next `expires` seconds no sweep() removes it. kNotFound.
  Status touch(const Digest& digest);
  // Removes uploads and blobs that nobody has touched for `expires` and that are not `named`.
  void sweep(const std::set<Digest>& named);

 private:
  struct Impl;
  explicit BlobStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace souk::market
