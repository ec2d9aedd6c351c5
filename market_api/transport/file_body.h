// Private to this room: part of a file as a response body. cpprestsdk's own file stream
// waits for its threads in its destructor, which can block all of them for good; this one
// reads with pread and never waits.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>

#include "market_api/transport/cpprest.h"
#include "market_api/transport/message.h"

namespace souk::market {

class FileBuffer final : public concurrency::streams::details::streambuf_state_manager<uint8_t> {
  using Base = concurrency::streams::details::streambuf_state_manager<uint8_t>;
  using typename Base::int_type;
  using typename Base::off_type;
  using typename Base::pos_type;
  using typename Base::traits;
  using Mode = std::ios_base::openmode;

 public:
  // Owns `fd`. Without one, reading ends the connection.
  FileBuffer(int fd, const FilePart& part)
      : Base(std::ios_base::in), fd_(fd), at_(part.offset), end_(part.offset + part.length) {}
  ~FileBuffer() override { ::close(fd_); }

  bool can_seek() const override { return false; }
  bool has_size() const override { return false; }
  size_t buffer_size(Mode) const override { return 0; }
  void set_buffer_size(size_t, Mode) override {}
  size_t in_avail() const override { return end_ - at_; }
  pos_type getpos(Mode) const override { return eof_position(); }
  pos_type seekpos(pos_type, Mode) override { return eof_position(); }
  pos_type seekoff(off_type, std::ios_base::seekdir, Mode) override { return eof_position(); }
  bool acquire(uint8_t*& pointer, size_t& count) override {
    pointer = nullptr;
    count = 0;
    return false;
  }
  void release(uint8_t*, size_t) override {}

 protected:
  pplx::task<int_type> _putc(uint8_t) override { return pplx::task_from_result(traits::eof()); }
  pplx::task<size_t> _putn(const uint8_t*, size_t) override {
    return pplx::task_from_result(size_t{0});
  }
  pplx::task<size_t> _putn(const uint8_t*, size_t, bool) override {
    return pplx::task_from_result(size_t{0});
  }
  pplx::task<int_type> _bumpc() override { return pplx::task_from_result(one(Advance::kYes)); }
  int_type _sbumpc() override { return one(Advance::kYes); }
  pplx::task<int_type> _getc() override { return pplx::task_from_result(one(Advance::kNo)); }
  int_type _sgetc() override { return one(Advance::kNo); }
  pplx::task<int_type> _nextc() override {
    one(Advance::kYes);
    return pplx::task_from_result(one(Advance::kNo));
  }
  pplx::task<int_type> _ungetc() override { return pplx::task_from_result(traits::eof()); }
  pplx::task<size_t> _getn(uint8_t* to, size_t count) override {
    try {
      return pplx::task_from_result(read(to, count, Advance::kYes));
    } catch (...) {
      return pplx::task_from_exception<size_t>(std::current_exception());
    }
  }
  size_t _scopy(uint8_t* to, size_t count) override { return read(to, count, Advance::kNo); }
  pplx::task<bool> _sync() override { return pplx::task_from_result(true); }
  uint8_t* _alloc(size_t) override { return nullptr; }
  void _commit(size_t) override {}

 private:
  enum class Advance { kYes, kNo };
  static pos_type eof_position() { return static_cast<pos_type>(traits::eof()); }

  // The length was announced in a header: less than that must end the connection.
  size_t read(uint8_t* to, size_t count, Advance advance) {
    count = std::min<size_t>(count, end_ - at_);
    size_t done = 0;
    while (done < count) {
      ssize_t n = ::pread(fd_, to + done, count - done, static_cast<off_t>(at_ + done));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) throw std::runtime_error("file body ended early");
      done += static_cast<size_t>(n);
    }
    if (advance == Advance::kYes) at_ += done;
    return done;
  }
  int_type one(Advance advance) {
    uint8_t byte = 0;
    return read(&byte, 1, advance) == 1 ? static_cast<int_type>(byte) : traits::eof();
  }

  const int fd_;
  uint64_t at_;
  const uint64_t end_;
};

class FileStreamBuf final : public concurrency::streams::streambuf<uint8_t> {
 public:
  explicit FileStreamBuf(std::shared_ptr<FileBuffer> buffer) : streambuf(std::move(buffer)) {}
};

// What an answer to HEAD has: a length that is announced and no byte of it. The connection ends
// behind the headers, as nothing else tells cpprestsdk that no body follows.
inline concurrency::streams::istream announced_body(uint64_t length) {
  constexpr int kNoFile = -1;
  FilePart part{.path = "", .offset = 0, .length = length};
  return concurrency::streams::istream(FileStreamBuf(std::make_shared<FileBuffer>(kNoFile, part)));
}

// kBroken if the file does not hold the part.
inline Result<concurrency::streams::istream> open_file_body(const FilePart& part) {
  int fd = ::open(part.path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Error(Code::kBroken, "expected a readable file for the body");
  struct stat info {};
  bool holds = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode) &&
               part.offset <= static_cast<uint64_t>(info.st_size) &&
               part.length <= static_cast<uint64_t>(info.st_size) - part.offset;
  if (!holds) {
    ::close(fd);
    return Error(Code::kBroken, "expected the file to hold the whole part");
  }
  return concurrency::streams::istream(FileStreamBuf(std::make_shared<FileBuffer>(fd, part)));
}

}  // namespace souk::market
