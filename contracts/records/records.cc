#include "contracts/records/records.h"

#include "contracts/records/codec.h"
#include "ledger/crypto/hash.h"
#include "ledger/crypto/random.h"

namespace souk::contracts {
namespace {

constexpr char kStatementType[] = "https://in-toto.io/Statement/v1";

// The subjects of a receipt: what in-toto tools compare files with.
Json subjects(const JobResult& result) {
  auto subject = [](const char* name, const Digest& digest) -> Json {
    return Json::Object{{"name", name}, {"digest", Json::Object{{"sha256", digest}}}};
  };
  return Json::Array{subject("model.age.payload", result.payload),
                     subject("model.safetensors", result.model)};
}

// A record among its common members, which ledger/entry has read already.
template <class R>
Result<R> read_whole(const Json& body) {
  auto fields = TRY(Fields::of(body, codec::name_of<R>()));
  TRY(fields.any("author"));
  TRY(fields.any("market"));
  TRY(fields.any("nonce"));
  R record = TRY(codec::read(fields, codec::Of<R>{}));
  TRY(fields.done());
  return record;
}

Result<JobResult> read_statement(const Json& body) {
  auto fields = TRY(Fields::of(body, "statement"));
  auto type = TRY(fields.text("_type"));
  if (type != kStatementType) {
    return codec::malformed("statement._type", kStatementType);
  }
  auto predicate_type = TRY(fields.text("predicateType"));
  if (predicate_type != JobResult::kPredicateType) {
    return codec::malformed("statement.predicateType", JobResult::kPredicateType);
  }
  const Json* subject = TRY(fields.any("subject"));
  const Json* predicate = TRY(fields.any("predicate"));
  TRY(fields.done());
  auto result = TRY(read_whole<JobResult>(*predicate));
  if (*subject != subjects(result)) {
    return codec::malformed("statement.subject", "the payload and the model of the predicate");
  }
  return result;
}

Json::Object body_of(const Record& record, const PublicKey& author, const std::string& market_hex,
                     const std::string& nonce) {
  Json::Object body = std::visit([](const auto& known) { return codec::members(known); }, record);
  body["author"] = author;
  body["market"] = market_hex;
  body["nonce"] = nonce;
  return body;
}

// Tries each record type in turn: the one table of payload types.
template <class Read, class... R>
Result<Record> read_as(std::string_view payload_type, Read read, std::variant<R...>*) {
  Result<Record> out = codec::malformed("payloadType", "a record of this market");
  auto attempt = [&]<class T>(codec::Of<T> type) {
    if (payload_type != T::kType) return false;
    auto record = read(type);
    out = record ? Result<Record>(std::move(record).take()) : std::move(record).take_error();
    return true;
  };
  (attempt(codec::Of<R>{}) || ...);
  return out;
}

template <class Read>
Result<Record> read_as(std::string_view payload_type, Read read) {
  return read_as(payload_type, read, static_cast<Record*>(nullptr));
}

}  // namespace

Result<Record> record_of(const ledger::AuthenticEntry& entry) {
  return read_as(entry.payload_type(), [&]<class R>(codec::Of<R>) -> Result<R> {
    if constexpr (std::is_same_v<R, JobResult>) {
      return read_statement(entry.body());
    } else {
      return read_whole<R>(entry.body());
    }
  });
}

Json members_json(const Record& record) {
  return std::visit([](const auto& known) -> Json { return codec::members(known); }, record);
}

Result<Record> members_from_json(std::string_view payload_type, const Json& json) {
  return read_as(payload_type, [&]<class R>(codec::Of<R> type) -> Result<R> {
    auto fields = TRY(Fields::of(json, codec::name_of<R>()));
    R record = TRY(codec::read(fields, type));
    TRY(fields.done());
    return record;
  });
}

Bytes payload_of(const Record& record, const PublicKey& author, const std::string& market_hex,
                 const std::string& nonce) {
  auto body = body_of(record, author, market_hex, nonce);
  auto* result = std::get_if<JobResult>(&record);
  if (!result) return to_bytes(canonical(body));
  return to_bytes(canonical(Json::Object{{"_type", kStatementType},
                                         {"subject", subjects(*result)},
                                         {"predicateType", JobResult::kPredicateType},
                                         {"predicate", std::move(body)}}));
}

ledger::Envelope sign_record(const Record& record, const ledger::SigningKey& key,
                             const MarketId& market, std::string nonce) {
  CHECK(!std::holds_alternative<Genesis>(record));
  if (nonce.empty()) nonce = fresh_nonce();
  std::string type = std::visit([](const auto& known) { return std::string(known.kType); }, record);
  return ledger::sign_envelope(key, std::move(type),
                               payload_of(record, key.public_key(), to_hex(market), nonce));
}

ledger::Envelope sign_genesis(const Genesis& genesis, const ledger::SigningKey& key) {
  return ledger::sign_envelope(key, Genesis::kType,
                               payload_of(genesis, key.public_key(), "", fresh_nonce()));
}

std::string fresh_nonce() {
  return to_hex(ledger::random_array<16>());
}

MarketId market_id(ByteView genesis_payload) {
  return MarketId(ledger::sha256(genesis_payload));
}

}  // namespace souk::contracts
