#include "ledger/proof/recorded.h"

#include "ledger/proof/checkpoint.h"
#include "ledger/proof/tlog_proof.h"

namespace souk::ledger {
namespace {

constexpr char kStateKind[] = "souk.chain/v1";

// The envelope of a leaf, climbed to the second rung.
Result<AuthenticEntry> authentic_entry(ReadLeaf leaf) {
  auto signed_entry = TRY(SignedEntry::decode(std::move(leaf)));
  return authenticate(std::move(signed_entry));
}

Error out_of_place(const char* expected) {
  return Error(Code::kConflict, expected);
}

}  // namespace

ChainReader ChainReader::start(std::string origin, NoteKey vkey) {
  return ChainReader(std::move(origin), std::move(vkey));
}

Result<PreparedLeaf> PreparedLeaf::of(ByteView leaf_bytes) {
  return of(TRY(read_leaf(leaf_bytes)), ledger::leaf_hash(leaf_bytes));
}

Result<PreparedLeaf> PreparedLeaf::of(ReadLeaf read, const Digest& hash) {
  LeafPlace at{read.leaf().seq, read.leaf().prev, read.leaf().time};
  auto entry = TRY(authentic_entry(std::move(read)));
  return PreparedLeaf(at.seq, at.prev, at.time, std::move(entry), hash);
}

Result<ConfirmedHashes> ConfirmedHashes::of(std::vector<Digest> hashes,
                                            std::string_view checkpoint_note, const NoteKey& vkey) {
  auto checkpoint = TRY(open_checkpoint(checkpoint_note, vkey));
  if (checkpoint.size != hashes.size()) {
    return out_of_place("expected a checkpoint over exactly the entries that were read");
  }
  if (checkpoint.root != tree_root(hashes)) {
    return out_of_place("expected a checkpoint with the root of the entries that were read");
  }
  return ConfirmedHashes(std::move(hashes));
}

Status ChainReader::add(ByteView leaf_bytes) {
  // In this order the cheap faults are found first.
  auto read = TRY(read_leaf(leaf_bytes));
  if (read.leaf().seq != added_.tree.size())
    return out_of_place("expected the next sequence number");
  if (read.leaf().prev != added_.last_leaf) {
    return out_of_place("expected the hash of the leaf before");
  }
  auto prepared = TRY(PreparedLeaf::of(std::move(read), ledger::leaf_hash(leaf_bytes)));
  return add(std::move(prepared));
}

Status ChainReader::add(PreparedLeaf leaf) {
  if (leaf.seq_ != added_.tree.size()) return out_of_place("expected the next sequence number");
  if (leaf.prev_ != added_.last_leaf) return out_of_place("expected the hash of the leaf before");
  if (leaf.time_ < added_.time) return out_of_place("expected a time not before the last");
  const auto& entry = leaf.entry_;
  if (leaf.seq_ == 0 && !entry.market().empty()) {
    return out_of_place("expected a genesis, which names no market");
  }
  if (leaf.seq_ != 0 && entry.market() != added_.market) {
    return out_of_place("expected the market of this ledger's genesis");
  }
  if (leaf.seq_ == 0) added_.market = to_hex(ByteView(entry.payload_hash()));
  added_.tree.append(leaf.hash_);
  added_.last_leaf = leaf.hash_;
  added_.time = leaf.time_;
  pending_.push_back(RecordedEntry(std::move(leaf.entry_), leaf.seq_, leaf.time_, leaf.hash_));
  return Done{};
}

Result<std::vector<RecordedEntry>> ChainReader::take_confirmed_by(const ConfirmedHashes& whole) {
  for (const auto& entry : pending_) {
    if (entry.seq() >= whole.hashes().size() || entry.leaf_hash() != whole.hashes()[entry.seq()]) {
      return out_of_place("expected a leaf of the confirmed ledger");
    }
  }
  return std::exchange(pending_, {});
}

Result<std::vector<RecordedEntry>> ChainReader::confirm(std::string_view checkpoint_note) {
  auto checkpoint = TRY(open_checkpoint(checkpoint_note, vkey_));
  if (checkpoint.origin != origin_) {
    return Error(Code::kUnauthentic, "expected a checkpoint of this log");
  }
  if (checkpoint.size != added_.tree.size()) {
    return out_of_place("expected a checkpoint over exactly the entries that were read");
  }
  if (checkpoint.root != added_.tree.root()) {
    return out_of_place("expected a checkpoint with the root of the entries that were read");
  }
  confirmed_ = added_;
  checkpoint_ = checkpoint_note;
  return std::exchange(pending_, {});
}

void ChainReader::discard_pending() {
  added_ = confirmed_;
  pending_.clear();
}

Bytes ChainReader::seal_state() const {
  Json::Array frontier;
  for (const auto& hash : confirmed_.tree.frontier()) frontier.push_back(Json(hash));
  return to_bytes(canonical(Json::Object{{"checkpoint", checkpoint_},
                                         {"frontier", std::move(frontier)},
                                         {"kind", kStateKind},
                                         {"last_leaf", confirmed_.last_leaf},
                                         {"market", confirmed_.market},
                                         {"origin", origin_},
                                         {"size", confirmed_.tree.size()},
                                         {"time", confirmed_.time}}));
}

Result<ChainReader> ChainReader::restore(std::string origin, NoteKey vkey, ByteView state) {
  auto json = TRY(parse_canonical(as_text(state), 2 * kMaxNoteBytes));
  auto fields = TRY(Fields::of(json, "chain state"));
  ChainReader reader(std::move(origin), std::move(vkey));
  reader.checkpoint_ = TRY(fields.text("checkpoint", kMaxNoteBytes));
  auto* hashes = TRY(fields.array("frontier", 64));
  auto kind = TRY(fields.text("kind"));
  State& at = reader.confirmed_;
  at.last_leaf = TRY(fields.digest("last_leaf"));
  at.market = TRY(fields.text("market", 64));
  auto named_origin = TRY(fields.text("origin"));
  auto size = TRY(fields.integer("size"));
  at.time = TRY(fields.integer("time"));
  TRY(fields.done());
  if (kind != kStateKind) return Error(Code::kMalformed, "chain state: expected souk.chain/v1");
  if (named_origin != reader.origin_) {
    return Error(Code::kConflict, "chain state: expected the state of this log");
  }
  std::vector<Digest> frontier;
  for (const auto& hash : *hashes) {
    auto* text = hash.string();
    if (!text) return Error(Code::kMalformed, "chain state.frontier: expected hashes");
    auto bytes = TRY(from_hex(*text));
    auto digest = TRY(fixed<32>(bytes));
    frontier.push_back(digest);
  }
  at.tree = TRY(CompactTree::of(static_cast<uint64_t>(size), std::move(frontier)));
  if (size != 0) {
    auto checkpoint = TRY(open_checkpoint(reader.checkpoint_, reader.vkey_));
    if (checkpoint.size != at.tree.size() || checkpoint.root != at.tree.root()) {
      return Error(Code::kMalformed, "chain state: expected what its checkpoint says");
    }
  }
  bool market_known = at.market.size() == 64 && from_hex(at.market);
  if (size == 0 ? !at.market.empty() : !market_known) {
    return Error(Code::kMalformed, "chain state.market: expected a market after the genesis");
  }
  reader.added_ = at;
  return reader;
}

Result<RecordedEntry> confirm_one(ByteView leaf_bytes, std::string_view tlog_proof,
                                  const NoteKey& vkey, const std::string& origin) {
  auto proof = TRY(parse_tlog_proof(tlog_proof));
  auto checkpoint = TRY(open_checkpoint(proof.checkpoint, vkey));
  if (checkpoint.origin != origin) {
    return Error(Code::kUnauthentic, "expected a checkpoint of this log");
  }
  auto hash = leaf_hash(leaf_bytes);
  TRY(verify_inclusion(hash, proof.index, checkpoint.size, proof.path, checkpoint.root));
  auto read = TRY(read_leaf(leaf_bytes));
  if (read.leaf().seq != proof.index) {
    return out_of_place("expected the sequence number of the proof");
  }
  TimeMs time = read.leaf().time;
  auto entry = TRY(authentic_entry(std::move(read)));
  return RecordedEntry(std::move(entry), proof.index, time, hash);
}

}  // namespace souk::ledger
