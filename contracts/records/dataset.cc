// The manifest of a dataset, dataset.offer, dataset.revoke, dataset.erase.
#include <algorithm>
#include <set>

#include "contracts/records/codec.h"
#include "ledger/crypto/hash.h"

namespace souk::contracts {

namespace {

constexpr size_t kMaxCategoryNames = 4096;  // of all columns together

Json categories_json(const Manifest& manifest) {
  Json::Object out;
  for (const auto& [column, values] : manifest.categories) out[column] = codec::texts_json(values);
  return out;
}

// An object with a list of names, each once, for some of the features.
Status read_categories(const Json& json, Manifest& manifest) {
  if (!json.object() || json.object()->empty())
    return codec::malformed("manifest.categories", "an object with a member at least");
  auto fields = TRY(Fields::of(json, "manifest.categories"));
  size_t all = 0;
  for (const auto& [column, values] : *json.object()) {
    const auto& names = manifest.feature_names;
    if (std::find(names.begin(), names.end(), column) == names.end())
      return codec::malformed("manifest.categories", "names of features");
    auto texts = TRY(codec::shown_texts(fields, column, kMaxCategoryNames, 256));
    all += texts.size();
    const std::set<std::string> distinct(texts.begin(), texts.end());
    if (texts.empty() || distinct.size() != texts.size() || all > kMaxCategoryNames)
      return codec::malformed("manifest.categories",
                              "1 to 4096 values in all, each of a column once");
    manifest.categories.emplace(column, std::move(texts));
  }
  return fields.done();
}

}  // namespace

Json to_json(const Manifest& manifest) {
  Json::Array shape;
  for (uint32_t side : manifest.feature_shape) shape.push_back(side);
  Json::Object out{{"name", manifest.name},
                   {"provider_name", manifest.provider_name},
                   {"rows", manifest.rows},
                   {"feature_shape", std::move(shape)},
                   {"feature_names", codec::texts_json(manifest.feature_names)},
                   {"class_names", codec::texts_json(manifest.class_names)},
                   {"label", manifest.label},
                   {"ciphertext", manifest.ciphertext},
                   {"size", manifest.size},
                   {"policy", manifest.policy},
                   {"price", manifest.price},
                   {"budget_epsilon_micro", manifest.budget_epsilon_micro},
                   {"budget_delta_pico", manifest.budget_delta_pico},
                   {"budget_caps", codec::charges_json(manifest.budget_caps)},
                   {"salt", manifest.salt}};
  // Left out at their defaults, so that every manifest has one text.
  if (!manifest.policy_engine.empty()) out["policy_engine"] = manifest.policy_engine;
  if (manifest.user_cap != 1) out["user_cap"] = manifest.user_cap;
  if (manifest.policy_parameters != Json(Json::Object{}))
    out["policy_parameters"] = manifest.policy_parameters;
  if (!manifest.categories.empty()) out["categories"] = categories_json(manifest);
  return out;
}

Result<Manifest> manifest_from_json(const Json& json) {
  auto fields = TRY(Fields::of(json, "manifest"));
  Manifest manifest;
  manifest.name = TRY(codec::shown_text(fields, "name", 1, 256));
  manifest.provider_name = TRY(codec::shown_text(fields, "provider_name", 1, 256));
  manifest.rows = TRY(fields.integer("rows", 1, codec::kMaxRows));
  int64_t features = 1;
  auto side_item = [&features](const Json& item) -> Result<uint32_t> {
    const int64_t* side = item.integer();
    if (!side || *side < 1 || *side > codec::kMaxFeatures / features) {
      return codec::malformed("manifest.feature_shape", "at most 2^24 features of a row");
    }
    features *= *side;
    return static_cast<uint32_t>(*side);
  };
  manifest.feature_shape =
      TRY(codec::list_member<uint32_t>(fields, "feature_shape", 1, 4, side_item));
  manifest.feature_names = TRY(codec::shown_texts(fields, "feature_names", 4096, 256));
  if (!manifest.feature_names.empty() &&
      manifest.feature_names.size() != static_cast<size_t>(features)) {
    return codec::malformed("manifest.feature_names", "none, or one for each feature");
  }
  if (fields.has("categories")) {
    const Json* categories = TRY(fields.any("categories"));
    TRY(read_categories(*categories, manifest));
  }
  manifest.class_names = TRY(codec::shown_texts(fields, "class_names", codec::kMaxClasses, 256));
  manifest.label = TRY(codec::shown_text(fields, "label", 0, 256));
  manifest.ciphertext = TRY(fields.digest("ciphertext"));
  manifest.size = TRY(fields.integer("size", 1));
  manifest.policy = TRY(fields.text("policy", kMaxPolicyBytes));
  manifest.price = TRY(fields.integer("price"));
  manifest.budget_epsilon_micro = TRY(fields.integer("budget_epsilon_micro"));
  manifest.budget_delta_pico = TRY(fields.integer("budget_delta_pico", 0, codec::kMaxDeltaPico));
  manifest.budget_caps = TRY(codec::charges_member(fields, "budget_caps", -1));
  manifest.salt = TRY(codec::hex_text(fields, "salt", 32));
  if (fields.has("policy_engine")) {
    manifest.policy_engine = TRY(codec::hex_text(fields, "policy_engine", 64));
  }
  if (fields.has("user_cap")) manifest.user_cap = TRY(fields.integer("user_cap", 2, kMaxUserCap));
  if (fields.has("policy_parameters")) {
    manifest.policy_parameters = TRY(codec::object_member(fields, "policy_parameters"));
    size_t bytes = canonical(manifest.policy_parameters).size();
    if (manifest.policy_parameters.object()->empty() || bytes > kMaxParameterBytes)
      return codec::malformed("manifest.policy_parameters", "some members, at most 8192 bytes");
  }
  TRY(fields.done());
  return manifest;
}

DatasetId dataset_id(const Manifest& manifest) {
  return DatasetId(ledger::sha256(as_bytes(canonical(to_json(manifest)))));
}

Digest policy_hash(const std::string& source) {
  return ledger::sha256(as_bytes(source));
}

std::string dataset_wrap_info(const MarketId& market, const DatasetId& dataset,
                              const PublicKey& provider, const Digest& policy,
                              const Digest& keeper_evidence) {
  return canonical(Json::Object{{"purpose", "urn:souk:wrap:dataset:v1"},
                                {"market", market},
                                {"dataset", dataset},
                                {"provider", provider},
                                {"policy", policy},
                                {"keeper_evidence", keeper_evidence}});
}

namespace codec {

template <>
const char* name_of<DatasetOffer>() {
  return "dataset.offer";
}
template <>
const char* name_of<DatasetRevoke>() {
  return "dataset.revoke";
}
template <>
const char* name_of<DatasetErase>() {
  return "dataset.erase";
}

Json::Object members(const DatasetOffer& record) {
  return {{"manifest", to_json(record.manifest)},
          {"wrap", to_base64(record.wrap)},
          {"keeper_evidence", record.keeper_evidence}};
}

Result<DatasetOffer> read(Fields& fields, Of<DatasetOffer>) {
  DatasetOffer record;
  const Json* manifest = TRY(fields.any("manifest"));
  record.manifest = TRY(manifest_from_json(*manifest));
  record.wrap = TRY(sealed_bytes(fields, "wrap"));
  record.keeper_evidence = TRY(fields.digest("keeper_evidence"));
  return record;
}

Json::Object members(const DatasetRevoke& record) {
  return {{"dataset", record.dataset}};
}

Result<DatasetRevoke> read(Fields& fields, Of<DatasetRevoke>) {
  DatasetRevoke record;
  record.dataset = TRY(fields.named<DatasetId>("dataset"));
  return record;
}

Json::Object members(const DatasetErase& record) {
  return {{"dataset", record.dataset}};
}

Result<DatasetErase> read(Fields& fields, Of<DatasetErase>) {
  DatasetErase record;
  record.dataset = TRY(fields.named<DatasetId>("dataset"));
  return record;
}

}  // namespace codec
}  // namespace souk::contracts
