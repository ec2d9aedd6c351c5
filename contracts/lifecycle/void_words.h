// Why an entry is without effect, and why a contract ended, in words. contracts/SPEC.md has the
// codes.
#pragma once

#include <string>
#include <string_view>

namespace souk::contracts {

// "only the provider of the dataset may do this (not_the_provider)"; a code that is none of ours
// stands alone.
std::string words_of_void(std::string_view code);

}  // namespace souk::contracts
