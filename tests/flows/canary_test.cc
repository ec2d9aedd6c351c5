// Plaintext rows and keys stay inside the enclave process: recognisable ones are
// planted, the whole story is run with real processes, and every file, every log,
// every body on the wire and the host's own memory are searched for them.
#include <gtest/gtest.h>

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

#include "ledger/crypto/hash.h"
#include "tests/support/live_story.h"
#include "trainer/data/safetensors.h"
#include "trainer/data/table.h"

namespace souk::flows {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kFeatures = 8;
constexpr uint32_t kRows = 200;

struct Canary {
  std::string name;
  Bytes bytes;
};

// The bytes as they are, in hex, and in base64 at each of the three places they can
// have in a longer text (without the characters that neighbours share).
std::vector<Canary> in_every_dress(const std::string& name, ByteView bytes) {
  std::vector<Canary> out = {{name, Bytes(bytes.begin(), bytes.end())},
                             {name + " in hex", to_bytes(to_hex(bytes))}};
  for (size_t shift = 0; shift < 3; ++shift) {
    Bytes moved(shift, 0);
    append(moved, bytes);
    std::string text = to_base64(moved);
    size_t from = shift == 0 ? 0 : 4;
    size_t length = (text.size() - from - 4) / 4 * 4;
    out.push_back({name + " in base64", to_bytes(text.substr(from, length))});
  }
  return out;
}

class Canaries {
 public:
  void plant(const std::string& name, ByteView bytes) {
    for (auto& canary : in_every_dress(name, bytes)) all_.push_back(std::move(canary));
  }
  void plant_text(const std::string& name, const std::string& text) {
    all_.push_back({name, to_bytes(text)});
  }
  size_t size() const { return all_.size(); }

  // Names of those that are in `bytes`.
  std::vector<std::string> found_in(ByteView bytes) const {
    std::vector<std::string> out;
    auto text = as_text(bytes);
    for (const auto& canary : all_) {
      if (text.find(as_text(canary.bytes)) != std::string_view::npos) out.push_back(canary.name);
    }
    return out;
  }

 private:
  std::vector<Canary> all_;
};

Bytes contents(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(in), {});
}

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) out += name + "; ";
  return out;
}

// Writable memory of a process, piece by piece. False when it may not be read.
[[maybe_unused]] bool each_page(pid_t pid, const std::function<void(ByteView)>& look) {
  std::string base = "/proc/" + std::to_string(pid);
  std::ifstream maps(base + "/maps");
  std::ifstream memory(base + "/mem", std::ios::binary);
  if (!maps || !memory) return false;
  bool any = false;
  for (std::string line; std::getline(maps, line);) {
    uint64_t from = 0, to = 0;
    char flags[5] = {};
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &from, &to, flags) != 3 || flags[0] != 'r')
      continue;
    if (flags[1] != 'w' || to - from > (uint64_t{256} << 20)) continue;
    Bytes piece(to - from);
    memory.clear();
    memory.seekg(static_cast<std::streamoff>(from));
    memory.read(reinterpret_cast<char*>(piece.data()), static_cast<std::streamsize>(piece.size()));
    piece.resize(static_cast<size_t>(memory.gcount()));
    any = any || !piece.empty();
    look(piece);
  }
  return any;
}

struct Rows {
  Bytes safetensors;
  std::vector<std::vector<float>> rows;
};

Rows recognisable_rows() {
  std::mt19937 random(4711);
  std::uniform_real_distribution<float> value(0.5F, 1.5F);
  Rows out;
  trainer::Dataset dataset;
  std::vector<float> features;
  for (uint32_t row = 0; row < kRows; ++row) {
    std::vector<float> values;
    for (uint32_t i = 0; i < kFeatures; ++i)
      values.push_back(value(random) * (row % 2 ? 1.0F : -1.0F));
    features.insert(features.end(), values.begin(), values.end());
    out.rows.push_back(std::move(values));
    dataset.labels.push_back(row % 2);
  }
  dataset.features = std::move(features);
  dataset.schema.feature_shape = {kFeatures};
  for (uint32_t i = 0; i < kFeatures; ++i)
    dataset.schema.feature_names.push_back("feature " + std::to_string(i));
  dataset.schema.label_name = "kind";
  dataset.schema.classes = {"benign", "malignant"};
  out.safetensors = trainer::dataset_to_safetensors(dataset).take();
  return out;
}

ByteView bytes_of(const std::vector<float>& values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float)};
}

TEST(CanarySearch, FindsWhatIsThere) {
  Canaries canaries;
  Bytes secret = {0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  canaries.plant("secret", secret);
  Bytes plain(100, 'x');
  EXPECT_TRUE(canaries.found_in(plain).empty());
  for (size_t before = 0; before < 6; ++before) {
    Bytes around(before, 0x77);
    append(around, secret);
    around.push_back(0x99);
    EXPECT_FALSE(canaries.found_in(around).empty()) << before;
    EXPECT_FALSE(canaries.found_in(to_bytes(to_base64(around))).empty()) << before;
    EXPECT_FALSE(canaries.found_in(to_bytes(to_hex(around))).empty()) << before;
  }
}

TEST(CanaryFlow, NoPlaintextAndNoKeyLeavesTheEnclave) {
  if (program("soukd").empty() || program("souk-enclave").empty()) {
    FAIL() << "expected soukd and souk-enclave in $SOUK_BIN";
  }
  Rows data = recognisable_rows();
  LiveMarket market;
  LiveStory story(market, data.safetensors, kRows, kFeatures, 200);
  ASSERT_TRUE(market.start());
  auto finished = story.finish();
  ASSERT_TRUE(finished) << finished.error().expected();
  ASSERT_EQ(story.verdict(), "");
  ASSERT_EQ(story.phase(), contracts::Phase::kSettled);

  Canaries canaries;
  for (const auto& row : data.rows) canaries.plant("a row", bytes_of(row).first(16));
  for (const auto& row : data.rows) {
    char text[64];
    std::snprintf(text, sizeof text, "%.9g,%.9g", static_cast<double>(row[0]),
                  static_cast<double>(row[1]));
    canaries.plant_text("a row in decimal", text);
    std::snprintf(text, sizeof text, "%.6f", static_cast<double>(row[0]));
    canaries.plant_text("a value in decimal", text);
  }
  canaries.plant("the dataset's file key", story.offered().file_key.bytes(SecretAccess{}));
  for (const auto* party : {&story.provider, &story.lab, &market.treasury}) {
    auto seed = party->key.seed(SecretAccess{});
    auto scalar = party->age.key().secret(SecretAccess{});
    canaries.plant(party->name + "'s signing seed", seed.bytes(SecretAccess{}));
    canaries.plant(party->name + "'s age secret", scalar.bytes(SecretAccess{}));
    canaries.plant_text(party->name + "'s age identity", party->age.text(SecretAccess{}));
  }
  // The model is the lab's alone.
  auto file = market.model_file(story.contract());
  ASSERT_TRUE(file);
  auto split = trainer::split_file(*file);
  ASSERT_TRUE(split);
  auto model_key = trainer::open_header(split->header, story.lab.age);
  ASSERT_TRUE(model_key);
  canaries.plant("the model's file key", model_key->bytes(SecretAccess{}));
  auto model = trainer::decrypt_file(*file, story.lab.age).take();
  auto tensors = trainer::SafeTensors::read(model);
  ASSERT_TRUE(tensors);
  for (const auto& tensor : tensors->tensors()) {
    if (tensor.bytes.size() >= 16) canaries.plant("the model's weights", tensor.bytes.first(16));
  }
  ASSERT_GT(canaries.size(), 1000U);

  // The search sees what it must: the unencrypted dataset would be found.
  EXPECT_FALSE(canaries.found_in(data.safetensors).empty());
  EXPECT_FALSE(canaries.found_in(model).empty());

  for (const auto& body : market.bodies()) EXPECT_EQ(joined(canaries.found_in(body)), "");
  EXPECT_GT(market.bodies().size(), 20U);

#ifndef SOUK_SANITIZED  // shadow memory is too large to be read
  bool read = each_page(market.host(), [&](ByteView piece) {
    EXPECT_EQ(joined(canaries.found_in(piece)), "") << "in the memory of soukd";
  });
  if (!read) std::printf("the memory of soukd may not be read here; it was not searched\n");
#endif

  // Running, and after its death.
  size_t files = 0;
  auto search_files = [&] {
    for (const auto& folder : {market.data(), market.logs()}) {
      for (const auto& entry : fs::recursive_directory_iterator(folder)) {
        if (!entry.is_regular_file()) continue;
        ++files;
        EXPECT_EQ(joined(canaries.found_in(contents(entry.path()))), "") << entry.path();
      }
    }
  };
  search_files();
  market.kill_host();
  search_files();
  EXPECT_GE(files, 10U);
}

#ifndef SOUK_SANITIZED
TEST(CanaryFlow, TheMemoryOfAnEnclaveIsClosedToOthersOfItsUser) {
  if (program("soukd").empty() || program("souk-enclave").empty()) {
    FAIL() << "expected soukd and souk-enclave in $SOUK_BIN";
  }
  LiveMarket market;
  ASSERT_TRUE(market.start());
  auto keepers = market.enclaves("keeper");
  ASSERT_EQ(keepers.size(), 1U);
  // What is not dumpable belongs to root; root of the machine reads everything
  // (insecure-sim says so).
  struct stat status {};
  ASSERT_EQ(stat(("/proc/" + std::to_string(keepers[0]) + "/mem").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, 0U);
  // It holds its channel, the three standard descriptors and its two lines to the policy
  // nursery: no file, no network.
  size_t descriptors = 0;
  std::error_code closed;
  for (const auto& entry :
       fs::directory_iterator("/proc/" + std::to_string(keepers[0]) + "/fd", closed)) {
    std::error_code unreadable;
    auto target = fs::read_symlink(entry.path(), unreadable).string();
    if (unreadable) continue;
    ++descriptors;
    EXPECT_EQ(target.find("keeper.sealed"), std::string::npos) << target;
    EXPECT_EQ(target.find("platform.key"), std::string::npos) << target;
    EXPECT_EQ(target.find("ledger"), std::string::npos) << target;
  }
  EXPECT_LE(descriptors, 6U);
}
#endif

}  // namespace
}  // namespace souk::flows
