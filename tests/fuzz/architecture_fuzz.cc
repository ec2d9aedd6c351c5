// No bytes break the readers of architecture files and CSV layouts; what they make is a
// specification. The first byte chooses.
#include "market_api/client/darknet.h"
#include "market_api/client/onnx_model.h"
#include "trainer/data/csv_layout.h"

using namespace souk;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  ByteView bytes(data + 1, size - 1);
  switch (data[0] % 3) {
    case 0: {
      auto imported = market::import_onnx(bytes);
      if (imported) CHECK(contracts::check_spec(market::trainable_spec(imported->part)));
      return 0;
    }
    case 1: {
      auto darknet = market::parse_darknet(as_text(bytes), market::DarknetNorm::kGroup);
      if (darknet) CHECK(contracts::check_spec(darknet->spec));
      return 0;
    }
    default: {
      const auto layout = trainer::csv_layout_from_json(
          *parse_json(
              R"({"columns":["a",{"name":"b","values":["x","y"]},{"name":"c","role":"label"}]})"),
          "csv");
      auto rows = trainer::import_laid_out_csv(bytes, *layout, trainer::Labels::kIfThere,
                                               trainer::Unlisted::kMissing);
      if (rows) CHECK(trainer::validate(rows->dataset));
      auto guessed = trainer::guess_csv_layout(bytes, "c", {}, "?");
      if (guessed) CHECK(guessed->label());
      return 0;
    }
  }
}
