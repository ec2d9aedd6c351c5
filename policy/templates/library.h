// Inside of policy/templates: the tables, by subject. template.cc joins them.
#pragma once

#include <vector>

#include "policy/templates/template.h"

namespace souk::policy {

std::vector<Template> run_templates();  // library_run.cc: what is trained, how, how privately, when
std::vector<Template> money_templates();  // library_money.cc: prices and discounts
std::vector<Template> party_templates();  // library_parties.cc: who, with whom, and their duties

}  // namespace souk::policy
