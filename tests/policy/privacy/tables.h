// Rows of the accounting tables in $SOUK_SHARED/data/dp, where they are present.
#pragma once

#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "policy/privacy/accountant.h"

namespace souk::policy::tables {

using Row = std::map<std::string, std::string>;

inline std::vector<std::string> split_csv(const std::string& line) {
  std::vector<std::string> cells(1);
  bool quoted = false;
  for (char c : line) {
    if (c == '"')
      quoted = !quoted;
    else if (c == ',' && !quoted)
      cells.emplace_back();
    else if (c != '\r')
      cells.back() += c;
  }
  return cells;
}

// Empty where the file is absent: the test then skips, visibly.
inline std::vector<Row> read(const std::string& name) {
  const char* shared = std::getenv("SOUK_SHARED");
  std::ifstream file(std::string(shared ? shared : "") + "/data/dp/" + name);
  std::vector<Row> rows;
  std::string line;
  if (!std::getline(file, line)) return rows;
  auto header = split_csv(line);
  while (std::getline(file, line)) {
    auto cells = split_csv(line);
    Row row;
    for (size_t i = 0; i < header.size() && i < cells.size(); ++i) row[header[i]] = cells[i];
    rows.push_back(row);
  }
  return rows;
}

// "psg:q=0.01,sigma=4.0,T=10000;gauss:sigma=10.0,T=100"; nothing for other mechanisms.
// '?' reads as sigma 1.
inline std::optional<std::vector<Event>> events(const std::string& text) {
  std::vector<Event> out;
  std::stringstream parts(text);
  std::string part;
  while (std::getline(parts, part, ';')) {
    auto colon = part.find(':');
    auto kind = part.substr(0, colon);
    if (kind != "psg" && kind != "gauss") return std::nullopt;
    Event event{1, 1, 1};
    std::stringstream fields(part.substr(colon + 1));
    std::string field;
    while (std::getline(fields, field, ',')) {
      auto equals = field.find('=');
      auto name = field.substr(0, equals), value = field.substr(equals + 1);
      if (value == "?") continue;
      if (name == "q") event.q = std::stod(value);
      if (name == "sigma") event.sigma = std::stod(value);
      if (name == "T") event.steps = std::stoull(value);
    }
    out.push_back(event);
  }
  return out;
}

}  // namespace souk::policy::tables
