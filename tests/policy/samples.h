// A request, a dataset and a context that every schema accepts.
#pragma once

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "ledger/codec/json.h"

namespace souk::policy::samples {

inline Json sample_request() {
  return Json::Object{
      {"id", "t1"},
      {"consumer", "acme-labs"},
      {"purpose", "medical-research"},
      {"region", "EU"},
      {"algorithm", "mlp"},
      {"model",
       Json::Object{{"parameters", 514}, {"layers", 3}, {"ops", Json::Array{"linear", "tanh"}}}},
      {"epochs", 20},
      {"steps", 400},
      {"batch", 64},
      {"payment", 6000},
      {"currency", "EUR"},
      {"dp", Json::Object{{"enabled", true},
                          {"epsilon_micro", 800000},
                          {"delta_pico", 1000000},
                          {"noise_micro", 1100000},
                          {"clip_micro", 1000000}}},
      {"output", Json::Object{{"form", "weights"}}},
      {"datasets", 1},
      {"credentials", Json::Array{"hospital", "irb-approved"}},
      {"credential_details", Json::Array{Json::Object{{"type", "hospital"},
                                                      {"issuer", "aa"},
                                                      {"expires_ms", int64_t{1900000000000}}},
                                         Json::Object{{"type", "irb-approved"},
                                                      {"issuer", "bb"},
                                                      {"expires_ms", int64_t{1900000000000}}}}},
  };
}

inline Json sample_dataset() {
  return Json::Object{
      {"id", "d1"},
      {"name", "wdbc-north"},
      {"provider", "p1"},
      {"provider_name", "North Hospital"},
      {"rows", 1000},
      {"price", 5000},
      {"budget", Json::Object{{"epsilon_micro", 8000000}, {"delta_pico", 10000000}}}};
}

inline Json sample_context() {
  return Json::Object{
      {"now", int64_t{1800000000000}}, {"spent_epsilon_micro", 1500000}, {"runs", 1}, {"head", 7}};
}

// Sets or, with null, removes the member at a dotted path.
inline void override_member(Json& json, const std::string& path, const Json& value) {
  Json* at = &json;
  std::istringstream parts(path);
  std::string part, last;
  std::getline(parts, last, '.');
  while (std::getline(parts, part, '.')) {
    at = &(*at->object())[last];
    last = part;
  }
  if (value.is_null()) {
    at->object()->erase(last);
  } else {
    (*at->object())[last] = value;
  }
}

inline std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline std::string folder_from(const char* variable) {
  const char* value = std::getenv(variable);
  return value ? value : "";
}

}  // namespace souk::policy::samples
