#include "market_api/witness/routes.h"

namespace souk::market {
namespace {

Response of(const ledger::WitnessAnswer& answer) {
  Response response;
  response.status = answer.status;
  response.content_type = answer.content_type;
  response.body = to_bytes(answer.body);
  return response;
}

Response only(const char* method) {
  auto response = of({.status = 405, .body = std::string("expected ") + method + "\n"});
  response.headers["Allow"] = method;
  return response;
}

}  // namespace

Response route_witness(ledger::Witness& witness, const std::string& prefix,
                       const Request& request) {
  constexpr std::string_view kCheckpoint = "/checkpoint";
  std::string_view path = request.path;
  auto unknown = of({.status = 404, .body = "expected a path of the witness protocol\n"});
  if (path.substr(0, prefix.size()) != prefix) return unknown;
  path.remove_prefix(prefix.size());
  if (path == "/add-checkpoint") {
    if (request.method != "POST") return only("POST");
    return of(witness.add_checkpoint(as_text(request.body)));
  }
  bool monitored = path.size() == 1 + 64 + kCheckpoint.size() && path[0] == '/' &&
                   path.substr(65) == kCheckpoint;
  if (!monitored) return unknown;
  if (request.method != "GET") return only("GET");
  auto response = of(witness.checkpoint(path.substr(1, 64)));
  response.headers["Cache-Control"] = "no-cache";
  return response;
}

}  // namespace souk::market
