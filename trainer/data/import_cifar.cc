#include "trainer/data/import.h"

namespace souk::trainer {
namespace {

constexpr size_t kSide = 32, kPixels = 3 * kSide * kSide;
const char* const kNames[] = {"airplane", "automobile", "bird",  "cat",  "deer",
                              "dog",      "frog",       "horse", "ship", "truck"};
constexpr size_t kClasses = std::size(kNames);

}  // namespace

Result<Dataset> import_cifar10(ByteView file) {
  if (file.empty() || file.size() % kCifar10RecordBytes != 0) {
    return Error(Code::kMalformed, "expected whole CIFAR-10 records of 3073 bytes");
  }
  const size_t rows = file.size() / kCifar10RecordBytes;
  Dataset dataset;
  std::vector<uint8_t> pixels;
  pixels.reserve(rows * kPixels);
  for (size_t row = 0; row < rows; ++row) {
    auto record = file.subspan(row * kCifar10RecordBytes, kCifar10RecordBytes);
    if (record[0] >= kClasses) {
      return Error(Code::kMalformed,
                   "record " + std::to_string(row) + ": expected a label from 0 to 9");
    }
    dataset.labels.push_back(record[0]);
    pixels.insert(pixels.end(), record.begin() + 1, record.end());
  }
  dataset.features = std::move(pixels);
  dataset.schema.feature_shape = {3, kSide, kSide};
  dataset.schema.label_name = "class";
  dataset.schema.classes.assign(std::begin(kNames), std::end(kNames));
  TRY(validate(dataset));
  return dataset;
}

}  // namespace souk::trainer
