#include "market_api/arguments/arguments.h"

#include <charconv>
#include <cmath>
#include <memory>

#include "market_api/outcome/outcome.h"

namespace souk::market {
namespace {

bool is_decimal(std::string_view text) {
  if (!text.empty() && text.front() == '-') text.remove_prefix(1);
  bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
  return digits && (text.size() == 1 || text.front() != '0');
}

template <class Number>
bool reads_whole(const std::string& text, Number& value) {
  auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  return status == std::errc() && end == text.data() + text.size();
}

CLI::Validator real_number() {
  return CLI::Validator(
      [](std::string& text) -> std::string {
        double value = 0;
        if (reads_whole(text, value) && std::isfinite(value)) return "";
        return "expected a number like 2.5";
      },
      "", "real");
}

CLI::Validator any_count() {
  return CLI::Validator(
      [](std::string& text) -> std::string {
        uint64_t value = 0;
        if (is_decimal(text) && reads_whole(text, value)) return "";
        return "expected a whole number that is not negative, in decimal digits";
      },
      "", "count");
}

// An empty text is a variable of the shell that was never set.
CLI::Validator not_empty() {
  return CLI::Validator(
      [](std::string& text) -> std::string {
        return text.empty() ? "expected one that is not empty" : "";
      },
      "", "not empty");
}

// One line for each option: "--price N (0 to 100, required)  what it is".
class PlainFormatter : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    if (!option->get_option_text().empty()) return " " + option->get_option_text();
    std::string text, notes;
    auto note = [&](const std::string& words) { notes += (notes.empty() ? "" : ", ") + words; };
    if (option->get_type_size() != 0) {
      std::string type = option->get_type_name(), among;
      if (size_t colon = type.find(':'); colon != std::string::npos) {
        among = type.substr(colon + 1);
        type.resize(colon);
      }
      bool whole = type == "INT" || type == "UINT";
      std::string word = whole || type == "FLOAT" ? "N" : type;
      bool one_of = among.size() > 2 && among.front() == '{' && among.back() == '}';
      if (one_of) {
        word = among.substr(1, among.size() - 2);
        for (char& c : word) c = c == ',' ? '|' : c;
      } else if (!among.empty()) {
        note(among);
      }
      bool many = option->get_expected_max() == CLI::detail::expected_max_vector_size;
      if (option->get_delimiter() != '\0') {
        word += std::string(1, option->get_delimiter()) + word + option->get_delimiter() + "...";
      } else if (many) {
        word += option->get_allow_extra_args() ? "..." : "";
        note("may be repeated");
      }
      // The name of an argument says it already.
      bool named = option->nonpositional();
      if (named) text = " " + word;
      if (!named && many) text = "...";
      if (!option->get_default_str().empty()) note("default " + option->get_default_str());
      if (option->get_required()) note("required");
    }
    for (const CLI::Option* other : option->get_excludes()) note("not with " + other->get_name());
    return text + (notes.empty() ? "" : " (" + notes + ")");
  }
};

void read_strictly(CLI::Option& option) {
  const std::string type = option.get_type_name();
  bool free_of_range = type.find(':') == std::string::npos;
  if (free_of_range && (type == "INT" || type == "UINT")) option.check(any_count());
  if (free_of_range && type == "FLOAT") option.check(real_number());
  if (type == "TEXT") option.check(not_empty());
}

void lay_out(CLI::App& app, const std::shared_ptr<CLI::FormatterBase>& formatter) {
  app.formatter(formatter);
  for (CLI::Option* option : app.get_options()) read_strictly(*option);
  for (CLI::App* below : app.get_subcommands({})) lay_out(*below, formatter);
}

template <class Kind>
bool is_a(const CLI::ParseError& error) {
  return dynamic_cast<const Kind*>(&error) != nullptr;
}

// What CLI11 2.1 says in its own way.
std::string in_our_words(const CLI::ParseError& error) {
  const std::string why = error.what();
  auto around = [&](std::string_view words, const std::string& before, const std::string& between,
                    const std::string& after) {
    size_t at = why.find(words);
    if (at == std::string::npos) return why;
    return before + why.substr(0, at) + between + why.substr(at + words.size()) + after;
  };
  // "--norm: foo not in {batch,group}"
  size_t colon = why.find(": "), set = why.rfind(" not in {");
  if (is_a<CLI::ValidationError>(error) && colon < set && set != std::string::npos) {
    std::string listed;
    for (char c : why.substr(set + 9)) listed += c == ',' ? ", " : std::string(c == '}' ? 0 : 1, c);
    return why.substr(0, colon) + ": expected one of " + listed;
  }
  // "--seed: At Most 1 required but received 2"
  size_t most = why.find(": At Most 1 required");
  if (is_a<CLI::ArgumentMismatch>(error) && most != std::string::npos)
    return why.substr(0, most) + ": expected once, with one value";
  // "The following arguments were not expected: more one"
  if (is_a<CLI::ExtrasError>(error) && colon != std::string::npos)
    return "expected no argument " + why.substr(colon + 2);
  if (is_a<CLI::ExcludesError>(error))
    return around(" excludes ", "expected ", " or ", ", not both");
  if (is_a<CLI::RequiresError>(error)) return around(" requires ", "", ": expected with ", "");
  return why;
}

}  // namespace

CLI::Validator whole_number(int64_t low, int64_t high) {
  std::string range = std::to_string(low) + " to " + std::to_string(high);
  return CLI::Validator(
      [low, high, range](std::string& text) -> std::string {
        int64_t value = 0;
        bool in = is_decimal(text) && reads_whole(text, value) && value >= low && value <= high;
        return in ? "" : "expected a whole number from " + range;
      },
      high == kMaxJsonInteger ? std::to_string(low) + " or more" : range, "whole");
}

void speak_plainly(CLI::App& app) {
  auto formatter = std::make_shared<PlainFormatter>();
  formatter->column_width(34);
  lay_out(app, formatter);
}

int tell(const CLI::App& app, const CLI::Success& asked, const std::string& version, bool as_json) {
  bool of_version = dynamic_cast<const CLI::CallForVersion*>(&asked) != nullptr;
  const std::string& name = app.get_name();
  std::string text = of_version ? name + " " + version : app.help();
  while (!text.empty() && text.back() == '\n') text.pop_back();
  Json::Object said{{"help", text}};
  if (of_version) said = {{"version", version}};
  return static_cast<int>(
      say(name.c_str(), as_json ? canonical(Json(said)) : text, ExitStatus::kYes));
}

Error misread(const CLI::App& app, const CLI::ParseError& error) {
  // The verb as far as it was understood: its help says more.
  const CLI::App* verb = &app;
  std::string name = app.get_name();
  while (!verb->get_subcommands().empty()) {
    verb = verb->get_subcommands().front();
    name += " " + verb->get_name();
  }
  const std::string help = " (see " + name + " --help)";
  bool of_verb = is_a<CLI::RequiredError>(error) || is_a<CLI::ExtrasError>(error);
  auto below = verb->get_subcommands({});
  if (of_verb && !below.empty()) {
    std::string verbs;
    for (const CLI::App* one : below) verbs += (verbs.empty() ? "" : ", ") + one->get_name();
    auto unknown = app.remaining(true);
    return Error(Code::kMalformed,
                 (unknown.empty() ? "" : "unknown verb or argument " + unknown.front() + ": ") +
                     "expected a verb after " + name + ": " + verbs + help);
  }
  std::string why = in_our_words(error);
  // CLI11 says "--as: 1 required TEXT missing".
  if (size_t at = why.find(": 1 required "); at != std::string::npos)
    why = why.substr(0, at) + ": expected a value after it";
  // "Could not convert: --folds = 4294967297"; what is no number has been refused before.
  constexpr std::string_view kConvert = "Could not convert: ";
  if (why.starts_with(kConvert))
    why = why.substr(kConvert.size(), why.find(" = ") - kConvert.size()) +
          ": expected a smaller number";
  return Error(Code::kMalformed, why + help);
}

}  // namespace souk::market
