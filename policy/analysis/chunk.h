// Inside of policy/analysis: a policy as the second interpreter runs it, made of the tree of
// what is written (policy/syntax): its names resolved to slots, its expressions numbered.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "ledger/base/result.h"

namespace souk::policy::analysis {

struct Span {
  uint32_t begin = 0, end = 0;  // bytes of the source
};

struct Expr;
struct Block;
using ExprPtr = std::unique_ptr<Expr>;

struct Local {
  std::string name;
  uint32_t slot = 0;
  bool captured = false;  // by an inner function
};

struct Function {
  struct Upvalue {
    const Local* local = nullptr;  // of the enclosing function, else
    uint32_t outer = 0;            // the enclosing function's upvalue
  };
  std::vector<const Local*> parameters;
  bool variadic = false;
  std::unique_ptr<Block> body;
  std::vector<Upvalue> upvalues;
  std::deque<Local> locals;
  uint32_t slots = 0;
};

enum class Op : uint8_t {
  kAdd,
  kSub,
  kMul,
  kDiv,
  kIDiv,
  kMod,
  kPow,
  kConcat,
  kEq,
  kNe,
  kLt,
  kLe,
  kGt,
  kGe,
  kBand,
  kBor,
  kBxor,
  kShl,
  kShr,
  kNot,
  kNeg,
  kLen,
  kBnot,
};
bool is_comparison(Op op);

struct Expr {
  enum class Kind : uint8_t {
    kNil,
    kTrue,
    kFalse,
    kInteger,
    kReal,
    kText,
    kVararg,
    kFunction,
    kLocal,
    kUpvalue,
    kGlobal,
    kIndex,
    kCall,
    kMethod,
    kBinary,
    kUnary,
    kAnd,
    kOr,
    kTable,
    kParen,
  };
  Kind kind = Kind::kNil;
  Op op = Op::kAdd;
  Span span, op_span;
  uint32_t line = 1;
  uint32_t site = 0;  // numbered over the whole program, from 1
  int64_t integer = 0;
  double real = 0;
  std::string text;  // string, global's or method's name
  const Local* local = nullptr;
  uint32_t upvalue = 0;
  ExprPtr a, b;               // operands; object and key; callee
  std::vector<ExprPtr> list;  // arguments; values of a table
  std::vector<ExprPtr> keys;  // of a table: null for the next position
  std::unique_ptr<Function> function;
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
    kFor,
    kForIn,
    kFunction,
    kReturn,
    kBreak,
    kGoto,
    kLabel,
  };
  Kind kind = Kind::kDo;
  Span span;
  uint32_t line = 1;
  std::vector<const Local*> locals;
  std::vector<ExprPtr> targets;                // of an assignment; conditions of an if
  std::vector<ExprPtr> values;                 // of an assignment, return, for; the call
  std::vector<std::unique_ptr<Block>> blocks;  // of an if: one more than conditions with else
  std::string label;
};

struct Block {
  std::vector<std::unique_ptr<Statement>> statements;
};

// A chunk, whose main function is variadic. Lives as long as anything that points in.
struct Chunk {
  std::string source;
  Function main;
};

// Sites count on from `first_site`; answers the next free one in it. kMalformed names
// the line.
Result<std::shared_ptr<const Chunk>> parse_chunk(std::string source, uint32_t& first_site);

}  // namespace souk::policy::analysis
