#include "trainer/decision/feasibility.h"

#include "contracts/lifecycle/ancestry.h"
#include "contracts/training/columns.h"
#include "trainer/data/age.h"
#include "trainer/engine/noise.h"

namespace souk::trainer {
namespace {

using contracts::ContractSubmit;
using contracts::Dataset;
using policy::Reason;

// The first names of a list, as far as a reason can carry them.
std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) {
    if (text.size() > 96) return text + ", ...";
    text += (text.empty() ? "" : ", ") + cut(name, 64);
  }
  return text;
}

template <class Sides>
uint64_t count(const Sides& shape) {
  uint64_t product = 1;  // at most 2^48: both kinds of shape are bounded where they are read
  for (auto side : shape) product *= static_cast<uint64_t>(side);
  return product;
}

}  // namespace

std::string cut(const std::string& text, size_t max) {
  if (text.size() <= max) return text;
  size_t end = max;
  while (end > 0 && (static_cast<uint8_t>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end);
}

std::vector<Reason> infeasible(const ContractSubmit& submit,
                               const std::vector<const Dataset*>& datasets) {
  const auto& spec = submit.spec;
  std::vector<Reason> out;
  auto no = [&](Reason why) { out.push_back(std::move(why)); };
  auto recipient = recipient_from_text(submit.recipient);
  if (!recipient || !make_header(FileKey::random(), std::span(&*recipient, 1))) {
    no({"wrong_recipient", "nothing can be encrypted to this recipient", "", "", "", "",
        "an age recipient"});
  }
  uint64_t features = count(spec.input_shape);
  const Dataset* first = nullptr;  // that names its classes
  // Whose columns and categories all others must have, whether or not classes are named: numbers
  // mean what they mean there.
  const Dataset* numbering = nullptr;
  for (const Dataset* dataset : datasets) {
    const auto& manifest = dataset->manifest;
    if (count(manifest.feature_shape) != features) {
      no({"wrong_shape", "the specification is for rows of another shape", manifest.provider_name,
          manifest.name, "request.model", std::to_string(features),
          std::to_string(count(manifest.feature_shape))});
    }
    if (!numbering) numbering = dataset;
    if (auto other = contracts::different_column(numbering->manifest.feature_names,
                                                 manifest.feature_names)) {
      no({"different_features",
          "the datasets of one contract must name the same columns in the same order: " +
              other->words(numbering->manifest.name, manifest.name),
          manifest.provider_name, manifest.name, "request.datasets",
          other->second.empty() ? "no name" : other->second,
          (other->first.empty() ? "no name" : other->first) + ", as in " +
              numbering->manifest.name});
    } else if (manifest.categories != numbering->manifest.categories) {
      no({"different_categories",
          "the datasets of one contract must number the same categories alike",
          manifest.provider_name, manifest.name, "request.datasets", manifest.name,
          "the categories of " + numbering->manifest.name});
    }
    if (manifest.class_names.empty()) continue;  // its provider does not say
    if (manifest.class_names.size() != spec.classes) {
      no({"wrong_classes", "the specification is for another number of classes",
          manifest.provider_name, manifest.name, "request.model", std::to_string(spec.classes),
          std::to_string(manifest.class_names.size())});
    } else if (first && first->manifest.class_names != manifest.class_names) {
      no({"wrong_classes",
          "the datasets of one contract must name the same classes in the same order",
          manifest.provider_name, manifest.name, "request.datasets", listed(manifest.class_names),
          listed(first->manifest.class_names) + ", as in " + first->manifest.name});
    }
    if (!first) first = dataset;
  }
  for (const Dataset* dataset : datasets) {
    if (!spec.privacy) break;
    int64_t cap = dataset->manifest.user_cap;
    bool covered =
        spec.privacy->user_cap == 1 ? cap == 1 : cap > 1 && cap <= int64_t{spec.privacy->user_cap};
    if (covered) continue;
    no({"wrong_unit", "epsilon must be about those whom the dataset's budget protects",
        dataset->manifest.provider_name, dataset->manifest.name, "request.dp.user_cap",
        std::to_string(spec.privacy->user_cap),
        cap == 1 ? "1: no number of rows of a person is promised"
                 : "at least " + std::to_string(cap)});
  }
  if (spec.privacy && !spec.privacy->pool.empty() &&
      spec.privacy->pool.size() != submit.datasets.size()) {
    no({"wrong_pool", "the pool must say how each dataset takes part", "", "", "request.datasets",
        std::to_string(spec.privacy->pool.size()), std::to_string(submit.datasets.size())});
  }
  auto shape = contracts::check_spec(spec);
  if (spec.privacy && shape) {
    double draws = static_cast<double>(shape->parameters) * spec.steps;
    if (!NoiseGrid::make(spec.privacy->noise_multiplier, spec.privacy->clip, draws)) {
      no({"too_much_noise", "parameters times steps are more than the noise generator covers", "",
          "", "request.steps", std::to_string(spec.steps), "less than 3e10 numbers in all"});
    }
  }
  return out;
}

std::vector<Reason> foreign_to_initial(const contracts::MarketState& state,
                                       const ContractSubmit& submit,
                                       const std::set<ContractId>& ancestors,
                                       const std::vector<const Dataset*>& datasets) {
  std::vector<Reason> out;
  const Dataset* learned = nullptr;  // the model's columns are those of any dataset behind it
  for (const ContractId& id : ancestors) {
    const auto& job = *state.contract(id);
    const Digest* model = contracts::made_by(job);
    bool direct = model && submit.spec.initial && *model == *submit.spec.initial;
    if (direct && !learned) learned = state.dataset(job.submit.datasets.front());
  }
  if (!learned || learned->manifest.feature_names.empty()) return out;
  for (const Dataset* dataset : datasets) {
    const auto& manifest = dataset->manifest;
    if (manifest.feature_names.empty()) continue;
    auto other =
        contracts::different_column(learned->manifest.feature_names, manifest.feature_names);
    if (!other) continue;
    out.push_back({"different_features",
                   "the initial weights were learned from other columns: " +
                       other->words("their dataset " + learned->manifest.name, manifest.name),
                   manifest.provider_name, manifest.name, "request.initial_jobs", other->second,
                   other->first + ", as in " + learned->manifest.name});
  }
  return out;
}

}  // namespace souk::trainer
