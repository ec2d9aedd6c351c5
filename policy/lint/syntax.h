// Lua 5.4 source as a tree, for those who look at a policy without running it. The
// interpreter's own parser decides what Lua is; this one reads what that accepts.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/base/result.h"

namespace souk::policy {

struct Token {
  enum class Kind : uint8_t { kName, kKeyword, kNumber, kText, kSign, kEnd } kind = Kind::kEnd;
  std::string_view source;    // as it stands there
  std::string value;          // of a text, its bytes
  size_t begin = 0, end = 0;  // bytes from the start of the source
  int line = 1, column = 1;
  bool is(std::string_view what) const {
    return source == what && (kind == Kind::kKeyword || kind == Kind::kSign);
  }
};
// Comments and space left out; the last is kEnd. kRefused names the line.
Result<std::vector<Token>> tokens_of(std::string_view source);

struct Block;

struct Expression {
  enum class Kind : uint8_t {
    kNil,
    kTrue,
    kFalse,
    kNumber,
    kText,
    kVararg,
    kFunction,
    kName,
    kIndex,   // parts: object, key (a kText when it was written .name)
    kCall,    // parts: function, arguments…
    kMethod,  // text: its name; parts: object, arguments…
    kBinary,  // text: the operator; parts: left, right
    kUnary,   // text: the operator; parts: operand
    kTable,   // fields
    kParen    // parts: inside
  } kind = Kind::kNil;
  struct Field;

  std::string text;  // a name, an operator, the bytes of a text, a number as written
  std::vector<std::unique_ptr<Expression>> parts;
  std::vector<Field> fields;
  std::vector<std::string> parameters;  // of a function
  std::unique_ptr<Block> body;
  size_t begin = 0, end = 0;  // where it stands, for whoever writes it anew
  int line = 1, column = 1;

  bool is_binary(std::string_view op) const { return kind == Kind::kBinary && text == op; }
  bool is_comparison() const;
};
struct Expression::Field {
  std::unique_ptr<Expression> key;  // null: a place in the list
  std::unique_ptr<Expression> value;
};

struct Statement {
  enum class Kind : uint8_t {
    kLocal,
    kAssign,
    kCall,
    kDo,
    kWhile,
    kRepeat,
    kIf,
    kNumericFor,
    kGenericFor,
    kFunction,
    kLocalFunction,
    kReturn,
    kBreak,
    kGoto,
    kLabel,
    kEmpty
  } kind = Kind::kEmpty;
  std::vector<std::string> names;                    // declared here
  std::vector<std::unique_ptr<Expression>> targets;  // kAssign; kFunction: what is named
  std::vector<std::unique_ptr<Expression>>
      expressions;  // values, conditions (kIf: one for each but the else block)
  std::vector<std::unique_ptr<Block>> blocks;
  size_t begin = 0, end = 0;
  int line = 1, column = 1;
};

struct Block {
  std::vector<std::unique_ptr<Statement>> statements;
};

// kRefused names the line.
Result<std::unique_ptr<Block>> parse_lua(std::string_view source);

}  // namespace souk::policy
