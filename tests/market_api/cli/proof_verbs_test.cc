// souk proof, note, policy-file, ledger verify-signature and ledger tiles, as a shell sees
// them: exit statuses 0, 1 and 2, and one JSON object with the promised members.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>

#include "ledger/codec/json.h"
#include "ledger/codec/json_reals.h"
#include "ledger/entry/leaf.h"
#include "ledger/proof/cosignature.h"
#include "ledger/proof/merkle.h"
#include "ledger/proof/tlog_proof.h"
#include "tests/ledger/ledger_fixture.h"

namespace souk::market {
namespace {

using ledger::test::Folder;
using ledger::test::key_of;

struct Ran {
  int status = -1;
  Json json;
};

class ProofVerbs : public ::testing::Test {
 protected:
  std::string write(const std::string& name, std::string_view text) {
    std::ofstream(folder_.file(name), std::ios::binary) << text;
    return folder_.file(name);
  }
  Ran souk(const std::string& arguments, const std::string& input = "") {
    const char* bin = std::getenv("SOUK_BIN");
    CHECK(bin != nullptr);
    std::string command = std::string(bin) + "/souk " + arguments + " --json <" +
                          write("stdin", input) + " 2>/dev/null";
    FILE* pipe = ::popen(command.c_str(), "r");
    CHECK(pipe != nullptr);
    std::string output;
    char piece[4096];
    while (size_t got = std::fread(piece, 1, sizeof piece, pipe)) output.append(piece, got);
    int status = ::pclose(pipe);
    Ran ran;
    ran.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    auto json = parse_json_marking_reals(output);
    EXPECT_TRUE(json) << arguments << ": " << output;
    if (json) ran.json = *json;
    return ran;
  }
  std::string text(const Ran& ran, const std::string& name) {
    const Json* member = ran.json.find(name);
    return member && member->string() ? *member->string() : "";
  }

  std::string text_of_error(const Ran& ran) {
    const Json* error = ran.json.find("error");
    const Json* message = error ? error->find("message") : nullptr;
    return message && message->string() ? *message->string() : "";
  }

  const ledger::NoteKey log_ = ledger::NoteKey::of("log.example", key_of(9).public_key()).take();
  const ledger::CosignerKey witness_ =
      ledger::CosignerKey::of("w.example", key_of(1).public_key()).take();
  Folder folder_;
};

TEST_F(ProofVerbs, InclusionAndConsistencyAnswerYesNoAndMalformed) {
  std::string root(64, 'a');
  auto one = [&](const std::string& index) {
    return R"({"leaf_hash":")" + root + R"(","index":)" + index + R"(,"size":1,"root":")" + root +
           R"(","proof":[]})";
  };
  auto yes = souk("proof inclusion", one("0"));
  EXPECT_EQ(yes.status, 0);
  EXPECT_EQ(text(yes, "root"), root);
  EXPECT_EQ(*yes.json.find("size")->integer(), 1);
  EXPECT_EQ(souk("proof inclusion", one("18446744073709551615")).status, 1);
  EXPECT_EQ(souk("proof inclusion", one("18446744073709551616")).status, 2);
  EXPECT_EQ(souk("proof inclusion", "").status, 2);
  EXPECT_EQ(souk("proof inclusion " + write("claim", one("0"))).status, 0);
  EXPECT_EQ(souk("proof inclusion " + folder_.file("none")).status, 2);
  auto two = [&](const std::string& size1) {
    return R"({"size1":)" + size1 + R"(,"root1":")" + root + R"(","size2":5,"root2":")" + root +
           R"(","proof":[]})";
  };
  EXPECT_EQ(souk("proof consistency", two("5")).status, 0);
  EXPECT_EQ(souk("proof consistency", two("0")).status, 1);
  EXPECT_EQ(souk("proof consistency", two("-1")).status, 2);
}

// The second to read standard input would see an empty entry, and its proof may well hold.
TEST_F(ProofVerbs, StandardInputIsOfOneArgument) {
  const Digest root = ledger::leaf_hash({});
  auto note =
      ledger::sign_checkpoint({.origin = "log.example", .size = 1, .root = root}, log_, key_of(9));
  ledger::TlogProof proof;
  proof.checkpoint = note;
  const std::string key = " --key " + log_.vkey();
  const std::string empty = write("empty", ""), file = write("proof", proof.text());
  auto held = souk("proof check - --leaf " + empty + key, proof.text());
  EXPECT_EQ(held.status, 0);
  EXPECT_EQ(*held.json.find("leaf_checked")->boolean(), true);
  EXPECT_EQ(souk("proof check " + file + " --leaf -" + key, "").status, 0);
  auto twice = souk("proof check - --leaf -" + key, proof.text());
  EXPECT_EQ(twice.status, 2);
  EXPECT_NE(text_of_error(twice).find("expected for one argument only"), std::string::npos);
  // Of another log, too: what was asked cannot be answered at all.
  const std::string other =
      " --key " + ledger::NoteKey::of("log.example", key_of(8).public_key())->vkey();
  EXPECT_EQ(souk("proof check - --leaf -" + other, proof.text()).status, 2);
  EXPECT_EQ(souk("proof check - --policy -" + key, proof.text()).status, 2);
  EXPECT_EQ(souk("proof check " + file + " --policy - --leaf -", "").status, 2);
}

TEST_F(ProofVerbs, TilesAndTheirProofsAgree) {
  std::string lines;
  std::vector<Digest> hashes;
  for (int i = 0; i < 600; ++i) {
    std::string leaf = i == 7 ? "" : "leaf " + std::to_string(i);
    lines += leaf + "\n";
    hashes.push_back(ledger::leaf_hash(as_bytes(leaf)));
  }
  std::string leaves = write("leaves", lines);
  auto built = souk("ledger tiles build --leaves " + leaves + " --out " + folder_.file("out"));
  ASSERT_EQ(built.status, 0);
  EXPECT_EQ(text(built, "root"), to_hex(ByteView(ledger::tree_root(hashes))));
  EXPECT_EQ(*built.json.find("size")->integer(), 600);
  namespace fs = std::filesystem;
  EXPECT_EQ(fs::file_size(folder_.file("out/tile/0/000")), 8192u);
  EXPECT_EQ(fs::file_size(folder_.file("out/tile/0/002.p/88")), 88u * 32);
  EXPECT_EQ(fs::file_size(folder_.file("out/tile/1/000.p/2")), 64u);
  EXPECT_TRUE(fs::exists(folder_.file("out/tile/entries/002.p/88")));
  EXPECT_FALSE(fs::exists(folder_.file("out/tile/0/002")));
  // Again, smaller, without the last newline: the same files stay what they are.
  EXPECT_EQ(souk("ledger tiles build --leaves " + leaves + " --out " + folder_.file("out")).status,
            0);
  auto part =
      souk("ledger tiles build --size 513 --leaves " + leaves + " --out " + folder_.file("out"));
  EXPECT_EQ(part.status, 0);
  EXPECT_EQ(text(part, "root"),
            to_hex(ByteView(ledger::tree_root(std::span<const Digest>(hashes).first(513)))));
  EXPECT_EQ(souk("ledger tiles build --size 601 --leaves " + leaves + " --out " + folder_.file("x"))
                .status,
            2);
  EXPECT_EQ(souk("ledger tiles build --leaves " + write("other", "x" + lines) + " --out " +
                 folder_.file("out"))
                .status,
            2);
  auto nothing =
      souk("ledger tiles build --leaves " + write("empty", "") + " --out " + folder_.file("e"));
  EXPECT_EQ(text(nothing, "root"),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");

  // Signed, it is a log that the audit reads, and whose proofs the check believes.
  auto note = ledger::sign_checkpoint(
      {.origin = "log.example", .size = 600, .root = ledger::tree_root(hashes)}, log_, key_of(9));
  write("out/checkpoint", note);
  std::string audit = "ledger audit --tiles " + folder_.file("out") + " --key " + log_.vkey();
  EXPECT_EQ(souk(audit).status, 0);
  EXPECT_EQ(souk("ledger audit --tiles " + folder_.file("out")).status, 2);
  ledger::TlogProof proof{
      .index = 3, .path = ledger::inclusion_proof(hashes, 3), .checkpoint = note};
  std::string file = write("p.tlog-proof", proof.text());
  std::string check = "proof check " + file + " --key " + log_.vkey();
  EXPECT_EQ(souk(check + " --leaf " + write("leaf", "leaf 3")).status, 0);
  EXPECT_EQ(souk(check + " --leaf " + write("leaf", "leaf 4")).status, 1);
  auto unasked = souk(check);
  EXPECT_EQ(unasked.status, 0);
  EXPECT_FALSE(*unasked.json.find("leaf_checked")->boolean());
  EXPECT_EQ(souk("proof check " + file).status, 2);
  EXPECT_EQ(
      souk("proof check " + write("bad", proof.text().substr(1)) + " --key " + log_.vkey()).status,
      2);
  auto other = ledger::NoteKey::of("log.example", key_of(8).public_key())->vkey();
  EXPECT_EQ(souk("proof check " + file + " --key " + other).status, 1);

  std::string policy = "log " + log_.vkey() + "\nwitness W " + witness_.vkey() + "\nquorum W\n";
  std::string by_policy = "proof check " + file + " --policy " + write("policy", policy) +
                          " --leaf " + write("leaf", "leaf 3");
  EXPECT_EQ(souk(by_policy).status, 1);
  auto cosigned = ledger::parse_note(note).take();
  cosigned.signatures.push_back(ledger::cosign(cosigned.text, witness_, key_of(1), 1'700'000'000));
  proof.checkpoint = ledger::encode_note(cosigned);
  write("p.tlog-proof", proof.text());
  EXPECT_EQ(souk(by_policy).status, 0);

  // A key and a policy: that log, and the policy's witnesses.
  write("out/checkpoint", proof.checkpoint);
  auto witnesses = write("witnesses", "witness W " + witness_.vkey() + "\nquorum W\n");
  EXPECT_EQ(souk(check + " --policy " + folder_.file("policy")).status, 0);
  EXPECT_EQ(souk(check + " --policy " + witnesses).status, 0);
  EXPECT_EQ(souk("proof check " + file + " --policy " + witnesses).status, 1);
  EXPECT_EQ(souk("proof check " + file + " --key " + other + " --policy " + witnesses).status, 1);
  auto foreign =
      write("foreign", "log " + other + "\nwitness W " + witness_.vkey() + "\nquorum W\n");
  EXPECT_EQ(souk(check + " --policy " + foreign).status, 1);
  auto both = souk(audit + " --policy " + witnesses);
  EXPECT_EQ(both.status, 0);
  EXPECT_EQ(*both.json.find("cosignatures")->integer(), 1);
  write("out/checkpoint", note);
  EXPECT_EQ(souk(audit + " --policy " + witnesses).status, 1);
  EXPECT_EQ(souk(audit + " --policy " + folder_.file("nowhere")).status, 2);

  // What is no regular file is read to its end.
  EXPECT_EQ(text(souk("ledger tiles build --leaves /dev/null --out " + folder_.file("n")), "root"),
            text(nothing, "root"));
  EXPECT_EQ(text(souk("ledger tiles build --leaves /dev/stdin --out " + folder_.file("p"), lines),
                 "root"),
            text(built, "root"));

  // One byte of a tile, and one of a bundle: named.
  auto flip = [&](const std::string& name, std::streamoff at) {
    std::fstream io(folder_.file(name), std::ios::in | std::ios::out | std::ios::binary);
    io.seekg(at);
    auto byte = static_cast<char>(io.get() ^ 1);
    io.seekp(at);
    io.put(byte);
  };
  for (const char* name :
       {"tile/0/001", "tile/1/000.p/2", "tile/entries/001", "tile/entries/002.p/88"}) {
    flip(std::string("out/") + name, 37);
    auto bad = souk(audit);
    EXPECT_EQ(bad.status, 1) << name;
    EXPECT_EQ(text(bad, "file"), name);
    flip(std::string("out/") + name, 37);
  }
  EXPECT_EQ(souk(audit).status, 0);
}

// Every file below the folder and what is in it.
std::map<std::string, std::string> files_below(const std::string& folder) {
  std::map<std::string, std::string> out;
  for (const auto& item : std::filesystem::recursive_directory_iterator(folder)) {
    std::ifstream in(item.path(), std::ios::binary);
    out[item.path().string()] =
        item.is_directory() ? "" : std::string(std::istreambuf_iterator<char>(in), {});
  }
  return out;
}

TEST_F(ProofVerbs, TilesAreBuiltWhereAnEarlierStateOfTheSameTreeIsOrNothing) {
  auto lines = [](int count, const std::string& what = "leaf ") {
    std::string out;
    for (int i = 0; i < count; ++i) out += what + std::to_string(i) + "\n";
    return out;
  };
  const std::string out = folder_.file("out");
  auto build = [&](const std::string& leaves) {
    return souk("ledger tiles build --leaves " + write("leaves", leaves) + " --out " + out);
  };
  // An earlier state grows, over a tile's end too, and ends as if built at once.
  for (int size : {2, 3, 255, 256, 300, 70'000}) EXPECT_EQ(build(lines(size)).status, 0) << size;
  auto whole = build(lines(70'000));
  std::filesystem::remove_all(out);
  EXPECT_EQ(text(build(lines(70'000)), "root"), text(whole, "root"));

  // Whatever is not: refused, and as it was.
  auto refused = [&](const std::string& why, const std::string& leaves) {
    auto before = files_below(out);
    auto ran = build(leaves);
    EXPECT_EQ(ran.status, 2) << why;
    EXPECT_NE(canonical(ran.json).find("nothing was written"), std::string::npos) << why;
    EXPECT_EQ(files_below(out), before) << why;
  };
  for (int size : {1, 2, 255, 256, 257, 600}) {
    std::filesystem::remove_all(out);
    ASSERT_EQ(build(lines(size)).status, 0);
    refused("another tree, longer", lines(700, "other "));
    refused("another tree, as long", lines(size, "other "));
    refused("one leaf less", lines(size - 1));
    refused("another last leaf", lines(size - 1) + "x\n" + lines(300, "more "));
    for (const char* stray :
         {"tile/0/001.p/9", "tile/entries/x001/000", "tile/notes", "tile/2/000", "checkpoint"}) {
      std::filesystem::create_directories(std::filesystem::path(out + "/" + stray).parent_path());
      bool known = std::filesystem::exists(out + "/" + stray);
      if (known) continue;
      write(std::string("out/") + stray, "something");
      refused(stray, lines(size));
      std::filesystem::remove(out + "/" + stray);
    }
    EXPECT_EQ(build(lines(size)).status, 0) << size;
  }
}

TEST_F(ProofVerbs, NotesSayWhoSignedThem) {
  std::string note = ledger::sign_note("text\n", log_, key_of(9));
  std::string file = write("note", note);
  auto yes = souk("note verify " + file + " --key " + log_.vkey());
  EXPECT_EQ(yes.status, 0);
  EXPECT_EQ(*yes.json.find("signed_by")->array(), (Json::Array{Json(log_.vkey())}));
  auto other = ledger::NoteKey::of("other.example", key_of(3).public_key())->vkey();
  EXPECT_EQ(souk("note verify " + file + " --key " + other).status, 1);
  EXPECT_EQ(souk("note verify " + file + " --key " + other + " --key " + log_.vkey()).status, 0);
  EXPECT_EQ(souk("note verify - --key " + log_.vkey(), note).status, 0);
  EXPECT_EQ(souk("note verify - --key " + log_.vkey(), "text\n").status, 2);
  EXPECT_EQ(souk("note verify - --key " + log_.vkey(), note + "x").status, 2);
  EXPECT_EQ(souk("note verify - --key nonsense", note).status, 2);
  EXPECT_EQ(souk("note verify - --key " + log_.vkey(), "x" + note).status, 1);
  auto parsed = ledger::parse_note(note).take();
  parsed.signatures.push_back(ledger::cosign(parsed.text, witness_, key_of(1), 5));
  auto both = souk("note verify - --key " + log_.vkey() + " --key " + witness_.vkey(),
                   ledger::encode_note(parsed));
  EXPECT_EQ(both.status, 0);
  EXPECT_EQ(both.json.find("signed_by")->array()->size(), 2u);
}

TEST_F(ProofVerbs, PoliciesAreReadAndEvaluated) {
  std::string second = ledger::CosignerKey::of("v.example", key_of(2).public_key())->vkey();
  std::string policy = write("policy", "witness A " + witness_.vkey() + "\nwitness B " + second +
                                           "\ngroup G all A B\nquorum G\n");
  EXPECT_EQ(souk("policy-file check " + policy).status, 0);
  EXPECT_EQ(souk("policy-file check " + policy + " --cosigners A,B").status, 0);
  EXPECT_EQ(souk("policy-file check " + policy + " --cosigners A --cosigners B").status, 0);
  EXPECT_EQ(souk("policy-file check " + policy + " --cosigners 'A, B '").status, 0);
  EXPECT_EQ(souk("policy-file check " + policy + " --cosigners A").status, 1);
  EXPECT_EQ(souk("policy-file check " + policy + " --cosigners ''").status, 1);
  EXPECT_EQ(souk("policy-file check -", "quorum\n").status, 2);
}

TEST_F(ProofVerbs, OneAnswerAboutASignature) {
  auto signature = key_of(4).sign(as_bytes("m"));
  auto claim = [&](const std::string& message) {
    return R"({"public_key":")" + to_hex(key_of(4).public_key()) + R"(","message":")" + message +
           R"(","signature":")" + to_hex(ByteView(signature.value())) + R"("})";
  };
  EXPECT_EQ(souk("ledger verify-signature", claim("6d")).status, 0);
  EXPECT_EQ(souk("ledger verify-signature", claim("6e")).status, 1);
  EXPECT_EQ(souk("ledger verify-signature", claim("6")).status, 2);
}

}  // namespace
}  // namespace souk::market
