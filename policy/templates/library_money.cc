#include "policy/templates/library.h"

namespace souk::policy {
namespace {

using P = ParameterType;
constexpr int64_t kMostMinor = 1'000'000'000'000;

Template price_flat() {
  return {"price_flat",
          "{amount} minor units for each run.",
          {{"amount", P::kInteger, "price of a run, in minor units", 5'000, 0, kMostMinor}},
          R"lua(add_price(p.amount))lua",
          {},
          {{"$amount"}}};
}

Template price_per_row() {
  return {
      "price_per_row",
      "{per_thousand_rows} minor units for each thousand rows, or the part of it that is there.",
      {{"per_thousand_rows", P::kInteger, "price of a thousand rows, in minor units", 500, 0,
        kMostMinor}},
      R"lua(add_price(share(dataset.rows, p.per_thousand_rows, 1000)))lua",
      {},
      {{"share(dataset.rows,$per_thousand_rows,1000)"}}};
}

Template price_per_epsilon() {
  return {"price_per_epsilon",
          "{per_epsilon} minor units for each unit of epsilon, and its part for a part of it.",
          {{"per_epsilon", P::kInteger, "price of an epsilon of one, in minor units", 1'000, 0,
            kMostMinor}},
          R"lua(add_price(share(request.dp.epsilon_micro, p.per_epsilon, 1000000)))lua",
          {},
          {{"share(request.dp.epsilon_micro,$per_epsilon,1000000)"}}};
}

Template price_tiers() {
  return {
      "price_tiers",
      "By epsilon: {amounts} minor units up to {limits} millionths each, and {above} above them.",
      {{"limits", P::kIntegers, "epsilons, in millionths, rising",
        Json::Array{500'000, 1'000'000, 2'000'000}, 0},
       {"amounts", P::kAmounts, "price up to each limit, in minor units",
        Json::Array{1'000, 2'500, 6'000}, 0, kMostMinor},
       {"above", P::kInteger, "price above the last limit, in minor units", 20'000, 0, kMostMinor}},
      R"lua(local amount = p.above
for i = #p.limits, 1, -1 do
  if request.dp.epsilon_micro <= p.limits[i] then amount = p.amounts[i] or p.above end
end
add_price(amount))lua",
      {},
      {{"tier(request.dp.epsilon_micro,$limits,$amounts,$above)"}}};
}

Template discount_volume() {
  return {
      "discount_volume",
      "{percent} percent off from run {from_run} of a consumer on.",
      {{"percent", P::kInteger, "percent off", 10, 0, 100},
       {"from_run", P::kInteger, "the first run that is cheaper", 5, 1}},
      R"lua(if ctx.consumer.runs + 1 >= p.from_run then discount = discount + p.percent end)lua",
      {},
      {},
      {{"$percent", {"", "ctx.consumer.runs + 1", ">=", "$from_run"}}}};
}

Template discount_credential() {
  return {"discount_credential",
          "{percent} percent off for holders of one of {types}, signed by one of {issuers}.",
          {{"percent", P::kInteger, "percent off", 50, 0, 100},
           {"types", P::kTexts, "credentials that earn it", Json::Array{"academic"}},
           {"issuers", P::kTexts, "keys of their issuers, as `souk whoami` shows them",
            Json::Array{std::string(64, '0')}}},
          R"lua(if held(p.types, p.issuers) >= 1 then discount = discount + p.percent end)lua",
          {},
          {},
          {{"$percent", {"", "held($types,$issuers)", ">=", "1"}}}};
}

Template min_payment() {
  return {
      "min_payment",
      "Only contracts that offer at least {amount} minor units.",
      {{"amount", P::kInteger, "least offer of the whole contract, in minor units", 1'000}},
      R"lua(r.require(request.payment >= p.amount, "min_payment", "request.payment", request.payment, "at least " .. p.amount))lua",
      {{"min_payment", "request.payment", ">=", "$amount"}}};
}

}  // namespace

std::vector<Template> money_templates() {
  return {price_flat(),      price_per_row(),       price_per_epsilon(), price_tiers(),
          discount_volume(), discount_credential(), min_payment()};
}

}  // namespace souk::policy
