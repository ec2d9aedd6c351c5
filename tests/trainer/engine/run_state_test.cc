// A run that is taken up again ends as if nobody had taken it up: for every kind of thing that a
// step moves, at every step, on any number of threads.
#include <gtest/gtest.h>

#include <set>

#include "tests/trainer/engine/support.h"
#include "trainer/engine/canaries.h"
#include "trainer/engine/chacha.h"

namespace souk::trainer {
namespace {

using contracts::Optimizer;
using contracts::TrainingSpec;

struct Case {
  const char* name;
  TrainingSpec spec;
  testing::Data data;
  bool audited = false;
};

Case layers(const char* name, bool privately) {
  Case out{name, testing::every_layer_spec(), testing::random_data(64, 3 * 9 * 8, 3, 5)};
  out.spec.steps = 6;
  out.spec.learning_rate = {{2, 0.1}, {4, 0.05}};
  out.spec.batch = 22;
  if (privately) testing::make_private(out.spec, 0.3, 0.5, 1.0);
  return out;
}

std::vector<Case> cases() {
  std::vector<Case> out;
  out.push_back(layers("shuffled", false));
  out.back().spec.optimizer.momentum = 0.9;
  out.push_back(layers("private, dropout, momentum", true));
  out.back().spec.optimizer.momentum = 0.9;
  out.back().spec.optimizer.nesterov = true;
  out.push_back(layers("audited", true));
  out.back().audited = true;
  out.push_back(layers("adam, running mean, accumulated", true));
  out.back().spec.optimizer.kind = Optimizer::Kind::kAdam;
  out.back().spec.ema = 0.9;
  out.back().spec.accumulate = 2;
  out.back().audited = true;
  out.push_back(layers("augmented", true));
  out.back().spec.augmentation.flip = true;
  out.back().spec.augmentation.crop = 1;
  out.back().spec.augmentation.multiplicity = 2;
  out.push_back(
      Case{"batch norms",
           testing::plain_spec({6}, 2,
                               {testing::linear(8), testing::layer(contracts::Node::Op::kBatchNorm),
                                testing::layer(contracts::Node::Op::kRelu), testing::linear(2)},
                               6, 0.1),
           testing::separable_data(40, 6, 3, 4)});
  out.back().spec.ema = 0.5;
  return out;
}

struct Ended {
  Model model;
  std::vector<double> scores;
  friend bool operator==(const Ended&, const Ended&) = default;
};

Bytes state_of(const TrainingRun& run) {
  Bytes out;
  EXPECT_TRUE(run.append_state(out));
  EXPECT_EQ(out.size(), run.state_bytes());
  return out;
}

class RunStateTest : public ::testing::Test {
 protected:
  TrainingRun begin(const Case& one, unsigned threads, uint8_t root = 7) {
    workers_.push_back(Workers::start(threads).take());
    auto run = TrainingRun::create(one.spec, one.data.examples(), testing::root_of(root),
                                   *workers_.back());
    EXPECT_TRUE(run) << (run ? "" : run.error().expected());
    if (one.audited) {
      EXPECT_TRUE(run->plant_canaries(100));
    }
    return std::move(run).take();
  }
  Ended end(TrainingRun& run) {
    EXPECT_TRUE(run.run_to_end());
    Ended out{run.finish().take(), {}};
    if (run.canaries()) {
      auto scores = run.canaries()->scores();
      out.scores.assign(scores.begin(), scores.end());
    }
    return out;
  }

 private:
  std::vector<std::unique_ptr<Workers>> workers_;
};

TEST_F(RunStateTest, WhoeverTakesARunUpAtAnyStepEndsItWithTheSameBits) {
  for (const Case& one : cases()) {
    SCOPED_TRACE(one.name);
    auto whole = begin(one, 1);
    std::vector<Bytes> states = {state_of(whole)};
    while (whole.steps_done() < one.spec.steps) {
      ASSERT_TRUE(whole.step());
      states.push_back(state_of(whole));
      EXPECT_EQ(states.back().size(), states.front().size()) << "it tells how far the run is";
    }
    EXPECT_EQ(std::set<Bytes>(states.begin(), states.end()).size(), states.size());
    const Ended undisturbed = end(whole);
    for (uint32_t step = 0; step < states.size(); ++step) {
      SCOPED_TRACE(step);
      auto again = begin(one, 1 + step % 3);
      ASSERT_TRUE(again.restore(states[step]));
      EXPECT_EQ(again.steps_done(), step);
      EXPECT_EQ(state_of(again), states[step]);
      EXPECT_EQ(end(again), undisturbed);
    }
  }
}

TEST_F(RunStateTest, AnotherRootOrAnUnrestoredCanaryWouldShow) {
  auto one = cases()[3];
  auto whole = begin(one, 1);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(whole.step());
  auto state = state_of(whole);
  const Ended undisturbed = end(whole);
  auto other = begin(one, 1, 8);
  ASSERT_TRUE(other.restore(state));
  EXPECT_NE(end(other), undisturbed);
  auto fresh = begin(one, 1);
  EXPECT_EQ(end(fresh), undisturbed);
}

TEST_F(RunStateTest, TakesNoStateOfAnotherRunAndNoneOnceItHasBegun) {
  const auto all = cases();
  auto whole = begin(all[2], 1);
  ASSERT_TRUE(whole.step());
  auto state = state_of(whole);
  auto refuses = [&](const Case& one, Bytes bytes, Code code) {
    auto run = begin(one, 1);
    auto restored = run.restore(bytes);
    ASSERT_FALSE(restored);
    EXPECT_EQ(restored.error().code(), code);
    EXPECT_FALSE(run.step()) << "half restored";
  };
  refuses(all[0], state, Code::kMalformed);
  refuses(all[3], state, Code::kMalformed);
  Bytes longer = state, shorter(state.begin(), state.end() - 1), late = state;
  longer.push_back(0);
  late[0] = 7;  // of six steps
  refuses(all[2], longer, Code::kMalformed);
  refuses(all[2], shorter, Code::kMalformed);
  refuses(all[2], {}, Code::kMalformed);
  refuses(all[2], late, Code::kMalformed);
  EXPECT_EQ(whole.restore(state).error().code(), Code::kConflict);
  EXPECT_TRUE(whole.step()) << "what it refused changed nothing";
}

TEST(ChaCha20, SeeksToAnyByte) {
  std::array<uint8_t, 32> key{};
  key[3] = 9;
  std::vector<uint8_t> stream(5000);
  ChaCha20(key, 4).fill(stream);
  for (uint64_t at : {uint64_t{0}, uint64_t{1}, uint64_t{63}, uint64_t{64}, uint64_t{1023},
                      uint64_t{1024}, uint64_t{4321}}) {
    ChaCha20 random(key, 4);
    random.next();
    random.seek(at);
    std::array<uint8_t, 600> some{};
    random.fill(some);
    EXPECT_TRUE(std::equal(some.begin(), some.end(), stream.begin() + static_cast<ptrdiff_t>(at)))
        << at;
  }
}

TEST(MachineClass, SaysTheSameEachTimeAndNamesCpuAndLibraries) {
  EXPECT_EQ(machine_class(), machine_class());
  EXPECT_EQ(machine_class().find(isa_name()), 0U);
  EXPECT_NE(machine_class().find(" dnnl "), std::string::npos);
  EXPECT_LT(machine_class().size(), 4096U);  // it goes into the sealed state
}

}  // namespace
}  // namespace souk::trainer
