// Others read what we write, and we read what others wrote: Debian's `age` program and
// the C2SP test vectors. Each skips, visibly, where it is not installed.
#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "ledger/crypto/hash.h"
#include "trainer/data/age.h"

namespace souk::trainer {
namespace {

namespace fs = std::filesystem;

Bytes read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void write_file(const fs::path& path, ByteView bytes) {
  std::ofstream out(path, std::ios::binary);
  out << as_text(bytes);
}

// ---- the age program ----

class AgeProgram : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::system("command -v age >/dev/null && command -v age-keygen >/dev/null") != 0) {
      GTEST_SKIP() << "the program age is not installed (apt-get install age)";
    }
    auto name = (fs::temp_directory_path() / "souk-age-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override {
    if (!folder_.empty()) fs::remove_all(folder_);
  }
  bool run(const std::string& command) {
    return std::system(("cd '" + folder_.string() + "' && (" + command + ") 2>messages").c_str()) ==
           0;
  }
  std::string first_line(const std::string& name) {
    std::ifstream in(folder_ / name);
    std::string line;
    std::getline(in, line);
    return line;
  }

  fs::path folder_;
};

constexpr size_t kSizes[] = {0, 1, 65535, 65536, 65537, 131072, 300000};

Bytes sample(size_t n) {
  Bytes bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<uint8_t>(i * 7 + (i >> 8));
  return bytes;
}

TEST_F(AgeProgram, OpensWhatWeWrite) {
  auto mine = AgeIdentity::generate();
  auto other = AgeIdentity::generate();
  write_file(folder_ / "key", as_bytes(mine.text(SecretAccess()) + "\n"));
  const SealingKey recipients[] = {other.recipient(), mine.recipient()};
  for (size_t n : kSizes) {
    write_file(folder_ / "sealed", encrypt_file(sample(n), recipients).take());
    ASSERT_TRUE(run("age -d -i key -o plain sealed")) << n << first_line("messages");
    EXPECT_EQ(read_file(folder_ / "plain"), sample(n));
  }
}

TEST_F(AgeProgram, WritesWhatWeOpen) {
  ASSERT_TRUE(
      run("age-keygen -o keyfile && grep AGE-SECRET keyfile > key && age-keygen -y key > to"));
  auto identity = AgeIdentity::from_text(first_line("key"));
  ASSERT_TRUE(identity);
  EXPECT_EQ(recipient_text(identity->recipient()), first_line("to"));
  auto other = recipient_text(AgeIdentity::generate().recipient());
  for (size_t n : kSizes) {
    write_file(folder_ / "plain", sample(n));
    ASSERT_TRUE(run("age -r " + other + " -R to -o sealed plain")) << first_line("messages");
    auto plain = decrypt_file(read_file(folder_ / "sealed"), *identity);
    ASSERT_TRUE(plain) << n << plain.error().expected();
    EXPECT_EQ(*plain, sample(n));
  }
}

TEST_F(AgeProgram, RefusesWhatWeWriteForSomebodyElse) {
  auto mine = AgeIdentity::generate();
  write_file(folder_ / "key", as_bytes(mine.text(SecretAccess()) + "\n"));
  const SealingKey recipients[] = {AgeIdentity::generate().recipient()};
  write_file(folder_ / "sealed", encrypt_file(sample(10), recipients).take());
  EXPECT_FALSE(run("age -d -i key -o plain sealed"));
}

// ---- C2SP test vectors ----

struct Vector {
  std::map<std::string, std::string> fields;
  Bytes file;
};

Vector read_vector(const fs::path& path) {
  auto bytes = read_file(path);
  auto text = as_text(bytes);
  Vector vector;
  size_t at = 0;
  while (true) {
    auto end = text.find('\n', at);
    auto line = text.substr(at, end - at);
    at = end + 1;
    if (line.empty()) break;
    auto colon = line.find(": ");
    vector.fields[std::string(line.substr(0, colon))] = std::string(line.substr(colon + 2));
  }
  vector.file.assign(bytes.begin() + static_cast<std::ptrdiff_t>(at), bytes.end());
  return vector;
}

// The kit keeps its large files in zlib's format.
Bytes inflate_zlib(ByteView bytes) {
  Bytes out(32 << 20);
  uLongf size = out.size();
  EXPECT_EQ(uncompress(out.data(), &size, bytes.data(), bytes.size()), Z_OK);
  out.resize(size);
  return out;
}

bool is_plain_x25519(const Vector& vector) {
  return !vector.fields.count("passphrase") && !vector.fields.count("armored");
}

Code expected_code(const std::string& expect) {
  if (expect == "no match") return Code::kNotFound;
  if (expect == "HMAC failure") return Code::kUnauthentic;
  return Code::kMalformed;  // header failure
}

TEST(AgeTestkit, EveryVectorEndsAsItSays) {
  const char* shared = std::getenv("SOUK_SHARED");
  auto folder = fs::path(shared ? shared : "") / "data/attestation/crypto-vectors/age-testkit";
  if (!fs::is_directory(folder)) GTEST_SKIP() << "the C2SP age test kit is not there";

  size_t checked = 0;
  for (const auto& item : fs::directory_iterator(folder)) {
    auto name = item.path().filename().string();
    SCOPED_TRACE(name);
    auto vector = read_vector(item.path());
    if (vector.fields.count("compressed")) vector.file = inflate_zlib(vector.file);
    auto identity_text = vector.fields.count("identity")
                             ? vector.fields["identity"]
                             : AgeIdentity::generate().text(SecretAccess());
    auto identity = AgeIdentity::from_text(identity_text);
    ASSERT_TRUE(identity);
    auto plain = decrypt_file(vector.file, *identity);
    ++checked;

    if (!is_plain_x25519(vector)) {  // refused by name or, where broken, as malformed
      EXPECT_FALSE(plain);
      continue;
    }
    auto expect = vector.fields["expect"];
    if (expect == "success") {
      ASSERT_TRUE(plain) << plain.error().expected();
      EXPECT_EQ(to_hex(ledger::sha256(*plain)), vector.fields["payload"]);
      continue;
    }
    ASSERT_FALSE(plain) << expect;
    if (expect == "payload failure") {  // and so the header was good
      auto parts = split_file(vector.file);
      ASSERT_TRUE(parts);
      auto key = open_header(parts->header, *identity);
      ASSERT_TRUE(key);
      EXPECT_EQ(to_hex(key->bytes(SecretAccess())), vector.fields["file key"]);
      EXPECT_TRUE(verify_header(parts->header, *key));
    } else {
      EXPECT_EQ(plain.error().code(), expected_code(expect)) << plain.error().expected();
    }
  }
  EXPECT_GE(checked, 60u);
}

}  // namespace
}  // namespace souk::trainer
