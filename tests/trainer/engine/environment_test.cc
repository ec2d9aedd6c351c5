// The same run in two processes, one with every variable set that could change arithmetic.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "ledger/base/bytes.h"
#include "ledger/crypto/hash.h"
#include "tests/trainer/engine/support.h"
#include "trainer/engine/engine.h"
#include "trainer/engine/network_state.h"

namespace souk::trainer {
namespace {

std::string digest_of_a_run() {
  auto workers = Workers::start(2).take();
  auto spec = testing::plain_spec(
      {16, 12, 12}, 3,
      {testing::convolution(32, 3, 1, 1), testing::layer(contracts::Node::Op::kRelu),
       testing::layer(contracts::Node::Op::kFlatten), testing::linear(64),
       testing::layer(contracts::Node::Op::kTanh), testing::linear(3)},
      3, 0.05);
  auto data = testing::random_data(32, 16 * 12 * 12, 3, 1);
  std::vector<float> weights;
  for (bool privately : {false, true}) {
    if (privately) testing::make_private(spec, 0.5, 1, 1);
    auto run = TrainingRun::create(spec, data.examples(), testing::root_of(1), *workers).take();
    EXPECT_TRUE(run.run_to_end());
    for (float weight : testing::flat(run.finish().take())) weights.push_back(weight);
  }
  return to_hex(ledger::sha256(
      ByteView(reinterpret_cast<const uint8_t*>(weights.data()), weights.size() * sizeof(float))));
}

TEST(Environment, PrintsTheDigestOfARun) {
  auto digest = digest_of_a_run();
  std::printf("digest %s\n", digest.c_str());
  EXPECT_EQ(digest.size(), 64u);
}

// What oneDNN would do if nobody told it otherwise: only where this test runs alone.
TEST(Environment, PrintsTheUnguardedInstructionSet) {
  std::printf("digest %064x\n", static_cast<unsigned>(dnnl_get_effective_cpu_isa()));
}

// The 64 characters that `test` prints in a process with these variables.
std::string printed_elsewhere(const std::string& test, const std::string& variables) {
  std::array<char, 4096> path{};
  if (readlink("/proc/self/exe", path.data(), path.size() - 1) <= 0) return "";
  std::string command = "env " + variables + " '" + path.data() + "' --gtest_filter=Environment." +
                        test + " 2>/dev/null";
  FILE* output = popen(command.c_str(), "r");
  if (!output) return "";
  std::string text;
  std::array<char, 256> line{};
  while (std::fgets(line.data(), static_cast<int>(line.size()), output)) text += line.data();
  if (pclose(output) != 0) return "";
  auto at = text.find("digest ");
  return at == std::string::npos ? "" : text.substr(at + 7, 64);
}

constexpr const char* kVariables =
    "ONEDNN_MAX_CPU_ISA=SSE41 DNNL_MAX_CPU_ISA=SSE41 ONEDNN_CPU_ISA_HINTS=PREFER_YMM "
    "DNNL_CPU_ISA_HINTS=PREFER_YMM ONEDNN_DEFAULT_FPMATH_MODE=ANY DNNL_DEFAULT_FPMATH_MODE=ANY "
    "ONEDNN_VERBOSE=0 DNNL_VERBOSE=0 ONEDNN_JIT_PROFILE=0 OMP_NUM_THREADS=5 OMP_DYNAMIC=true "
    "OMP_WAIT_POLICY=active OMP_THREAD_LIMIT=7 KMP_AFFINITY=compact LC_ALL=de_DE.UTF-8 "
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY=0";

TEST(Environment, DoesNotChangeASingleBit) {
  auto plain = printed_elsewhere("PrintsTheDigestOfARun", "-i");
  ASSERT_EQ(plain.size(), 64u);
  EXPECT_EQ(plain, printed_elsewhere("PrintsTheDigestOfARun", kVariables));
}

TEST(Environment, WouldChangeThemIfItWereHeeded) {
  auto plain = printed_elsewhere("PrintsTheUnguardedInstructionSet", "-i");
  ASSERT_EQ(plain.size(), 64u);
  if (plain == std::string(63, '0') + "1") GTEST_SKIP() << "this CPU has no more than SSE4.1";
  EXPECT_NE(plain, printed_elsewhere("PrintsTheUnguardedInstructionSet", kVariables));
}

}  // namespace
}  // namespace souk::trainer
