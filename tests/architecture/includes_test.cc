#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/architecture/tree.h"

namespace souk::architecture {
namespace {

namespace fs = std::filesystem;

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const auto& line : lines) text += line + "\n";
  return text;
}

// Of this program, those through others too.
std::string libraries(const std::string& program) {
  const char* bin = std::getenv("SOUK_BIN");
  EXPECT_NE(bin, nullptr);
  std::string out;
  const std::string path = std::string(bin != nullptr ? bin : ".") + "/" + program;
  FILE* pipe = ::popen(("ldd '" + path + "'").c_str(), "r");
  for (char buffer[256]; pipe != nullptr && std::fgets(buffer, sizeof buffer, pipe) != nullptr;)
    out += buffer;
  EXPECT_EQ(pipe == nullptr ? -1 : ::pclose(pipe), 0) << program;
  return out;
}

TEST(Includes, EveryArrowOfTheTreeIsAllowed) {
  const char* root = std::getenv("SOUK_SOURCE");
  EXPECT_EQ(joined(broken_rules(root != nullptr ? root : ".")), "");
}

// Not even through another library: what the loader would bring into the measured program.
TEST(Includes, TheEnclaveLinksNeitherProtobufNorOnnx) {
  auto enclave = libraries("souk-enclave"), client = libraries("souk-client");
  EXPECT_NE(enclave.find("libdnnl"), std::string::npos);
  for (const char* library : {"protobuf", "onnx"}) {
    EXPECT_EQ(enclave.find(library), std::string::npos);
    EXPECT_NE(client.find(library), std::string::npos)
        << "the client is what this test compares with";
  }
}

// What it answers itself takes milliseconds; any of these takes longer to load.
TEST(Includes, TheAccountantLinksNeitherNetworkNorLedgerNorEngine) {
  auto accountant = libraries("souk"), client = libraries("souk-client");
  for (const char* library : {"cpprest", "dnnl", "onnx", "protobuf", "crypto", "sqlite"}) {
    EXPECT_EQ(accountant.find(library), std::string::npos) << library;
    EXPECT_NE(client.find(library), std::string::npos) << library;
  }
}

// A small tree in which everything is right, for the lies below.
class SmallTree : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/souk-architecture-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    root_ = name;
    write("cmake/Zones.cmake",
          "set(SOUK_MAY_USE_pure pure) # one\nset(SOUK_MAY_USE_storage storage pure)\n"
          "set(SOUK_MAY_USE_host host pure storage)\n");
    write("ledger/CMakeLists.txt",
          "souk_room(ledger_base ZONE pure SOURCES base/bytes.cc DEPS ext_sodium)\n"
          "souk_room(ledger_codec ZONE pure DEPS ledger_base)\n"
          "# souk_room(ledger_ghost ZONE pure)\n"
          "souk_room(ledger_store ZONE storage\n  SOURCES store/store.cc\n  DEPS ledger_codec)\n");
    write("policy/CMakeLists.txt", "souk_room(policy_lua ZONE pure DEPS ledger_codec)\n");
    write("market_api/CMakeLists.txt",
          "souk_room(market_verbs ZONE host DEPS ledger_store)\n"
          "souk_program(soukd ZONE host SOURCES verbs/soukd.cc DEPS market_verbs)\n");
    write("ledger/base/bytes.h", "#include <vector>\n#include <sodium.h>\n");
    write("ledger/base/bytes.cc", "#include \"ledger/base/bytes.h\"\n");
    write("ledger/codec/json.h", "#include \"ledger/base/bytes.h\"\n");
    write("ledger/store/store.cc", "#include <sqlite3.h>\n  #  include \"ledger/base/bytes.h\"\n");
    write("ledger/store/store.h", "");
    write("policy/lua/lua.h", "#include <lua.hpp>\n#include \"ledger/codec/json.h\"\n");
    write("market_api/verbs/soukd.cc", "#include \"ledger/store/store.h\"\n");
  }
  void TearDown() override { fs::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  std::string broken() const { return joined(broken_rules(root_)); }

  fs::path root_;
};

TEST_F(SmallTree, IsRight) {
  EXPECT_EQ(broken(), "");
}

TEST_F(SmallTree, APureRoomMustNotIncludeStorage) {
  write("ledger/codec/json.cc", "#include \"ledger/store/store.h\"\n");
  EXPECT_EQ(broken(), "ledger/codec/json.cc: (pure) must not include ledger/store (storage)\n");
}

TEST_F(SmallTree, TheLedgerMustNotKnowPolicy) {
  write("ledger/codec/json.cc", "\t#include \"policy/lua/lua.h\"\n");
  EXPECT_EQ(broken(),
            "ledger/codec/json.cc: must not know policy/lua: ledger stands before policy\n");
}

TEST_F(SmallTree, ARoomIncludesOnlyWhatItsTargetDependsOn) {
  write("market_api/verbs/verbs.cc", "#include \"policy/lua/lua.h\"\n");
  EXPECT_EQ(
      broken(),
      "market_api/verbs/verbs.cc: includes policy/lua but its target does not depend on it\n");
}

TEST_F(SmallTree, EachLibraryHasItsDoor) {
  for (const std::string header :
       {"sqlite3.h", "lua.h", "lauxlib.h", "cpprest/http_client.h", "pplx/pplxtasks.h",
        "boost/asio.hpp", "dnnl.hpp", "oneapi/dnnl/dnnl.hpp", "onnx/onnx_pb.h",
        "google/protobuf/message.h", "openssl/evp.h", "sodium.h", "sodium/core.h", "seccomp.h",
        "linux/seccomp.h", "gtest/gtest.h"}) {
    write("ledger/codec/json.cc", "#include <" + header + ">\n");
    auto said = broken();
    EXPECT_EQ(said.rfind("ledger/codec/json.cc: includes <" + header + ">: ", 0), 0u) << said;
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  }
}

TEST_F(SmallTree, AFileOutsideEveryRoomIsFound) {
  write("ledger/ghost/ghost.h", "");
  write("ledger/loose.h", "");
  EXPECT_EQ(broken(),
            "ledger/ghost/ghost.h: its folder is no room; declare it with souk_room\n"
            "ledger/loose.h: is in no room\n");
}

TEST_F(SmallTree, AnIncludeThatIsNoPathFromTheRootIsFound) {
  write("ledger/codec/json.cc", "#include \"json.h\"\n");
  EXPECT_EQ(broken(),
            "ledger/codec/json.cc: includes \"json.h\": expected a header's path from the root of "
            "the tree\n");
}

TEST_F(SmallTree, AFolderBelongsToOneZone) {
  write("market_api/CMakeLists.txt",
        "souk_room(market_verbs ZONE host DEPS ledger_store)\n"
        "souk_program(souk ZONE storage SOURCES verbs/soukd.cc DEPS ledger_store)\n");
  EXPECT_EQ(broken(), "market_api/verbs/soukd.cc: its folder has targets of two zones\n");
}

}  // namespace
}  // namespace souk::architecture
