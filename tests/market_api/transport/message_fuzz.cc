// Query strings and problem documents come from strangers.
#include <cstddef>
#include <cstdint>
#include <string>

#include "market_api/transport/message.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace souk;
  ByteView bytes(data, size);
  if (auto query = market::parse_query(as_text(bytes))) {
    std::string again;
    for (const auto& [name, value] : *query) {
      if (!again.empty()) again += "&";
      again += market::percent_encode(name) + "=" + market::percent_encode(value);
    }
    auto back = market::parse_query(again);
    // One nameless, valueless member is written as "=".
    CHECK(back && *back == *query);
  }
  market::Response response;
  response.status = 400;
  response.body.assign(bytes.begin(), bytes.end());
  (void)market::error_from(response);
  return 0;
}
