// Files that people have, as a Dataset. Importers take bytes, never paths. Errors
// name the place (line and column, or byte offset) and what was expected there;
// they never quote the data.
//
// Classes: the distinct labels, sorted; as numbers when every label is an integer,
// else by their bytes. Providers whose files may lack a class give the list in
// `classes`: its order then is the numbering, and any other label is an error.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ledger/base/bytes.h"
#include "ledger/base/result.h"
#include "trainer/data/table.h"

namespace souk::trainer {

inline constexpr size_t kMaxImportBytes = size_t{4} << 30;  // after gunzip

enum class FeatureType : uint8_t { kF32, kU8 };

struct CsvOptions {
  std::string label = {};              // required: the name of the label's column
  std::vector<std::string> drop = {};  // columns to leave out; each must exist
  std::vector<std::string> classes = {};
  TensorShape feature_shape = {};                // empty: {number of feature columns}
  FeatureType feature_type = FeatureType::kF32;  // kU8: every feature an integer 0…255
};
// RFC 4180 with a header row; LF or CRLF; a UTF-8 byte order mark and blank lines
// at the end are skipped; spaces around unquoted fields are dropped. Every column
// but the label and the dropped ones is a finite number.
Result<Dataset> import_csv(ByteView file, const CsvOptions& options);

struct IdxOptions {
  std::vector<std::string> classes = {};
  std::string label_name = "label";
};
// The MNIST format: images u8 or f32 [rows, …], labels u8 [rows]; either file may be
// gzipped. Images [rows, height, width] become {1, height, width}.
Result<Dataset> import_idx(ByteView images, ByteView labels, const IdxOptions& options);

struct NpyOptions {
  // Without a labels file: the column of a [rows, columns] features array. Negative
  // counts from the end, as in numpy.
  std::optional<int64_t> label_column = {};
  std::vector<std::string> classes = {};
  std::string label_name = "label";
  TensorShape feature_shape = {};  // empty: the array's shape after the rows
};
// NPY 1.0 and 2.0, C order, little-endian f4, f8, u1, i8. Labels are integers (a float
// that is one will do). u1 features stay bytes, all others become f32.
Result<Dataset> import_npy(ByteView features, std::optional<ByteView> labels,
                           const NpyOptions& options);

struct ImageFile {
  std::string class_name;  // its folder
  std::string name;
  ByteView bytes;
};
struct ImageOptions {
  std::vector<std::string> classes = {};
  std::string label_name = "class";
};
// Binary PGM (P5) or PPM (P6), maxval 255, all of one size and kind. Rows are in order
// of class and name, whatever the order given; features are u8 {1 or 3, height, width}.
Result<Dataset> import_images(std::span<const ImageFile> files, const ImageOptions& options);

// What the header of a file says, so that features and labels can be told apart. An IDX file may
// be gzipped.
Result<TensorShape> idx_shape(ByteView file);
Result<TensorShape> npy_shape(ByteView file);

// CIFAR-10's "binary version": records of one label byte and 3 x 32 x 32 pixels, colour by
// colour. Rows are u8 {3, 32, 32}; classes are the set's ten, in its order.
inline constexpr size_t kCifar10RecordBytes = 3073;
Result<Dataset> import_cifar10(ByteView file);

// The bytes themselves, or what they unpack to when they start like gzip.
Result<Bytes> gunzip_if_needed(ByteView bytes, size_t max_bytes = kMaxImportBytes);

}  // namespace souk::trainer
