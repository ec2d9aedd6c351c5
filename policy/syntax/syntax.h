// Lua 5.4 source as a tree of what is written, for those who look at a policy without running it:
// check, coverage, and the second interpreter (policy/analysis). The first one's own parser decides
// what Lua is; this one reads what that accepts. Lua 5.4 Reference Manual, section 9.
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
  std::string_view source;  // as it stands there
  std::string value;        // of a text, its bytes
  bool whole = false;       // of a number: it is `integer`, else `real`
  int64_t integer = 0;
  double real = 0;
  size_t begin = 0, end = 0;  // bytes from the start of the source
  int line = 1, column = 1;
  bool is(std::string_view what) const {
    return source == what && (kind == Kind::kKeyword || kind == Kind::kSign);
  }
};
// Comments and space left out; the last is kEnd. kMalformed names the line.
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

  std::string text;    // a name, an operator, the bytes of a text, a number as written
  bool whole = false;  // of a number: it is `integer`, else `real`
  int64_t integer = 0;
  double real = 0;
  std::vector<std::unique_ptr<Expression>> parts;
  std::vector<Field> fields;
  std::vector<std::string> parameters;  // of a function
  std::unique_ptr<Block> body;
  size_t begin = 0, end = 0;        // where it stands, for whoever writes it anew
  size_t op_begin = 0, op_end = 0;  // likewise its operator
  int line = 1, column = 1;
  int op_line = 1;

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
  std::vector<std::string> names;                    // declared here; a label
  bool closes = false;                               // kLocal: one of them is <close>
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

// kMalformed names the line. At most 190 levels: the interpreter's own is 200.
Result<std::unique_ptr<Block>> parse_lua(std::string_view source);

}  // namespace souk::policy
