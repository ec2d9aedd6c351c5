// Reads the source tree as text and says which arrows between rooms are forbidden.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace souk::architecture {

// One sentence for each broken rule in the tree at `root`; none if all hold. The rules:
// a room's zone may include the zones cmake/Zones.cmake allows it; ledger, contracts, policy,
// trainer, market_api may include themselves and what stands before them; a room includes only
// rooms its target depends on; a third-party header is included only behind its door.
std::vector<std::string> broken_rules(const std::filesystem::path& root);

}  // namespace souk::architecture
