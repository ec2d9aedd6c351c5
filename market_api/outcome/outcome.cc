#include "market_api/outcome/outcome.h"

#include <fcntl.h>

#include <cstdio>
#include <cstring>

namespace souk::market {

ExitStatus exit_status(const Error& error) {
  switch (error.code()) {
    case Code::kMalformed:
      return ExitStatus::kUsage;
    case Code::kUnauthentic:
    case Code::kRefused:
    case Code::kNotFound:
    case Code::kConflict:
    case Code::kExhausted:
      return ExitStatus::kNo;
    case Code::kTryAgain:
      return ExitStatus::kCannotNow;
    case Code::kBroken:
      return ExitStatus::kInternal;
  }
  return ExitStatus::kInternal;
}

Json error_json(const Error& error) {
  auto say = [&](const std::string& message) -> Json {
    return Json::Object{
        {"error", Json::Object{{"code", code_name(error.code())}, {"message", message}}}};
  };
  Json said = say(error.expected());
  if (parse_json(canonical(said))) return said;
  // A name of a file need not be UTF-8; JSON is.
  std::string shown = error.expected();
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) >= 0x80) c = '?';
  }
  return say(shown);
}

bool asks_for_json(int argc, char** argv) {
  for (int i = 1; i < argc && std::strcmp(argv[i], "--") != 0; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) return true;
  }
  return false;
}

void hold_standard_descriptors() {
  for (int fd = 0; fd <= 2; ++fd) {
    // The lowest that is free, so it is this one; where that fails nothing is worse than before.
    if (::fcntl(fd, F_GETFD) < 0) (void)::open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
  }
}

ExitStatus say(const char* program, const std::string& text, ExitStatus status,
               const std::string& recorded) {
  std::string line = text + "\n";
  bool written = std::fwrite(line.data(), 1, line.size(), stdout) == line.size() &&
                 std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  if (written) return status;
  std::fprintf(stderr, "%s: expected to write the answer to standard output%s%s\n", program,
               recorded.empty() ? "" : "; do not repeat the call: ", recorded.c_str());
  return ExitStatus::kCannotNow;
}

int end_with(const char* program, const Error& error, bool as_json) {
  std::string line = error.expected();
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = c == '\n' ? ' ' : '?';
  }
  std::fprintf(stderr, "%s: %s\n", program, line.c_str());
  ExitStatus status = exit_status(error);
  if (as_json) status = say(program, canonical(error_json(error)), status);
  return static_cast<int>(status);
}

Error about_input(Error error, const std::string& named) {
  Code code = error.code();
  bool keeps = code == Code::kTryAgain || code == Code::kConflict || code == Code::kUnauthentic;
  return about_file(Error(keeps ? code : Code::kMalformed, error.expected()), named);
}

Error about_file(Error error, const std::string& path) {
  Error said(error.code() == Code::kNotFound ? Code::kMalformed : error.code(), error.expected());
  if (path.empty() || said.expected().find(path) != std::string::npos) return said;
  return std::move(said).within(path);
}

}  // namespace souk::market
