#include "trainer/data/import_common.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "trainer/data/names.h"

namespace souk::trainer {
namespace {

std::optional<int64_t> as_integer(const std::string& text) {
  int64_t value = 0;
  auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc() || end != text.data() + text.size()) return {};
  if (std::to_string(value) != text) return {};  // 007 is a name
  return value;
}

void sort_classes(std::vector<std::string>& classes) {
  bool numbers = std::all_of(classes.begin(), classes.end(),
                             [](const std::string& name) { return as_integer(name).has_value(); });
  std::sort(classes.begin(), classes.end(), [&](const std::string& a, const std::string& b) {
    return numbers ? as_integer(a) < as_integer(b) : a < b;
  });
}

}  // namespace

LabelCollector::LabelCollector(std::vector<std::string> given) : given_(std::move(given)) {
  for (const auto& name : given_) numbers_.emplace(name, static_cast<int64_t>(numbers_.size()));
}

Status LabelCollector::add(std::string_view label) {
  auto it = numbers_.find(label);
  if (it == numbers_.end()) {
    if (!given_.empty())
      return Error(Code::kMalformed, "expected one of the classes that were given");
    if (label.empty()) return Error(Code::kMalformed, "expected a class, found nothing");
    if (!is_name(std::string(label))) {
      return Error(Code::kMalformed,
                   "expected a class of 1 to 256 bytes of UTF-8 without control characters");
    }
    if (numbers_.size() >= kMaxClasses) {
      return Error(Code::kMalformed, "expected at most " + std::to_string(kMaxClasses) +
                                         " classes; is this column the label?");
    }
    it = numbers_.emplace(std::string(label), static_cast<int64_t>(numbers_.size())).first;
  }
  labels_.push_back(it->second);
  return Done{};
}

void LabelCollector::finish(Dataset& dataset) && {
  auto classes = given_;
  if (classes.empty()) {
    for (const auto& [name, number] : numbers_) classes.push_back(name);
    sort_classes(classes);
    std::vector<int64_t> renumbered(classes.size());
    for (size_t i = 0; i < classes.size(); ++i) {
      renumbered[static_cast<size_t>(numbers_.at(classes[i]))] = static_cast<int64_t>(i);
    }
    for (auto& label : labels_) label = renumbered[static_cast<size_t>(label)];
  }
  dataset.labels = std::move(labels_);
  dataset.schema.classes = std::move(classes);
}

Result<TensorShape> chosen_shape(const TensorShape& shape, const TensorShape& fallback) {
  if (shape.empty()) return fallback;
  if (!element_count(shape) || element_count(shape) != element_count(fallback)) {
    return Error(Code::kMalformed, "feature shape: expected a product of " +
                                       std::to_string(element_count(fallback).value_or(0)) +
                                       ", the features of a row");
  }
  return shape;
}

}  // namespace souk::trainer
