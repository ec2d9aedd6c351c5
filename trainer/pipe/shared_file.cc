#include "trainer/pipe/shared_file.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

namespace souk::trainer {

Result<SharedFile> SharedFile::map(int fd) {
  struct stat file {};
  bool usable = fstat(fd, &file) == 0 && S_ISREG(file.st_mode) && file.st_size > 0;
  if (!usable) {
    close(fd);
    return Error(Code::kMalformed, "expected a file with room for a sealed state");
  }
  const auto size = static_cast<size_t>(file.st_size);
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (memory == MAP_FAILED) return Error(Code::kBroken, "expected to map the sealed state's file");
  return SharedFile(std::span(static_cast<uint8_t*>(memory), size));
}

SharedFile::~SharedFile() {
  if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
}

SharedFile::SharedFile(SharedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

}  // namespace souk::trainer
