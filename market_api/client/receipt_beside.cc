#include "market_api/client/receipt_beside.h"

#include "ledger/crypto/hash.h"
#include "market_api/client/local_files.h"
#include "market_api/client/receipt.h"
#include "market_api/outcome/outcome.h"

namespace souk::market {
namespace {

constexpr size_t kMaxModelFile = size_t{2} << 30;
constexpr std::string_view kModelName = "model.safetensors";

// "" for a file that is not the one fetched beside its receipt.
std::string folder_of_model(const std::string& path) {
  if (is_directory(path)) return path;
  size_t slash = path.rfind('/');
  size_t name = slash == std::string::npos ? 0 : slash + 1;
  if (std::string_view(path).substr(name) != kModelName) return "";
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

}  // namespace

Result<bool> receipt_is_of_model(const std::string& path) {
  const std::string folder = folder_of_model(path), receipt_path = folder + "/receipt.json";
  if (folder.empty() || !path_exists(receipt_path)) return false;
  auto text = TRY(load_file(receipt_path, kMaxReceiptBytes));
  auto receipt = TRY(about_file(parse_receipt(as_text(text)), receipt_path));
  auto report = verify_receipt(receipt, std::nullopt);
  if (!report.ok) {
    return Error(Code::kUnauthentic, receipt_path + ": expected a receipt that holds: " +
                                         report.section + ": " + report.reason);
  }
  auto model = TRY(load_file(folder + "/" + std::string(kModelName), kMaxModelFile));
  if (ledger::sha256(model) == report.result.model) return true;
  return Error(Code::kUnauthentic, folder + "/" + std::string(kModelName) +
                                       ": expected the model that " + receipt_path +
                                       " is about; one of the two is another's, or was changed");
}

}  // namespace souk::market
