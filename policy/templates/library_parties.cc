#include "policy/templates/library.h"

namespace souk::policy {
namespace {

using P = ParameterType;

const char* kIssuers = "keys of their issuers, as `souk whoami` shows them";
Json sample_key(char digit) {
  return Json::Array{std::string(64, digit)};
}

Template consumers() {
  return {
      "consumers",
      "Only for these consumers: {allowed}.",
      {{"allowed", P::kTexts, "keys of consumers, as `souk whoami` shows them", sample_key('1')}},
      R"lua(r.require(contains(p.allowed, request.consumer), "consumer", "request.consumer", request.consumer, p.allowed, "not a consumer this data is for"))lua",
      {{"consumer", "request.consumer", "in", "$allowed"}}};
}

Template credentials_all() {
  return {
      "credentials_all",
      "Consumers hold all of {types}, signed by one of {issuers}.",
      {{"types", P::kTexts, "credentials, all of which are needed", Json::Array{"irb-approved"}},
       {"issuers", P::kTexts, kIssuers, sample_key('0')}},
      R"lua(r.require(held(p.types, p.issuers) == #p.types, "credentials_all", "request.credentials", request.credentials, p.types, "all of these are needed, signed by a known issuer"))lua",
      {{"credentials_all", "held($types,$issuers)", "==", "#$types"}}};
}

Template credentials_any() {
  return {
      "credentials_any",
      "Consumers hold at least one of {types}, signed by one of {issuers}.",
      {{"types", P::kTexts, "credentials, one of which is needed",
        Json::Array{"hospital", "university"}},
       {"issuers", P::kTexts, kIssuers, sample_key('0')}},
      R"lua(r.require(held(p.types, p.issuers) >= 1, "credentials_any", "request.credentials", request.credentials, p.types, "one of these is needed, signed by a known issuer"))lua",
      {{"credentials_any", "held($types,$issuers)", ">=", "1"}}};
}

Template credentials_n_of_m() {
  return {
      "credentials_n_of_m",
      "Consumers hold at least {least} of {types}, signed by one of {issuers}.",
      {{"least", P::kInteger, "how many are needed", 2, 1, 64},
       {"types", P::kTexts, "credentials to choose from",
        Json::Array{"hospital", "irb-approved", "iso-27001"}},
       {"issuers", P::kTexts, kIssuers, sample_key('0')}},
      R"lua(r.require(held(p.types, p.issuers) >= p.least, "credentials_n_of_m", "request.credentials", request.credentials, p.types, "at least " .. p.least .. " of these are needed, signed by a known issuer"))lua",
      {{"credentials_n_of_m", "held($types,$issuers)", ">=", "$least"}}};
}

Template co_providers_named() {
  return {"co_providers_named",
          "Trained together only with data of these providers: {partners}.",
          {{"partners", P::kTexts, "keys of providers this one consents to", sample_key('2')}},
          R"lua(for _, provider in ipairs(others()) do
  if not contains(p.partners, provider) then
    r.deny("co_provider", "not a provider this one has consented to", "request.providers", others(), p.partners)
    break
  end
end)lua",
          {{"co_provider", "others", "in", "$partners"}}};
}

Template co_providers_n_of_m() {
  return {"co_providers_n_of_m",
          "At least {least} of these providers take part as well: {partners}.",
          {{"least", P::kInteger, "how many of them", 1, 1, 64},
           {"partners", P::kTexts, "keys of providers", sample_key('2')}},
          R"lua(local present = 0
for _, provider in ipairs(others()) do
  if contains(p.partners, provider) then present = present + 1 end
end
r.require(present >= p.least, "co_providers", "request.providers", present, "at least " .. p.least))lua",
          {{"co_providers", "common(others,$partners)", ">=", "$least"}}};
}

Template min_other_providers() {
  return {
      "min_other_providers",
      "Only in a crowd: at least {least} other providers take part.",
      {{"least", P::kInteger, "providers beside this one", 2, 1, 255}},
      R"lua(r.require(#others() >= p.least, "min_other_providers", "request.providers", #others(), "at least " .. p.least .. " beside this one")
at_least("min_co_providers", p.least))lua",
      {{"min_other_providers", "#others", ">=", "$least"}},
      {},
      {},
      {{"min_co_providers", "$least"}}};
}

Template exclude_competitors() {
  return {
      "exclude_competitors",
      "Neither for nor together with these: {excluded}.",
      {{"excluded", P::kTexts, "keys of consumers and providers to stay away from",
        sample_key('3')}},
      R"lua(r.require(not contains(p.excluded, request.consumer), "competitor", "request.consumer", request.consumer, "not one of those excluded")
local beside = true
for _, provider in ipairs(request.providers) do
  beside = beside and not contains(p.excluded, provider)
end
r.require(beside, "competitor", "request.providers", request.providers, "none of those excluded"))lua",
      {{"competitor", "request.consumer", "none in", "$excluded"},
       {"competitor", "request.providers", "none in", "$excluded"}}};
}

Template incompatible() {
  return {"incompatible",
          "Never together with a dataset named one of {datasets}, with which rows could be linked.",
          {{"datasets", P::kTexts, "names of datasets", Json::Array{"national-register"}}},
          R"lua(local apart = true
for _, name in ipairs(request.dataset_names) do
  if contains(p.datasets, name) then apart = false end
end
r.require(apart, "incompatible", "request.dataset_names", request.dataset_names, "none of these", "rows of these datasets could be linked"))lua",
          {{"incompatible", "request.dataset_names", "none in", "$datasets"}}};
}

Template retention() {
  return {"retention",
          "The model is deleted after at most {max_days} days.",
          {{"max_days", P::kInteger, "days the model may be kept", 365, 1}},
          R"lua(at_most("max_retention_days", p.max_days))lua",
          {},
          {},
          {},
          {{"max_retention_days", "$max_days"}}};
}

Template publication_embargo() {
  return {"publication_embargo",
          "Nothing made with the model is published before {end_time}.",
          {{"end_time", P::kTime, "the first moment of publication", int64_t{1'893'456'000'000}}},
          R"lua(at_least("embargo_until", p.end_time))lua",
          {},
          {},
          {},
          {{"embargo_until", "$end_time"}}};
}

Template attribution() {
  return {"attribution",
          "Whoever shows the model names {names}.",
          {{"names", P::kTexts, "whom to name", Json::Array{"North Hospital"}}},
          R"lua(credit(p.names))lua",
          {},
          {},
          {},
          {{"attribution", "$names"}}};
}

}  // namespace

std::vector<Template> party_templates() {
  return {consumers(),          credentials_all(),     credentials_any(),     credentials_n_of_m(),
          co_providers_named(), co_providers_n_of_m(), min_other_providers(), exclude_competitors(),
          incompatible(),       retention(),           publication_embargo(), attribution()};
}

}  // namespace souk::policy
