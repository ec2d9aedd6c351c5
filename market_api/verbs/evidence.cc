#include "market_api/verbs/evidence.h"

#include <sys/stat.h>

#include <filesystem>
#include <set>

#include "ledger/codec/json.h"
#include "ledger/proof/checkpoint.h"
#include "market_api/verbs/files.h"

namespace souk::market {
namespace {

constexpr size_t kMaxEvidence = size_t{4} << 20;

struct Evidence {
  std::string kind, witness, reported_size;
};

Result<Evidence> read_evidence(const std::string& path, const ledger::NoteKey& log) {
  auto no = [&](const std::string& why) {
    return Error(Code::kMalformed, path +
                                       ": expected evidence about this market's ledger, as "
                                       "soukd writes it" +
                                       why);
  };
  auto bytes = read_file(path, kMaxEvidence);
  auto json = bytes ? parse_json(as_text(*bytes), kMaxEvidence) : Result<Json>(bytes.error());
  if (!json) return no(" (" + json.error().expected() + ")");
  auto text = [&](const char* name) {
    const Json* member = json->find(name);
    return member && member->string() ? *member->string() : std::string();
  };
  if (!ledger::open_checkpoint(text("our_checkpoint"), log)) return no("");
  return Evidence{text("kind"), text("witness"), text("reported_size")};
}

}  // namespace

std::string keep_evidence(const std::string& directory, const std::string& json) {
  std::string folder = directory + "/evidence";
  mkdir(folder.c_str(), 0700);
  int number = 1;
  auto path = [&] { return folder + "/witness-" + std::to_string(number) + ".json"; };
  while (file_exists(path())) ++number;
  auto kept = write_file(path(), as_bytes(json));
  return kept ? path() : "no file (" + kept.error().expected() + ")";
}

Status check_evidence(const std::string& directory, const ledger::NoteKey& log) {
  std::error_code none;
  std::set<std::string> files;
  for (const auto& item : std::filesystem::directory_iterator(directory + "/evidence", none)) {
    std::string name = item.path().filename().string();
    if (name.starts_with("witness-") && name.ends_with(".json")) files.insert(item.path().string());
  }
  for (const auto& file : files) {
    auto evidence = TRY(read_evidence(file, log));
    if (evidence.kind == "forgetful_witness") continue;
    std::string what = evidence.reported_size.empty()
                           ? "held another tree"
                           : "held " + evidence.reported_size + " entries, more than there were";
    return Error(Code::kUnauthentic, file + ": the ledger was rolled back or forked, witness " +
                                         evidence.witness + " " + what +
                                         "; a market is not opened again where that was found");
  }
  return Done{};
}

}  // namespace souk::market
