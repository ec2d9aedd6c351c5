// What a trainer is given to train on, and what of it ends the job.
#include <cstring>
#include <limits>

#include "tests/flows/trainer_flow.h"
#include "trainer/data/table.h"

namespace souk::flows {
namespace {

// What the host hears of private runs on rows that it must not learn about.
class TrainerPrivateRows : public TrainerFlow {
 protected:
  Offered offered_by(const Party& provider, const OfferOptions& options, const Bytes& plain) {
    auto offered = offer_of(provider, options, market.market(), *market.state().keeper(), plain, 2);
    auto seq = market.append(contracts::sign_record(offered.offer, provider.key, market.market()));
    EXPECT_EQ(market.void_of(seq), "");
    return offered;
  }
  // The kinds of all that the trainer said.
  std::vector<Kind> heard_while_settling(const Offered& offered) {
    ContractId id = market.escrowed({offered.id});
    auto trainer = started(id);
    EXPECT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
    auto loaded = market.send_dataset(*trainer, offered.id, offered.file);
    EXPECT_TRUE(loaded && loaded->kind == Kind::kDone);
    auto delivery = market.train(*trainer);
    EXPECT_TRUE(delivery);
    if (delivery) {
      EXPECT_EQ(market.void_of(market.append(delivery->result)), "");
    }
    EXPECT_EQ(market.phase(id), Phase::kSettled);
    std::vector<Kind> kinds;
    for (const auto& frame : trainer->heard()) kinds.push_back(frame.kind);
    return kinds;
  }
};

TEST_F(TrainerFlow, RefusesEveryOtherCiphertext) {
  struct Lie {
    const char* name;
    std::function<Bytes()> file;
  };
  const Bytes& good = north.file;
  size_t header = trainer::find_header_length(good).take();
  auto flipped = [&](size_t at) {
    Bytes file = good;
    file[at] ^= 1;
    return file;
  };
  auto cut = [&](size_t length) {
    return Bytes(good.begin(), good.begin() + static_cast<ptrdiff_t>(length));
  };
  const std::vector<Lie> lies = {
      {"another dataset", [&] { return east.file; }},
      {"nothing", [] { return Bytes{}; }},
      {"half a header", [&] { return cut(header / 2); }},
      {"a header alone", [&] { return cut(header); }},
      {"header and nonce", [&] { return cut(header + 16); }},
      {"one byte less", [&] { return cut(good.size() - 1); }},
      {"one byte more",
       [&] {
         Bytes file = good;
         file.push_back(0);
         return file;
       }},
      {"itself twice",
       [&] {
         Bytes file = good;
         append(file, good);
         return file;
       }},
      {"a bit of the version", [&] { return flipped(3); }},
      {"a bit of the stanza", [&] { return flipped(header / 2); }},
      {"a bit of the MAC", [&] { return flipped(header - 10); }},
      {"a bit of the nonce", [&] { return flipped(header + 1); }},
      {"a bit of a row", [&] { return flipped(header + 100); }},
      {"the last bit", [&] { return flipped(good.size() - 1); }},
      {"another header for the same key",
       [&] {
         SealingKey lab = market.lab.age.recipient();
         Bytes file = trainer::make_header(north.file_key, std::span(&lab, 1)).take();
         append(file, ByteView(good).subspan(header));
         return file;
       }},
      {"other rows under the same key",
       [&] {
         Bytes file = cut(header);
         Bytes plain =
             trainer::decrypt_payload(north.file_key, ByteView(good).subspan(header)).take();
         append(file, trainer::encrypt_payload(north.file_key, plain));
         return file;
       }},
      {"not age at all", [&] { return Bytes(good.size(), 0x41); }},
  };
  for (const auto& lie : lies) {
    SCOPED_TRACE(lie.name);
    ContractId id = market.escrowed({north.id});
    auto trainer = started(id);
    ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
    expect_unbegun(*trainer, id, market.send_dataset(*trainer, north.id, lie.file()));
  }
}

TEST_F(TrainerFlow, ADatasetThatTheHostHasLostEndsTheJobAndCostsNothing) {
  Json lost = Json::Object{{"dataset", east.id}};
  for (bool halfway : {false, true}) {
    SCOPED_TRACE(halfway);
    ContractId id = market.escrowed({north.id, east.id});
    auto trainer = started(id);
    ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
    ASSERT_EQ(market.send_dataset(*trainer, north.id, north.file)->kind, Kind::kDone);
    if (halfway) {
      ASSERT_TRUE(trainer->send(trainer::frame(Kind::kDataset, lost)));
      ASSERT_TRUE(trainer->send(trainer::frame_of_bytes(ByteView(east.file).first(100))));
    }
    expect_unbegun(*trainer, id, trainer->ask(trainer::frame(Kind::kMissing, lost)), east.id);
  }
  ContractId id = market.escrowed({north.id});
  auto trainer = started(id);
  ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
  expect_refused(*trainer, trainer->ask(trainer::frame(Kind::kMissing, lost)), Code::kRefused);
}

// What a policy is told of earlier runs: one that began no step, for want of its ciphertext, is
// none.
TEST_F(TrainerFlow, AJobThatEndedForALostCiphertextCountsAsNoRun) {
  auto once = market.publish(
      market.providers[2],
      {.policy = "if ctx.consumer.runs + ctx.purpose.runs + ctx.runs > 0 then "
                 "return {allow = false, reason = 'once'} end "
                 "return {allow = true, obligations = {min_noise_micro = 1000000}}"});
  Json lost = Json::Object{{"dataset", once.id}};
  auto decided = [&] {
    market.deposit(market.lab.account(), 1000);
    ContractId id = market.submit(market.contract({once.id}));
    EXPECT_TRUE(market.record(Kind::kDecide, id));
    return id;
  };
  for (int loss = 0; loss < 2; ++loss) {
    ContractId id = decided();
    ASSERT_EQ(market.phase(id), Phase::kEscrowed) << loss;
    auto trainer = started(id);
    ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
    expect_unbegun(*trainer, id, trainer->ask(trainer::frame(Kind::kMissing, lost)), once.id);
  }
  EXPECT_EQ(market.phase(decided()), Phase::kEscrowed);
  EXPECT_EQ(market.phase(decided()), Phase::kRefused) << "one that may still run is one";
}

// Whether a private run settles says nothing of how many classes the rows have where the offer
// does not say it: the same contract on two and on three classes ends the same way.
TEST_F(TrainerPrivateRows, RowsOfUnnamedClassesDoNotDecideWhetherAPrivateRunSettles) {
  std::vector<std::vector<Kind>> heard;
  for (int64_t classes : {2, 3}) {
    trainer::Dataset rows = two_classes(40);
    for (int64_t row = 0; row < 40; ++row) rows.labels[static_cast<size_t>(row)] = row % classes;
    rows.schema.classes.clear();
    for (int64_t i = 0; i < classes; ++i)
      rows.schema.classes.push_back("kind " + std::to_string(i));
    auto plain = trainer::dataset_to_safetensors(rows).take();
    auto offered = offered_by(market.providers[2], {.name_classes = false}, plain);
    ASSERT_TRUE(offered.offer.manifest.class_names.empty());
    heard.push_back(heard_while_settling(offered));
  }
  EXPECT_EQ(heard[0], heard[1]);
}

// Files that no importer of ours writes: a number that is not finite, labels past the classes. Of
// two datasets that differ in such a row neither run fails, and the host hears the same.
TEST_F(TrainerPrivateRows, ARowThatNoImporterWritesDoesNotDecideWhetherAPrivateRunSettles) {
  const Bytes whole = rows_file(40);
  // Labels stand first, then features.
  const size_t labels = whole.size() - 40 * 8 - 80 * 4, numbers = labels + 40 * 8;
  auto with = [&](size_t at, auto value) {
    Bytes plain = whole;
    std::memcpy(plain.data() + at, &value, sizeof value);
    return plain;
  };
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(),
                  kInfinite = std::numeric_limits<float>::infinity();
  std::vector<std::vector<Kind>> heard;
  for (const Bytes& plain :
       {whole, with(numbers + 12, kNan), with(numbers, -kInfinite), with(labels + 24, int64_t{2}),
        with(labels, std::numeric_limits<int64_t>::min())}) {
    EXPECT_EQ(plain == whole, static_cast<bool>(trainer::dataset_from_safetensors(plain)));
    heard.push_back(heard_while_settling(offered_by(market.providers[2], {}, plain)));
  }
  for (const auto& kinds : heard) EXPECT_EQ(kinds, heard.front());
}

TEST_F(TrainerFlow, RefusesDatasetsInAnotherOrderOrTwice) {
  ContractId id = market.escrowed({north.id, east.id});
  auto trainer = started(id);
  ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
  expect_refused(*trainer, market.send_dataset(*trainer, east.id, east.file), Code::kRefused);

  ContractId again = market.escrowed({north.id, east.id});
  auto second = started(again);
  ASSERT_EQ(market.show(*second, market.history())->kind, Kind::kConfirmed);
  ASSERT_EQ(market.send_dataset(*second, north.id, north.file)->kind, Kind::kDone);
  expect_refused(*second, market.send_dataset(*second, north.id, north.file), Code::kRefused);
}

TEST_F(TrainerFlow, RefusesADatasetOtherThanItsOfferSays) {
  // The provider's own lie: more rows promised than encrypted.
  auto offered = market.make_offer(market.providers[2]);
  offered.offer.manifest.rows += 1;
  offered.id = contracts::dataset_id(offered.offer.manifest);
  std::string info = contracts::dataset_wrap_info(
      market.market(), offered.id, market.providers[2].account(),
      contracts::policy_hash(offered.offer.manifest.policy), offered.offer.keeper_evidence);
  offered.offer.wrap = ledger::hpke_seal(market.state().keeper()->kem, as_bytes(info), {},
                                         offered.file_key.bytes(SecretAccess{}))
                           .take();
  market.append(contracts::sign_record(offered.offer, market.providers[2].key, market.market()));
  ContractId id = market.escrowed({offered.id});
  auto trainer = started(id);
  ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
  expect_refused(*trainer, market.send_dataset(*trainer, offered.id, offered.file),
                 Code::kMalformed);
}

TEST_F(TrainerFlow, RefusesASpecificationOfAnotherShape) {
  SigningHand hand(market);  // the keeper itself denies it
  auto submit = market.contract({north.id});
  submit.spec.input_shape = {3};
  ContractId wide = hand.escrowed(submit, Json::Object{});
  contracts::Evidence evidence;
  auto trainer = prepared(wide, evidence);
  ASSERT_EQ(hand.record(hand.start(wide, evidence, {&north})), "");
  ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
  expect_refused(*trainer, market.send_dataset(*trainer, north.id, north.file), Code::kMalformed);
}

TEST_F(TrainerFlow, TrainsNothingBeforeAllIsLoaded) {
  ContractId id = market.escrowed({north.id, east.id});
  auto trainer = started(id);
  ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
  ASSERT_EQ(market.send_dataset(*trainer, north.id, north.file)->kind, Kind::kDone);
  expect_refused(*trainer, trainer->ask(trainer::frame(Kind::kTrain, Json::Object{})),
                 Code::kMalformed);
}

}  // namespace
}  // namespace souk::flows
