// One Lua policy out of chosen templates.
#include "policy/decide/source.h"
#include "policy/templates/template.h"

namespace souk::policy {
namespace {

constexpr size_t kMaxParts = 32;  // their prices add up within 64 bits

// What the statements of templates may use beside `p` and the policy vocabulary.
struct Helper {
  const char* name;
  const char* lua;
};
constexpr Helper kHelpers[] = {
    {"at_most(", R"lua(local function at_most(name, value)
  if obligations[name] == nil or value < obligations[name] then obligations[name] = value end
end
)lua"},
    {"at_least(", R"lua(local function at_least(name, value)
  if obligations[name] == nil or value > obligations[name] then obligations[name] = value end
end
)lua"},
    {"only(", R"lua(local function only(name, values)
  local both = {}
  for _, value in ipairs(values) do
    if obligations[name] == nil or contains(obligations[name], value) then both[#both + 1] = value end
  end
  obligations[name] = both
end
)lua"},
    {"credit(", R"lua(local function credit(names)
  local all = obligations.attribution or {}
  for _, name in ipairs(names) do
    if not contains(all, name) then all[#all + 1] = name end
  end
  obligations.attribution = all
end
)lua"},
    {"add_price(", R"lua(local function add_price(amount) price = (price or 0) + amount end
)lua"},
    {"share(", R"lua(local function share(amount, rate, whole)  -- amount * rate / whole, rounded up
  if rate > 0 and amount > 9007199254740991 // rate then error("the price does not fit") end
  return (amount * rate + whole - 1) // whole
end
)lua"},
    {"others(", R"lua(local function others()  -- the providers of the contract but this one
  local list = {}
  for _, provider in ipairs(request.providers) do
    if provider ~= dataset.provider then list[#list + 1] = provider end
  end
  return list
end
)lua"},
    {"held(",
     R"lua(local function held(types, issuers)  -- how many of the credentials the consumer holds now
  local count = 0
  for _, wanted in ipairs(types) do
    local found = false
    for _, credential in ipairs(request.credential_details) do
      if credential.type == wanted and credential.expires_ms > ctx.now and contains(issuers, credential.issuer) then found = true end
    end
    if found then count = count + 1 end
  end
  return count
end
)lua"},
};

constexpr const char* kHead = R"lua(
local r = rules()
local price, discount, obligations = nil, 0, {}
local function brief(value)  -- a reason has room for 512 bytes
  if type(value) ~= "table" then return value end
  local out = ""
  for i, item in ipairs(value) do
    if #out + #item > 400 then return out .. " and " .. #value - i + 1 .. " more" end
    out = out .. (i == 1 and "" or ", ") .. item
  end
  return out
end
local deny = r.deny
function r.deny(code, message, path, got, need) deny(code, message, path, brief(got), brief(need)) end
)lua";

constexpr const char* kFoot = R"lua(
if discount > 0 then
  local percent = math.min(discount, 100)
  local whole = price or dataset.price
  price = whole - whole // 100 * percent - whole % 100 * percent // 100
end
return r.decision { price = price, obligations = obligations }
)lua";

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

std::string literal(const Json& value) {
  if (auto* text = value.string()) return quoted(*text);
  if (auto* flag = value.boolean()) return *flag ? "true" : "false";
  if (auto* number = value.integer()) return std::to_string(*number);
  std::string out;
  for (const Json& item : *value.array()) out += (out.empty() ? " " : ", ") + literal(item);
  return "{" + out + " }";
}

std::string indented(const std::string& text) {
  std::string out = "  ";
  for (char c : text) {
    out += c;
    if (c == '\n') out += "  ";
  }
  return out + "\n";
}

}  // namespace

Result<std::string> compose(const std::vector<Chosen>& parts) {
  if (parts.empty() || parts.size() > kMaxParts)
    return Error(Code::kMalformed, "expected 1 to 32 templates");
  std::string body, names;
  for (const Chosen& part : parts) {
    names += (names.empty() ? "" : ", ") + part.kind->name;
    std::string fields;
    for (const Parameter& parameter : part.kind->parameters) {
      fields += (fields.empty() ? " " : ", ") + parameter.name + " = " +
                literal(part.values.at(parameter.name));
    }
    body += "\n-- " + part.kind->name + ": " + reading(part) + "\ndo\n  local p = {" + fields +
            " }\n" + indented(part.kind->lua) + "end\n";
  }
  std::string source = "-- Composed from templates: " + names +
                       ".\n-- All of these rules must hold. `p` has what was chosen.";
  source += kHead;
  for (const Helper& helper : kHelpers) {
    if (body.find(helper.name) != std::string::npos) source += helper.lua;
  }
  source += body + kFoot;
  TRY(check_source(source));
  return source;
}

}  // namespace souk::policy
