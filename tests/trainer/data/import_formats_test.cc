// IDX, NPY, image folders and gzip.
#include <gtest/gtest.h>
#include <zlib.h>

#include <cstring>

#include "trainer/data/import.h"

namespace souk::trainer {
namespace {

std::string error_of(const Result<Dataset>& dataset) {
  return dataset ? "no error" : dataset.error().expected();
}

const std::vector<float>& floats(const Dataset& dataset) {
  return std::get<std::vector<float>>(dataset.features);
}
const std::vector<uint8_t>& bytes_of(const Dataset& dataset) {
  return std::get<std::vector<uint8_t>>(dataset.features);
}

Bytes gzip(ByteView bytes) {
  Bytes out(bytes.size() + 100);
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  stream.next_in = const_cast<Bytef*>(bytes.data());
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = out.data();
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

// ---- gzip ----

TEST(Gunzip, GivesPlainBytesAsTheyAreAndUnpacksOneOrMoreMembers) {
  const Bytes plain = to_bytes("some bytes");
  EXPECT_EQ(*gunzip_if_needed(plain), plain);
  EXPECT_EQ(*gunzip_if_needed(gzip(plain)), plain);
  auto two = gzip(plain);
  append(two, gzip(plain));
  EXPECT_EQ(to_text(*gunzip_if_needed(two)), "some bytessome bytes");
}

TEST(Gunzip, RefusesCutFlippedAndOversizedFiles) {
  const Bytes plain(3 << 20, 'x');  // more than one piece of the reader
  auto packed = gzip(to_bytes("not very long"));
  for (size_t n = 2; n < packed.size(); ++n) {
    EXPECT_FALSE(gunzip_if_needed(ByteView(packed).first(n))) << n;
  }
  auto lie = packed;
  lie[lie.size() - 5] = static_cast<uint8_t>(lie[lie.size() - 5] ^ 1);  // in the checksum
  EXPECT_FALSE(gunzip_if_needed(lie));
  auto longer = packed;
  longer.push_back(0);
  EXPECT_FALSE(gunzip_if_needed(longer));

  packed = gzip(plain);
  EXPECT_FALSE(gunzip_if_needed(ByteView(packed).first(packed.size() / 2)));
  EXPECT_TRUE(gunzip_if_needed(packed, plain.size()));
  EXPECT_FALSE(gunzip_if_needed(packed, plain.size() - 1));
  EXPECT_FALSE(gunzip_if_needed(plain, plain.size() - 1));
}

// ---- IDX ----

Bytes idx(uint8_t type, std::vector<uint8_t> extents, const Bytes& data) {
  Bytes out{0, 0, type, static_cast<uint8_t>(extents.size())};
  for (uint8_t extent : extents) append(out, Bytes{0, 0, 0, extent});
  append(out, data);
  return out;
}

const Bytes kImages = idx(8, {2, 2, 3}, {0, 1, 2, 3, 4, 5, 255, 254, 253, 252, 251, 250});
const Bytes kLabels = idx(8, {2}, {7, 3});

TEST(ImportIdx, ReadsImagesAndLabels) {
  auto dataset = import_idx(kImages, kLabels, {}).take();
  EXPECT_EQ(dataset.schema.feature_shape, (TensorShape{1, 2, 3}));
  EXPECT_EQ(dataset.schema.classes, (std::vector<std::string>{"3", "7"}));
  EXPECT_EQ(dataset.labels, (std::vector<int64_t>{1, 0}));
  EXPECT_EQ(bytes_of(dataset)[6], 255);
  EXPECT_EQ(*import_idx(gzip(kImages), gzip(kLabels), {}), dataset);
}

TEST(ImportIdx, KeepsTheNumberingOfGivenClasses) {
  IdxOptions options;
  for (int i = 0; i < 10; ++i) options.classes.push_back(std::to_string(i));
  EXPECT_EQ(import_idx(kImages, kLabels, options)->labels, (std::vector<int64_t>{7, 3}));
  options.classes = {"7"};
  EXPECT_EQ(error_of(import_idx(kImages, kLabels, options)),
            "labels, row 1: expected one of the classes that were given");
}

TEST(ImportIdx, ReadsBigEndianFloats) {
  auto images = idx(0x0d, {2, 1}, from_hex("3f800000c0000000").take());
  auto dataset = import_idx(images, kLabels, {}).take();
  EXPECT_EQ(floats(dataset), (std::vector<float>{1.0f, -2.0f}));
  EXPECT_EQ(dataset.schema.feature_shape, (TensorShape{1}));
}

TEST(ImportIdx, NamesTheByteOfWhatIsWrong) {
  auto changed = [](Bytes file, size_t at, uint8_t to) {
    file[at] = to;
    return file;
  };
  EXPECT_EQ(error_of(import_idx(changed(kImages, 1, 1), kLabels, {})),
            "images, byte 0: expected the IDX magic number");
  EXPECT_EQ(error_of(import_idx(changed(kImages, 2, 9), kLabels, {})),
            "images, byte 2: expected elements of type u8 (0x08) or f32 (0x0d)");
  EXPECT_EQ(error_of(import_idx(changed(kImages, 3, 0), kLabels, {})),
            "images, byte 3: expected 1 to 7 dimensions");
  EXPECT_EQ(error_of(import_idx(changed(kImages, 11, 0), kLabels, {})),
            "images, byte 8: expected an extent that is not zero");
  EXPECT_FALSE(import_idx(changed(kImages, 15, 4), kLabels, {}));
  EXPECT_FALSE(import_idx(changed(kImages, 15, 2), kLabels, {}));
  EXPECT_FALSE(import_idx(changed(kImages, 4, 0xff), kLabels, {}));
  EXPECT_EQ(error_of(import_idx(kLabels, kImages, {})),
            "images: expected rows and at least one more dimension");
  EXPECT_EQ(error_of(import_idx(kImages, idx(8, {3}, {1, 2, 3}), {})),
            "labels: expected one for each of the 2 images");
  for (size_t n = 0; n < kImages.size(); ++n) {
    EXPECT_FALSE(import_idx(ByteView(kImages).first(n), kLabels, {})) << n;
  }
  for (size_t n = 0; n < kLabels.size(); ++n) {
    EXPECT_FALSE(import_idx(kImages, ByteView(kLabels).first(n), {})) << n;
  }
}

// ---- NPY ----

Bytes npy(const std::string& type, const std::string& shape, const Bytes& data, uint8_t version = 1,
          const std::string& order = "False") {
  std::string header =
      "{'descr': '" + type + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }";
  while ((header.size() + 1 + (version == 1 ? 10 : 12)) % 64 != 0) header += ' ';
  header += '\n';
  Bytes out = to_bytes("\x93NUMPY");
  append(out, Bytes{version, 0, static_cast<uint8_t>(header.size()),
                    static_cast<uint8_t>(header.size() >> 8)});
  if (version == 2) append(out, Bytes{0, 0});
  append(out, as_bytes(header));
  append(out, data);
  return out;
}

template <class T>
Bytes raw(const std::vector<T>& values) {
  Bytes out(values.size() * sizeof(T));
  std::memcpy(out.data(), values.data(), out.size());
  return out;
}

const Bytes kFloats = npy("<f4", "(2, 3)", raw<float>({1, 2, 3, 4, 5, 6}));
const Bytes kY = npy("<i8", "(2,)", raw<int64_t>({5, -1}));

TEST(ImportNpy, ReadsEveryTypeInBothVersions) {
  auto expected = import_npy(kFloats, ByteView(kY), {}).take();
  EXPECT_EQ(floats(expected), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(expected.schema.feature_shape, (TensorShape{3}));
  EXPECT_EQ(expected.schema.classes, (std::vector<std::string>{"-1", "5"}));
  EXPECT_EQ(expected.labels, (std::vector<int64_t>{1, 0}));

  auto two = npy("<f4", "(2, 3)", raw<float>({1, 2, 3, 4, 5, 6}), 2);
  EXPECT_EQ(*import_npy(two, ByteView(kY), {}), expected);
  auto doubles = npy("<f8", "(2, 3)", raw<double>({1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(*import_npy(doubles, ByteView(kY), {}), expected);
  auto integers = npy("<i8", "(2, 3)", raw<int64_t>({1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(*import_npy(integers, ByteView(kY), {}), expected);
  auto bytes = npy("|u1", "(2, 3)", {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(bytes_of(*import_npy(bytes, ByteView(kY), {})),
            (std::vector<uint8_t>{1, 2, 3, 4, 5, 6}));
  auto float_labels = npy("<f8", "(2,)", raw<double>({5, -1}));
  EXPECT_EQ(*import_npy(kFloats, ByteView(float_labels), {}), expected);
}

TEST(ImportNpy, TakesTheLabelFromAColumn) {
  NpyOptions options{.label_column = -1};
  auto dataset = import_npy(kFloats, std::nullopt, options).take();
  EXPECT_EQ(floats(dataset), (std::vector<float>{1, 2, 4, 5}));
  EXPECT_EQ(dataset.schema.classes, (std::vector<std::string>{"3", "6"}));
  options.label_column = 0;
  EXPECT_EQ(floats(*import_npy(kFloats, std::nullopt, options)), (std::vector<float>{2, 3, 5, 6}));
  for (int64_t column : {3, -4}) {
    options.label_column = column;
    EXPECT_FALSE(import_npy(kFloats, std::nullopt, options)) << column;
  }
  EXPECT_FALSE(import_npy(kFloats, std::nullopt, {}));
  EXPECT_FALSE(import_npy(kFloats, ByteView(kY), {.label_column = 0}));
}

TEST(ImportNpy, KeepsOrChangesTheShapeOfARow) {
  auto images = npy("|u1", "(2, 2, 2)", Bytes(8, 1));
  EXPECT_EQ(import_npy(images, ByteView(kY), {})->schema.feature_shape, (TensorShape{2, 2}));
  NpyOptions options{.feature_shape = {1, 2, 2}};
  EXPECT_EQ(import_npy(images, ByteView(kY), options)->schema.feature_shape,
            (TensorShape{1, 2, 2}));
  options.feature_shape = {1, 2, 3};
  EXPECT_FALSE(import_npy(images, ByteView(kY), options));
}

TEST(ImportNpy, RefusesWhatItWouldMisread) {
  auto data = raw<float>({1, 2, 3, 4, 5, 6});
  auto refused = [&](const Bytes& file) { return !import_npy(file, ByteView(kY), {}); };
  EXPECT_FALSE(refused(npy("<f4", "(2, 3)", data)));
  EXPECT_TRUE(refused(npy("<f4", "(2, 3)", data, 1, "True")));
  EXPECT_TRUE(refused(npy(">f4", "(2, 3)", data)));
  EXPECT_TRUE(refused(npy("<i4", "(2, 3)", data)));
  EXPECT_TRUE(refused(npy("|O", "(2, 3)", data)));
  EXPECT_TRUE(refused(npy("<f4", "(2, 3)", data, 3)));
  EXPECT_TRUE(refused(npy("<f4", "(3, 2)", data)));
  EXPECT_TRUE(refused(npy("<f4", "(2, 4)", data)));
  EXPECT_TRUE(refused(npy("<f4", "(2, 2)", data)));
  EXPECT_TRUE(refused(npy("<f4", "(6,)", data)));
  EXPECT_TRUE(refused(npy("<f4", "(2, -3)", data)));
  EXPECT_TRUE(refused(npy("<f4", "(2, 4611686018427387904, 4)", data)));
  EXPECT_TRUE(refused(npy("<f4", "(0, 3)", {})));
  EXPECT_TRUE(refused(npy("<f4", "(2, 0)", {})));
  EXPECT_TRUE(refused(npy("<f4", "(2, 3), 'shape': (2, 3)", data)));
  EXPECT_TRUE(refused(npy("<f4", "(2, 3), 'more': (2, 3)", data)));
  EXPECT_TRUE(refused(npy("<f8", "(2, 1)", raw<double>({1e39, 0}))));
  EXPECT_TRUE(
      refused(npy("<f8", "(2, 1)", raw<double>({0, std::numeric_limits<double>::quiet_NaN()}))));
  for (size_t n = 0; n < kFloats.size(); ++n) {
    EXPECT_FALSE(import_npy(ByteView(kFloats).first(n), ByteView(kY), {})) << n;
  }
  auto longer = kFloats;
  longer.push_back(0);
  EXPECT_TRUE(refused(longer));
}

TEST(ImportNpy, RefusesLabelsThatAreNotOneIntegerARow) {
  auto with = [&](const Bytes& labels) {
    return error_of(import_npy(kFloats, ByteView(labels), {}));
  };
  EXPECT_EQ(with(npy("<i8", "(3,)", raw<int64_t>({1, 2, 3}))),
            "labels: expected one dimension of 2 rows");
  EXPECT_EQ(with(npy("<i8", "(2, 1)", raw<int64_t>({1, 2}))),
            "labels: expected one dimension of 2 rows");
  EXPECT_EQ(with(npy("<f4", "(2,)", raw<float>({1, 0.5f}))), "labels, row 1: expected an integer");
  EXPECT_EQ(with(npy("<f8", "(2,)", raw<double>({std::numeric_limits<double>::infinity(), 1}))),
            "labels, row 0: expected an integer");
}

// ---- image folders ----

Bytes pnm(const std::string& header, const Bytes& pixels) {
  auto out = to_bytes(header);
  append(out, pixels);
  return out;
}

TEST(ImportImages, ReadsGreyImagesInOrderOfClassAndName) {
  auto one = pnm("P5\n2 1\n255\n", {1, 2});
  auto two = pnm("P5 # a comment\n# another\n2\t1 255 ", {3, 4});
  auto three = pnm("P5\n2 1\n255\n", {10, '#'});
  const ImageFile files[] = {{"dog", "a.pgm", three}, {"cat", "b.pgm", two}, {"cat", "a.pgm", one}};
  auto dataset = import_images(files, {});
  ASSERT_TRUE(dataset) << dataset.error().expected();
  EXPECT_EQ(bytes_of(*dataset), (std::vector<uint8_t>{1, 2, 3, 4, 10, '#'}));
  EXPECT_EQ(dataset->labels, (std::vector<int64_t>{0, 0, 1}));
  EXPECT_EQ(dataset->schema.classes, (std::vector<std::string>{"cat", "dog"}));
  EXPECT_EQ(dataset->schema.feature_shape, (TensorShape{1, 1, 2}));
}

TEST(ImportImages, TurnsColourPixelsIntoPlanes) {
  auto image = pnm("P6\n2 1\n255\n", {1, 2, 3, 4, 5, 6});
  const ImageFile files[] = {{"cat", "a.ppm", image}};
  auto dataset = import_images(files, {}).take();
  EXPECT_EQ(bytes_of(dataset), (std::vector<uint8_t>{1, 4, 2, 5, 3, 6}));
  EXPECT_EQ(dataset.schema.feature_shape, (TensorShape{3, 1, 2}));
}

TEST(ImportImages, RefusesWhatIsNotOneImageOfTheSameSize) {
  auto good = pnm("P5\n2 1\n255\n", {1, 2});
  auto refused = [&](const Bytes& image) {
    const ImageFile files[] = {{"cat", "a.pgm", good}, {"dog", "b.pgm", image}};
    return !import_images(files, {});
  };
  EXPECT_FALSE(refused(good));
  for (const char* header :
       {"P2\n2 1\n255\n", "P4\n2 1\n255\n", "P5\n1 2\n255\n", "P5\n2 1\n256\n", "P5\n2 1\n254\n",
        "P5\n0 1\n255\n", "P5\n-2 1\n255\n", "P52 1\n255\n", "P5\n2 1\n255", "P5\n2\n255\n",
        "P6\n2 1\n255\n", "P5\n4294967298 1\n255\n"}) {
    EXPECT_TRUE(refused(pnm(header, {1, 2}))) << header;
  }
  EXPECT_TRUE(refused(pnm("P5\n2 1\n255\n", {1})));
  EXPECT_TRUE(refused(pnm("P5\n2 1\n255\n", {1, 2, 3})));
  EXPECT_TRUE(refused({}));
  EXPECT_FALSE(import_images({}, {}));
}

TEST(ImportImages, NamesTheImageThatIsWrong) {
  auto bad = to_bytes("P2");
  const ImageFile files[] = {{"cat", "a.pgm", bad}};
  EXPECT_EQ(error_of(import_images(files, {})),
            "cat/a.pgm: byte 0: expected a binary PGM (P5) or PPM (P6)");
}

TEST(ImportCifar10, ReadsRecordsAndRefusesPartsAndStrangeLabels) {
  Bytes file(2 * kCifar10RecordBytes, 0);
  file[0] = 9;
  file[1] = 200;         // red, first pixel
  file[1 + 1024] = 100;  // green
  file[kCifar10RecordBytes] = 3;
  auto dataset = import_cifar10(file).take();
  EXPECT_EQ(dataset.labels, (std::vector<int64_t>{9, 3}));
  EXPECT_EQ(dataset.schema.feature_shape, (TensorShape{3, 32, 32}));
  EXPECT_EQ(dataset.schema.classes.at(9), "truck");
  EXPECT_EQ(std::get<1>(dataset.features).at(0), 200);
  EXPECT_EQ(std::get<1>(dataset.features).at(1024), 100);
  EXPECT_FALSE(import_cifar10(ByteView(file).first(file.size() - 1)));
  file[kCifar10RecordBytes] = 10;
  EXPECT_EQ(import_cifar10(file).error().expected(), "record 1: expected a label from 0 to 9");
  EXPECT_FALSE(import_cifar10({}));
}

}  // namespace
}  // namespace souk::trainer
