#include "trainer/data/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>

namespace souk::trainer {
namespace {

Bytes file_of(std::string header, size_t data_bytes, size_t declared = SIZE_MAX) {
  size_t length = declared == SIZE_MAX ? header.size() : declared;
  Bytes out;
  for (size_t i = 0; i < 8; ++i) out.push_back(static_cast<uint8_t>(uint64_t{length} >> (8 * i)));
  append(out, as_bytes(header));
  for (size_t i = 0; i < data_bytes; ++i) out.push_back(static_cast<uint8_t>(i));
  return out;
}

const std::string kTwo =
    R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})";

TEST(SafeTensors, WritesTheBytesOfTheSpecification) {
  const float values[] = {1.0f, -2.0f};
  const uint8_t bytes[] = {7, 8, 9};
  const Tensor tensors[] = {
      {"b", Dtype::kU8, {3}, bytes},
      {"a", Dtype::kF32, {2}, ByteView(reinterpret_cast<const uint8_t*>(values), 8)},
  };
  auto file = write_safetensors(tensors, {{"k", "v"}}).take();
  std::string header =
      R"({"__metadata__":{"k":"v"},"a":{"data_offsets":[0,8],"dtype":"F32","shape":[2]},)"
      R"("b":{"data_offsets":[8,11],"dtype":"U8","shape":[3]}})";
  while (header.size() % 8 != 0) header += ' ';
  EXPECT_EQ(to_text(ByteView(file).subspan(8, header.size())), header);
  EXPECT_EQ(file[0] + 256u * file[1], header.size());
  EXPECT_EQ(to_hex(ByteView(file).subspan(8 + header.size())), "0000803f000000c0070809");
}

TEST(SafeTensors, ReadsBackWhatWasWrittenInNameOrder) {
  const uint8_t bytes[24] = {1, 2, 3};
  const Tensor tensors[] = {
      {"z", Dtype::kI64, {1, 2}, ByteView(bytes, 16)},
      {"scalar", Dtype::kF32, {}, ByteView(bytes, 4)},
      {"empty", Dtype::kF64, {0, 5}, {}},
      {"y", Dtype::kBool, {3}, ByteView(bytes, 3)},
  };
  auto file = write_safetensors(tensors, {{"name", "caf\xc3\xa9 \"q\"\n"}}).take();
  auto read = SafeTensors::read(file).take();
  ASSERT_EQ(read.tensors().size(), 4u);
  EXPECT_EQ(read.tensors()[0].name, "empty");
  EXPECT_EQ(read.tensors()[3].name, "z");
  EXPECT_EQ(read.metadata().at("name"), "caf\xc3\xa9 \"q\"\n");
  EXPECT_EQ(read.find("scalar")->shape, TensorShape{});
  EXPECT_EQ(read.find("z")->shape, (TensorShape{1, 2}));
  EXPECT_EQ(to_hex(read.find("y")->bytes), "010203");
  EXPECT_EQ(read.find("nobody"), nullptr);
}

TEST(SafeTensors, OrderOfTensorsDoesNotChangeTheFileAndEveryTensorIsAligned) {
  const uint8_t bytes[8] = {};
  Tensor odd{"a", Dtype::kU8, {3}, ByteView(bytes, 3)};
  Tensor wide{"b", Dtype::kF64, {1}, ByteView(bytes, 8)};
  const Tensor one[] = {odd, wide};
  const Tensor two[] = {wide, odd};
  auto file = write_safetensors(one, {}).take();
  EXPECT_EQ(file, write_safetensors(two, {}).take());
  auto read = SafeTensors::read(file).take();
  EXPECT_EQ((read.find("b")->bytes.data() - file.data()) % 8, 0);
}

TEST(SafeTensors, WriterRefusesWhatTheReaderWould) {
  const uint8_t bytes[8] = {};
  auto written = [&](Tensor tensor) { return bool(write_safetensors(std::span(&tensor, 1), {})); };
  EXPECT_TRUE(written({"a", Dtype::kF32, {2}, ByteView(bytes, 8)}));
  EXPECT_FALSE(written({"a", Dtype::kF32, {2}, ByteView(bytes, 7)}));
  EXPECT_FALSE(written({"a", Dtype::kF32, {3}, ByteView(bytes, 8)}));
  EXPECT_FALSE(written({"", Dtype::kF32, {2}, ByteView(bytes, 8)}));
  EXPECT_FALSE(written({"__metadata__", Dtype::kF32, {2}, ByteView(bytes, 8)}));
  EXPECT_FALSE(written({"\xc3\xa9", Dtype::kF32, {2}, ByteView(bytes, 8)}));
  EXPECT_FALSE(written({"a", Dtype::kU8, TensorShape(9, 1), ByteView(bytes, 1)}));
  EXPECT_FALSE(written({"a", Dtype::kU8, {uint64_t{1} << 63, 2}, {}}));
  const Tensor twice[] = {{"a", Dtype::kU8, {1}, ByteView(bytes, 1)},
                          {"a", Dtype::kU8, {1}, ByteView(bytes, 1)}};
  EXPECT_FALSE(write_safetensors(twice, {}));
  EXPECT_FALSE(write_safetensors({}, {{"k", "\xff"}}));
  EXPECT_FALSE(write_safetensors({}, {{"k", std::string(kMaxSafeTensorsHeaderBytes, 'x')}}));
}

TEST(SafeTensors, ReadsFilesOfOtherWriters) {
  // Any member order, spaces, tensors in any order of names.
  auto header = std::string(
      R"({ "b": {"shape":[3], "dtype":"U8", "data_offsets":[0,3]}, "a":{"dtype":"BF16","shape":[1,1],"data_offsets":[3,5]} }   )");
  auto file = file_of(header, 5);
  auto read = SafeTensors::read(file);
  ASSERT_TRUE(read) << read.error().expected();
  EXPECT_EQ(to_hex(read->find("a")->bytes), "0304");
}

TEST(SafeTensors, RefusesGapOverlapExcessAndShortage) {
  EXPECT_TRUE(SafeTensors::read(file_of(kTwo, 11)));
  EXPECT_FALSE(SafeTensors::read(file_of(kTwo, 12)));
  EXPECT_FALSE(SafeTensors::read(file_of(kTwo, 10)));
  auto with = [](const char* a, const char* b, size_t bytes) {
    auto header = std::string(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)") + a +
                  R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + b + "}}";
    return bool(SafeTensors::read(file_of(header, bytes)));
  };
  EXPECT_TRUE(with("[0,4]", "[4,8]", 8));
  EXPECT_TRUE(with("[4,8]", "[0,4]", 8));
  EXPECT_FALSE(with("[0,4]", "[5,9]", 9));
  EXPECT_FALSE(with("[0,4]", "[3,7]", 7));
  EXPECT_FALSE(with("[0,4]", "[0,4]", 4));
  EXPECT_FALSE(with("[1,5]", "[5,9]", 9));
  EXPECT_FALSE(with("[0,4]", "[8,4]", 8));
  EXPECT_FALSE(with("[0,4]", "[4,9]", 9));
  EXPECT_FALSE(with("[0,4]", "[4]", 8));
  EXPECT_FALSE(with("[0,4]", "[4,8,8]", 8));
  EXPECT_FALSE(with("[0,4]", "[-4,0]", 8));
  EXPECT_FALSE(with("[0,4]", "[4,\"8\"]", 8));
}

TEST(SafeTensors, RefusesHeadersThatAreNotOne) {
  auto refused = [](const std::string& header, size_t bytes) {
    return !SafeTensors::read(file_of(header, bytes));
  };
  EXPECT_TRUE(refused("", 0));
  EXPECT_TRUE(refused("[]", 0));
  EXPECT_TRUE(refused(" {}", 0));
  EXPECT_FALSE(refused("{}", 0));
  EXPECT_FALSE(refused("{}      ", 0));
  EXPECT_TRUE(refused("{}x", 0));
  EXPECT_TRUE(refused(R"({"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}})", 4));
  EXPECT_TRUE(refused(R"({"a":{"dtype":"f32","shape":[1],"data_offsets":[0,4]}})", 4));
  EXPECT_TRUE(refused(R"({"a":{"dtype":"F32","shape":[1]}})", 4));
  EXPECT_TRUE(refused(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4));
  EXPECT_TRUE(refused(R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4));
  EXPECT_TRUE(refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", 4));
  EXPECT_TRUE(refused(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                      R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                      2));
  EXPECT_TRUE(refused(R"({"__metadata__":{"k":1}})", 0));
  EXPECT_TRUE(refused(R"({"__metadata__":[]})", 0));
  EXPECT_TRUE(
      refused(R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})", 1));
}

TEST(SafeTensors, RefusesShapesWhoseProductOverflows) {
  // 2^32 * 2^32 * 2 = 2^65, which is 0 modulo 2^64.
  auto overflow =
      std::string(R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})");
  EXPECT_FALSE(SafeTensors::read(file_of(overflow, 0)));
  auto hidden =
      std::string(R"({"a":{"dtype":"U8","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}})");
  EXPECT_FALSE(SafeTensors::read(file_of(hidden, 0)));
  EXPECT_EQ(element_count({0, 7}), 0u);
  EXPECT_EQ(element_count({}), 1u);
  EXPECT_FALSE(element_count({uint64_t{1} << 32, uint64_t{1} << 32}).has_value());
}

TEST(SafeTensors, RefusesHeaderLengthsThatLie) {
  EXPECT_FALSE(SafeTensors::read({}));
  EXPECT_FALSE(SafeTensors::read(Bytes(7)));
  EXPECT_FALSE(SafeTensors::read(file_of("{}", 0, 3)));
  EXPECT_FALSE(SafeTensors::read(file_of("{}", 0, SIZE_MAX - 1)));
  EXPECT_FALSE(SafeTensors::read(file_of("{}", 0, 1)));
  auto big = "{}" + std::string(kMaxSafeTensorsHeaderBytes - 2, ' ');
  EXPECT_TRUE(SafeTensors::read(file_of(big, 0)));
  EXPECT_FALSE(SafeTensors::read(file_of(big + " ", 0)));
}

TEST(SafeTensors, CutAnywhereIsRefused) {
  auto file = file_of(kTwo, 11);
  for (size_t n = 0; n < file.size(); ++n) {
    EXPECT_FALSE(SafeTensors::read(ByteView(file).first(n))) << n;
  }
}

TEST(SafeTensors, DtypeNamesGoBothWays) {
  for (const char* name : {"BOOL", "U8", "I8", "U16", "I16", "F16", "BF16", "U32", "I32", "F32",
                           "U64", "I64", "F64"}) {
    EXPECT_EQ(dtype_name(dtype_from_name(name).value()), name);
  }
  EXPECT_EQ(dtype_bytes(Dtype::kBf16), 2u);
  EXPECT_FALSE(dtype_from_name("F8").has_value());
}

}  // namespace
}  // namespace souk::trainer
