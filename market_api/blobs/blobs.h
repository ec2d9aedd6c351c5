// Ciphertext by digest: DIR/blob/<hex>, written once and never changed. What is not yet
// complete is DIR/partial/<hex>.<announced size>; its length is the offset, so a restart loses
// nothing that reached the disk.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "ledger/base/bytes.h"
#include "ledger/base/named.h"
#include "ledger/base/result.h"

namespace souk::market {

// Names an upload: "<hex of the digest it must have>.<announced size>". The same two are the same
// upload; whoever announces another size for a digest has an upload of its own, and harms nobody.
using UploadId = std::string;
bool is_upload_id(const std::string& text);

// Thread safe; one store per directory, held by a lock on DIR/lock.
class BlobStore {
 public:
  // Makes the directory if need be. kConflict if another process has it open, kMalformed if there
  // is something else of this name.
  static Result<BlobStore> open(const std::string& directory);
  ~BlobStore();
  BlobStore(BlobStore&&) noexcept;
  BlobStore& operator=(BlobStore&&) noexcept;

  // Idempotent: an upload begun before, in this or an earlier process, goes on where it
  // was. If the blob is here already the upload is complete: its offset is `size`, writes and
  // commit() do nothing; kConflict if the blob has another size.
  Result<UploadId> begin(const Digest& expected, uint64_t size);

  // Appends, and returns the new offset. Writing again what was written (offset and length within
  // the present offset, same bytes) changes nothing and returns the present offset; other bytes
  // there, or an offset past the present one, is kConflict; past the announced size is kRefused.
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

  // Durable when it returns.
  Result<Digest> put(ByteView bytes);
  // Done also if there is none. Durable when it returns.
  Status erase(const Digest& digest);

 private:
  struct Impl;
  explicit BlobStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace souk::market
