#include "policy/analysis/chunk.h"

#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "policy/syntax/syntax.h"

namespace souk::policy::analysis {
namespace {

using Written = policy::Expression;
using WrittenBlock = policy::Block;
using WrittenStatement = policy::Statement;

const std::map<std::string_view, Op> kBinary = {
    {"+", Op::kAdd}, {"-", Op::kSub},  {"*", Op::kMul},     {"/", Op::kDiv}, {"//", Op::kIDiv},
    {"%", Op::kMod}, {"^", Op::kPow},  {"..", Op::kConcat}, {"==", Op::kEq}, {"~=", Op::kNe},
    {"<", Op::kLt},  {"<=", Op::kLe},  {">", Op::kGt},      {">=", Op::kGe}, {"&", Op::kBand},
    {"|", Op::kBor}, {"~", Op::kBxor}, {"<<", Op::kShl},    {">>", Op::kShr}};
const std::map<std::string_view, Op> kUnary = {
    {"not", Op::kNot}, {"-", Op::kNeg}, {"#", Op::kLen}, {"~", Op::kBnot}};

Span span_of(size_t begin, size_t end) {
  return {static_cast<uint32_t>(begin), static_cast<uint32_t>(end)};
}

// The scopes of one function while its names are resolved.
struct Scope {
  Function* function;
  Scope* outer;
  std::vector<std::pair<std::string, Local*>> visible;
  std::map<std::string, std::pair<const Local*, uint32_t>> upvalues;
};

class Resolver {
 public:
  explicit Resolver(uint32_t& site) : site_(site) {}

  Status chunk(const WrittenBlock& written, Function& main) {
    Scope scope{&main, nullptr, {}, {}};
    scope_ = &scope;
    main.variadic = true;
    main.body = TRY(block(written));
    return Done{};
  }

 private:
  // --- names -----------------------------------------------------------------------

  Local* declare(const std::string& text) {
    Function& function = *scope_->function;
    function.locals.push_back({text, function.slots++, false});
    scope_->visible.emplace_back(text, &function.locals.back());
    return &function.locals.back();
  }
  static Local* find_local(Scope* scope, const std::string& text) {
    for (auto it = scope->visible.rbegin(); it != scope->visible.rend(); ++it) {
      if (it->first == text) return it->second;
    }
    return nullptr;
  }
  std::optional<uint32_t> find_upvalue(Scope* scope, const std::string& text) {
    if (!scope->outer) return std::nullopt;
    Function::Upvalue upvalue;
    const Local* target = nullptr;
    if (Local* local = find_local(scope->outer, text)) {
      local->captured = true;
      upvalue.local = target = local;
    } else {
      auto outer = find_upvalue(scope->outer, text);
      if (!outer) return std::nullopt;
      upvalue.outer = *outer;
    }
    auto known = scope->upvalues.find(text);
    if (known != scope->upvalues.end() && known->second.first == target)
      return known->second.second;
    scope->function->upvalues.push_back(upvalue);
    auto index = static_cast<uint32_t>(scope->function->upvalues.size() - 1);
    scope->upvalues[text] = {target, index};
    return index;
  }

  // --- statements ------------------------------------------------------------------

  Result<std::unique_ptr<Block>> block(const WrittenBlock& written) {
    const size_t visible = scope_->visible.size();
    auto out = TRY(open_block(written));
    scope_->visible.resize(visible);
    return out;
  }
  // Its locals stay visible: `until` may use them.
  Result<std::unique_ptr<Block>> open_block(const WrittenBlock& written) {
    auto out = std::make_unique<Block>();
    for (const auto& each : written.statements) {
      auto made = std::make_unique<Statement>();
      made->span = span_of(each->begin, each->end);
      made->line = static_cast<uint32_t>(each->line);
      TRY(statement(*each, *made));
      out->statements.push_back(std::move(made));
    }
    return out;
  }

  Status add_values(const WrittenStatement& from, Statement& to) {
    for (const auto& each : from.expressions) {
      auto value = TRY(expression(*each));
      to.values.push_back(std::move(value));
    }
    return Done{};
  }
  Status add_condition(const Written& from, Statement& to) {
    auto condition = TRY(expression(from));
    to.targets.push_back(std::move(condition));
    return Done{};
  }
  Status add_block(const WrittenBlock& from, Statement& to) {
    auto inner = TRY(block(from));
    to.blocks.push_back(std::move(inner));
    return Done{};
  }

  Status statement(const WrittenStatement& from, Statement& to) {
    using From = WrittenStatement::Kind;
    using To = Statement::Kind;
    switch (from.kind) {
      case From::kLocal:
        to.kind = To::kLocal;
        if (from.closes)
          return Error(Code::kMalformed, "line " + std::to_string(from.line) +
                                             ": expected <const>; there is no <close> here");
        TRY(add_values(from, to));
        for (const auto& name : from.names) to.locals.push_back(declare(name));
        return Done{};
      case From::kLocalFunction:
        to.kind = To::kLocal;
        to.locals.push_back(declare(from.names[0]));  // it may call itself
        return add_values(from, to);
      case From::kAssign:
      case From::kFunction:
        to.kind = To::kAssign;
        for (const auto& target : from.targets) TRY(add_condition(*target, to));
        return add_values(from, to);
      case From::kCall:
        to.kind = To::kCall;
        return add_values(from, to);
      case From::kReturn:
        to.kind = To::kReturn;
        return add_values(from, to);
      case From::kDo:
        to.kind = To::kDo;
        return add_block(*from.blocks[0], to);
      case From::kWhile:
        to.kind = To::kWhile;
        TRY(add_condition(*from.expressions[0], to));
        return add_block(*from.blocks[0], to);
      case From::kRepeat: {
        to.kind = To::kRepeat;
        const size_t visible = scope_->visible.size();
        auto body = TRY(open_block(*from.blocks[0]));
        to.blocks.push_back(std::move(body));
        TRY(add_condition(*from.expressions[0], to));
        scope_->visible.resize(visible);
        return Done{};
      }
      case From::kIf:
        to.kind = To::kIf;
        for (size_t i = 0; i < from.blocks.size(); ++i) {
          if (i < from.expressions.size()) TRY(add_condition(*from.expressions[i], to));
          TRY(add_block(*from.blocks[i], to));
        }
        return Done{};
      case From::kNumericFor:
      case From::kGenericFor: {
        to.kind = from.kind == From::kNumericFor ? To::kFor : To::kForIn;
        TRY(add_values(from, to));
        const size_t visible = scope_->visible.size();
        for (const auto& name : from.names) to.locals.push_back(declare(name));
        TRY(add_block(*from.blocks[0], to));
        scope_->visible.resize(visible);
        return Done{};
      }
      case From::kBreak:
        to.kind = To::kBreak;
        return Done{};
      case From::kGoto:
      case From::kLabel:
        to.kind = from.kind == From::kGoto ? To::kGoto : To::kLabel;
        to.label = from.names[0];
        return Done{};
      case From::kEmpty:
        break;  // the tree has none
    }
    to.kind = To::kDo;
    to.blocks.push_back(std::make_unique<Block>());
    return Done{};
  }

  // --- expressions -----------------------------------------------------------------

  ExprPtr node(Expr::Kind kind, const Written& from) {
    auto out = std::make_unique<Expr>();
    out->kind = kind;
    out->span = span_of(from.begin, from.end);
    out->line = static_cast<uint32_t>(from.line);
    out->site = site_++;
    return out;
  }

  ExprPtr variable(const Written& from) {
    auto out = node(Expr::Kind::kGlobal, from);
    if (Local* local = find_local(scope_, from.text)) {
      out->kind = Expr::Kind::kLocal;
      out->local = local;
    } else if (auto upvalue = find_upvalue(scope_, from.text)) {
      out->kind = Expr::Kind::kUpvalue;
      out->upvalue = *upvalue;
    }
    out->text = from.text;
    return out;
  }

  ExprPtr literal(Expr::Kind kind, const Written& from) {
    auto out = node(kind, from);
    out->integer = from.integer;
    out->real = from.real;
    out->text = from.text;
    return out;
  }

  // What stands left is numbered before what it is part of, what stands right after it.
  Result<ExprPtr> expression(const Written& from) {
    using From = Written::Kind;
    switch (from.kind) {
      case From::kNil:
        return literal(Expr::Kind::kNil, from);
      case From::kTrue:
        return literal(Expr::Kind::kTrue, from);
      case From::kFalse:
        return literal(Expr::Kind::kFalse, from);
      case From::kNumber:
        return literal(from.whole ? Expr::Kind::kInteger : Expr::Kind::kReal, from);
      case From::kText:
        return literal(Expr::Kind::kText, from);
      case From::kVararg:
        return literal(Expr::Kind::kVararg, from);
      case From::kName:
        return variable(from);
      case From::kFunction:
        return function(from);
      case From::kParen: {
        auto out = node(Expr::Kind::kParen, from);
        out->a = TRY(expression(*from.parts[0]));
        return out;
      }
      case From::kUnary: {
        auto out = node(Expr::Kind::kUnary, from);
        out->op = kUnary.at(from.text);
        out->op_span = span_of(from.op_begin, from.op_end);
        out->a = TRY(expression(*from.parts[0]));
        return out;
      }
      case From::kBinary:
        return binary(from);
      case From::kIndex: {
        auto object = TRY(expression(*from.parts[0]));
        auto out = node(Expr::Kind::kIndex, from);
        out->a = std::move(object);
        out->b = TRY(expression(*from.parts[1]));
        return out;
      }
      case From::kCall:
      case From::kMethod: {
        auto callee = TRY(expression(*from.parts[0]));
        auto out = node(from.kind == From::kCall ? Expr::Kind::kCall : Expr::Kind::kMethod, from);
        out->text = from.text;
        out->a = std::move(callee);
        for (size_t i = 1; i < from.parts.size(); ++i) {
          auto argument = TRY(expression(*from.parts[i]));
          out->list.push_back(std::move(argument));
        }
        return out;
      }
      case From::kTable: {
        auto out = node(Expr::Kind::kTable, from);
        for (const auto& field : from.fields) {
          ExprPtr key;
          if (field.key) key = TRY(expression(*field.key));
          out->keys.push_back(std::move(key));
          auto value = TRY(expression(*field.value));
          out->list.push_back(std::move(value));
        }
        return out;
      }
    }
    return Error(Code::kMalformed, "expected an expression");
  }

  Result<ExprPtr> binary(const Written& from) {
    auto left = TRY(expression(*from.parts[0]));
    const bool logical = from.text == "and" || from.text == "or";
    auto out = node(!logical             ? Expr::Kind::kBinary
                    : from.text == "and" ? Expr::Kind::kAnd
                                         : Expr::Kind::kOr,
                    from);
    if (!logical) out->op = kBinary.at(from.text);
    out->op_span = span_of(from.op_begin, from.op_end);
    out->line = static_cast<uint32_t>(from.op_line);
    out->a = std::move(left);
    out->b = TRY(expression(*from.parts[1]));
    return out;
  }

  Result<ExprPtr> function(const Written& from) {
    auto out = node(Expr::Kind::kFunction, from);
    out->function = std::make_unique<Function>();
    Scope scope{out->function.get(), scope_, {}, {}};
    scope_ = &scope;
    for (const auto& name : from.parameters) {
      if (name == "...") {
        out->function->variadic = true;
      } else {
        out->function->parameters.push_back(declare(name));
      }
    }
    auto body = block(*from.body);
    scope_ = scope.outer;
    out->function->body = TRY(std::move(body));
    return out;
  }

  uint32_t& site_;
  Scope* scope_ = nullptr;
};

}  // namespace

bool is_comparison(Op op) {
  return op >= Op::kEq && op <= Op::kGe;
}

Result<std::shared_ptr<const Chunk>> parse_chunk(std::string source, uint32_t& first_site) {
  auto chunk = std::make_shared<Chunk>();
  chunk->source = std::move(source);
  auto written = TRY(parse_lua(chunk->source));
  TRY(Resolver(first_site).chunk(*written, chunk->main));
  return std::shared_ptr<const Chunk>(chunk);
}

}  // namespace souk::policy::analysis
