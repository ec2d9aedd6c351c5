// Whatever SafeTensors::read accepts can be written again and reads back the same;
// whatever DatasetFile accepts is a dataset.
#include "trainer/data/table.h"

using namespace souk;
using namespace souk::trainer;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ByteView file(data, size);
  auto read = SafeTensors::read(file);
  if (!read) return 0;
  // The writer limits the header too, and its padding may not fit any more.
  if (auto written = write_safetensors(read->tensors(), read->metadata())) {
    auto again = SafeTensors::read(*written);
    CHECK(again);
    CHECK(again->metadata() == read->metadata());
    CHECK(again->tensors().size() == read->tensors().size());
    for (const auto& tensor : read->tensors()) {
      auto* same = again->find(tensor.name);
      CHECK(same && same->dtype == tensor.dtype && same->shape == tensor.shape);
      CHECK(to_hex(same->bytes) == to_hex(tensor.bytes));
    }
  }
  if (auto dataset = dataset_from_safetensors(file)) CHECK(validate(*dataset));
  return 0;
}
