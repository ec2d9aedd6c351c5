// A value, or the reason there is none. Shaped like std::expected, which is not
// available to both of our compilers yet.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <variant>

namespace souk {

// What the caller can do about it, not where it happened.
enum class Code : uint8_t {
  kMalformed,    // fix the input
  kUnauthentic,  // do not trust the sender
  kRefused,      // the rules say no
  kNotFound,
  kConflict,   // someone was first, or the state has moved on
  kExhausted,  // a budget, quota or balance is spent
  kTryAgain,   // later
  kBroken,     // ours to repair
};

// "malformed", "unauthentic", ... Stable: used in wire messages and problem documents.
constexpr const char* code_name(Code code) {
  switch (code) {
    case Code::kMalformed:
      return "malformed";
    case Code::kUnauthentic:
      return "unauthentic";
    case Code::kRefused:
      return "refused";
    case Code::kNotFound:
      return "not_found";
    case Code::kConflict:
      return "conflict";
    case Code::kExhausted:
      return "exhausted";
    case Code::kTryAgain:
      return "try_again";
    case Code::kBroken:
      return "broken";
  }
  return "broken";
}

// `expected` says what was expected. It never quotes the data of others.
class [[nodiscard]] Error {
 public:
  Error(Code code, std::string expected) : code_(code), expected_(std::move(expected)) {}

  Code code() const { return code_; }
  const std::string& expected() const { return expected_; }

  // The same error, said from one level up: "dataset.offer: ...".
  Error within(const std::string& place) && {
    return Error(code_, place + ": " + std::move(expected_));
  }

 private:
  Code code_;
  std::string expected_;
};

template <class T>
class [[nodiscard]] Result {
 public:
  // Implicit on purpose: `return value;` and `return Error(...)` both read well.
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT

  explicit operator bool() const { return state_.index() == 0; }
  T& operator*() { return std::get<0>(state_); }
  const T& operator*() const { return std::get<0>(state_); }
  T* operator->() { return &std::get<0>(state_); }
  const T* operator->() const { return &std::get<0>(state_); }
  const Error& error() const { return std::get<1>(state_); }

  T take() && { return std::get<0>(std::move(state_)); }
  Error take_error() && { return std::get<1>(std::move(state_)); }

 private:
  std::variant<T, Error> state_;
};

struct Done {};
using Status = Result<Done>;

// The value of `expr`, or return its error. A whole initialiser or a whole
// statement, one to a line.
#define TRY(expr)                                               \
  __extension__({                                               \
    auto try_result = (expr);                                   \
    if (!try_result) return std::move(try_result).take_error(); \
    std::move(try_result).take();                               \
  })

// For what only a bug can break. Always on.
#define CHECK(condition)                                                        \
  do {                                                                          \
    if (!(condition)) {                                                         \
      std::fprintf(stderr, "%s:%d: bug: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                             \
    }                                                                           \
  } while (false)

}  // namespace souk
