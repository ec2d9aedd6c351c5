#include <algorithm>
#include <charconv>
#include <tuple>

#include "trainer/data/import.h"
#include "trainer/data/import_common.h"

namespace souk::trainer {
namespace {

struct Image {
  uint64_t channels = 0;
  uint64_t height = 0;
  uint64_t width = 0;
  ByteView pixels;  // rows of interleaved channels

  TensorShape shape() const { return {channels, height, width}; }
};

// A binary PGM or PPM: magic, width, height, maxval, one white space, pixels.
class PnmReader {
 public:
  explicit PnmReader(ByteView file) : file_(file) {}

  Result<Image> read() {
    Image image;
    auto magic = as_text(file_.first(std::min<size_t>(file_.size(), 2)));
    if (magic == "P5")
      image.channels = 1;
    else if (magic == "P6")
      image.channels = 3;
    else
      return bad("expected a binary PGM (P5) or PPM (P6)");
    at_ = 2;
    image.width = TRY(number("a width from 1 to 65536", 65536));
    image.height = TRY(number("a height from 1 to 65536", 65536));
    auto max_value = TRY(number("a maxval of 255", 255));
    if (max_value != 255) return bad("expected a maxval of 255");
    if (at_ == file_.size() || !is_space(file_[at_])) return bad("expected one white space");
    ++at_;
    image.pixels = file_.subspan(at_);
    if (image.pixels.size() != image.channels * image.height * image.width) {
      return bad("expected width x height x channels bytes of pixels and no more");
    }
    return image;
  }

 private:
  static bool is_space(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
  Error bad(const std::string& expected) const {
    return Error(Code::kMalformed, "byte " + std::to_string(at_) + ": " + expected);
  }
  Result<uint64_t> number(const std::string& expected, uint64_t max) {
    size_t start = at_;
    while (at_ < file_.size() && (is_space(file_[at_]) || file_[at_] == '#')) {
      if (file_[at_] == '#') {
        while (at_ < file_.size() && file_[at_] != '\n') ++at_;
      } else {
        ++at_;
      }
    }
    auto text = as_text(file_.subspan(at_));
    uint64_t value = 0;
    auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (at_ == start || status != std::errc() || value == 0 || value > max) {
      return bad("expected " + expected);
    }
    at_ += static_cast<size_t>(end - text.data());
    return value;
  }

  ByteView file_;
  size_t at_ = 0;
};

void append_planes(const Image& image, std::vector<uint8_t>& out) {
  for (uint64_t channel = 0; channel < image.channels; ++channel) {
    for (uint64_t i = channel; i < image.pixels.size(); i += image.channels) {
      out.push_back(image.pixels[i]);
    }
  }
}

}  // namespace

Result<Dataset> import_images(std::span<const ImageFile> files, const ImageOptions& options) {
  if (files.empty()) return Error(Code::kMalformed, "expected at least one image");
  std::vector<const ImageFile*> order;
  for (const auto& file : files) order.push_back(&file);
  std::sort(order.begin(), order.end(), [](const ImageFile* a, const ImageFile* b) {
    return std::tie(a->class_name, a->name) < std::tie(b->class_name, b->name);
  });

  Dataset dataset;
  dataset.schema.label_name = options.label_name;
  LabelCollector labels(options.classes);
  std::vector<uint8_t> pixels;
  for (const ImageFile* file : order) {
    auto place = file->class_name + "/" + file->name;
    auto image = PnmReader(file->bytes).read();
    if (!image) return std::move(image).take_error().within(place);
    auto& shape = dataset.schema.feature_shape;
    if (shape.empty()) shape = image->shape();
    if (shape != image->shape()) {
      return Error(Code::kMalformed, place + ": expected " + std::to_string(shape[0]) + " x " +
                                         std::to_string(shape[1]) + " x " +
                                         std::to_string(shape[2]) +
                                         " (channels, height, width) like the first image");
    }
    auto added = labels.add(file->class_name);
    if (!added) return std::move(added).take_error().within(place);
    append_planes(*image, pixels);
  }
  std::move(labels).finish(dataset);
  dataset.features = std::move(pixels);
  TRY(validate(dataset));
  return dataset;
}

}  // namespace souk::trainer
