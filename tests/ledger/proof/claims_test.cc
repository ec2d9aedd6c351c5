#include "ledger/proof/claims.h"

#include <gtest/gtest.h>

#include "ledger/codec/json.h"
#include "ledger/entry/leaf.h"
#include "ledger/proof/merkle.h"
#include "tests/ledger/ledger_fixture.h"

namespace souk::ledger {
namespace {

enum class Verdict { kYes, kNo, kMalformed };

template <class Claim>
Verdict judge(const std::string& text) {
  auto claim = Claim::parse(text);
  if (!claim) {
    EXPECT_EQ(claim.error().code(), Code::kMalformed);
    return Verdict::kMalformed;
  }
  auto held = claim->check();
  if (held) return Verdict::kYes;
  EXPECT_EQ(held.error().code(), Code::kUnauthentic);
  return Verdict::kNo;
}

std::vector<Digest> leaves_of(uint64_t n) {
  std::vector<Digest> out;
  for (uint64_t i = 0; i < n; ++i) out.push_back(leaf_hash(as_bytes("leaf " + std::to_string(i))));
  return out;
}

Json list(const std::vector<Digest>& hashes, bool hex) {
  Json::Array out;
  for (const auto& hash : hashes) out.push_back(hex ? Json(hash) : Json(to_base64(hash)));
  return out;
}

Json inclusion_of(uint64_t index, uint64_t size, bool hex = true) {
  auto leaves = leaves_of(size);
  auto text = [&](const Digest& hash) { return hex ? Json(hash) : Json(to_base64(hash)); };
  return Json::Object{{"leaf_hash", text(leaves[index])},
                      {"index", index},
                      {"size", size},
                      {"root", text(tree_root(leaves))},
                      {"proof", list(inclusion_proof(leaves, index), hex)}};
}

Json consistency_of(uint64_t old_size, uint64_t size) {
  auto leaves = leaves_of(size);
  auto old = std::span<const Digest>(leaves).first(old_size);
  return Json::Object{{"size1", old_size},
                      {"root1", tree_root(old)},
                      {"size2", size},
                      {"root2", tree_root(leaves)},
                      {"proof", list(consistency_proof(leaves, old_size), true)}};
}

Json with(Json claim, const std::string& name, Json value) {
  (*claim.object())[name] = std::move(value);
  return claim;
}

TEST(InclusionClaim, HoldsInHexAndInBase64) {
  for (bool hex : {true, false}) {
    for (uint64_t size : {1u, 2u, 7u, 8u, 9u}) {
      for (uint64_t index = 0; index < size; ++index) {
        EXPECT_EQ(judge<InclusionClaim>(canonical(inclusion_of(index, size, hex))), Verdict::kYes);
      }
    }
  }
}

TEST(InclusionClaim, EveryMutationIsFalse) {
  auto good = inclusion_of(5, 9);
  auto verdict = [&](const Json& claim) { return judge<InclusionClaim>(answer_json(claim)); };
  auto hashes = *good.find("proof")->array();
  for (uint64_t other : {0u, 4u, 6u, 8u, 9u, 10u})
    EXPECT_EQ(verdict(with(good, "index", other)), Verdict::kNo);
  EXPECT_EQ(verdict(with(good, "index", Json::wide(UINT64_MAX))), Verdict::kNo);
  for (uint64_t other : {0u, 1u, 5u, 6u, 7u, 17u})
    EXPECT_EQ(verdict(with(good, "size", other)), Verdict::kNo) << other;
  EXPECT_EQ(verdict(with(good, "size", Json::wide(UINT64_MAX))), Verdict::kNo);
  auto zero = to_hex(ByteView(Digest{}));
  for (const char* name : {"root", "leaf_hash"}) {
    for (std::string text :
         {zero, std::string(""), zero.substr(2), zero + "00", std::string("V3JvbmdMZWFm")}) {
      EXPECT_EQ(verdict(with(good, name, text)), Verdict::kNo) << name << " " << text;
    }
  }
  for (size_t at = 0; at <= hashes.size(); ++at) {
    auto more = hashes;
    more.insert(more.begin() + static_cast<std::ptrdiff_t>(at), Json(zero));
    EXPECT_EQ(verdict(with(good, "proof", more)), Verdict::kNo);
    more[at] = Json("");
    EXPECT_EQ(verdict(with(good, "proof", more)), Verdict::kNo);
    more[at] = *good.find("root");
    EXPECT_EQ(verdict(with(good, "proof", more)), Verdict::kNo);
    if (at == hashes.size()) break;
    auto fewer = hashes;
    fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(at));
    EXPECT_EQ(verdict(with(good, "proof", fewer)), Verdict::kNo);
    auto altered = hashes;
    auto bytes = from_hex(*altered[at].string()).take();
    bytes[7] ^= 0x10;
    altered[at] = Json(to_hex(bytes));
    EXPECT_EQ(verdict(with(good, "proof", altered)), Verdict::kNo);
    altered[at] = Json(to_hex(ByteView(bytes).first(31)));
    EXPECT_EQ(verdict(with(good, "proof", altered)), Verdict::kNo);
  }
  EXPECT_EQ(verdict(with(good, "proof", Json())), Verdict::kNo);
  EXPECT_EQ(verdict(with(inclusion_of(0, 1), "proof", Json())), Verdict::kYes);
}

TEST(InclusionClaim, HoldsAtTheFarEndOf64Bits) {
  // The last leaf of 2^64 - 1: right all the way up, 63 siblings on the left.
  Digest hash = leaf_hash(as_bytes("far"));
  std::vector<Digest> path;
  Digest leaf = hash;
  for (uint8_t i = 1; i < 64; ++i) {
    path.push_back(Digest{i});
    hash = node_hash(path.back(), hash);
  }
  Json claim = Json::Object{{"leaf_hash", leaf},
                            {"index", Json::wide(UINT64_MAX - 1)},
                            {"size", Json::wide(UINT64_MAX)},
                            {"root", hash},
                            {"proof", list(path, true)}};
  EXPECT_EQ(judge<InclusionClaim>(answer_json(claim)), Verdict::kYes);
  EXPECT_EQ(judge<InclusionClaim>(answer_json(with(claim, "index", Json::wide(UINT64_MAX - 2)))),
            Verdict::kNo);
  EXPECT_EQ(judge<InclusionClaim>(answer_json(with(claim, "size", Json::wide(UINT64_MAX - 1)))),
            Verdict::kNo);
}

TEST(InclusionClaim, WhatIsNoClaimIsMalformed) {
  auto good = inclusion_of(1, 3);
  auto text = canonical(good);
  auto verdict = [&](const Json& claim) { return judge<InclusionClaim>(answer_json(claim)); };
  for (const char* name : {"leaf_hash", "index", "size", "root", "proof"}) {
    auto fewer = good;
    fewer.object()->erase(name);
    EXPECT_EQ(verdict(fewer), Verdict::kMalformed) << name;
    EXPECT_EQ(verdict(with(good, name, true)), Verdict::kMalformed) << name;
  }
  EXPECT_EQ(verdict(with(good, "more", 1)), Verdict::kMalformed);
  EXPECT_EQ(verdict(with(good, "root", "not a hash")), Verdict::kMalformed);
  EXPECT_EQ(verdict(with(good, "root", Json())), Verdict::kMalformed);
  EXPECT_EQ(verdict(with(good, "proof", Json::Array{Json(1)})), Verdict::kMalformed);
  EXPECT_EQ(verdict(with(good, "index", "1")), Verdict::kMalformed);
  EXPECT_EQ(verdict(with(good, "index", -1)), Verdict::kMalformed);
  auto replaced = [&](const std::string& from, const std::string& to) {
    auto copy = text;
    size_t at = copy.find(from);
    CHECK(at != std::string::npos);
    return judge<InclusionClaim>(copy.replace(at, from.size(), to));
  };
  EXPECT_EQ(replaced("\"index\":1", "\"index\":18446744073709551616"), Verdict::kMalformed);
  EXPECT_EQ(replaced("\"index\":1", "\"index\":1.0"), Verdict::kMalformed);
  EXPECT_EQ(replaced("\"index\":1", "\"index\":1e0"), Verdict::kMalformed);
  EXPECT_EQ(replaced("\"index\":1", "\"index\":01"), Verdict::kMalformed);
  EXPECT_EQ(replaced("\"index\":1", "\"index\":1,\"index\":1"), Verdict::kMalformed);
  EXPECT_EQ(replaced("\"index\":1", "\"index\" : 1 "), Verdict::kYes);
  for (const char* other : {"", "[]", "null", "{}", "{", "\xff"})
    EXPECT_EQ(judge<InclusionClaim>(other), Verdict::kMalformed) << other;
  EXPECT_EQ(judge<InclusionClaim>(text + "x"), Verdict::kMalformed);
}

TEST(ConsistencyClaim, HoldsForEveryPairOfSmallTrees) {
  for (uint64_t n = 1; n <= 17; ++n) {
    for (uint64_t m = 1; m <= n; ++m)
      EXPECT_EQ(judge<ConsistencyClaim>(canonical(consistency_of(m, n))), Verdict::kYes);
  }
}

TEST(ConsistencyClaim, TheRulesOfSizeZeroAndEmptyProofs) {
  auto verdict = [&](const Json& claim) { return judge<ConsistencyClaim>(answer_json(claim)); };
  auto empty = to_hex(ByteView(empty_root()));
  Json nothing = Json::Object{
      {"size1", 0}, {"root1", empty}, {"size2", 0}, {"root2", empty}, {"proof", Json::Array{}}};
  EXPECT_EQ(verdict(nothing), Verdict::kNo);
  EXPECT_EQ(verdict(with(nothing, "size2", 1)), Verdict::kNo);
  EXPECT_EQ(verdict(with(with(nothing, "size1", 1), "size2", 1)), Verdict::kYes);
  EXPECT_EQ(verdict(with(with(nothing, "size1", 2), "size2", 1)), Verdict::kNo);
  auto same = consistency_of(4, 4);
  EXPECT_EQ(verdict(with(same, "proof", Json::Array{Json(empty)})), Verdict::kNo);
  EXPECT_EQ(verdict(with(same, "root2", empty)), Verdict::kNo);
  EXPECT_EQ(verdict(with(consistency_of(4, 8), "proof", Json::Array{})), Verdict::kNo);
  EXPECT_EQ(verdict(with(consistency_of(3, 8), "root1", "")), Verdict::kNo);
}

TEST(ConsistencyClaim, EveryMutationIsFalse) {
  for (auto [m, n] : {std::pair<uint64_t, uint64_t>{6, 11}, {8, 13}, {1, 2}, {7, 8}}) {
    auto good = consistency_of(m, n);
    auto verdict = [&](const Json& claim) { return judge<ConsistencyClaim>(answer_json(claim)); };
    EXPECT_EQ(verdict(with(good, "size1", m + 1)), Verdict::kNo);
    EXPECT_EQ(verdict(with(good, "size1", m - 1)), Verdict::kNo);
    EXPECT_EQ(verdict(with(good, "size2", n * 2)), Verdict::kNo);
    EXPECT_EQ(verdict(with(good, "size2", n / 2)), Verdict::kNo);
    auto swapped = with(with(good, "root1", *good.find("root2")), "root2", *good.find("root1"));
    EXPECT_EQ(verdict(swapped), Verdict::kNo);
    auto hashes = *good.find("proof")->array();
    for (size_t at = 0; at <= hashes.size(); ++at) {
      for (const auto& extra : {*good.find("root1"), *good.find("root2"), Json("")}) {
        auto more = hashes;
        more.insert(more.begin() + static_cast<std::ptrdiff_t>(at), extra);
        EXPECT_EQ(verdict(with(good, "proof", more)), Verdict::kNo);
      }
      if (at == hashes.size()) break;
      auto altered = hashes;
      auto bytes = from_hex(*altered[at].string()).take();
      bytes[31] ^= 1;
      altered[at] = Json(to_hex(bytes));
      EXPECT_EQ(verdict(with(good, "proof", altered)), Verdict::kNo);
      auto fewer = hashes;
      fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(at));
      EXPECT_EQ(verdict(with(good, "proof", fewer)), Verdict::kNo);
    }
  }
}

TEST(SignatureClaim, IsLibsodiumsAnswer) {
  auto key = test::key_of(3);
  Bytes message = to_bytes("message");
  auto signature = key.sign(message);
  Json good = Json::Object{{"public_key", key.public_key()},
                           {"message", to_hex(message)},
                           {"signature", to_hex(ByteView(signature.value()))}};
  auto verdict = [&](const Json& claim) { return judge<SignatureClaim>(canonical(claim)); };
  EXPECT_EQ(verdict(good), Verdict::kYes);
  EXPECT_EQ(verdict(with(good, "message", "")), Verdict::kNo);
  EXPECT_EQ(verdict(with(good, "signature", "")), Verdict::kNo);
  EXPECT_EQ(verdict(with(good, "public_key", "00")), Verdict::kNo);
  EXPECT_EQ(verdict(with(good, "message", "0")), Verdict::kMalformed);
  EXPECT_EQ(verdict(with(good, "message", "zz")), Verdict::kMalformed);
  // S + L says the same to a lax verifier (RFC 8032 section 5.1.7 refuses it).
  constexpr uint8_t order[] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7,
                               0xa2, 0xde, 0xf9, 0xde, 0x14, 0,    0,    0,    0,    0,    0,
                               0,    0,    0,    0,    0,    0,    0,    0,    0,    0x10};
  auto high = signature.value();
  unsigned carry = 0;
  for (size_t i = 0; i < 32; ++i) {
    carry += unsigned{high[32 + i]} + order[i];
    high[32 + i] = static_cast<uint8_t>(carry);
    carry >>= 8;
  }
  EXPECT_EQ(verdict(with(good, "signature", to_hex(ByteView(high)))), Verdict::kNo);
  // The neutral element as key and R: true to the bare equation, refused as of small order.
  Digest one{1};
  std::array<uint8_t, 64> trivial{1};
  EXPECT_EQ(verdict(with(with(good, "public_key", to_hex(ByteView(one))), "signature",
                         to_hex(ByteView(trivial)))),
            Verdict::kNo);
}

}  // namespace
}  // namespace souk::ledger
