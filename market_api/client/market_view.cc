#include "market_api/client/market_view.h"

#include "contracts/lifecycle/void_words.h"
#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/proof/merkle.h"
#include "ledger/proof/tlog_proof.h"
#include "market_api/client/local_files.h"
#include "trainer/attest/appraisal.h"

namespace souk::market {
namespace {

constexpr uint64_t kPageLeaves = 256;  // 22 MB of answer at most
constexpr size_t kMaxNote = 1 << 20;
constexpr size_t kMaxCache = size_t{4} << 30;

void put_length(Bytes& to, size_t length) {
  for (int shift = 24; shift >= 0; shift -= 8) to.push_back(static_cast<uint8_t>(length >> shift));
}

// What two notes say, without the signatures, of which each answer of a log under witnesses may
// have others.
bool same_roots(std::string_view kept, const std::string& seen, const std::string& served) {
  auto said = [](const std::string& note) { return note.substr(0, note.find("\n\n") + 2); };
  size_t first = kept.find(said(seen)), second = kept.rfind(said(served));
  return first != std::string_view::npos && second != std::string_view::npos && first < second;
}

// The whole leaves at the start of `bytes`; a torn one at the end is left out.
std::vector<Bytes> split_leaves(ByteView bytes) {
  std::vector<Bytes> leaves;
  while (bytes.size() >= 4) {
    size_t length =
        size_t{bytes[0]} << 24 | size_t{bytes[1]} << 16 | size_t{bytes[2]} << 8 | bytes[3];
    if (length > bytes.size() - 4) break;
    auto leaf = bytes.subspan(4, length);
    leaves.emplace_back(leaf.begin(), leaf.end());
    bytes = bytes.subspan(4 + length);
  }
  return leaves;
}

}  // namespace

const contracts::Follower& MarketView::follower() const {
  CHECK(follower_);
  return *follower_;
}
const contracts::MarketState& MarketView::state() const {
  return follower().state();
}

Result<MarketView> MarketView::open(const MarketId& market, std::string directory,
                                    std::optional<ledger::WitnessQuorum> quorum) {
  MarketView view(market, std::move(directory), std::move(quorum));
  if (!view.directory_.empty()) {
    TRY(make_directory(view.directory_));
    TRY(view.load());
  }
  return view;
}

// Signed by the log, and cosigned by the pinned quorum if there is one.
Result<ledger::Checkpoint> MarketView::believed(const std::string& text,
                                                const ledger::NoteKey& key) const {
  auto checkpoint = TRY(ledger::open_checkpoint(text, key));
  if (!quorum_) return checkpoint;
  auto note = TRY(ledger::parse_note(text));
  TRY(quorum_->witnessed_at(note));
  return checkpoint;
}

// Our own files are verified like anybody's. A copy that does not hold is an error and
// not a reason to forget what was seen.
Status MarketView::load() {
  std::string checkpoint_path = directory_ + "/checkpoint";
  if (!path_exists(checkpoint_path)) return Done{};
  auto note = TRY(load_file(checkpoint_path, kMaxNote));
  auto bytes = TRY(load_file(directory_ + "/leaves", kMaxCache));
  auto damaged = [&](const Error& error) {
    return Error(Code::kUnauthentic, "the copy of the ledger in " + directory_ + " is damaged (" +
                                         error.expected() +
                                         "); keep its checkpoint, and remove the folder to read "
                                         "the ledger anew");
  };
  auto leaves = split_leaves(bytes);
  if (leaves.empty()) return damaged(Error(Code::kMalformed, "expected leaves"));
  auto follower = contracts::Follower::pin(leaves.front(), market_, &trainer::appraise_for_market);
  if (!follower) return damaged(follower.error());
  auto checkpoint = believed(to_text(note), follower->ledger_key());
  if (!checkpoint) return damaged(checkpoint.error());
  if (checkpoint->size > leaves.size())
    return damaged(Error(Code::kMalformed, "expected more leaves"));
  leaves.resize(checkpoint->size);  // a crash between the two files left more
  for (const Bytes& leaf : leaves) {
    auto added = follower->add(leaf);
    if (!added) return damaged(added.error());
  }
  auto confirmed = follower->confirm(as_text(note));
  if (!confirmed) return damaged(confirmed.error());
  follower_ = std::move(*follower);
  leaves_ = std::move(leaves);
  checkpoint_ = to_text(note);
  return Done{};
}

Status MarketView::sync(MarketLine& line) {
  if (directory_.empty()) return fetch(line);
  auto lock = TRY(FileLock::lock(directory_ + "/lock"));
  auto note = load_file(directory_ + "/checkpoint", kMaxNote);
  bool ours = note ? as_text(*note) == checkpoint_ : checkpoint_.empty();
  if (!ours) {  // another process of the same identity has seen more
    auto newest = TRY(open(market_, directory_, quorum_));
    *this = std::move(newest);
  }
  return fetch(line);
}

Status MarketView::fetch(MarketLine& line) {
  size_t known = leaves_.size();
  auto back_to_known = [&](Error error) {
    leaves_.resize(known);
    if (known == 0) follower_.reset();
    if (follower_) follower_->discard_pending();
    return error;
  };
  while (true) {
    auto page = line.entries(leaves_.size(), kPageLeaves);
    if (!page && page.error().code() != Code::kTryAgain && known > 0) {
      // A shorter ledger has no such place: its checkpoint is the evidence.
      auto served = line.checkpoint();
      if (served) {
        auto checkpoint = ledger::open_checkpoint(*served, follower_->ledger_key());
        if (checkpoint && checkpoint->size < known) {
          return back_to_known(caught(*served, "it has " + std::to_string(checkpoint->size) +
                                                   " entries, " + std::to_string(known) +
                                                   " were seen before"));
        }
      }
    }
    if (!page) return back_to_known(std::move(page).take_error());
    auto taken = take(*page);
    if (!taken) return back_to_known(std::move(taken).take_error());
    if (leaves_.size() == page->size) break;
  }
  return save(known);
}

// One page: all its leaves pending, or all confirmed when it reaches its checkpoint.
Status MarketView::take(const ServedPage& page) {
  if (!follower_) {
    if (page.leaves.empty()) return Error(Code::kUnauthentic, "expected a genesis from the market");
    follower_ =
        TRY(contracts::Follower::pin(page.leaves.front(), market_, &trainer::appraise_for_market));
  }
  auto checkpoint = believed(page.checkpoint, follower_->ledger_key());
  if (!checkpoint) return std::move(checkpoint).take_error().within("checkpoint of the market");
  if (checkpoint->size != page.size) {
    return Error(Code::kUnauthentic, "expected a checkpoint of the size the market states");
  }
  if (checkpoint->size < leaves_.size()) {
    return caught(page.checkpoint, "it has " + std::to_string(checkpoint->size) + " entries, " +
                                       std::to_string(leaves_.size()) + " were seen before");
  }
  if (page.leaves.size() > checkpoint->size - leaves_.size() ||
      (page.leaves.empty() && checkpoint->size > leaves_.size())) {
    return Error(Code::kUnauthentic, "expected the leaves up to the market's checkpoint");
  }
  for (const Bytes& leaf : page.leaves) {
    auto added = follower_->add(leaf);
    if (!added) {
      std::string place =
          "entry " + std::to_string(leaves_.size()) + ": " + added.error().expected();
      if (added.error().code() == Code::kConflict) return caught(page.checkpoint, place);
      return Error(Code::kUnauthentic, place);
    }
    leaves_.push_back(leaf);
  }
  if (leaves_.size() < checkpoint->size) return Done{};
  if (follower_->root() != checkpoint->root) {
    return caught(page.checkpoint,
                  "another root over " + std::to_string(checkpoint->size) + " entries");
  }
  TRY(follower_->confirm(page.checkpoint));
  checkpoint_ = page.checkpoint;
  return Done{};
}

// The leaves, then the checkpoint over them: a crash between leaves some too many,
// which load() ignores and the next save() overwrites.
Status MarketView::save(size_t known) {
  if (directory_.empty()) return Done{};
  std::string path = directory_ + "/leaves";
  uint64_t kept = 0;
  for (size_t i = 0; i < known; ++i) kept += 4 + leaves_[i].size();
  if (path_exists(path)) TRY(truncate_file(path, kept));
  Bytes more;
  for (size_t i = known; i < leaves_.size(); ++i) {
    put_length(more, leaves_[i].size());
    append(more, leaves_[i]);
  }
  if (!more.empty()) TRY(append_file(path, more));
  return save_file(directory_ + "/checkpoint", as_bytes(checkpoint_), FileMode::kPrivate);
}

Status MarketView::agrees_with(MarketLine& line, const std::string& seen) {
  auto known = ledger::open_checkpoint(seen, follower().ledger_key());
  if (!known || seen == checkpoint_) return Done{};
  if (known->size > leaves_.size()) TRY(sync(line));  // seen since, by another process
  if (known->size > leaves_.size()) {
    if (quorum_) return Done{};  // what witnesses have cosigned comes later
    return caught(seen, checkpoint_,
                  "it has " + std::to_string(leaves_.size()) + " entries, " +
                      std::to_string(known->size) + " were seen before");
  }
  std::vector<Digest> hashes;
  for (size_t i = 0; i < known->size; ++i) hashes.push_back(ledger::leaf_hash(leaves_[i]));
  if (ledger::tree_root(hashes) == known->root) return Done{};
  return caught(seen, checkpoint_, "another root over " + std::to_string(known->size) + " entries");
}

Error MarketView::caught(const std::string& served, const std::string& why) const {
  return caught(checkpoint_, served, why);
}

Error MarketView::caught(const std::string& seen, const std::string& served,
                         const std::string& why) const {
  std::string message = "the ledger was rolled back or forked: " + why;
  if (directory_.empty() || seen.empty()) return Error(Code::kUnauthentic, message);
  std::string both = "seen before:\n\n" + seen + "\nserved now:\n\n" + served;
  for (int number = 1; number < 1000; ++number) {
    std::string path = directory_ + "/evidence-" + std::to_string(number);
    if (path_exists(path)) {
      auto before = load_file(path, 4 * kMaxNote);
      if (!before || !same_roots(as_text(*before), seen, served)) continue;
      return Error(Code::kUnauthentic, message + "; both checkpoints are kept in " + path);
    }
    auto kept = save_file(path, as_bytes(both), FileMode::kPrivate);
    if (kept) message += "; both checkpoints are kept in " + path;
    break;
  }
  return Error(Code::kUnauthentic, message);
}

Result<std::string> MarketView::prove(uint64_t seq) const {
  if (seq >= leaves_.size()) {
    return Error(Code::kNotFound, "no entry " + std::to_string(seq) + ": the ledger has " +
                                      std::to_string(leaves_.size()));
  }
  std::vector<Digest> hashes;
  hashes.reserve(leaves_.size());
  for (const Bytes& leaf : leaves_) hashes.push_back(ledger::leaf_hash(leaf));
  ledger::TlogProof proof;
  proof.index = seq;
  proof.path = ledger::inclusion_proof(hashes, seq);
  proof.checkpoint = checkpoint_;
  return proof.text();
}

Status MarketView::foresee(const ledger::Envelope& envelope) const {
  std::string text = canonical(ledger::to_json(envelope));
  auto signed_entry = TRY(ledger::SignedEntry::decode(as_bytes(text)));
  auto entry = TRY(ledger::authenticate(std::move(signed_entry)));
  auto why = contracts::would_be_void(state(), entry, state().time());
  if (!why) return Done{};
  return Error(Code::kConflict, "nothing was recorded, it would be without effect: " +
                                    contracts::words_of_void(*why));
}

Result<Recorded> MarketView::record(MarketLine& line, const ledger::Envelope& envelope) {
  auto recorded = TRY(line.record(envelope));
  auto read = sync(line);
  if (read) return recorded;
  return std::move(read).take_error().within("entry " + std::to_string(recorded.seq) +
                                             " is recorded, and not read back yet");
}

}  // namespace souk::market
