// No bytes break the importers, and what they make is a dataset. The first byte chooses.
#include "trainer/data/import.h"

using namespace souk;
using namespace souk::trainer;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  ByteView bytes(data + 2, size - 2);
  auto first = bytes.first(bytes.size() * data[1] / 256);
  auto second = bytes.subspan(first.size());
  auto import = [&]() -> Result<Dataset> {
    switch (data[0] % 5) {
      case 0:
        return import_csv(bytes, {.label = "y"});
      case 1: {
        // Small packed files may unpack to much; that is gunzip's own limit to test.
        if (second.size() >= 2 && second[0] == 0x1f) return Error(Code::kRefused, "gzip");
        if (first.size() >= 2 && first[0] == 0x1f) return Error(Code::kRefused, "gzip");
        return import_idx(first, second, {});
      }
      case 2:
        return import_npy(first, second, {});
      case 3:
        return import_npy(bytes, std::nullopt, {.label_column = -1});
      default: {
        const ImageFile files[] = {{"a", "1", first}, {"b", "2", second}};
        return import_images(files, {});
      }
    }
  };
  if (auto dataset = import()) CHECK(validate(*dataset));
  (void)gunzip_if_needed(bytes, 1 << 16);
  return 0;
}
