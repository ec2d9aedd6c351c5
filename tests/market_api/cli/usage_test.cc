// The real program, called wrongly: exit status 2, one clear line, nothing left behind.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>

#include "ledger/codec/json.h"
#include "market_api/client/identity.h"
#include "market_api/client/local_files.h"
#include "tests/support/market_fixture.h"

namespace souk::market {
namespace {

struct Called {
  int status = -1;
  std::string out, err;
};

class UsageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* bin = std::getenv("SOUK_BIN");
    ASSERT_TRUE(bin) << "expected SOUK_BIN";
    program_ = std::string(bin) + "/souk";
    ASSERT_TRUE(path_exists(program_)) << program_;
  }

  Called call(const std::string& arguments) {
    std::string command = "SOUK_HOME='" + folder.file("home") + "' '" + program_ + "' " +
                          arguments + " >'" + folder.file("out") + "' 2>'" + folder.file("err") +
                          "'";
    int raw = std::system(command.c_str());
    Called called;
    called.status = WIFEXITED(raw) ? WEXITSTATUS(raw) : -1;
    called.out = to_text(*load_file(folder.file("out"), 1 << 20));
    called.err = to_text(*load_file(folder.file("err"), 1 << 20));
    return called;
  }

  // Exit 2 and one line that has `clue` in it.
  void expect_usage(const std::string& arguments, const std::string& clue) {
    auto called = call(arguments);
    EXPECT_EQ(called.status, 2) << arguments << "\n" << called.err;
    EXPECT_EQ(called.out, "") << arguments;
    EXPECT_NE(called.err.find(clue), std::string::npos) << arguments << "\n" << called.err;
    EXPECT_EQ(std::count(called.err.begin(), called.err.end(), '\n'), 1) << called.err;
  }

  std::string write(const std::string& name, const std::string& text) {
    EXPECT_TRUE(save_file(folder.file(name), as_bytes(text), FileMode::kShared));
    return folder.file(name);
  }

  // An identity whose market nobody serves.
  void make_identity() {
    Home home(folder.file("home"));
    ASSERT_TRUE(home.create("lab", {"http://127.0.0.1:1", MarketId(Digest{1}), "o+00000000+AA=="}));
  }

  flows::TempFolder folder;

 private:
  std::string program_;
};

// A consumer who keeps a credential too late is told so at once, and not by a denial later.
TEST_F(UsageTest, ACredentialThatHasExpiredIsKeptWithAWarningAndListedAsExpired) {
  make_identity();
  auto lab = Home(folder.file("home")).open("lab").take();
  auto issuer = ledger::SigningKey::generate();
  auto add = [&](const std::string& type, TimeMs expires_ms) {
    contracts::Credential said{.subject = lab.account(), .type = type};
    said.expires_ms = expires_ms;
    auto envelope = contracts::sign_credential(said, issuer, lab.pin().market);
    auto called =
        call("credential add " + write(type + ".json", canonical(ledger::to_json(envelope))));
    EXPECT_EQ(called.status, 0) << called.err;
    return called.err;
  };
  EXPECT_EQ(add("fresh", SystemClock().now() + 60'000), "");
  std::string warning = add("stale", 1'600'000'000'000);
  EXPECT_NE(warning.find("warning: this credential expired on 2020-09-13"), std::string::npos)
      << warning;
  auto listed = call("credential list").out;
  EXPECT_EQ(listed.find("(expired)"), listed.rfind("(expired)")) << listed;
  auto line_of = [&](const std::string& type) {
    size_t from = listed.find(type);
    return listed.substr(from, listed.find('\n', from) - from);
  };
  EXPECT_NE(line_of("stale").find("(expired)"), std::string::npos) << listed;
  EXPECT_EQ(line_of("fresh").find("(expired)"), std::string::npos) << listed;
}

// Names of files need not be UTF-8; what is said of them in JSON is.
TEST_F(UsageTest, AnErrorAboutANameThatIsNoUtf8IsJsonAllTheSame) {
  auto called = call("policy check '" + folder.file("caf\xe9\xff.lua") + "' --json");
  EXPECT_EQ(called.status, 2) << called.err;
  EXPECT_EQ(std::count(called.out.begin(), called.out.end(), '\n'), 1) << called.out;
  auto json = parse_json(called.out);
  ASSERT_TRUE(json) << called.out;
  const Json* error = json->find("error");
  ASSERT_TRUE(error && error->find("message")->string()) << called.out;
  EXPECT_EQ(*error->find("code")->string(), "malformed");
  EXPECT_NE(error->find("message")->string()->find("caf"), std::string::npos) << called.out;
}

TEST_F(UsageTest, HelpAndVersionAreYes) {
  for (const char* arguments : {"--help", "--version", "dataset --help", "job submit --help",
                                "ledger audit --help", "version"}) {
    auto called = call(arguments);
    EXPECT_EQ(called.status, 0) << arguments;
    EXPECT_NE(called.out, "") << arguments;
    EXPECT_EQ(called.err, "") << arguments;
  }
}

TEST_F(UsageTest, UnknownAndMissingVerbs) {
  expect_usage("", "dataset");
  expect_usage("frobnicate", "frobnicate");
  expect_usage("dataset", "publish");
  expect_usage("dataset frobnicate", "frobnicate");
  expect_usage("whoami extra", "extra");
  expect_usage("dataset list --frobnicate", "--frobnicate");
  expect_usage("job submit", "CONTRACT");
  expect_usage("job submit x.lua --dry-run --wait", "--");
  expect_usage("ledger show minus-one", "SEQ");
  expect_usage("ledger show -1", "SEQ");
  expect_usage("ledger show 99999999999999999999", "SEQ");
  expect_usage("ledger prove 1.5", "SEQ");
  expect_usage("ledger log --limit -1", "--limit");
  expect_usage("treasury deposit lab -5", "AMOUNT");
  expect_usage("--as", "--as: expected a value");
}

TEST_F(UsageTest, NumbersAreDecimalDigitsAndNothingElse) {
  std::string budget = " --budget-epsilon 1 --budget-delta 1e-5";
  for (const char* number : {"0x10", "+5", "' 5'", "'5 '", "1e3", "1.5", "50.5", "''", "010",
                             "1,000", "5minor", "nan", "0b11", "99999999999999999999"}) {
    std::string text = number;
    expect_usage("ledger show " + text, "SEQ: expected");
    expect_usage("ledger log --limit " + text, "--limit: expected");
    expect_usage("treasury deposit lab " + text, "AMOUNT: expected");
    expect_usage("dataset publish rows.csv --policy p.lua --price " + text + budget,
                 "--price: expected");
    expect_usage("policy eval p.lua --request r.json --gas " + text, "--gas: expected");
    expect_usage("bench train --model mlp --steps " + text, "--steps: expected");
    expect_usage("train-local c.lua --data rows.csv --folds " + text, "--folds: expected");
    expect_usage(
        "privacy epsilon --sample-rate 0.1 --noise-multiplier 1 --delta 1e-5 --steps " + text,
        "--steps: expected");
  }
  // As many as a specification may have, and no more is promised.
  expect_usage("bench train --model logreg --batch 65537", "1 to 65536");
  EXPECT_EQ(call("bench train --model logreg --batch 65536 --spec").status, 0);
  expect_usage("train-local c.lua --data rows.csv --folds 4294967297", "--folds: expected");
  for (const char* number : {"0x1p3", "+2.5", "' 2'", "inf", "nan", "1e999"})
    expect_usage("policy prove p.lua --invariant x --seconds " + std::string(number),
                 "--seconds: expected");
}

TEST_F(UsageTest, NamesAndPathsAreNotEmpty) {
  make_identity();
  std::string policy = write("p.lua", "return {allow = true}");
  std::string rows = write("rows.csv", "a,y\n1,M\n2,B\n");
  std::string rest = " --label y --budget-epsilon 1 --budget-delta 1e-5 --price 5";
  for (const char* name : {"''", "' '", "'\t'", "' rows'", "'rows '", "'a\nb'", "'a\033[1m'"})
    expect_usage("dataset publish " + rows + " --policy " + policy + rest + " --name " + name,
                 "--name: expected");
  expect_usage("ledger audit --data ''", "--data: expected");
  expect_usage("receipt verify ''", "FILE: expected");
}

TEST_F(UsageTest, HelpSaysNumbersAndListsInWords) {
  std::string out = call("dataset publish --help").out;
  EXPECT_NE(out.find("--price N (0 or more, required)"), std::string::npos) << out;
  EXPECT_NE(out.find("--user-cap N (1 to "), std::string::npos) << out;
  EXPECT_EQ(out.find("INT"), std::string::npos) << out;
  EXPECT_NE(call("model import --help").out.find("--norm batch|group"), std::string::npos);
  EXPECT_NE(call("ledger log --help").out.find("default 20"), std::string::npos);
}

// Also where a verb says more below its options.
TEST_F(UsageTest, EveryHelpEndsWithWhatIsTrueOfEveryVerb) {
  const std::string all = call("--help").out, begin = "\n\nEvery verb takes --json";
  ASSERT_NE(all.find(begin), std::string::npos) << all;
  const std::string end = all.substr(all.find(begin));
  std::vector<std::string> asked{""};
  for (size_t i = 0; i < asked.size(); ++i) {
    const std::string help = call(asked[i] + " --help").out;
    EXPECT_TRUE(help.ends_with(end)) << asked[i] << "\n" << help;
    size_t at = help.find("\nSubcommands:\n");
    if (at == std::string::npos) continue;
    std::istringstream lines(help.substr(at + std::strlen("\nSubcommands:\n")));
    for (std::string line; std::getline(lines, line) && !line.empty();) {
      if (line.size() > 2 && line[2] != ' ')
        asked.push_back(asked[i] + " " + line.substr(2, line.find(' ', 2) - 2));
    }
  }
  EXPECT_GT(asked.size(), 60U);
  for (const char* verb : {" model evaluate", " privacy audit", " train-local"})
    EXPECT_EQ(std::count(asked.begin(), asked.end(), verb), 1) << verb;
}

TEST_F(UsageTest, BadHex) {
  std::string hex(64, 'a');
  for (const std::string& id :
       {std::string("zz"), hex + "a", hex.substr(1), std::string(64, 'A')}) {
    expect_usage("init --market http://127.0.0.1:1 --market-id " + id + " --name lab",
                 "--market-id");
  }
  for (const char* url : {"nowhere", "ftp://127.0.0.1", "http://127.0.0.1:99999", "http://[::1",
                          "http://user@127.0.0.1", "http://", "http://127.0.0.1/?q",
                          "http://127.0.0.1:1/market", "http://127.0.0.1:1/a/b/"}) {
    expect_usage("init --market '" + std::string(url) + "' --market-id " + hex + " --name lab",
                 "URL");
  }
  EXPECT_FALSE(path_exists(folder.file("home") + "/identities")) << "nothing must be left behind";
}

TEST_F(UsageTest, WithoutAnIdentityItSaysHowToMakeOne) {
  for (const char* arguments :
       {"whoami", "dataset list", "job status abcdef", "account balance", "ledger log"}) {
    expect_usage(arguments, "souk init");
  }
  make_identity();
  expect_usage("--as nobody whoami", "nobody");
  EXPECT_EQ(call("whoami").status, 0);
}

TEST_F(UsageTest, AProofIsNotWrittenOverByItsEntry) {
  make_identity();
  for (const char* leaf : {"x", "./x", "y/../x"}) {
    expect_usage("ledger prove 0 --out " + folder.file("x") + " --leaf " + folder.file(leaf),
                 "expected two files");
  }
}

TEST_F(UsageTest, AModelAnswersForRowsOfItsOwnColumns) {
  std::string rows = "a,town,y\n", turned = "y,town,a\n";
  for (int i = 0; i < 20; ++i) {
    const std::string a = std::to_string(i), town = i % 2 ? "ulm" : "bonn", y = i % 3 ? "M" : "B";
    rows += a + "," + town + "," + y + "\n";
    turned += y + "," + town + "," + a + "\n";
  }
  const std::string contract = write("two.lua", R"(return { purpose = "test", datasets = {"rows"},
    payment = 0, model = { linear { units = 2 } },
    train = { steps = 2, batch = 4, shuffle = true, optimizer = sgd {}, learning_rate = 0.1 } })");
  const std::string train =
      "train-local " + contract + " --label y --out " + folder.file("m") + " --data ";
  ASSERT_EQ(call(train + write("rows.csv", rows)).status, 0);
  // By name, in any order; and so where the notes have names alone.
  const std::string turned_path = write("turned.csv", turned);
  auto first =
      call("model evaluate " + folder.file("m") + " --json --data " + write("rows.csv", rows));
  auto second = call("model evaluate " + folder.file("m") + " --json --data " + turned_path);
  EXPECT_EQ(first.status, 0) << first.err;
  EXPECT_EQ(second.out, first.out) << second.err;

  // A category that is not listed: predicting says so and answers, evaluating refuses.
  const std::string odd = write("odd.csv", "a,town,y\n1,ulm,M\n2,rome,M\n3,\x1b[31m,B\n4,?,B\n");
  auto predicted = call("model predict " + folder.file("m") + " --json --data " + odd);
  EXPECT_EQ(predicted.status, 0) << predicted.err;
  EXPECT_NE(predicted.out.find("\"unlisted\":{\"town\":2}"), std::string::npos) << predicted.out;
  EXPECT_EQ(
      predicted.err,
      "souk: warning: column \"town\": 2 rows have values that the layout does not list, such "
      "as \"rome\"; counted as missing\n");
  auto whole = call("model predict " + folder.file("m") + " --json --data " + turned_path);
  EXPECT_NE(whole.out.find("\"unlisted\":{}"), std::string::npos);
  EXPECT_EQ(whole.err, "");
  expect_usage("model evaluate " + folder.file("m") + " --data " + odd,
               "line 3, column 2 (town): expected one of the column's listed values");
  auto tested = call(train + write("rows.csv", rows) + " --json --test " + odd);
  EXPECT_EQ(tested.status, 0);
  EXPECT_NE(tested.out.find("\"unlisted\":{\"town\":2}"), std::string::npos);
  EXPECT_NE(tested.err.find("\"rome\""), std::string::npos);

  // A model of a market without categories has names alone; they are found as well.
  std::string numbers = "a,b,y\n", swapped = "b,y,a\n";
  for (int i = 0; i < 20; ++i) {
    const std::string a = std::to_string(i), b = std::to_string(i * 7 % 20), y = i % 3 ? "M" : "B";
    numbers += a + "," + b + "," + y + "\n";
    swapped += b + "," + y + "," + a + "\n";
  }
  const std::string numbers_path = write("numbers.csv", numbers);
  ASSERT_EQ(call(train + numbers_path).status, 0);
  auto named = parse_json(as_text(*load_file(folder.file("m/spec.json"), 1 << 20)), 1 << 20).take();
  named.object()->erase("csv");
  write("m/spec.json", canonical(named) + "\n");
  auto straight = call("model evaluate " + folder.file("m") + " --json --data " + numbers_path);
  auto other = call("model evaluate " + folder.file("m") + " --json --data " +
                    write("swapped.csv", swapped));
  EXPECT_EQ(straight.status, 0) << straight.err;
  EXPECT_EQ(other.out, straight.out) << other.err;
  expect_usage(
      "model evaluate " + folder.file("m") + " --data " + write("none.csv", "a,c,y\n1,2,M\n"),
      "line 1: expected a header with a column named \"b\"");

  // What is wrong with the rows is said of them, by the place.
  expect_usage(train + write("one.csv", "a,y\n1,M\n2,M\n3,M\n4,M\n"),
               "one.csv: data: expected rows of two classes");
  expect_usage(train + write("stray.csv", numbers + "1e999,3,M\n"),
               "stray.csv: line 22, column 1 (a): expected a finite number, as in 20");
}

TEST_F(UsageTest, PicturesOfOtherKindsAreLeftOutWithAWord) {
  const std::string picture = "P5 2 1 255\n";
  std::filesystem::create_directories(folder.file("pictures/cat"));
  std::filesystem::create_directories(folder.file("pictures/dog"));
  for (const char* name : {"cat/1", "cat/2", "dog/1", "dog/2"})
    write("pictures/" + std::string(name) + ".pgm", picture + name[0] + name[4]);
  const std::string contract = write("two.lua", R"(return { purpose = "test", datasets = {"rows"},
    payment = 0, model = { flatten(), linear { units = 2 } },
    train = { steps = 2, batch = 2, shuffle = true, optimizer = sgd {}, learning_rate = 0.1 } })");
  const std::string train = "train-local " + contract + " --data " + folder.file("pictures");
  EXPECT_EQ(call(train).err, "");
  write("pictures/cat/3.png", "png");
  write("pictures/dog/.hidden", "x");
  write("pictures/dog/4.PNG", "png");
  auto warned = call(train);
  EXPECT_EQ(warned.status, 0) << warned.err;
  EXPECT_NE(
      warned.err.find("pictures: left out 2 files that are not .pgm or .ppm in the folder of a "
                      "class: cat/3.png and others"),
      std::string::npos)
      << warned.err;
}

TEST_F(UsageTest, FilesThatAreMissing) {
  make_identity();
  std::string policy = write("p.lua", "return {allow = true}");
  std::string rows = write("rows.csv", "a,y\n1,M\n2,B\n");
  std::string rest = " --label y --budget-epsilon 1 --budget-delta 1e-5 --price 5";
  expect_usage("dataset publish missing.csv --policy " + policy + rest, "missing.csv");
  expect_usage("dataset publish " + rows + " --policy missing.lua" + rest, "missing.lua");
  expect_usage("receipt verify missing.json", "missing.json");
  expect_usage("ledger audit --data missing", "missing");
  expect_usage("credential add missing.json", "missing.json");
  expect_usage("model evaluate missing --data " + rows, "missing");
  expect_usage("treasury deposit lab 5 --key missing.key", "missing.key");
  expect_usage("job submit missing.lua", "missing.lua");
  expect_usage("policy check missing.lua", "missing.lua");
}

TEST_F(UsageTest, FilesThatAreMalformed) {
  make_identity();
  std::string policy = write("p.lua", "return {allow = true}");
  std::string rows = write("rows.csv", "a,y\n1,M\n2,B\n");
  std::string budget = " --budget-epsilon 1 --budget-delta 1e-5 --price 5";
  std::string publish = "dataset publish " + rows + " --policy " + policy;
  expect_usage("dataset publish " + write("bad.csv", "a,y\n1,M\nx,B\n") + " --policy " + policy +
                   " --label y" + budget,
               "line 3");
  expect_usage(publish + " --label z" + budget, "z");
  expect_usage(publish + " --label y --drop nope" + budget, "nope");
  expect_usage(publish + " --label y --budget-epsilon much --budget-delta 1e-5 --price 5",
               "--budget-epsilon");
  expect_usage(publish + " --label y --budget-epsilon 0 --budget-delta 1e-5 --price 5",
               "--budget-epsilon");
  expect_usage(publish + " --label y --budget-epsilon 1 --budget-delta 2 --price 5",
               "--budget-delta");
  expect_usage(publish + " --label y --budget-epsilon 1 --budget-delta 1e-5 --price -5", "--price");
  expect_usage("dataset publish " + rows + " --policy " + write("bad.lua", "return {") +
                   " --label y" + budget,
               "bad.lua");
  expect_usage("receipt verify " + write("r.json", "{}"), "receipt");
  expect_usage("receipt verify " + write("r.json", "{}\n"), "receipt");
  expect_usage("receipt verify " + rows, "receipt");
  expect_usage("treasury deposit lab 5 --key " + write("short.key", "abc\n"), "hexadecimal");
  std::string out = folder.file("credential.json");
  for (const char* type : {"''", "'two words'", "'caf\xc3\xa9'"}) {
    expect_usage("credential issue --to lab --expires-days 5 --out " + out + " --type " + type,
                 "credential type");
    EXPECT_FALSE(path_exists(out));
  }
  expect_usage("credential issue --to lab --expires-days 5 --type x --out /nowhere/at/all",
               "/nowhere/at/all");
}

TEST_F(UsageTest, AMarketThatDoesNotAnswerIsCannotNow) {
  make_identity();
  for (const char* arguments : {"dataset list", "ledger audit", "account balance"}) {
    auto called = call(arguments);
    EXPECT_EQ(called.status, 3) << arguments << called.err;
    EXPECT_EQ(called.out, "");
  }
}

TEST_F(UsageTest, JsonSaysTheErrorOnStdoutToo) {
  auto called = call("whoami --json");
  EXPECT_EQ(called.status, 2);
  ASSERT_FALSE(called.out.empty());
  called.out.pop_back();
  auto json = parse_canonical(called.out);
  ASSERT_TRUE(json) << called.out;
  ASSERT_TRUE(json->find("error"));
  EXPECT_EQ(*json->find("error")->find("code")->string(), "malformed");
}

TEST_F(UsageTest, TheTreasuryKeyIsMadeOnce) {
  auto first = call("treasury keygen");
  EXPECT_EQ(first.status, 0) << first.err;
  EXPECT_EQ(first.out.size(), 65u);
  EXPECT_EQ(call("treasury keygen").out, first.out);
  EXPECT_NE(call("treasury keygen --out '" + folder.file("other.key") + "'").out, first.out);
}

TEST_F(UsageTest, AFolderThatIsNoLedgerDoesNotPassAnAudit) {
  std::filesystem::create_directory(folder.file("data"));
  write("data/ledger.db", "not a database");
  auto called = call("ledger audit --data '" + folder.file("data") + "'");
  EXPECT_EQ(called.status, 1) << called.err;
  EXPECT_NE(called.out.find("BAD"), std::string::npos);
}

}  // namespace
}  // namespace souk::market
